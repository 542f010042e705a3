# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command lines of an OpenZiti router: each is parsed as the router intends it, or refused as a whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import Conflict, InvalidInput
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule import is_routers
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.diverter_args import (
    flow_of,
    parse,
    rules_to_delete,
    superseded_rules,
)

SERVICE = "4rGdWvtU7Zg0tJQqR5nYbX"
FLOW = {"-c": "172.16.1.0", "-m": "28", "-p": "tcp", "-o": "0.0.0.0", "-n": "0", "-l": "30000", "-h": "40000"}


def words(operation: str = "-I", extra: tuple = (), **given: str) -> list:
    """Return a call as the router makes it, in its order and with its options, some of them changed."""
    values = {**FLOW, **({"-t": "33401", "-s": SERVICE} if operation == "-I" else {})}
    values.update({f"-{name}": value for name, value in given.items()})
    return [operation, *(word for name, value in values.items() if value is not None for word in (name, value)), *extra]


def only(asked: list):
    (rule,) = parse(asked).rules
    return rule


def rule_of(service: str, port: int = 1, **given: str):
    return only(words(s=service, t=str(port), **given))


def test_an_insert_is_a_rule_of_its_service():
    request = parse(words())
    assert (request.operation, request.warnings) == ("insert", [])
    assert str(request.rules[0]) == (
        f"tcp 172.16.1.0/28 ports 30000-40000: tproxy 127.0.0.1:33401, drop without a listener (owner ziti:{SERVICE})"
    )


def test_a_delete_has_no_owner():
    identity = only(words("-D"))
    assert (identity.owner, identity) == ("", flow_of(only(words())))
    assert only(words("-D", s=SERVICE)) == only(words()).identity


def test_the_high_port_is_no_request_for_help():
    assert (only(words(h="65535")).low, only(words(h="65535")).high) == (30000, 65535)


@pytest.mark.parametrize(("low", "high"), [("0", "0"), ("0", "65535"), ("65535", "65535")])
def test_every_port_is_a_port(low, high):
    rule = only(words(l=low, h=high))
    assert (rule.low, rule.high) == (int(low), int(high))


@pytest.mark.parametrize("operation", ["-I", "-D"])
def test_exchanged_ends_are_a_range(operation):
    """A service may have them, and its router calls with them. Text order would take 100 for the lower one of 80."""
    assert only(words(operation, l="100", h="80")) == only(words(operation, l="80", h="100"))


@pytest.mark.parametrize("service", ["-D", "-x", ".aB-", "--", "-c", "4rGdWvtU7Zg0tJQqR5nYbX"])
def test_a_service_may_have_any_id(service):
    assert only(words(s=service)).owner == f"ziti:{service}"


def test_a_long_id_is_shortened_and_stays_unique():
    owners = {only(words(s="a" * 27 + end)).owner for end in "xyz"}
    assert len(owners) == 3
    assert all(len(owner) == 31 and owner.startswith("ziti:aaa") for owner in owners)


def test_without_an_id_the_port_distinguishes_services():
    assert only(words(s=None)).owner == "ziti:port-33401"


@pytest.mark.parametrize(
    ("given", "destination", "source"),
    [
        ({"c": "10.1.2.3", "m": "24"}, "10.1.2.0/24", "0.0.0.0/0"),
        ({"o": "10.9.8.7", "n": "8"}, "172.16.1.0/28", "10.0.0.0/8"),
        ({"c": "fd00::5", "m": "64"}, "fd00::/64", "::/0"),
        ({"c": "fd00::5", "m": "128", "o": "fd01::7", "n": "32"}, "fd00::5/128", "fd01::7/128"),
        ({"c": "fd00::5", "m": "128", "o": "2001:db8::", "n": "32"}, "fd00::5/128", "2001:db8::/32"),
        ({"o": "192.168.1.7", "n": "32"}, "172.16.1.0/28", "192.168.1.7/32"),
        ({"o": None, "n": None}, "172.16.1.0/28", "0.0.0.0/0"),
        ({"o": "192.168.1.7", "n": None}, "172.16.1.0/28", "192.168.1.7/32"),
        ({"c": "0.0.0.0", "m": "0"}, "0.0.0.0/0", "0.0.0.0/0"),
    ],
)
def test_prefixes_are_read_as_the_router_intends_them(given, destination, source):
    request = parse(words(**given))
    assert (str(request.rules[0].destination), str(request.rules[0].source)) == (destination, source)
    assert request.warnings == []


@pytest.mark.parametrize("operation", ["-I", "-D"])
@pytest.mark.parametrize(
    "given",
    [{"o": "fd00:1:1::", "n": "64"}, {"c": "fd00::5", "m": "128", "o": "10.1.1.0", "n": "24"}],
)
def test_a_flow_whose_ends_never_meet_is_no_rule_and_no_refusal(operation, given):
    """A router skips the other sources and interfaces of an address after a refusal."""
    request = parse(words(operation, **given))
    assert (request.operation, list(request.rules)) == ({"-I": "insert", "-D": "delete"}[operation], [])
    assert [warning.partition(":")[0] for warning in request.warnings] == ["not stored"]
    with pytest.raises(InvalidInput, match="beyond 65535"):
        parse(words(operation, **given, h="65536"))


