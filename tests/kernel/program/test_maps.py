# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the program finds policy and addresses of an interface, which image it uses, and its counters."""

from __future__ import annotations

from collections import defaultdict

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import INTERFACES, UNKNOWN_SLOT
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.interfaces import slots_for
from ansible_collections.netedge.tproxy.tests.support.packets import ETH_ARP, ethernet, ipv4, tcp_frame, udp_frame
from ansible_collections.netedge.tproxy.tests.support.splicer import told

LAN = 1
SERVER, OWN = "192.0.2.1", "10.1.0.1"
# A kernel can have devices of tunnels at low indexes in each namespace.
CROWDS = [
    (45, 301, 557),
    (255, 511, 767),
    tuple(7 + INTERFACES * number for number in range(1, 10)),
    (2147483647, 4095),
]


def plug(netns, *ifindexes: int) -> None:
    """Make interfaces of these indexes."""
    netns.batch("ip", [f"link add name if{number} index {number} type bridge" for number in ifindexes])


# ---- the tables of interfaces ----------------------------------------------------------------


@pytest.mark.parametrize("crowd", CROWDS, ids=str)
def test_interfaces_that_want_one_slot_find_each_its_own_policy(splicer, netns, crowd):
    plug(netns, *crowd)
    for number, (ifindex, slot) in enumerate(slots_for(crowd).items()):
        splicer.policy(ifindex, slot, default_action=("pass", "drop")[number % 2])
    for number, ifindex in enumerate(crowd):
        assert told(splicer.ask(tcp_frame(SERVER, 443), ifindex)) == (("pass", "drop")[number % 2], "default")


def test_a_freed_slot_hides_nobody_behind_it(splicer, netns):
    plug(netns, 45, 301)
    splicer.policy(301, 46, default_action="pass")
    assert told(splicer.ask(tcp_frame(SERVER, 443), 301)) == ("pass", "default")


@pytest.mark.parametrize("ifindex", [45, 300])
def test_an_interface_without_a_policy_is_closed_but_for_ssh(splicer, wires, ifindex):
    wires.lay(ifindex)
    splicer.rules({"destination": SERVER, "protocol": "tcp", "ports": 80, "action": "pass"})
    assert told(splicer.ask(tcp_frame(OWN, 22), ifindex)) == ("pass", "ssh")
    assert told(splicer.ask(tcp_frame(SERVER, 80), ifindex)) == ("pass", "rule")
    assert told(splicer.ask(tcp_frame(SERVER, 443), ifindex)) == ("drop", "default")
    assert told(splicer.ask(ethernet(bytes(28), ETH_ARP), ifindex)) == ("pass", "arp")
    before = splicer.counted(UNKNOWN_SLOT)
    ports = (tcp_frame(OWN, 22), tcp_frame(SERVER, 80), tcp_frame(SERVER, 443))
    wires.send(ifindex, *ports, ethernet(bytes(28), ETH_ARP))
    after = splicer.counted(UNKNOWN_SLOT)
    for outcome in (("ssh", "pass"), ("rule", "pass"), ("default", "drop"), ("arp", "pass")):
        assert after[outcome][0] == before.get(outcome, (0, 0))[0] + 1


# ---- counters -----------------------------------------------------------------------------------


def grown(before: dict, after: dict) -> dict:
    """Return the difference of two answers of counted()."""
    more = {outcome: (new[0] - before[outcome][0], new[1] - before[outcome][1]) for outcome, new in after.items()}
    return {outcome: counter for outcome, counter in more.items() if any(counter)}


