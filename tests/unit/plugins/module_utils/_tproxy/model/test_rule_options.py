# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import InvalidInput
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.long_list import LongList
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import Prefix
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule import Rule
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule_options import (
    identities_from_params,
    rules_from_params,
    shared_flows,
)

# As Ansible passes a rule: every option is there, None if it was left out.
OPTIONS = (
    "source",
    "interfaces",
    "action",
    "tproxy_ip",
    "tproxy_port",
    "tproxy_user",
    "on_missing",
    "fragments",
    "name",
    "owner",
)
LEFT_OUT = dict.fromkeys(OPTIONS)
GOOD = {**LEFT_OUT, "destination": "10.0.0.0/8", "protocol": "tcp", "ports": "80", "tproxy_port": 8080}


def faults_of(read, *items, **keywords):
    with pytest.raises(InvalidInput) as refusal:
        read([{**GOOD, **item} for item in items], **keywords)
    assert all(fault in str(refusal.value) for fault in refusal.value.faults)
    return refusal.value.faults


def one_rule(**options):
    (rule,), warnings = rules_from_params([{**GOOD, **options}])
    assert warnings == []
    return rule


def test_defaults():
    assert one_rule() == Rule(
        destination=Prefix.parse("10.0.0.0/8")[0],
        source=Prefix.any_of(4),
        protocol="tcp",
        low=80,
        high=80,
        interfaces=(),
        action="tproxy",
        tproxy_ip="127.0.0.1",
        tproxy_port=8080,
        on_missing="drop",
        name="",
        owner="ansible",
    )


def test_defaults_of_ipv6():
    rule = one_rule(destination="fd00::/8")
    assert (rule.source, rule.tproxy_ip) == (Prefix.any_of(6), "::1")


@pytest.mark.parametrize(
    ("ports", "low", "high"),
    [
        (80, 80, 80),
        (0, 0, 0),
        ("80", 80, 80),
        ("80-443", 80, 443),
        ("80:443", 80, 443),
        (" 80 - 443 ", 80, 443),
        ("0-65535", 0, 65535),
    ],
)
def test_ports(ports, low, high):
    rule = one_rule(ports=ports)
    assert (rule.low, rule.high) == (low, high)


@pytest.mark.parametrize("ports", [1200, 1220, 1205, 3600, 443, 80, "1221", 8080])  # 20:00, 20:20, 20:05, 60:00
def test_numbers_that_are_no_range_of_yaml(ports):
    assert one_rule(ports=ports).low == int(ports)


@pytest.mark.parametrize(
    "ports", ["80,443,8000-8100", "80, 443 ,8000:8100", [80, "443", "8000-8100"], ["80,443", "8000-8100"]]
)
def test_an_entry_with_several_ports_is_several_rules(ports):
    rules, _warnings = rules_from_params([{**GOOD, "ports": ports, "protocol": ["tcp", "UDP"], "name": "both"}])
    ranges = [(80, 80), (443, 443), (8000, 8100)]
    assert [rule[2:5] for rule in rules] == [(name, *each) for name in ("tcp", "udp") for each in ranges]
    assert {rule.name for rule in rules} == {"both"}


@pytest.mark.parametrize(
    ("protocol", "name"), [("OSPF", "ospf"), (89, "ospf"), ("89", "ospf"), (61, "61"), ("ipv4", "ipip")]
)
@pytest.mark.parametrize("ports", [None, "", []])
def test_a_protocol_without_ports(protocol, name, ports):
    rule = one_rule(protocol=protocol, ports=ports, action="pass", tproxy_port=None)
    assert (rule.protocol, rule.table, rule.to_params()["ports"]) == (name, "portless", "")
    assert str(rule) == f"{name} 10.0.0.0/8: pass (owner ansible)"
    assert rules_from_params([rule.to_params()])[0] == [rule]


def test_a_proxy_takes_tcp_and_udp_only():
    (fault,) = faults_of(rules_from_params, {"protocol": "sctp", "ports": None})
    assert fault == "rule number 1: action: a proxy takes tcp and udp only; give pass or drop for sctp"


