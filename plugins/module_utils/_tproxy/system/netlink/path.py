# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The types of adapters to the path of a packet to this host: connection tracking, nftables, WireGuard, IPsec.

They stand apart from these adapters, so that a module without such checks ships no adapter.
"""

from __future__ import annotations

from typing import NamedTuple


class Ends(NamedTuple):
    """The ends of the packets of one direction: 16-byte addresses, IPv4 mapped, and ports."""

    source: bytes
    source_port: int
    destination: bytes
    port: int

    @property
    def reversed(self) -> Ends:
        """The ends of the packets of the other direction."""
        return Ends(self.destination, self.port, self.source, self.source_port)


class InputChain(NamedTuple):
    """A base chain on the input hook. `reads_marks`: a rule of its table asks for the mark or a transparent socket."""

    family: str
    table: str
    name: str
    drops: bool
    reads_marks: bool

    def __str__(self) -> str:
        """Return the chain as nft names it."""
        return f"{self.family} {self.table} {self.name}"


class Peer(NamedTuple):
    """A peer. Its endpoint has a 16-byte address, IPv4 mapped; b"" while none is known.

    `allowed` are the prefixes of its inner packets: a 16-byte address, and a length in bits of these 128.
    """

    endpoint: bytes
    port: int
    allowed: tuple[tuple[bytes, int], ...]


class WireGuardDevice(NamedTuple):
    """An interface of WireGuard: its UDP port, the mark of its outer packets, and its peers."""

    port: int
    mark: int
    peers: tuple[Peer, ...]


class InboundPolicy(NamedTuple):
    """The packets of a policy: prefixes as 16-byte addresses, IPv4 mapped, with lengths in bits of these 128."""

    source: tuple[bytes, int]
    destination: tuple[bytes, int]
