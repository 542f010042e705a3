# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drop log becomes rules and management entries: which flows count, and how entries are joined."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import InvalidInput
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import parse_address
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.suggest import (
    Widths,
    answer_of,
    suggestion_of,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.drop_log import Drop

NAMES = {2: "wan0", 3: "lan0"}
OWN, CLIENT, SERVER = "203.0.113.1", "10.1.0.2", "192.0.2.9"
TCP, UDP, OSPF, ICMP = 6, 17, 89, 1
OPTIONS = {"sources": "32,128", "destinations": "32,128", "port_gap": 1, "all": False}


def drop(destination: str = SERVER, port: int = 443, source: str = CLIENT, **given) -> Drop:
    """Return an answered would-be drop on lan0."""
    values = {"ifindex": 3, "verdict": "would_drop", "reason": "default", "rule": 0, "protocol": TCP}
    values |= {"first_seen": 1, "last_seen": 2, "packets": 1, "answers": 1, "refusals": 0, **given}
    return Drop(source=source, destination=destination, port=port, **values)


def suggested(*drops: Drop, **options) -> dict:
    """Return the answer of the command."""
    given = {**OPTIONS, **options}
    own = {int.from_bytes(parse_address(OWN), "big")}
    suggestion = suggestion_of(drops, own, lambda ifindex: NAMES.get(ifindex, ""), given["all"])
    return answer_of(suggestion, Widths.of(given))


def rules(*drops: Drop, **options) -> list[tuple]:
    entries = [each["entry"] for each in suggested(*drops, **options)["rules"]]
    assert all(entry["action"] == "pass" for entry in entries)
    return [(entry["protocol"], entry["source"], entry["destination"], entry.get("ports")) for entry in entries]


def test_an_answered_flow_becomes_a_rule_of_its_interface():
    answer = suggested(drop(packets=3), drop(packets=2))
    assert answer["rules"] == [
        {
            "entry": {
                "destination": f"{SERVER}/32",
                "source": f"{CLIENT}/32",
                "protocol": "tcp",
                "ports": "443",
                "interfaces": ["lan0"],
                "action": "pass",
            },
            "packets": 5,
        }
    ]
    assert (answer["interfaces"], answer["apart"], answer["replies"], answer["unanswered"]) == ([], [], [], 0)


@pytest.mark.parametrize("destination", [OWN, "255.255.255.255", "224.0.0.251", "ff02::fb"])
def test_a_flow_to_this_host_becomes_a_management_entry(destination):
    source = "fd00::2" if ":" in destination else CLIENT
    answer = suggested(drop(destination, 2022, source, ifindex=2, protocol=UDP))
    width = 128 if ":" in destination else 32
    entry = {"source": f"{source}/{width}", "protocol": "udp", "port": 2022}
    assert answer["interfaces"] == [{"name": "wan0", "management": [{"entry": entry, "packets": 1}]}]
    assert answer["rules"] == []


def test_a_protocol_without_ports_becomes_a_rule_wherever_it_goes():
    assert rules(drop("224.0.0.5", 0, protocol=OSPF, reason="other")) == [
        ("ospf", f"{CLIENT}/32", "224.0.0.5/32", None)
    ]


@pytest.mark.parametrize(
    "given",
    [
        {"answers": 0},
        {"verdict": "drop"},
        {"reason": "fragment"},
        {"reason": "other", "protocol": ICMP},
        {"ifindex": 9},
        {"answers": 0, "refusals": 1},
    ],
    ids=["no answer", "a drop", "a fragment", "ICMP", "an interface that is gone", "refused"],
)
def test_no_other_flow_counts(given):
    assert rules(drop(**given)) == []


def test_without_the_need_of_an_answer_only_refused_flows_are_left_out():
    quiet, refused = drop(port=514, answers=0), drop(port=515, answers=0, refusals=1)
    answered = [drop(port=port) for port in (80, 443)]
    assert rules(quiet, refused, *answered, all=True) == [("tcp", f"{CLIENT}/32", f"{SERVER}/32", "80,443,514")]
    assert suggested(quiet, refused, *answered)["unanswered"] == 2


def test_a_scanner_gets_nothing_although_it_found_an_open_port():
    closed = [drop(OWN, port, "198.51.100.7", answers=0, refusals=1) for port in range(1, 30)]
    found = drop(OWN, 2022, "198.51.100.7")
    operator = drop(OWN, 2022)
    answer = suggested(*closed, found, operator)
    assert answer["apart"] == [{"source": "198.51.100.7", "refused": 29, "answered": 1}]
    assert [entry["entry"]["source"] for entry in answer["interfaces"][0]["management"]] == [f"{CLIENT}/32"]


def test_an_answered_flow_that_ends_with_a_reset_is_no_refusal():
    assert rules(drop(answers=9, refusals=1)) == [("tcp", f"{CLIENT}/32", f"{SERVER}/32", "443")]


def test_replies_need_no_rule():
    request = drop(first_seen=1)
    reply = drop(CLIENT, 49152, SERVER, ifindex=2, first_seen=2)
    assert rules(reply, request) == [("tcp", f"{CLIENT}/32", f"{SERVER}/32", "443")]
    assert suggested(reply, request)["replies"] == ["wan0"]


def test_a_service_in_the_opposite_direction_is_no_reply():
    both = drop(first_seen=1), drop(CLIENT, 22, SERVER, ifindex=2, first_seen=2)
    assert len(rules(*both)) == 2


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, ["10.1.0.2/32", "10.1.0.9/32", "fd00::2/128"]),
        ({"sources": "24"}, ["10.1.0.0/24", "fd00::2/128"]),
        ({"sources": "16, 64"}, ["10.1.0.0/16", "fd00::/64"]),
        ({"sources": "0,0"}, ["0.0.0.0/0", "::/0"]),
    ],
)
def test_sources_are_joined_by_prefixes(options, wanted):
    flows = (drop(), drop(source="10.1.0.9"), drop("2001:db8::1", source="fd00::2"))
    assert sorted(source for _protocol, source, *_more in rules(*flows, **options)) == wanted


def test_destinations_are_joined_by_prefixes():
    assert rules(drop("192.0.2.9"), drop("192.0.2.77", 80), destinations="24") == [
        ("tcp", f"{CLIENT}/32", "192.0.2.0/24", "80,443")
    ]


@pytest.mark.parametrize(("gap", "ports"), [(1, "80-82,90,443"), (8, "80-90,443"), (1000, "80-443")])
def test_ports_are_joined_to_ranges(gap, ports):
    flows = [drop(port=port) for port in (81, 80, 82, 90, 443)]
    assert rules(*flows, port_gap=gap) == [("tcp", f"{CLIENT}/32", f"{SERVER}/32", ports)]


def test_all_faults_of_the_options_are_told_together():
    with pytest.raises(InvalidInput) as caught:
        Widths.of({"sources": "33", "destinations": "24,64,8", "port_gap": 0})
    assert [str(fault).partition(":")[0] for fault in caught.value.faults] == ["sources", "destinations", "port-gap"]
