# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules as the original splicer keeps them (c/original.h): a hash of prefixes, each with its port ranges."""

from __future__ import annotations

import re
import socket
import struct
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from ours import OWN_ADDRESSES
from programs import NO_PREALLOC, PLACES_AS_PUBLISHED, PLACES_SHRUNK, TYPE_HASH, Bench
from rules import PROXY_IP, PROXY_PORT, RANGES_MAX
from targets import PROTOCOLS

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf

RULES_AS_PUBLISHED = 1000
RANGE = struct.Struct(">HHH2x4s")
INDEX_BYTES = -(-(2 + 2 * RANGES_MAX) // 4) * 4
PUBLISHED_BYTES = INDEX_BYTES + RANGE.size * PLACES_AS_PUBLISHED
SHRUNK_BYTES = INDEX_BYTES + RANGE.size * PLACES_SHRUNK


def places_for(rules: int) -> int:
    """Return how many ranges a prefix can hold. The published number would fill the machine's memory."""
    fits = 2 * rules * PUBLISHED_BYTES < _available_bytes()
    return PLACES_AS_PUBLISHED if rules <= RULES_AS_PUBLISHED and fits else PLACES_SHRUNK


def note_for(sizes: Iterable) -> str:
    """Return a sentence that explains the column of the original."""
    shrunk = [f"{size:,}" for size in sizes if places_for(size) == PLACES_SHRUNK]
    with_what = f"values of {PUBLISHED_BYTES:,} bytes as published"
    if shrunk:
        with_what += f", shrunk to {SHRUNK_BYTES} at {', '.join(shrunk)} rules"
    return f"original: our own re-implementation of its published algorithm; {with_what}"


def _available_bytes() -> int:
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    return 1024 * int(re.search(r"MemAvailable:\s*(\d+)", text).group(1))


def fill_original(bench: Bench, slotted: list, answer_is_slot: bool) -> None:
    """Make the map of [(Rule, slot)]. It returns the slot, or the proxy's address, which finds its socket."""
    prefixes = defaultdict(list)
    for rule, slot in slotted:
        prefixes[rule.destination, rule.protocol].append((rule, slot))
    places = places_for(len(slotted))
    size = INDEX_BYTES + RANGE.size * places
    descriptor = bench.add_map("original", (TYPE_HASH, 8, size, len(prefixes), NO_PREALLOC))
    for (prefix, protocol), members in prefixes.items():
        # Its first match wins: the better rule must come first for the answer to be the same.
        members.sort(key=lambda pair: pair[0].precedence)
        key = (prefix.network & 0xFFFFFFFF).to_bytes(4, "big") + struct.pack("=HH", prefix.bits, PROTOCOLS[protocol])
        bpf.update(descriptor, key, _value(members, places, size, answer_is_slot), "original")


def fill_original_address(bench: Bench, ifindex: int, name: str) -> None:
    """Make the map of interfaces and record the address that the product's has too."""
    recorded = socket.inet_aton(OWN_ADDRESSES[4]) + name.encode().ljust(16, b"\0")
    bpf.update(bench.add_map("original_addresses"), struct.pack("=I", ifindex), recorded, "original_addresses")


def _value(members: list, places: int, size: int, answer_is_slot: bool) -> bytes:
    value = bytearray(size)
    struct.pack_into("=H", value, 0, len(members))
    for number, (rule, slot) in enumerate(members):
        place = rule.low if places == PLACES_AS_PUBLISHED else number
        answer = struct.pack("=I", slot) if answer_is_slot else socket.inet_aton(PROXY_IP)
        struct.pack_into("=H", value, 2 + 2 * number, place)
        RANGE.pack_into(value, INDEX_BYTES + RANGE.size * place, rule.low, rule.high, PROXY_PORT, answer)
    return bytes(value)
