# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fail_closed program has a placeholder for each eight bytes of its policy, and gets them.

tests/kernel/program/test_fail_closed.py shows the effect on packets.
"""

from __future__ import annotations

import base64
import struct

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import (
    MANAGEMENT,
    POLICY_PLACEHOLDER,
    STRUCTS,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.policy import Management, Policy
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import Prefix
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.program.blob import INSTRUCTION_BYTES, LD_IMM64
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.program.fail_closed import fail_closed_program
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.program.prebuilt import FAIL_CLOSED
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.interfaces import encode_policy

POLICY = Policy(
    management=tuple(
        Management(Prefix.parse(f"fd00:{number:x}::/64")[0], "tcp", 2000 + number) for number in range(MANAGEMENT)
    )
)


def wide_loads(code: bytes) -> list:
    """Return [(instruction, 64-bit number)] of the loads of 64-bit numbers."""
    return [
        (at, struct.unpack_from("=I", code, at + 4)[0] | struct.unpack_from("=I", code, at + 12)[0] << 32)
        for at in range(0, len(code), INSTRUCTION_BYTES)
        if code[at] == LD_IMM64
    ]


def test_the_policy_takes_the_place_of_each_placeholder():
    raw = encode_policy(0, POLICY)
    before, after = wide_loads(base64.b64decode(FAIL_CLOSED)), dict(wide_loads(fail_closed_program(raw)))
    indexes = {at: number - POLICY_PLACEHOLDER for at, number in before if number >> 8 == POLICY_PLACEHOLDER >> 8}
    first = STRUCTS["policy"][1]["management"][0] // 8
    assert set(indexes.values()) == {0, *range(first, first + 3 * MANAGEMENT)}
    for at, number in before:
        wanted = struct.unpack_from("=Q", raw, 8 * indexes[at])[0] if at in indexes else number
        assert after[at] == wanted