def test_the_same_rule_in_two_entries_with_lists():
    (fault,) = faults_of(rules_from_params, {"ports": "80,443"}, {"ports": [443], "protocol": ["tcp", "udp"]})
    assert "rule number 2 and rule number 1 are the same rule (tcp 10.0.0.0/8 ports 443)" in fault


def test_interfaces_are_sorted_and_stand_once():
    assert one_rule(interfaces=["eth1", "br-lan", "eth1"]).interfaces == ("br-lan", "eth1")
    assert one_rule(interfaces="eth0").interfaces == ("eth0",)


@pytest.mark.parametrize("anything", ["0.0.0.0/0", "::/0", None])
@pytest.mark.parametrize(("destination", "family"), [("10.0.0.0/8", 4), ("fd00::/8", 6)])
def test_any_source_takes_the_family_of_the_destination(anything, destination, family):
    assert one_rule(destination=destination, source=anything).source == Prefix.any_of(family)


@pytest.mark.parametrize("action", ["pass", "drop"])
@pytest.mark.parametrize("on_missing", [None, "drop", "pass"])
def test_rules_without_proxy_have_one_form(action, on_missing):
    rule = one_rule(action=action, tproxy_port=None, on_missing=on_missing)
    assert (rule.tproxy_ip, rule.tproxy_port, rule.on_missing) == ("", 0, "")


@pytest.mark.parametrize(
    ("given", "user"), [(None, None), ("", None), ("0", 0), (0, 0), ("4294967294", 4294967294), ("proxy", 13)]
)
def test_the_user_of_a_proxy_is_a_number(given, user):
    (rule,), _warnings = rules_from_params([{**GOOD, "tproxy_user": given}], users={"proxy": 13}.get)
    assert rule.user == user
    assert rules_from_params([rule.to_params()])[0] == [rule]


@pytest.mark.parametrize(
    ("given", "fragments"), [(None, "on_demand"), ("", "on_demand"), ("always", "always"), ("drop", "drop")]
)
def test_fragments_have_one_form(given, fragments):
    (rule,), _warnings = rules_from_params([{**GOOD, "fragments": given}])
    assert rule.fragments == rule.to_params()["fragments"] == fragments
    assert rules_from_params([rule.to_params()])[0] == [rule]


def test_an_unknown_user_is_refused_with_the_other_faults():
    assert faults_of(rules_from_params, {"tproxy_user": "proxy", "on_missing": "reject"}, users={}.get) == [
        "rule number 1: on_missing: 'reject' is not one of drop, pass",
        "rule number 1: tproxy_user: this machine has no user 'proxy'; install the proxy first, or give a number",
    ]


def test_tproxy_ip_is_canonical():
    assert one_rule(tproxy_ip="::ffff:127.0.0.2").tproxy_ip == "127.0.0.2"
    assert one_rule(destination="fd00::/8", tproxy_ip="FD00:0::1").tproxy_ip == "fd00::1"


def test_names_up_to_their_limit():
    rule = one_rule(name="\u00e4" * 31 + "a", owner="o" * 31, interfaces=["i" * 15])
    assert (len(rule.name.encode()), len(rule.owner), len(rule.interfaces[0])) == (63, 31, 15)


def test_masked_host_bits_warn():
    items = [GOOD, {**GOOD, "destination": "10.1.2.3/16", "source": "192.0.2.1/24"}]
    (_first, rule), warnings = rules_from_params(items)
    assert (str(rule.destination), str(rule.source)) == ("10.1.0.0/16", "192.0.2.0/24")
    assert warnings == [
        "rule number 2: destination: 10.1.2.3/16 has host bits set; it means 10.1.0.0/16",
        "rule number 2: source: 192.0.2.1/24 has host bits set; it means 192.0.2.0/24",
    ]


