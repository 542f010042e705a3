# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the bytes of packets, with any wrong field. Addresses are integers. Checksums are zero."""

from __future__ import annotations

from struct import pack, pack_into

IPV4, IPV6, ARP, VLAN = 0x0800, 0x86DD, 0x0806, 0x8100
ICMP, IGMP, TCP, UDP, ICMPV6 = 1, 2, 6, 17, 58
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION_OPTIONS = 0, 43, 44, 51, 60
ETHERNET_HEADER = 14
LINK = b"\x02\0\0\0\0\1"  # the link address of the interfaces but lo
MAC = LINK + b"\x02\0\0\0\0\2"
TYPES = {4: IPV4, 6: IPV6}
# A test run refuses shorter frames of these types since Linux 6.1: bpf_prog_test_run_skb().
SHORTEST = {IPV4: 34, IPV6: 54}
LONGEST = 3600  # and, before 7.3, more than 3713 bytes of any type

TCP_FLAGS = (2, 2, 16, 24, 17, 4, 18)  # SYN twice, ACK, with PSH, with FIN, RST, SYN and ACK


def ethernet(payload: bytes, kind: int) -> bytes:
    """Return a frame."""
    return MAC + kind.to_bytes(2, "big") + payload


def without_ethernet(packet: bytes, kind: int) -> bytes:
    """Return a packet that a test run takes for one of this EtherType: it reads that at bytes 12 and 13, as of a frame.

    These are the middle of the source address, which becomes another one.
    """
    return packet[:12] + kind.to_bytes(2, "big") + packet[14:]


def ipv4(
    source: int,
    destination: int,
    protocol: int,
    payload: bytes,
    options: bytes = b"",
    fragment: int = 0,
    ttl: int = 64,
    identification: int = 1,
) -> bytes:
    """Return an IPv4 packet: RFC 791."""
    header = 20 + len(options)
    head = pack(">BBHHHBBH", 0x40 | header >> 2, 0, header + len(payload), identification, fragment, ttl, protocol, 0)
    head += pack(">II", source, destination)
    return head + options + payload


def ipv6(source: int, destination: int, protocol: int, payload: bytes, hop_limit: int = 64) -> bytes:
    """Return an IPv6 packet: RFC 8200."""
    head = pack(">IHBB", 6 << 28, len(payload), protocol, hop_limit)
    return head + source.to_bytes(16, "big") + destination.to_bytes(16, "big") + payload


def ip(family: int, source: int, destination: int, protocol: int, payload: bytes) -> bytes:
    """Return a plain packet of either family."""
    make = ipv4 if family == 4 else ipv6
    return make(source, destination, protocol, payload)


def transport(protocol: int, source_port: int, port: int, size: int | None = None, flags: int = 2) -> bytes:
    """Return a TCP or UDP header, or the first `size` bytes of header and payload.

    Of ICMP it is an echo request, one of the ports its identifier.
    """
    if protocol in (ICMP, ICMPV6):
        head = pack(">BBHHH", 8 if protocol == ICMP else 128, 0, 0, source_port | port, 1)
        return (head + b"sent to echo")[: 8 if size is None else size]
    if protocol == TCP:
        return (pack(">HHIIBBHHH", source_port, port, 1, 0, 0x50, flags, 65535, 0, 0) + b"request")[
            : 20 if size is None else size
        ]
    return (pack(">HHHH", source_port, port, 20, 0) + b"a question..")[: 8 if size is None else size]


def icmp(kind: int, rest: bytes = b"") -> bytes:
    """Return an ICMP or ICMPv6 message; `rest` follows its 8 bytes of header."""
    return pack(">BBHI", kind, 0, 0, 0) + rest


def extension(kind: int, following: int, units: int, fragment: int = 0, identification: int = 7) -> bytes:
    """Return an extension header of 8 + units * 8 bytes (AH: 8 + units * 4). `fragment` is its second word."""
    if kind == FRAGMENT:
        return pack(">BBHI", following, units, fragment, identification)
    if kind == ROUTING:
        return pack(">BBH4x", following, units, fragment) + bytes(units * 8)
    body = 6 + units * (4 if kind == AUTHENTICATION else 8)
    return bytes((following, units)) + bytes(body)


def chain(extensions: list, protocol: int, payload: bytes) -> tuple:
    """Return (first protocol, payload with the extension headers in front) of [(kind, units, fragment, ...)]."""
    for kind, *values in reversed(extensions):
        payload = extension(kind, protocol, *values) + payload
        protocol = kind
    return protocol, payload


def fragment(
    family: int,
    source: int,
    destination: int,
    protocol: int,
    payload: bytes,
    offset: int,
    more: bool,
    identification: int = 1,
) -> bytes:
    """Return a fragment of a plain packet; the offset in bytes is a multiple of 8."""
    if family == 4:
        bits = offset >> 3 | more << 13
        return ipv4(source, destination, protocol, payload, b"", bits, 64, identification)
    return ipv6(source, destination, *chain([(FRAGMENT, 0, offset | more, identification)], protocol, payload))


def with_length(packet: bytes, length: int) -> bytes:
    """Return an IP packet with a wrong length in its header."""
    changed = bytearray(packet)
    pack_into(">H", changed, 2 if packet[0] >> 4 == 4 else 4, length & 0xFFFF)
    return bytes(changed)


def kind_of(frame: bytes) -> int:
    """Return the EtherType of a frame, as a test run reads it."""
    return frame[12] << 8 | frame[13]
