# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole IP packets of both families, as a client would send them: bytes with right checksums.

Pure data; it knows no kernel.
"""

from __future__ import annotations

import struct

from rules import BITS, MAPPED, Flow

PROTOCOLS = {"tcp": 6, "udp": 17}
HEADER_BYTES = {4: 20, 6: 40}
ETHERTYPES = {4: 0x0800, 6: 0x86DD}
CHECKSUM_AT = {"tcp": 16, "udp": 6}  # in the header of the transport
PAYLOAD = bytes(18)  # with it, a frame of UDP over IPv4 has the least size of Ethernet
TIMESTAMPS = bytes.fromhex("0101080a0000000100000001")
ACK_BYTES = 32
FLAGS_AT, ACK = 13, 0x10
# The lengths of a datagram and of an ACK in each family; c/replay.c has a program for each.
LENGTHS = (46, 52, 66, 72)


def family_of(flow: Flow) -> int:
    """Return the family of a flow's destination."""
    return 4 if flow.destination >> 32 == MAPPED >> 32 else 6


def datagram(flow: Flow) -> bytes:
    """Return a UDP packet."""
    return _packet(flow, struct.pack(">HHHH", flow.source_port, flow.port, 8 + len(PAYLOAD), 0) + PAYLOAD)


def foreign_ack(flow: Flow) -> bytes:
    """Return an ACK of a session that this host does not know."""
    ports = struct.pack(">HH", flow.source_port, flow.port)
    return _packet(flow, ports + struct.pack(">IIBBHHH", 1, 1, 0x80, ACK, 64000, 0, 0) + TIMESTAMPS)


def is_pure_ack(packet: bytes, family: int) -> bool:
    """Whether a TCP packet acknowledges and does nothing else."""
    start = HEADER_BYTES[family]
    return len(packet) == start + ACK_BYTES and packet[start + FLAGS_AT] == ACK


def addresses_of(packet: bytes, family: int) -> bytes:
    """Return addresses and ports, which no other flow has."""
    return packet[HEADER_BYTES[family] - 2 * BITS[family] // 8 :][: 2 * BITS[family] // 8 + 4]


def with_checksum(packet: bytes, family: int, protocol: str) -> bytes:
    """Return a packet with the checksum of its transport, which a sender leaves to its network card."""
    start, at = HEADER_BYTES[family], HEADER_BYTES[family] + CHECKSUM_AT[protocol]
    cleared = packet[:at] + bytes(2) + packet[at + 2 :]
    pseudo = addresses_of(packet, family)[:-4] + struct.pack(">II", len(packet) - start, PROTOCOLS[protocol])
    # 0 says that there is no checksum.
    summed = checksum(pseudo + cleared[start:])
    return packet[:at] + (summed if any(summed) else b"\xff\xff") + packet[at + 2 :]


def checksum(data: bytes) -> bytes:
    """Return the checksum of RFC 1071 over an even number of bytes."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)


def _packet(flow: Flow, transport: bytes) -> bytes:
    family = family_of(flow)
    ends = b"".join((end & (1 << BITS[family]) - 1).to_bytes(BITS[family] // 8, "big") for end in flow[:2][::-1])
    return with_checksum(_header(flow.protocol, family, ends, len(transport)) + transport, family, flow.protocol)


def _header(protocol: str, family: int, ends: bytes, length: int) -> bytes:
    if family == 6:
        return struct.pack(">IHBB", 0x60000000, length, PROTOCOLS[protocol], 64) + ends
    fixed = struct.pack(">BBHHHBB", 0x45, 0, 20 + length, 1, 0x4000, 64, PROTOCOLS[protocol])
    return fixed + checksum(fixed + ends) + ends
