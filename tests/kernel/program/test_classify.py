# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program against brute force: which rule holds, on random rule sets and packets at their edges.

tests/support/precedence.py predicts the results and shares no code with the compiler. A failure prints seed and flow:
the same seed gives the same rules and packets again.
"""

from __future__ import annotations

import random

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import format_number
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.interfaces import slots_for
from ansible_collections.netedge.tproxy.tests.support import precedence, rule_sets
from ansible_collections.netedge.tproxy.tests.support.packets import tcp_frame, udp_frame
from ansible_collections.netedge.tproxy.tests.support.splicer import Splicer

FRAMES = {"tcp": tcp_frame, "udp": udp_frame}
INTERFACES = {**rule_sets.INTERFACES, "other0": 9}
OUTCOMES = {"pass": ("pass", "rule"), "drop": ("drop", "rule")}
SETS = [(1, 1, 600), (2, 2, 600), (3, 5, 1000)]  # seed, rules, packets
SETS += [(seed, count, 2500) for seed, count in enumerate([12, 40, 120, 300] * 2, 4)]


@pytest.fixture(scope="module")
def roomy(blob):
    """Return our program with space for the roots of many interface groups."""
    splicer = Splicer(blob, 4096)
    yield splicer
    splicer.close()


@pytest.fixture
def interfaces(netns, roomy):
    """Make every interface of the flows, with a policy that lets no flow pass before the rules."""
    netns.batch("ip", [f"link add name {name} index {number} type bridge" for name, number in INTERFACES.items()])
    for ifindex, slot in slots_for(INTERFACES.values()).items():
        roomy.policy(ifindex, slot, allow_ssh=False)


def crowd(seed: int, count: int) -> list:
    """Return rules that crowd one field each: hosts of a net, ports of a host, senders to a host.

    More than 32 keys in a field make the compiler leave its search nodes for a table of high bytes, and more than 32
    below one of these for a table of low bytes.
    """
    chance = random.Random(seed)
    net, anybody = 0x0A020000, (0, 0)
    hosts = [((net | low, 32), anybody, 80) for low in _crowded(chance, count)]
    ports = [((net, 32), anybody, port) for port in _crowded(chance, count)]
    senders = [((net, 31), (0x0A030000 | low, 32), 80) for low in _crowded(chance, count)]
    rules = [(4, *one[:2], "tcp", one[2], one[2], (), "ansible") for one in (*hosts, *ports, *senders)]
    return [*rules, (4, (net, 16), anybody, "tcp", 0, 65535, (), "ansible")]


def _crowded(chance, count: int) -> list:
    """Return different values of 16 bits, half of them near each other."""
    return chance.sample(range(1, 600), count // 2) + chance.sample(range(600, 65536), count // 2)


def expected(slotted, number, source):
    """Return (action, reason, rule slot). Without a listener a rule that splices takes its on_missing action."""
    if number is None:
        return "drop", "default", 0
    rule, slot = slotted[number]
    if rule.action == "tproxy" and not is_of_one_host(source):
        return "drop", "undeliverable", slot
    action, reason = OUTCOMES.get(rule.action, (rule.on_missing, "no_listener"))
    return action, reason, slot


def is_of_one_host(address: int) -> bool:
    """Return whether a rule for any wider prefix can splice packets to an IPv4 address, or from it (test_rules.py)."""
    first = address >> 24
    return first not in (0, 127) and first >> 4 != 14 and address != 0xFFFFFFFF


def frame_of(flow):
    _family, destination, source, protocol, port, _interface = flow
    texts = [format_number(rule_sets.mapped(4, address)) for address in (destination, source)]
    # no packet of DHCP, which passes before any rule
    return FRAMES[protocol](texts[0], port, texts[1], 40000)


def judge(program, rules: list, seed: int, packets: int) -> None:
    """Ask the program and the judge about packets at the edges of the rules."""
    slotted = rule_sets.to_slotted(rules)
    program.image(slotted, INTERFACES)
    for flow in rule_sets.draw_flows(seed, rules, packets):
        if not is_of_one_host(flow[1]):
            continue
        answer = program.ask(frame_of(flow), INTERFACES[flow[5]])
        found = answer.action, answer.reason, answer.rule
        wanted = expected(slotted, precedence.winner(rules, flow), flow[2])
        assert found == wanted, f"seed {seed}, {len(rules)} rules, flow {flow}"


@pytest.mark.parametrize(("seed", "count", "packets"), SETS)
def test_the_rule_that_holds_is_the_one_of_the_precedence(roomy, interfaces, seed, count, packets):
    judge(roomy, rule_sets.draw_rules(seed, count, families=(4,)), seed, packets)


@pytest.mark.parametrize("seed", [21, 22])
def test_so_it_is_where_one_field_has_many_values(roomy, interfaces, seed):
    judge(roomy, crowd(seed, 250), seed, 1500)
