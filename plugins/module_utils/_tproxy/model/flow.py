# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Build the first packet of a flow, as bytes for a test run. Checksums are zero: a test run does not check them.

Formats: RFC 791, 8200 (IP), 9293 (TCP), 768 (UDP). A test run takes an Ethernet frame for every kind of interface.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from .prefix import endpoint, family_of
from .protocol import has_ports, protocol_number

ETHERTYPES = {4: 0x0800, 6: 0x86DD}
SYN, WINDOW, HOPS = 0x02, 64240, 64
PAYLOAD = bytes(8)
PORTLESS_PAYLOAD = bytes(40)  # as long as the longest header of an inner packet


class Flow(NamedTuple):
    """Addresses are 128-bit numbers, IPv4 mapped. The ports of a protocol without ports are 0."""

    protocol: str
    source: int
    source_port: int
    destination: int
    port: int

    @property
    def family(self) -> int:
        """Return 4 or 6."""
        return family_of(self.destination)


def flow_text(flow: Mapping[str, Any]) -> str:
    """Return a flow, as tproxy_verdict takes and returns it, in one line."""
    if has_ports(flow["protocol"]):
        ends = [endpoint(flow["source"], flow["source_port"]), endpoint(flow["destination"], flow["port"])]
    else:
        ends = [flow["source"], flow["destination"]]
    return f"{flow['protocol']} {' to '.join(ends)} on {flow['interface']}"


def first_packet(flow: Flow) -> bytes:
    """Return a SYN, a datagram, or a packet of a protocol without ports, in its Ethernet frame."""
    builders = {"tcp": _tcp, "udp": _udp}
    transport = builders[flow.protocol](flow) if flow.protocol in builders else PORTLESS_PAYLOAD
    return bytes(12) + struct.pack(">H", ETHERTYPES[flow.family]) + _header(flow, len(transport)) + transport


def _tcp(flow: Flow) -> bytes:
    return struct.pack(">HHIIBBHHH", flow.source_port, flow.port, 1, 0, 5 << 4, SYN, WINDOW, 0, 0)


def _udp(flow: Flow) -> bytes:
    return struct.pack(">HHHH", flow.source_port, flow.port, 8 + len(PAYLOAD), 0) + PAYLOAD


def _header(flow: Flow, length: int) -> bytes:
    protocol = protocol_number(flow.protocol)
    source, destination = flow.source.to_bytes(16, "big"), flow.destination.to_bytes(16, "big")
    if flow.family == 6:
        return struct.pack(">IHBB", 6 << 28, length, protocol, HOPS) + source + destination
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 0, 0, HOPS, protocol, 0) + source[12:] + destination[12:]
