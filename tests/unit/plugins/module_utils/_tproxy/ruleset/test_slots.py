# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import LimitExceeded
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset import records
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.records import assign_slots
from ansible_collections.netedge.tproxy.tests.support import rule_sets

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
    monkeypatch.setattr(records, "RULES", 4)
    first = assign_slots(RULES[:4], {})
    second = assign_slots([RULES[0], RULES[4], RULES[5]], first)
    assert second == {NAMES[0]: 1, NAMES[4]: 2, NAMES[5]: 3}


def test_more_rules_than_slots(monkeypatch):
    monkeypatch.setattr(records, "RULES", 11)
    with pytest.raises(LimitExceeded) as refusal:
        assign_slots(RULES, {})
    assert (refusal.value.wanted, refusal.value.allowed) == (12, 11)
    assert "12" in str(refusal.value)
    assert "11" in str(refusal.value)