def test_many_masked_host_bits_are_one_warning():
    items = [{**GOOD, "destination": f"10.{number}.0.1/16"} for number in range(34)]
    _rules, (warning,) = rules_from_params(items)
    assert warning.startswith("rule number 1: destination: 10.0.0.1/16 has host bits set; it means 10.0.0.0/16; rule")
    assert warning.endswith("it means 10.4.0.0/16; and 29 more prefixes with host bits set")


def test_ranges_that_overlap_with_different_outcomes_warn():
    one = {**GOOD, "ports": "80-100"}
    exception = {**one, "ports": "85-86", "action": "drop", "tproxy_port": None}
    other = {**one, "ports": "90-105", "tproxy_port": 5999, "name": "voice"}
    _rules, warnings = rules_from_params([one, other, exception])
    assert warnings == [
        "rule number 1 and rule 'voice' (number 2) overlap in ports 90-100 of 10.0.0.0/8 and have different outcomes;"
        " there 90-105 decides; separate the ranges"
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"ports": "90-105"},
        {"ports": "101-105", "tproxy_port": 5999},
        {"ports": "90-95", "tproxy_port": 5999},
        {"ports": "80-105", "tproxy_port": 5999},
        {"ports": "90-105", "tproxy_port": 5999, "destination": "10.0.0.0/9"},
        {"ports": "90-105", "tproxy_port": 5999, "protocol": "udp"},
        {"ports": "90-105", "tproxy_port": 5999, "interfaces": ["lan0"]},
    ],
)
def test_an_exception_and_flows_of_another_kind_do_not_warn(other):
    one = {**GOOD, "ports": "80-100", "protocol": "tcp"}
    assert rules_from_params([one, {**one, **other}])[1] == []


def test_one_flow_of_two_owners_with_different_outcomes_warns():
    group, site = {**GOOD, "owner": "ansible"}, {**GOOD, "owner": "site", "tproxy_port": 5999}
    (told,) = shared_flows(rules_from_params([site, group])[0])
    assert told.startswith("rules of the owners 'ansible' and 'site' name one flow (")
    assert "'ansible' sorts first, so its rule decides (tproxy 127.0.0.1:8080" in told


@pytest.mark.parametrize(
    "other",
    [{}, {"owner": "ansible", "tproxy_port": 5999, "ports": 81}, {"tproxy_port": 5999, "destination": "10.0.0.0/9"}],
)
def test_rules_of_several_owners_that_agree_or_differ_in_the_flow_do_not_warn(other):
    rules, _warnings = rules_from_params([{**GOOD, "owner": "ansible"}, {**GOOD, "owner": "site", **other}])
    assert shared_flows(rules) == []


def test_a_long_list_warns_of_an_overlap_once():
    items = LongList([{**GOOD, "ports": "80-100"}, {**GOOD, "ports": "90-105", "tproxy_port": 5999}])
    _rules, first = rules_from_params(items)
    assert len(first) == 1
    assert rules_from_params(items)[1] == first


