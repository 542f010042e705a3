# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""System calls that Python's standard library lacks, by ctypes. Each raises OSError with the kernel's errno."""

from __future__ import annotations

import ctypes
import os
import platform
from typing import NamedTuple

from ..errors import Unsupported

PIDFD_GETFD = 438  # the number is the same on every architecture: include/uapi/asm-generic/unistd.h


class CallNumbers(NamedTuple):
    """The numbers of system calls on one architecture."""

    bpf: int
    membarrier: int


# Source: arch/*/include/**/unistd*.h and include/uapi/asm-generic/unistd.h
_GENERIC = CallNumbers(bpf=280, membarrier=283)
CALL_NUMBERS = {
    "x86_64": CallNumbers(bpf=321, membarrier=324),
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
    "loongarch64": _GENERIC,
    "armv7l": CallNumbers(bpf=386, membarrier=389),
    "ppc64le": CallNumbers(bpf=361, membarrier=365),
    "s390x": CallNumbers(bpf=351, membarrier=356),
}

_libc = ctypes.CDLL(None, use_errno=True)


def bpf(command: int, attribute: ctypes.Array[ctypes.c_char]) -> int:
    """Return the result of bpf(2). The kernel may write to `attribute`.

    Raises Unsupported on an architecture with an unknown call number.
    """
    return _checked(_libc.syscall(_numbers("bpf(2)").bpf, command, attribute, len(attribute)))


def membarrier(command: int) -> None:
    """Call membarrier(2) without flags. Raises Unsupported on an architecture with an unknown call number."""
    _checked(_libc.syscall(_numbers("membarrier(2)").membarrier, command, 0, 0))


def mount(source: str, target: str, kind: str, data: str) -> None:
    """Mount a file system of this kind without flags (mount(2))."""
    _checked(_libc.mount(source.encode(), target.encode(), kind.encode(), 0, data.encode()))


def pidfd_getfd(process: int, descriptor: int) -> int:
    """Return a duplicate of a descriptor of another process, which the pidfd `process` names (Linux 5.6)."""
    return _checked(_libc.syscall(PIDFD_GETFD, process, descriptor, 0))


def _numbers(call: str) -> CallNumbers:
    machine = platform.machine()
    if machine not in CALL_NUMBERS:
        raise Unsupported(f"{call} has no known number on {machine}")
    return CALL_NUMBERS[machine]


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