def test_each_outcome_is_counted_under_its_interface_reason_and_verdict(splicer, wires):
    wires.lay(45, 301)
    splicer.policy(45, 45)
    splicer.policy(301, 46, default_action="pass")
    splicer.rules({"destination": SERVER, "protocol": "udp", "ports": 53, "action": "drop"})
    long, short = udp_frame(SERVER, 53), tcp_frame(SERVER, 443)
    before = [defaultdict(lambda: (0, 0), splicer.counted(slot)) for slot in (45, 46, UNKNOWN_SLOT)]
    for frame, ifindex, times in ((long, 45, 3), (short, 45, 2), (short, 301, 4), (tcp_frame(OWN, 22), 301, 1)):
        wires.send(ifindex, *[frame] * times)
    assert [grown(old, splicer.counted(slot)) for old, slot in zip(before, (45, 46, UNKNOWN_SLOT))] == [
        {("rule", "drop"): (3, 3 * len(long)), ("default", "drop"): (2, 2 * len(short))},
        {("default", "pass"): (4, 4 * len(short)), ("ssh", "pass"): (1, len(short))},
        {},
    ]


def test_hits_are_counted_for_the_rule_that_decided(splicer, wires):
    wires.lay(45)
    rules = [
        {"destination": "192.0.2.0/24", "protocol": "tcp", "ports": "1-65535", "action": "drop"},
        {"destination": SERVER, "protocol": "tcp", "ports": 80, "action": "pass"},
    ]
    splicer.policy(45)
    splicer.rules(*rules)
    before = [splicer.hits(slot) for slot in (0, 1, 2)]
    frame = tcp_frame(SERVER, 80, options=bytes(8))
    wires.send(45, frame, frame, tcp_frame(SERVER, 81), tcp_frame(OWN, 80), tcp_frame(OWN, 22))
    after = [splicer.hits(slot) for slot in (0, 1, 2)]
    more = [(new[0] - old[0], new[1] - old[1]) for new, old in zip(after, before)]
    assert more == [(0, 0), (1, len(tcp_frame(SERVER, 81))), (2, 2 * len(frame))]


# ---- rules for some interfaces ------------------------------------------------------------------------


def test_a_rule_holds_on_the_interfaces_that_it_names(splicer, netns):
    interfaces = {"lan0": 45, "lan1": 173, "lan2": 301}
    plug(netns, *interfaces.values(), 46)
    for ifindex, slot in slots_for((*interfaces.values(), 46)).items():
        splicer.policy(ifindex, slot)
    splicer.rules(
        {"destination": SERVER, "protocol": "tcp", "ports": 443, "action": "pass", "interfaces": ["lan0", "lan2"]},
        {"destination": SERVER, "protocol": "udp", "ports": 443, "action": "pass", "interfaces": ["lan1"]},
        interfaces=interfaces,
    )
    told_of = {number: splicer.ask(tcp_frame(SERVER, 443), number).action for number in (45, 173, 301, 46)}
    assert told_of == {45: "pass", 173: "drop", 301: "pass", 46: "drop"}
    told_of = {number: splicer.ask(udp_frame(SERVER, 443), number).action for number in (45, 173, 301, 46)}
    assert told_of == {45: "drop", 173: "pass", 301: "drop", 46: "drop"}


def test_a_jumbo_frame_is_judged_and_counted_whole(splicer, wires):
    wires.lay(45)
    splicer.policy(45)
    splicer.rules({"destination": SERVER, "protocol": "udp", "ports": 53, "action": "pass"})
    before = splicer.hits(1)[1]
    frame = ethernet(ipv4(udp_frame(SERVER, 53)[34:] + bytes(3000), 17, destination=SERVER))
    assert told(splicer.ask(frame, 45)) == ("pass", "rule")
    wires.send(45, frame)
    assert splicer.hits(1)[1] - before == len(frame)


def test_a_test_run_counts_nothing(splicer, wires):
    wires.lay(45)
    splicer.policy(45)
    splicer.rules({"destination": SERVER, "protocol": "udp", "ports": 53, "action": "drop"})
    counted = splicer.packets(), splicer.hits(1)
    for _time in range(1000):
        assert splicer.ask(udp_frame(SERVER, 53), 45).rule == 1
    assert (splicer.packets(), splicer.hits(1)) == counted
    wires.send(45, udp_frame(SERVER, 53))
    assert splicer.packets() == counted[0] + 1
    assert splicer.hits(1)[0] == counted[1][0] + 1
