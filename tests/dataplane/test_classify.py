# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program against brute force: which rule holds, on random rule sets and packets at their edges.

The judge is tests/unit/precedence.py, which shares nothing with the compiler. A failure prints seed and flow: the same
seed gives the same rules and packets again.
"""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils import _codec
from ansible_collections.netedge.tproxy.plugins.module_utils._prefix import format_number
from ansible_collections.netedge.tproxy.tests.dataplane.packets import tcp_frame, udp_frame
from ansible_collections.netedge.tproxy.tests.dataplane.splicer import Splicer
from ansible_collections.netedge.tproxy.tests.unit import precedence, rule_sets

FRAMES = {"tcp": tcp_frame, "udp": udp_frame}
INTERFACES = {**rule_sets.INTERFACES, "other0": 9}
OUTCOMES = {"pass": ("pass", "rule"), "drop": ("drop", "rule")}
SETS = [(1, 1, 600), (2, 2, 600), (3, 5, 1000)]  # seed, rules, packets
SETS += [(seed, count, 2500) for seed, count in enumerate([12, 40, 120, 300] * 2, 4)]


@pytest.fixture(scope="module")
def roomy(blob):
    """Return our program with room for the roots of many interface classes."""
    splicer = Splicer(blob, 4096)
    yield splicer
    splicer.close()


@pytest.fixture
def interfaces(netns, roomy):
    """Make every interface that a flow comes in on, with a policy that lets nobody pass before the rules."""
    netns.batch("ip", [f"link add name {name} index {number} type bridge" for name, number in INTERFACES.items()])
    taken = {}
    for ifindex in INTERFACES.values():
        slot = _codec.place(ifindex, taken)
        taken[slot] = ifindex
        roomy.policy(ifindex, slot, allow_ssh=False)


def expected(slotted, number):
    """Return (action, reason, rule slot); where nothing listens, a rule that splices does what is for that case."""
    if number is None:
        return "drop", "default", 0
    rule, slot = slotted[number]
    action, reason = OUTCOMES.get(rule.action, (rule.on_missing, "no_listener"))
    return action, reason, slot


def frame_of(flow):
    _family, destination, source, protocol, port, _interface = flow
    texts = [format_number(rule_sets.mapped(4, address)) for address in (destination, source)]
    # no packet of DHCP, which passes before any rule
    return FRAMES[protocol](texts[0], port, texts[1], 40000)


@pytest.mark.parametrize(("seed", "count", "packets"), SETS)
def test_the_rule_that_holds_is_the_one_of_the_precedence(roomy, interfaces, seed, count, packets):
    rules = rule_sets.draw_rules(seed, count, families=(4,))
    slotted = rule_sets.to_slotted(rules)
    roomy.image(slotted, INTERFACES)
    for flow in rule_sets.draw_flows(seed, rules, packets):
        answer = roomy.ask(frame_of(flow), INTERFACES[flow[5]])
        found = answer.action, answer.reason, answer.rule
        wanted = expected(slotted, precedence.winner(rules, flow))
        assert found == wanted, f"seed {seed}, {count} rules, flow {flow}"
