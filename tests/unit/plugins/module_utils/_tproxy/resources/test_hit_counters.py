# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The counters of rules: sums over the CPUs, slots beyond the map, and a longer map."""

from __future__ import annotations

from array import array

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.hit_counters import HitCounters

CPUS = 3


def counters(slots: int) -> HitCounters:
    """Return counters of which each has other numbers; those of slot 0 tell the number of slots."""
    words = array("Q", range(2 * slots * CPUS))
    words[0] = slots
    return HitCounters(memoryview(words), slots, CPUS)


def summed(slots: int, slot: int) -> dict:
    """Return the sum of a counter, of all CPUs."""
    firsts = [2 * (cpu * slots + slot) for cpu in range(CPUS)]
    return {"packets": sum(firsts), "bytes": sum(first + 1 for first in firsts)}


@pytest.mark.parametrize("slots", [[], [1], [7], [5, 2], range(1, 8)])
def test_a_counter_is_the_sum_over_the_cpus(slots):
    assert counters(8).read(slots) == {slot: summed(8, slot) for slot in slots}


def test_a_slot_beyond_the_map_has_no_hits_and_can_be_set_to_zero():
    few = counters(4)
    few.zero([3, 4, 100])
    nothing = {"packets": 0, "bytes": 0}
    assert few.read([2, 3, 4, 100]) == {2: summed(4, 2), 3: nothing, 4: nothing, 100: nothing}


def test_a_longer_map_gets_the_counters_of_each_cpu_and_keeps_its_length():
    few, many = counters(4), HitCounters(memoryview(array("Q", [16] + [0] * (2 * 16 * CPUS - 1))), 16, CPUS)
    few.copy_to(many)
    assert many.read([1, 2, 3, 4]) == {**few.read([1, 2, 3]), 4: {"packets": 0, "bytes": 0}}
    assert many.words[0] == 16
