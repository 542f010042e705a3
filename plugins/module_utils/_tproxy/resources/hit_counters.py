# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The counters of rules: the map `hits`, an array with a part for each CPU (bpf/abi.h, bpf/lib/stats.h).

User space maps the array into memory, so it reads the counters of all rules without a system call for each. A counter
is an aligned u64, which memoryview.cast("Q") reads and writes at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import add
from typing import NamedTuple

from ..abi.layout import HITS_LENGTH
from ..abi.structs import size_of
from ..system.bpf import Shape
from ..system.system import Bpf

COUNTER_WORDS = 2  # struct counter: packets, bytes


class HitCounters(NamedTuple):
    """The memory of a map of hits as u64, with `slots` counters for each of `cpus` CPUs."""

    words: memoryview[int]
    slots: int
    cpus: int

    def read(self, slots: Iterable[int]) -> dict[int, dict[str, int]]:
        """Return {slot: {packets, bytes}}. Those that the map lacks are zero."""
        wanted = list(slots)
        sums = [0] * (COUNTER_WORDS * (max(wanted, default=0) + 1))
        for part in self.parts():
            sums[: len(part)] = map(add, sums, part)
        return {
            slot: {"packets": sums[COUNTER_WORDS * slot], "bytes": sums[COUNTER_WORDS * slot + 1]} for slot in wanted
        }

    def zero(self, slots: Iterable[int]) -> None:
        """Set counters to zero. Those that the map lacks begin with zero."""
        within = [slot for slot in slots if slot < self.slots]
        for part in self.parts():
            for slot in within:
                part[COUNTER_WORDS * slot] = part[COUNTER_WORDS * slot + 1] = 0

    def copy_to(self, longer: HitCounters) -> None:
        """Copy the counters to those of another map, which has more slots."""
        for mine, theirs in zip(self.parts(), longer.parts()):
            theirs[COUNTER_WORDS : len(mine)] = mine[COUNTER_WORDS:]

    def parts(self) -> Iterator[memoryview[int]]:
        """Yield the counters of each CPU."""
        length = COUNTER_WORDS * self.slots
        for cpu in range(self.cpus):
            yield self.words[cpu * length : (cpu + 1) * length]


def create(bpf: Bpf, name: str, shape: Shape, slots: int) -> int:
    """Return the descriptor of a new map of hits with this many slots for each CPU. Raises KernelRefused."""
    kind, key_size, value_size, _entries, flags = shape
    entries = slots * bpf.possible_cpus()
    descriptor = bpf.create_map((kind, key_size, value_size, entries, flags), name)
    try:
        with _words(bpf, descriptor, entries) as words:
            words[COUNTER_WORDS * HITS_LENGTH] = slots
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def slots_of(bpf: Bpf, descriptor: int) -> int:
    """Return the number of slots that a map of hits has for each CPU."""
    return bpf.map_info(descriptor).entries // bpf.possible_cpus()


@contextmanager
def opened(bpf: Bpf, descriptor: int) -> Iterator[HitCounters]:
    """Yield the counters of a map of hits. Raises KernelRefused."""
    slots, cpus = slots_of(bpf, descriptor), bpf.possible_cpus()
    with _words(bpf, descriptor, slots * cpus) as words:
        yield HitCounters(words, slots, cpus)


@contextmanager
def _words(bpf: Bpf, descriptor: int, entries: int) -> Iterator[memoryview[int]]:
    size = entries * size_of("counter")
    with bpf.mapped_memory(descriptor, size, True) as memory, memoryview(memory) as octets, octets.cast("Q") as words:
        yield words