FAULTS = [
    ({"destination": None}, "destination", "missing"),
    ({"destination": "ten"}, "destination", "'ten'"),
    ({"destination": ""}, "destination", "''"),
    ({"destination": "10.0.0.0/33"}, "destination", "0 to 32"),
    ({"source": "10.0.0.0/x"}, "source", "0 to 32"),
    ({"source": ""}, "source", "''"),
    ({"source": "fd00::/8"}, "source", "IPv4"),
    ({"destination": "fd00::/8", "source": "10.0.0.0/8"}, "source", "IPv6"),
    ({"protocol": None}, "protocol", "missing; give tcp, udp or another"),
    ({"protocol": "any"}, "protocol", "'any' is no IP protocol"),
    ({"protocol": ""}, "protocol", "''"),
    ({"protocol": True}, "protocol", "True"),
    ({"protocol": 256}, "protocol", "256 is no IP protocol"),
    ({"protocol": "icmp"}, "protocol", "`allow_echo`"),
    ({"protocol": 58}, "protocol", "`allow_echo`"),
    ({"protocol": "ipv6-frag"}, "protocol", "extension header"),
    ({"protocol": ["tcp", "TCP"]}, "protocol", "['tcp', 'TCP'] has an element twice"),
    ({"protocol": ["tcp", "gre"]}, "protocol", "gre has no ports, but tcp has; use two rules"),
    ({"protocol": "ospf", "action": "drop", "tproxy_port": None}, "ports", "has no meaning for ospf"),
    ({"ports": None}, "ports", "missing"),
    ({"ports": "http"}, "ports", "'http'"),
    ({"ports": ""}, "ports", "''"),
    ({"ports": True}, "ports", "True"),
    ({"ports": -1}, "ports", "-1"),
    ({"ports": "80,,443"}, "ports", "''"),
    ({"ports": [80, "http"]}, "ports", "'http'"),
    ({"ports": []}, "ports", "[] is no port"),
    ({"ports": [80, "80-80"]}, "ports", "twice"),
    ({"ports": 1221}, "ports", "20:21 without quotes; write '1221' for the port, or 20-21 for the range"),
    ({"ports": ["80", 1221]}, "ports", "1221"),
    ({"ports": 20.5}, "ports", "20.5"),
    ({"ports": "80-"}, "ports", "'80-'"),
    ({"ports": "443-80"}, "ports", "80-443"),
    ({"ports": 65536}, "ports", "65536"),
    ({"ports": "80-99999"}, "ports", "80-99999"),
    ({"ports": "1-" + "9" * 30}, "ports", "99999"),
    ({"action": "accept"}, "action", "'accept' is not one of tproxy, pass, drop"),
    ({"tproxy_port": None}, "tproxy_port", "missing"),
    ({"tproxy_port": 0}, "tproxy_port", "0 is out of range"),
    ({"tproxy_port": 65536}, "tproxy_port", "1 to 65535"),
    ({"tproxy_port": "80-81"}, "tproxy_port", "'80-81' is no port"),
    ({"tproxy_port": True}, "tproxy_port", "True"),
    ({"action": "pass"}, "tproxy_port", "8080 has no meaning with action pass"),
    ({"action": "drop", "tproxy_port": None, "tproxy_ip": "127.0.0.1"}, "tproxy_ip", "no meaning with action drop"),
    ({"action": "drop", "tproxy_port": None, "tproxy_user": "0"}, "tproxy_user", "no meaning with action drop"),
    ({"tproxy_user": "4294967295"}, "tproxy_user", "out of range"),
    ({"tproxy_user": True}, "tproxy_user", "no user True"),
    ({"tproxy_user": "-1"}, "tproxy_user", "no user '-1'"),
    ({"tproxy_ip": "localhost"}, "tproxy_ip", "'localhost'"),
    ({"tproxy_ip": "::1"}, "tproxy_ip", "IPv4"),
    ({"destination": "fd00::/8", "tproxy_ip": "127.0.0.1"}, "tproxy_ip", "IPv6"),
    ({"tproxy_ip": "0.0.0.0"}, "tproxy_ip", "names no socket"),
    ({"tproxy_ip": "224.0.0.1"}, "tproxy_ip", "names no socket"),
    ({"destination": "fd00::/8", "tproxy_ip": "::"}, "tproxy_ip", "names no socket"),
    ({"destination": "fd00::/8", "tproxy_ip": "ff02::1"}, "tproxy_ip", "names no socket"),
    ({"fragments": "pass"}, "fragments", "'pass' is not one of on_demand, always, drop"),
    ({"action": "pass", "tproxy_port": None, "fragments": "drop"}, "fragments", "no meaning with action pass"),
    ({"on_missing": "reject"}, "on_missing", "'reject' is not one of drop, pass"),
    ({"name": "n" * 64}, "name", "64 bytes"),
    ({"name": "\u00e4" * 32}, "name", "64 bytes"),
    ({"name": "two\nlines"}, "name", "control"),
    ({"name": "\x85"}, "name", "control"),
    ({"name": "\udcff"}, "name", "UTF-8"),
    ({"owner": ""}, "owner", "empty"),
    ({"owner": "o" * 32}, "owner", "32 bytes"),
    ({"owner": "a\0b"}, "owner", "control"),
    ({"owner": "a\u202eb"}, "owner", "U+202E"),
    ({"name": "one\u2028two"}, "name", "U+2028"),
    ({"interfaces": ["a\u2066"]}, "interfaces", "U+2066"),
    ({"interfaces": [""]}, "interfaces", "''"),
    ({"interfaces": ["."]}, "interfaces", "'.'"),
    ({"interfaces": [".."]}, "interfaces", "'..'"),
    ({"interfaces": ["i" * 16]}, "interfaces", "1 to 15 bytes"),
    ({"interfaces": ["a/b"]}, "interfaces", "'a/b'"),
    ({"interfaces": ["eth0:1"]}, "interfaces", "'eth0:1'"),
    ({"interfaces": ["a b"]}, "interfaces", "'a b'"),
    ({"interfaces": ["a\x01"]}, "interfaces", "a\\x01"),
    ({"interfaces": ["\udcff"]}, "interfaces", "udcff"),
]


