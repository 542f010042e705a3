# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset import reference as reference_module
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.reference import Reference
from ansible_collections.netedge.tproxy.tests.support import precedence, rule_sets


@pytest.mark.parametrize("seed", range(40))
def test_reference_agrees_with_brute_force(seed):
    plain = rule_sets.draw_rules(seed, 60, families=((4,), (6,), (4, 6))[seed % 3])
    rules = [rule_sets.to_rule(rule) for rule in plain]
    reference = Reference(random.Random(seed).sample(rules, len(rules)))
    for flow in rule_sets.draw_flows(seed, plain, 250):
        family, destination, source, protocol, port, interface = flow
        addresses = rule_sets.mapped(family, destination), rule_sets.mapped(family, source)
        expected = precedence.winner(plain, flow)
        assert reference.best(*addresses, protocol, port, interface) is (
            None if expected is None else rules[expected]
        ), f"seed {seed}, {flow}"


def test_reference_without_interface_sees_only_rules_for_all():
    plain = rule_sets.draw_rules(3, 60)
    rules = [rule_sets.to_rule(rule) for rule in plain]
    restricted, free = Reference(rules), Reference([rule for rule in rules if not rule.interfaces])
    for family, destination, source, protocol, port, _interface in rule_sets.draw_flows(3, plain, 500):
        flow = rule_sets.mapped(family, destination), rule_sets.mapped(family, source), protocol, port
        assert restricted.best(*flow) is free.best(*flow)


@pytest.mark.parametrize("seed", range(20))
def test_covers_agree_with_brute_force(seed):
    plain = rule_sets.draw_rules(seed, 60, families=((4,), (6,), (4, 6))[seed % 3])
    rules = [rule_sets.to_rule(rule, number) for number, rule in enumerate(plain)]
    reference = Reference(random.Random(seed).sample(rules, len(rules)))
    found = set()
    for family, destination, _source, protocol, _port, interface in rule_sets.draw_flows(seed, plain, 250):
        packet = family, destination, protocol, interface
        expected = precedence.cover(plain, rule_sets.covering(plain), packet)
        assert reference.cover(rule_sets.mapped(family, destination), protocol, interface) is (
            None if expected is None else rules[expected]
        ), f"seed {seed}"
        found.add(expected)
    assert len(found) > 3


def test_the_rules_of_a_wide_prefix_are_compared_once(monkeypatch):
    """A prefix with many rules, and many prefixes inside of it."""
    compared, precedence_of = [], reference_module._precedence
    monkeypatch.setattr(reference_module, "_precedence", lambda rule: compared.append(rule) or precedence_of(rule))
    wide = [(4, (0x0A000000, 8), (0, 0), "tcp", port, port, (), "ansible") for port in range(50)]
    narrow = [(4, (0x0A000000 | host << 8, 24), (0, 0), "tcp", 80, 80, ("eth0",), "ansible") for host in range(100)]
    reference = Reference([rule_sets.to_rule(rule, 2) for rule in wide + narrow])
    for host in range(100):
        reference.cover(rule_sets.mapped(4, 0x0A000001 | host << 8), "tcp")
    assert len(compared) == len(wide)


def test_no_rules():
    assert Reference([]).best(0, 0, "tcp", 80) is None
    assert Reference([]).cover(0, "tcp") is None
