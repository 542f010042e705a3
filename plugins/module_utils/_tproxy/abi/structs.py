# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Struct bytes to values and back: the only reader of STRUCTS besides the image.

Offsets come from bpf/abi.h through _layout. Numbers are in host order but for ports, which are network order.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from . import layout
from .layout import (
    STRUCTS,
)

FORMATS = {1: "=B", 2: "=H", 4: "=I", 8: "=Q"}
NETWORK_ORDER = ("port", "tproxy_port")


def size_of(name: str) -> int:
    """Return sizeof(struct name)."""
    return STRUCTS[name][0]


def encode(name: str, values: Mapping[str, int | bytes]) -> bytes:
    """Return struct `name` with these members, integers or bytes. Other members are zero."""
    size, members = STRUCTS[name]
    out = bytearray(size)
    for member, value in values.items():
        offset, length = members[member]
        if isinstance(value, int):
            value = struct.pack((">H" if member in NETWORK_ORDER else FORMATS[length]), value)
        out[offset : offset + len(value)] = value
    return bytes(out)


def decode(name: str, raw: bytes) -> dict[str, Any]:
    """Return the members of struct `name`: integers where they are 1, 2, 4 or 8 bytes long, else bytes."""
    values: dict[str, Any] = {}
    for member, (offset, length) in STRUCTS[name][1].items():
        part = raw[offset : offset + length]
        if length in FORMATS:
            values[member] = struct.unpack(">H" if member in NETWORK_ORDER else FORMATS[length], part)[0]
        else:
            values[member] = part
    return values


def key(index: int) -> bytes:
    """Return the key of an array entry."""
    return struct.pack("=I", index)


def sum_outcomes(raw: bytes) -> dict[tuple[int, int], dict[str, int]]:
    """Return {(reason, verdict): {packets, bytes}} summed over the CPUs of one entry of the map `reasons`."""
    per_cpu = struct.iter_unpack(f"={2 * layout.OUTCOMES}Q", raw)
    numbers = [sum(column) for column in zip(*per_cpu)]
    return {
        divmod(outcome, layout.VERDICTS): {"packets": numbers[2 * outcome], "bytes": numbers[2 * outcome + 1]}
        for outcome in range(layout.OUTCOMES)
    }


REASON_NAMES = {
    number: name[len("REASON_") :].lower() for name, number in vars(layout).items() if name.startswith("REASON_")
}

VERDICT_NAMES = {layout.VERDICT_PASS: "pass", layout.VERDICT_DROP: "drop", layout.VERDICT_WOULD_DROP: "would_drop"}
# as tproxy_info counts them
COUNTER_NAMES = {layout.VERDICT_PASS: "passed", layout.VERDICT_DROP: "dropped", layout.VERDICT_WOULD_DROP: "would_drop"}