@pytest.mark.parametrize(("item", "option", "words"), FAULTS)
def test_fault(item, option, words):
    (fault,) = faults_of(rules_from_params, {}, item)
    assert fault.startswith(f"rule number 2: {option}: ")
    assert words in fault
    (alone,) = faults_of(rules_from_params, item, single=True)
    assert alone == fault[len("rule number 2: ") :]


IDENTITY_OPTIONS = ("destination", "source", "protocol", "ports", "interfaces", "owner")


@pytest.mark.parametrize(("item", "option", "words"), [row for row in FAULTS if row[1] in IDENTITY_OPTIONS])
def test_fault_of_a_deletion(item, option, words):
    (fault,) = faults_of(identities_from_params, item, single=True)
    assert fault.startswith(f"{option}: ")
    assert words in fault


def test_deletion_needs_no_action():
    identities, warnings = identities_from_params([{**GOOD, "tproxy_port": None}], single=True)
    assert (identities, warnings) == ([one_rule().identity], [])


def test_all_faults_come_together():
    faults = faults_of(
        rules_from_params,
        {"destination": "x", "ports": "y", "name": "n" * 64},
        {},
        {"protocol": "icmp", "tproxy_port": None, "tproxy_ip": "::1", "interfaces": ["/", "a b"]},
    )
    assert [fault.rpartition(": ")[0] for fault in faults] == [
        "rule number 1: destination",
        "rule number 1: ports",
        "rule number 1: name",
        "rule number 3: protocol",
        "rule number 3: interfaces",
        "rule number 3: interfaces",
        "rule number 3: tproxy_ip",
        "rule number 3: tproxy_port",
    ]


def test_a_name_alone_removes_no_rule_and_the_message_names_what_does():
    with pytest.raises(InvalidInput) as refused:
        identities_from_params([{"name": "voice"}])
    words = "a name identifies no rule; give owner, destination, source, protocol, ports and interfaces of the rule"
    assert f"rule 'voice' (number 1): name: {words}" in refused.value.faults


@pytest.mark.parametrize("read", [rules_from_params, identities_from_params])
def test_the_same_rule_twice(read):
    other = {"destination": "10.255.0.1/8", "ports": 80, "tproxy_port": 9090, "interfaces": []}
    (fault,) = faults_of(read, {}, {"protocol": "udp"}, other)
    assert "rule number 3 and rule number 1" in fault
    assert "tcp 10.0.0.0/8 ports 80" in fault


def test_owners_may_share_an_identity_otherwise():
    rules, _warnings = rules_from_params([GOOD, {**GOOD, "owner": "ziti:a"}])
    assert [rule.owner for rule in rules] == ["ansible", "ziti:a"]


def test_no_rules():
    assert rules_from_params([]) == ([], [])
