# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The session cache as tests see it: its entries, by the ports of their sessions."""

from __future__ import annotations

import struct

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import layout, structs
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf

HEADS = struct.Struct(f"={layout.SESSION_WAYS}Q")
EPOCH = 0.3  # seconds: at most
STAMP_BITS, BELOW_BITS = 32, 9  # below the epoch: family and slot


class SessionCache:
    """The map of a descriptor."""

    def __init__(self, descriptor: int):
        self._map, self._size = descriptor, structs.size_of("session_set")

    def heads(self) -> dict:
        """Return {(source port, destination port): (set, way, head)} of the entries."""
        found = {}
        for number in range(layout.SESSION_SETS):
            for way, head in enumerate(HEADS.unpack_from(self._read(number))):
                if head:
                    found[head >> 48, head >> STAMP_BITS & 0xFFFF] = number, way, head
        return found

    def epoch(self, ports: tuple) -> int:
        """Return the epoch in which the program wrote the entry of a session."""
        _set, _way, head = self.heads()[ports]
        return (head & 0xFFFFFFFF) >> BELOW_BITS

    def renew(self, entry: tuple, epoch: int) -> None:
        """Put an entry of heads() into its place again, for another epoch."""
        number, way, head = entry
        raw = bytearray(self._read(number))
        head = head >> STAMP_BITS << STAMP_BITS | epoch << BELOW_BITS | head & (1 << BELOW_BITS) - 1
        struct.pack_into("=Q", raw, 8 * way, head)
        bpf.update(self._map, structs.key(number), bytes(raw))

    def clear(self) -> None:
        """Remove each entry."""
        for number in range(layout.SESSION_SETS):
            bpf.update(self._map, structs.key(number), bytes(self._size))

    def _read(self, number: int) -> bytes:
        return bpf.lookup(self._map, structs.key(number), self._size)
