# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import LimitExceeded
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset import reference
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.reference import Index, assign_slots
from ansible_collections.netedge.tproxy.tests.support import precedence, rule_sets

RULES = [rule_sets.to_rule(plain) for plain in rule_sets.draw_rules(0, 12)]
NAMES = [rule.identity for rule in RULES]


def test_first_slots_are_the_lowest():
    assert assign_slots(RULES, {}) == {identity: slot for slot, identity in enumerate(NAMES, 1)}


def test_slots_stay_with_their_identity():
    first = assign_slots(RULES, {})
    mixed = random.Random(1).sample(RULES, len(RULES))
    assert assign_slots(mixed, first) == first


def test_a_slot_set_free_now_is_not_given_away_at_once():
    first = assign_slots(RULES[:4], {})
    second = assign_slots([RULES[0], RULES[3], RULES[4]], first)
    assert second == {NAMES[0]: 1, NAMES[3]: 4, NAMES[4]: 5}
    third = assign_slots([RULES[0], RULES[3], RULES[4], RULES[5]], second)
    assert third[NAMES[5]] == 2


def test_slots_set_free_now_are_the_last_resort(monkeypatch):
    monkeypatch.setattr(reference, "RULES", 4)
    first = assign_slots(RULES[:4], {})
    second = assign_slots([RULES[0], RULES[4], RULES[5]], first)
    assert second == {NAMES[0]: 1, NAMES[4]: 2, NAMES[5]: 3}


def test_more_rules_than_slots(monkeypatch):
    monkeypatch.setattr(reference, "RULES", 11)
    with pytest.raises(LimitExceeded) as refusal:
        assign_slots(RULES, {})
    assert (refusal.value.wanted, refusal.value.allowed) == (12, 11)
    assert "12" in str(refusal.value)
    assert "11" in str(refusal.value)


@pytest.mark.parametrize("seed", range(40))
def test_index_agrees_with_brute_force(seed):
    plain = rule_sets.draw_rules(seed, 60, families=((4,), (6,), (4, 6))[seed % 3])
    rules = [rule_sets.to_rule(rule) for rule in plain]
    index = Index(random.Random(seed).sample(rules, len(rules)))
    for flow in rule_sets.draw_flows(seed, plain, 250):
        family, destination, source, protocol, port, interface = flow
        addresses = rule_sets.mapped(family, destination), rule_sets.mapped(family, source)
        expected = precedence.winner(plain, flow)
        assert index.best(*addresses, protocol, port, interface) is (None if expected is None else rules[expected]), (
            f"seed {seed}, {flow}"
        )


def test_index_without_interface_sees_only_rules_for_all():
    plain = rule_sets.draw_rules(3, 60)
    rules = [rule_sets.to_rule(rule) for rule in plain]
    restricted, free = Index(rules), Index([rule for rule in rules if not rule.interfaces])
    for family, destination, source, protocol, port, _interface in rule_sets.draw_flows(3, plain, 500):
        flow = rule_sets.mapped(family, destination), rule_sets.mapped(family, source), protocol, port
        assert restricted.best(*flow) is free.best(*flow)


@pytest.mark.parametrize("seed", range(20))
def test_covers_agree_with_brute_force(seed):
    plain = rule_sets.draw_rules(seed, 60, families=((4,), (6,), (4, 6))[seed % 3])
    rules = [rule_sets.to_rule(rule, number) for number, rule in enumerate(plain)]
    index = Index(random.Random(seed).sample(rules, len(rules)))
    found = set()
    for family, destination, _source, _protocol, _port, interface in rule_sets.draw_flows(seed, plain, 250):
        expected = precedence.cover(plain, rule_sets.splicing(plain), (family, destination, interface))
        cover = index.cover(rule_sets.mapped(family, destination), interface)
        assert cover is (None if expected is None else rules[expected]), f"seed {seed}"
        found.add(expected)
    assert len(found) > 3


def test_empty_index():
    assert Index([]).best(0, 0, "tcp", 80) is None
    assert Index([]).cover(0) is None
