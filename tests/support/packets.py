# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames, byte by byte: every length and field may be a lie, since a firewall must bear that.

Headers: RFC 791, RFC 768, RFC 9293, IEEE 802.1Q. Checksums are right only where `checksum` is asked for; the program
reads none.
"""

from __future__ import annotations

import ipaddress
import struct

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
ETH_IP, ETH_ARP, ETH_IPV6, ETH_VLAN = 0x0800, 0x0806, 0x86DD, 0x8100
ETH_P_ALL = 3  # of a packet socket: all protocols
MORE_FRAGMENTS, DONT_FRAGMENT = 0x2000, 0x4000
SYN, ACK = 0x02, 0x10
ROUTER_LINK = b"\x02\0\0\0\0\1"  # the link address of interfaces that tests make
NOP, END, LOOSE, STRICT = b"\1", b"\0", b"\x83\3\4", b"\x89\3\4"
RECORD, ALERT = b"\7\7\4" + bytes(4), b"\x94\4\0\0"
# {source: whether the stack takes no packet from it}
CLIENT_SOURCES = {
    **dict.fromkeys(("10.1.0.2", "10.1.0.200"), False),
    **dict.fromkeys(
        ("0.0.0.0", "0.0.0.5", "127.0.0.1", "127.255.0.5", "224.0.0.5", "239.1.1.1", "255.255.255.255"), True
    ),
}
# {name: (options, whether the stack sends the packet on, or drops it)}
IPV4_OPTIONS = {
    "no operation": (4 * NOP, False),
    "a record of the route": (RECORD + NOP, False),
    "a router alert and the end": (ALERT + 4 * END, False),
    "a source route behind the end": (END + LOOSE, False),
    "a loose source route": (LOOSE + END, True),
    "a strict source route": (NOP + STRICT, True),
    "a source route behind others": (ALERT + RECORD + NOP + 2 * NOP + STRICT + 3 * NOP, True),
    "an option without a length": (3 * NOP + b"\7", True),
    "an option of one byte": (b"\7\1\1\1", True),
    "an option beyond the header": (b"\7\5\4\0", True),
    "more options than the program reads": (12 * NOP, True),
}


def ethernet(payload: bytes, protocol: int = ETH_IP, destination: bytes = ROUTER_LINK) -> bytes:
    """Return a frame."""
    return destination + b"\x02" + bytes(5) + struct.pack(">H", protocol) + payload


def tagged(payload: bytes, vlan: int, protocol: int = ETH_IP, destination: bytes = ROUTER_LINK) -> bytes:
    """Return a frame with an 802.1Q tag."""
    return ethernet(struct.pack(">HH", vlan, protocol) + payload, ETH_VLAN, destination)


def ipv4(
    payload: bytes,
    protocol: int,
    source: str = "10.1.0.2",
    destination: str = "192.0.2.1",
    **header: int | bytes,
) -> bytes:
    """Return a datagram; header fields: version, ttl, options (whole words), ihl, length, fragment."""
    options = header.get("options", b"")
    ihl = header.get("ihl", 5 + len(options) // 4)
    length = header.get("length", 20 + len(options) + len(payload))
    head = struct.pack(
        ">BBHHHBBH4s4s",
        header.get("version", 4) << 4 | ihl,
        0,
        length,
        header.get("identification", 1),
        header.get("fragment", DONT_FRAGMENT),
        header.get("ttl", 64),
        protocol,
        0,
        ipaddress.IPv4Address(source).packed,
        ipaddress.IPv4Address(destination).packed,
    )
    head = head[:10] + struct.pack(">H", checksum(head + options)) + head[12:]
    return head + options + payload


def tcp(port: int, source_port: int = 40000, flags: int = SYN, payload: bytes = b"") -> bytes:
    """Return a segment."""
    return struct.pack(">HHIIBBHHH", source_port, port, 1, 0, 5 << 4, flags, 65535, 0, 0) + payload


def udp(port: int, source_port: int = 40000, payload: bytes = b"hello") -> bytes:
    """Return a datagram without a checksum, which IPv4 allows."""
    return struct.pack(">HHHH", source_port, port, 8 + len(payload), 0) + payload


def sound_syn(port: int, source_port: int, source: str, destination: str) -> bytes:
    """Return a SYN with its checksum, which the stack compares."""
    segment = tcp(port, source_port)
    addresses = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(destination).packed
    pseudo = addresses + struct.pack(">HH", TCP, len(segment))
    return segment[:16] + struct.pack(">H", checksum(pseudo + segment)) + segment[18:]


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data[: len(data) & ~1]))
    if len(data) & 1:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def tcp_frame(destination: str, port: int, source: str = "10.1.0.2", source_port: int = 40000, **header) -> bytes:
    """Return a frame with a TCP SYN."""
    return ethernet(ipv4(tcp(port, source_port), TCP, source, destination, **header))


def udp_frame(destination: str, port: int, source: str = "10.1.0.2", source_port: int = 40000, **header) -> bytes:
    """Return a frame with a UDP datagram."""
    return ethernet(ipv4(udp(port, source_port), UDP, source, destination, **header))


def ipv6(payload: bytes, following: int, source: str, destination: str, hop_limit: int = 64) -> bytes:
    """Return a datagram (RFC 8200); `following` is the protocol of the payload."""
    head = struct.pack(">IHBB", 6 << 28, len(payload), following, hop_limit)
    return head + ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address(destination).packed + payload


def icmpv6(kind: int, body: bytes = bytes(20)) -> bytes:
    """Return a message (RFC 4443) of that type."""
    return struct.pack(">BBHI", kind, 0, 0, 0) + body
