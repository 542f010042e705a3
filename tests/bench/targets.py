# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets: the table that measured programs walk, as bytes (struct target of c/bench.h), and frames.

Pure data; it touches no map.
"""

from __future__ import annotations

import struct

from packets import PAYLOAD, PROTOCOLS, checksum
from rules import Flow

COUNT = 16384
RECORD = struct.Struct("=4s4s2s2sB7xI")
BYTES = COUNT * RECORD.size
ANSWER_OFFSET = 20


def table(flows: list) -> bytes:
    """Return the table's bytes, the flows over and over."""
    records = [_record(flow) for flow in flows]
    return b"".join(records[number % len(records)] for number in range(COUNT))


def answers(raw: bytes) -> list:
    """Return the results that a measured program wrote beside each flow."""
    return [number for (number,) in struct.iter_unpack(f"={ANSWER_OFFSET}xI{RECORD.size - ANSWER_OFFSET - 4}x", raw)]


def frame(flow: Flow, mac: bytes = bytes(6)) -> bytes:
    """Return an Ethernet frame to `mac`. UDP goes without a checksum, TCP is a SYN."""
    ports = struct.pack(">HH", flow.source_port, flow.port)
    if flow.protocol == "tcp":
        transport = ports + struct.pack(">IIBBHHH", 1, 0, 0x50, 2, 64000, 0, 0) + PAYLOAD
    else:
        transport = ports + struct.pack(">HH", 8 + len(PAYLOAD), 0) + PAYLOAD
    return mac + bytes.fromhex("0200000000010800") + _ipv4_header(flow, len(transport)) + transport


def _record(flow: Flow) -> bytes:
    ports = (struct.pack(">H", port) for port in (flow.port, flow.source_port))
    return RECORD.pack(_ipv4(flow.destination), _ipv4(flow.source), *ports, PROTOCOLS[flow.protocol], 0)


def _ipv4(address: int) -> bytes:
    return (address & 0xFFFFFFFF).to_bytes(4, "big")


def _ipv4_header(flow: Flow, length: int) -> bytes:
    """Return the header with its checksum (RFC 791), `length` bytes to follow."""
    fixed = struct.pack(">BBHHHBB", 0x45, 0, 20 + length, 1, 0x4000, 64, PROTOCOLS[flow.protocol])
    addresses = _ipv4(flow.source) + _ipv4(flow.destination)
    return fixed + checksum(fixed + addresses) + addresses
