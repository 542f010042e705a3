# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The program that blocks an interface, from bpf/fail_closed.c.

It has no map and needs no compiler, so it loads where the kernel refuses the big program.
"""

from __future__ import annotations

import base64
import struct

from ..abi.layout import POLICY_PLACEHOLDER
from .blob import IMMEDIATE_OFFSET, INSTRUCTION_BYTES, LD_IMM64
from .prebuilt import FAIL_CLOSED


def fail_closed_program(policy: bytes) -> bytes:
    """Return the instructions with `policy`, a struct policy, in place of the placeholders.

    Each 64-bit load of POLICY_PLACEHOLDER + i gets the bytes 8 * i to 8 * i + 7.
    """
    code = bytearray(base64.b64decode(FAIL_CLOSED))
    for start in range(0, len(code), INSTRUCTION_BYTES):
        immediate = start + IMMEDIATE_OFFSET
        index = struct.unpack_from("=I", code, immediate)[0] - POLICY_PLACEHOLDER
        if code[start] == LD_IMM64 and 0 <= index < len(policy) // 8:
            low, high = struct.unpack_from("=II", policy, 8 * index)
            struct.pack_into("=I", code, immediate, low)
            struct.pack_into("=I", code, immediate + INSTRUCTION_BYTES, high)
    return bytes(code)
