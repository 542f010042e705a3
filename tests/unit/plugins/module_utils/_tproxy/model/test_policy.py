# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a policy: every fault is named with its option, all at once."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import ADDRESSES, MANAGEMENT
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import InvalidInput, LimitExceeded
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.policy import (
    Management,
    Mark,
    Policy,
    interface_addresses,
    masked_sources,
    parse_mark,
    policy_from_params,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import Prefix, parse_address

NET = {"source": "10.9.0.0/24", "port": 22}


def faults_of(**params) -> list:
    with pytest.raises(InvalidInput) as raised:
        policy_from_params(params)
    return raised.value.faults


# ---- policy ------------------------------------------------------------------------------------------


def test_what_was_not_given_is_not_told():
    assert policy_from_params(None) == policy_from_params({}) == {"management": ()}
    assert policy_from_params({"allow_ssh": None, "management": None}) == {"management": ()}


def test_what_was_given_is_told():
    given = {"default_action": "pass", "allow_ssh": False, "allow_echo": True, "accept": "unspec", "management": [NET]}
    entry = Management(Prefix.parse("10.9.0.0/24")[0], "tcp", 22)
    assert policy_from_params(given) == {**given, "management": (entry,)}


def test_a_policy_reads_as_it_was_written():
    params = {
        "default_action": "pass",
        "allow_ssh": False,
        "allow_echo": True,
        "accept": "unspec",
        "track": "none",
        "link_protocols": "drop",
        "management": [{"source": "10.9.0.0/24", "protocol": "udp", "port": 161}],
    }
    assert Policy(**policy_from_params(params)).to_params() == {**params, "mark": "0x10000000/0x10000000"}
    again = {name: value for name, value in Policy(**policy_from_params(params)).to_params().items() if name != "mark"}
    assert policy_from_params(again) == policy_from_params(params)


def test_the_default_is_closed_but_for_ssh():
    assert Policy().to_params() == {
        "default_action": "drop",
        "allow_ssh": True,
        "allow_echo": False,
        "accept": "ok",
        "track": "none",
        "link_protocols": "pass",
        "management": [],
        "mark": "0x10000000/0x10000000",
    }


@pytest.mark.parametrize("source", ["10.9.0.7", "10.9.0.0/24", "0.0.0.0/0", "fd00::/8", "::1"])
def test_a_source_is_an_address_or_a_prefix(source):
    (entry,) = policy_from_params({"management": [{**NET, "source": source}]})["management"]
    assert entry.source == Prefix.parse(source)[0]


def test_a_source_with_host_bits_is_told_to_mean_its_prefix():
    params = {"management": [NET, {**NET, "source": "10.9.0.7/8"}]}
    assert masked_sources(params) == ["policy.management[1].source: 10.9.0.7/8 has host bits set; it means 10.0.0.0/8"]
    assert masked_sources(None) == masked_sources({"management": None}) == []


@pytest.mark.parametrize(
    ("entry", "place", "words"),
    [
        ({"source": "10.9.0.0/33"}, "source", "no valid prefix length"),
        ({"source": "lan0"}, "source", "is no IPv4 or IPv6 address"),
        ({"source": ""}, "source", "is no IPv4 or IPv6 address"),
        ({"source": None}, "source", "missing; give a prefix"),
        ({"protocol": "nonsense"}, "protocol", "'nonsense' is no IP protocol"),
        ({"protocol": "icmp"}, "protocol", "has a row of its own"),
        ({"protocol": "ospf"}, "port", "ospf has no ports; leave it out"),
        ({"port": 0}, "port", "is no port, 1 to 65535"),
        ({"port": 65536}, "port", "is no port, 1 to 65535"),
        ({"port": -1}, "port", "is no port, 1 to 65535"),
        ({"port": None}, "port", "missing; give a port, 1 to 65535"),
        ({"port": "ssh"}, "port", "is no port, 1 to 65535"),
        ({"port": "22-23"}, "port", "is no port, 1 to 65535"),
        ({"port": True}, "port", "is no port, 1 to 65535"),
    ],
)
def test_a_fault_says_where_it_is_and_what_would_do(entry, place, words):
    (fault,) = faults_of(management=[NET, {**NET, **entry}])
    assert fault.startswith(f"policy.management[1].{place}: ")
    assert words in fault


def test_all_faults_are_told_at_once():
    faults = faults_of(management=[{"source": "x", "protocol": "y", "port": 0}, NET, {"source": "z", "port": 1}])
    assert [fault.split(":")[0] for fault in faults] == [
        "policy.management[0].source",
        "policy.management[0].protocol",
        "policy.management[0].port",
        "policy.management[2].source",
    ]


def test_entries_that_do_not_fit_are_refused_with_the_figures():
    assert len(policy_from_params({"management": [NET] * MANAGEMENT})["management"]) == MANAGEMENT
    assert faults_of(management=[NET] * 65) == ["policy.management: 65 entries, at most 64 fit"]


@pytest.mark.parametrize(("given", "name"), [("ospf", "ospf"), ("VRRP", "vrrp"), (47, "gre"), ("50", "esp")])
def test_a_protocol_without_ports_needs_none(given, name):
    (entry,) = policy_from_params({"management": [{"source": "10.9.0.0/24", "protocol": given}]})["management"]
    params = {"source": "10.9.0.0/24", "protocol": name, "port": None}
    assert entry.to_params() == params
    assert str(entry) == f"10.9.0.0/24 to {name}"
    assert policy_from_params({"management": [params]})["management"] == (entry,)


# ---- mark ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("0x10000000/0x10000000", Mark()),
        ("1", Mark(1, 0xFFFFFFFF)),
        ("0x1/0x1", Mark(1, 1)),
        ("16/240", Mark(0x10, 0xF0)),
        ("0xffffffff", Mark(0xFFFFFFFF, 0xFFFFFFFF)),
        (5, Mark(5, 0xFFFFFFFF)),
    ],
)
def test_a_mark_is_a_value_and_the_bits_that_are_meant(text, mark):
    assert parse_mark(text) == mark
    assert parse_mark(str(mark)) == mark


