# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Adapter to arrays that change in place while programs look up in them.

The array is mapped into memory (bpf(2), BPF_F_MMAPABLE). One instruction stores an aligned u32, so a reader sees the
old u32 or the new one: CPython stores an item of memoryview.cast("I") by memcpy() of four bytes, and every compiler
makes one store of that.

Another processor may see stores in another order than the program made them (not on x86). A reader finds new nodes by
the node that leads to them, so the address depends on it. That needs no barrier on any of Linux's architectures but
Alpha. The writer needs a barrier: membarrier(2) with MEMBARRIER_CMD_GLOBAL_EXPEDITED begins with smp_mb()
(kernel/sched/membarrier.c), and waits only for registered processes.
"""

from __future__ import annotations

import mmap
import platform
from array import array
from collections.abc import Iterable

from ..errors import kernel_refusals
from . import libc

GLOBAL_EXPEDITED = 2
STRONGLY_ORDERED = ("x86_64", "s390x")  # other processors see the stores in their order


def store(
    memory: mmap.mmap,
    begin: Iterable[tuple[int, int]],
    fresh: Iterable[tuple[int, array[int]]],
    flips: Iterable[tuple[int, int]],
) -> None:
    """Store u32 values at indices of an array: `begin` and `flips` one after the other, `fresh` in any order between.

    A new node is in `fresh`, the node that leads to it is in `flips`. Raises KernelRefused before the first store if
    the processor needs a barrier and the kernel has none.
    """
    with memoryview(memory) as octets, octets.cast("I") as numbers:
        _store_in_order(numbers, begin)
        for at, content in fresh:
            numbers[at : at + len(content)] = content
        _store_in_order(numbers, flips)


def _store_in_order(numbers: memoryview[int], stores: Iterable[tuple[int, int]]) -> None:
    for at, value in stores:
        _barrier()
        numbers[at] = value
    _barrier()


def _barrier() -> None:
    if platform.machine() not in STRONGLY_ORDERED:
        with kernel_refusals("order stores by", "membarrier(2)"):
            libc.membarrier(GLOBAL_EXPEDITED)
