# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The door to words of an array that packets walk in while they change.

The array is mapped into memory (bpf(2), BPF_F_MMAPABLE). An aligned u32 is stored by one instruction, so a reader sees
the old word or the new one: CPython stores an item of memoryview.cast("I") by memcpy() of four bytes, which every
compiler makes one store.

A processor may let others see stores in another order than they were made (x86 does not). A reader reaches new words
through the word that leads to them, so the address depends on it and no barrier is needed there (all of Linux's
architectures but Alpha). Here one is: membarrier(2) with MEMBARRIER_CMD_GLOBAL_EXPEDITED begins with smp_mb()
(kernel/sched/membarrier.c) and waits for nobody who has not registered.
"""

from __future__ import annotations

import ctypes
import errno
import platform

from ..errors import KernelRefused

GLOBAL_EXPEDITED = 2
SYSCALL = {"x86_64": 324, "armv7l": 389, "ppc64le": 365, "s390x": 356}
GENERIC_SYSCALL = 283  # aarch64, riscv64, loongarch64: include/uapi/asm-generic/unistd.h
STRONG = ("x86_64", "s390x")  # stores are seen in their order

_libc = ctypes.CDLL(None, use_errno=True)


def store(memory, begin: list, fresh: list, flips: list) -> None:
    """Store `begin` [(word, value)], then `fresh` [(word, array of words)] in any order, then `flips`, as begin.

    Raises KernelRefused where the processor needs a barrier and the kernel has none; nothing was stored then.
    """
    with memoryview(memory) as raw, raw.cast("I") as words:
        _store_in_order(words, begin)
        for at, content in fresh:
            words[at : at + len(content)] = content
        _store_in_order(words, flips)


def _store_in_order(words: memoryview, stores: list) -> None:
    for at, value in stores:
        _barrier()
        words[at] = value
    _barrier()


def _barrier() -> None:
    machine = platform.machine()
    if machine in STRONG:
        return
    if _libc.syscall(SYSCALL.get(machine, GENERIC_SYSCALL), GLOBAL_EXPEDITED, 0, 0) < 0:
        code = ctypes.get_errno()
        raise KernelRefused(code or errno.ENOSYS, "order stores by", "membarrier(2)")