@pytest.mark.parametrize("text", ["", "/", "x", "1/", "/1", "1/2/3", "0x", "1.5", "1/0xg", "010", None])
def test_what_is_no_mark_is_refused(text):
    with pytest.raises(InvalidInput, match=r"^mark: .* is not VALUE or VALUE/MASK, such as 0x10000000/0x10000000$"):
        parse_mark(text)


@pytest.mark.parametrize(
    "text", ["0", "0/1", "2/1", "3/2", "1/0", "-1", "-1/-1", "0x100000000", "1/0x1ffffffff", "5/6"]
)
def test_a_mark_that_could_match_nothing_or_everything_is_refused(text):
    with pytest.raises(InvalidInput, match="must be above 0, of 32 bits, and lie within its mask"):
        parse_mark(text)


# ---- addresses ------------------------------------------------------------------------------------------------


def test_addresses_are_sorted_and_each_there_once():
    entry = interface_addresses(
        "lan0", [parse_address(text) for text in ("10.1.0.2", "fe80::1", "10.1.0.1", "10.1.0.2")]
    )
    assert entry.to_params() == {"interface": "lan0", "addresses": ["10.1.0.1", "10.1.0.2", "fe80::1"]}


def test_addresses_that_do_not_fit_are_refused_with_the_figures():
    addresses = [parse_address(f"10.1.0.{host}") for host in range(ADDRESSES + 1)]
    assert len(interface_addresses("lan0", [*addresses[1:], addresses[1]]).addresses) == ADDRESSES
    with pytest.raises(LimitExceeded, match=r"^addresses of lan0: 129 wanted, at most 128 fit; list in `addresses`"):
        interface_addresses("lan0", addresses)