def test_each_interface_is_a_rule_of_its_own():
    rules = parse(words(extra=("-N", "lan1", "-N", "lan0", "-N", "lan1"))).rules
    assert [rule.interfaces for rule in rules] == [("lan1",), ("lan0",)]
    assert only(words("-D", N="lan0")).interfaces == ("lan0",)


def test_port_0_passes_the_flow_and_d_drops_it():
    assert only(words(t="0")).action == "pass"
    assert only(words(extra=("-d",))).action == "drop"


@pytest.mark.parametrize(
    ("extra", "warning"),
    [
        (("-r",), "unknown option -r is ignored"),
        (("--verbose", "-v", "yes"), "unknown option --verbose is ignored; unknown option -v yes is ignored"),
        (("-z", "ingress"), "unknown option -z ingress is ignored"),
    ],
)
def test_an_unknown_option_is_a_warning(extra, warning):
    request = parse(words(extra=extra))
    assert request.rules == parse(words()).rules
    assert "; ".join(request.warnings) == warning


def test_options_may_be_joined_with_their_values():
    asked = words()
    assert parse([asked[0], *(f"{name}{value}" for name, value in zip(asked[1::2], asked[2::2]))]) == parse(asked)


@pytest.mark.parametrize(("operation", "name"), [("-L", "list"), ("-F", "flush")])
def test_list_and_flush_need_nothing_else(operation, name):
    assert parse([operation]) == (name, [], [])


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ([], "give one of -I, -D, -L, -F and -V"),
        (["-I", "-D"], "give one of -I"),
        (["-I", "-c", "10.0.0.0"], "5 faults: -m: missing; give its prefix length; -p: missing"),
        (["-D", "-c"], "-c: missing; give the destination address"),
        (words(c="example.org"), "no IPv4 or IPv6 address; names are not resolved"),
        (words(m="33"), "no valid prefix length"),
        (words(p="icmp"), "'icmp' has a row of its own"),
        (words(p="ospf"), "has no meaning for ospf"),
        (words(l="x", h="8"), "is no port or range"),
        (words(h="65536"), "beyond 65535"),
        (words(t="66000"), "out of range"),
        (words(c="10.0.0.0/8"), "no valid prefix length"),
        (words(l="1-5", h="9"), "is no port or range"),
        (words(N="a/b"), "no interface name"),
        (words(s="a\nb"), "control, bidirectional"),
        (words(s="\udcff"), "not valid UTF-8"),
    ],
)
def test_an_invalid_call_is_refused(asked, fault):
    with pytest.raises(InvalidInput, match=fault.replace("(", "[(]")):
        parse(asked)


@given(st.lists(st.text(max_size=12) | st.sampled_from([*FLOW, *FLOW.values(), "-I", "-D", "-N", "-t", "-s", "-d"])))
def test_any_command_line_is_parsed_or_refused(asked):
    try:
        request = parse(asked)
    except InvalidInput:
        return
    assert all(is_routers(rule.owner) or rule.owner == "" for rule in request.rules)


# ---- rules that a request removes ----------------------------------------------------------------


def listening(*ports: int):
    return lambda rule: rule.tproxy_port in ports


def test_a_delete_removes_the_only_rule_even_with_a_listener():
    users = [rule_of("a", 1)]
    assert rules_to_delete(flow_of(users[0]), users, listening(1)) == users


def test_a_delete_removes_the_one_of_several_rules_without_a_listener():
    users = [rule_of("a", 1), rule_of("b", 2), rule_of("c", 3)]
    assert rules_to_delete(flow_of(users[0]), users, listening(1, 3)) == [users[1]]


def test_a_delete_with_a_service_removes_its_rule():
    users = [rule_of("a", 1), rule_of("b", 2)]
    assert rules_to_delete(users[0].identity, users, listening(1)) == [users[0]]
    assert rules_to_delete(rule_of("c").identity, users, listening()) == []


def test_a_delete_without_a_service_is_refused_if_all_have_listeners():
    users = [rule_of("b", 2), rule_of("a", 1)]
    with pytest.raises(Conflict, match="a, b still listen; name one of them with -s"):
        rules_to_delete(flow_of(users[0]), users, listening(1, 2))


def test_a_delete_of_an_unknown_flow_removes_nothing():
    assert rules_to_delete(flow_of(rule_of("a")), [], listening()) == []


def test_an_insert_replaces_rules_without_a_listener_only():
    users = [rule_of("a", 1), rule_of("b", 2), rule_of("c", 3)]
    assert superseded_rules(rule_of("a", 9), users, listening(3)) == [users[1]]
