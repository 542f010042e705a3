# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read an image while it changes in place: no reader waits, and no change counts as an edit by hand."""

from __future__ import annotations

import itertools
from array import array

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.rules import COPIES, _settled
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.digest import is_changing, is_edited
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.records import read_image
from ansible_collections.netedge.tproxy.tests.unit.plugins.module_utils._tproxy.ruleset.test_changes import (
    Machine,
    services,
    steps,
)


class Changing:
    """Memory in which a writer changes words between any two looks of a reader."""

    def __init__(self, words: array, writes, pace: int):
        self.words, self._writes, self._pace = words, iter(writes), pace
        self.looks = 0

    def __getitem__(self, part: slice) -> bytes:
        self.looks += 1
        for at, value in itertools.islice(self._writes, self._pace):
            self.words[at] = value
        return self.words.tobytes()[part]


def in_change(rules: int, changes: int):
    """Return the words of an image, and [(word, value)] of changes to come."""
    machine, writes = Machine(services(rules, 1)), []
    before = array("I", machine.memory)
    for rule in list(services(rules + changes, 1))[rules:]:
        writes += steps(machine.change(puts=[rule]), machine.image.words)
    return before, writes


@pytest.mark.parametrize("looks", [1, 2, 3, 7, 20])
def test_a_reader_gets_the_image_between_two_changes(looks):
    before, writes = in_change(2, 1)
    memory = Changing(before, writes, -(-len(writes) // looks))
    found = _settled(memory)
    assert memory.looks >= looks
    assert not is_changing(found)
    assert not is_edited(found)
    assert len(read_image(array("I", found)).rules) == 3


def test_a_reader_who_meets_a_change_each_time_says_nothing_of_it():
    before, writes = in_change(2, 60)
    memory = Changing(before, writes, len(writes) // 60 + 1)
    found = _settled(memory)
    assert memory.looks <= 3 * COPIES + 1
    assert not is_changing(found)
    assert not is_edited(found)


def test_a_change_that_was_cut_off_stays_one():
    before, writes = in_change(2, 1)
    for at, value in writes[:-1]:
        before[at] = value
        found = _settled(Changing(before, [], 1))
        assert is_changing(found)
        assert not is_edited(found)


def test_an_edit_is_seen():
    before, _writes = in_change(2, 1)
    before[-1] ^= 1
    assert is_edited(_settled(Changing(before, [], 1)))
