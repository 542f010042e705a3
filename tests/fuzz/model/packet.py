# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kind of a packet, parsed from its bytes as the RFCs define them. No policy, no rule, no socket.

An address is an integer of 32 or 128 bits. Bytes behind the length of the IP header are padding and are never read.
The quoted names are sections of docs/SEMANTICS.md.
"""

from __future__ import annotations

from struct import unpack_from
from typing import NamedTuple

IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806
TAGS, VLAN_ID = {0x8100, 0x88A8}, 0xFFF  # IEEE 802.1Q
TRANSPORT = {6: ("tcp", 20), 17: ("udp", 8)}  # name and smallest header: RFC 9293, RFC 768
ICMP_PROTOCOL = {4: 1, 6: 58}
ICMP_HEADER = 8  # RFC 792, RFC 4443

HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS = 0, 43, 44, 60
EXTENSIONS = {HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS}
# "Protocols without ports": all but these.
JUDGED_OTHERWISE = {*TRANSPORT, *ICMP_PROTOCOL.values(), *EXTENSIONS}
EXTENSIONS_MAX = 8
HEADERS_END = 2048
OFFSET, MORE = 0xFFF8, 1  # of a fragment header: RFC 8200, section 4.5
END_OF_OPTIONS, NO_OPERATION, SOURCE_ROUTES = 0, 1, {131, 137}  # RFC 791, section 3.1
OPTIONS_MAX = 8
MAPPED = 0xFFFF  # the upper 96 bits of ::ffff:a.b.c.d

ERRORS = {4: {3, 11, 12}, 6: {1, 2, 3, 4}}
ECHO = {4: 8, 6: 128}
ECHO_REPLY = {4: 0, 6: 129}
NEIGHBOUR_DISCOVERY = range(133, 138)  # RFC 4861
IGMP, GROUP_MEMBERSHIP = 2, {0x11, 0x12, 0x16, 0x17, 0x22}  # RFC 2236, RFC 3376
LISTENER_DISCOVERY = {130, 131, 132, 143}  # RFC 2710, RFC 3810


class Flow(NamedTuple):
    """The five values that make a flow, and the family. A protocol without ports is its number, its ports are 0."""

    family: int
    protocol: str | int
    source: int
    source_port: int
    destination: int
    port: int


class Datagram(NamedTuple):
    """What all fragments of a datagram have in common; of IPv6 not the protocol (RFC 8200, section 4.5)."""

    family: int
    source: int
    destination: int
    protocol: int
    identification: int


class Packet(NamedTuple):
    """A packet's kind, its destination, and its flow if it has one.

    Kinds: "malformed", "tagged" (of a VLAN, by a tag in the frame), "fragment" (without a whole transport header),
    "flow", "portless" (a flow without ports), "error" (the flow is the quoted one, turned round), "echo" (a request),
    "echo_error" (an error that quotes a request; the flow is that of its reply), "needed" (an ICMP message that hosts
    cannot do without), "other".

    A first fragment with its whole transport header has the kind of its datagram, and `begins` it. A fragment with an
    offset `continues` it. `protocol` is that of a fragment.
    """

    kind: str
    family: int = 0
    destination: int = 0
    flow: Flow | None = None
    ends: bool = False  # TCP with FIN or RST
    protocol: int = 0
    begins: Datagram | None = None
    continues: Datagram | None = None
    has_next_hop: bool = False  # by a routing header or a source route


class Headers(NamedTuple):
    """The values of the IP headers. `payload` follows them, at `offset` of the frame."""

    family: int
    source: int
    destination: int
    protocol: int
    hop_limit: int
    payload: bytes
    offset: int


MALFORMED = Packet("malformed")
OTHER = Packet("other")
TAGGED = Packet("tagged")
LINK = Packet("link")


def dissect(frame: bytes, start: int, protocol: int) -> Packet:
    """Return the kind of a frame. Its network header begins at `start`, and `protocol` is its EtherType."""
    if protocol == IPV4:
        return _ipv4(frame[start:], start)
    if protocol == IPV6:
        return _ipv6(frame[start:], start)
    if protocol in TAGS:
        return TAGGED if int.from_bytes(frame[start : start + 2], "big") & VLAN_ID else MALFORMED
    return LINK


def _length(said: int, present: int) -> int:
    """Return the length of a packet; 0 in a packet of more than 65,535 bytes means all of it ("Malformed packets")."""
    return present if said == 0 and present > 0xFFFF else said


def _ipv4(data: bytes, start: int) -> Packet:
    if len(data) < 20:
        return MALFORMED
    first, said, number, fragment, ttl, protocol, source, destination = unpack_from(">BxHHHBBxxII", data)
    length, header = _length(said, len(data)), (first & 15) * 4
    if first >> 4 != 4 or header < 20 or not header <= length <= len(data):
        return MALFORMED
    if protocol == IGMP and not fragment & 0x3FFF and _is_sound_igmp(ttl, data[header:length]):
        return Packet("needed", 4, destination)
    if protocol not in JUDGED_OTHERWISE:
        return _portless(4, protocol, source, destination)
    datagram = Datagram(4, source, destination, protocol, number)
    if fragment & 0x1FFF:  # an offset
        return Packet("fragment", 4, destination, protocol=protocol, continues=datagram)
    found = _upper(Headers(4, source, destination, protocol, 0, data[header:length], start + header))
    found = found._replace(has_next_hop=_has_source_route(data[20:header]))
    return _begin(found, datagram, protocol) if fragment & 0x2000 else found


def _has_source_route(options: bytes) -> bool:
    """Return whether the stack sends such a packet on, or drops it for options that are none ("Source routes")."""
    for _round in range(OPTIONS_MAX):
        if not options or options[0] == END_OF_OPTIONS:
            return False
        if options[0] == NO_OPERATION:
            options = options[1:]
            continue
        if options[0] in SOURCE_ROUTES or len(options) < 2 or not 2 <= options[1] <= len(options):
            return True
        options = options[options[1] :]
    return bool(options)


def _ipv6(data: bytes, start: int) -> Packet:
    if len(data) < 40 or data[0] >> 4 != 6:
        return MALFORMED
    said, protocol, hop_limit = unpack_from(">HBB", data, 4)
    end = 40 + _length(said, len(data) - 40)
    source, destination = int.from_bytes(data[8:24], "big"), int.from_bytes(data[24:40], "big")
    if end > len(data) or MAPPED in (source >> 32, destination >> 32):
        return MALFORMED
    kind, at, number, has_next_hop = "whole", 40, 0, False
    if protocol in EXTENSIONS:
        kind, protocol, at, number, has_next_hop = skip_extensions(data[:end], start)
    if kind == "malformed":
        return MALFORMED
    if protocol not in JUDGED_OTHERWISE:
        return _portless(6, protocol, source, destination)
    datagram = Datagram(6, source, destination, 0, number)
    if kind == "later":
        return Packet("fragment", 6, destination, protocol=protocol, continues=datagram)
    found = _upper(Headers(6, source, destination, protocol, hop_limit, data[at:end], start + at))
    found = found._replace(has_next_hop=has_next_hop)
    return _begin(found, datagram, protocol) if kind == "first" else found


def skip_extensions(data: bytes, start: int) -> tuple:
    """Return (kind, protocol behind the extension headers, offset there, identification, has_next_hop) of IPv6.

    `data` is its present part. Kinds: "whole", "malformed", "first", "later": of a fragment. The packet begins at
    `start` of the frame.
    """
    kind, number, protocol, at, count, has_next_hop = "whole", 0, data[6], 40, 0, False
    while protocol in EXTENSIONS:
        count += 1
        if count > EXTENSIONS_MAX or at + 8 > len(data):
            return "malformed", protocol, at, 0, False
        end = at + _extension_length(protocol, data[at + 1])
        if end > len(data) or start + end >= HEADERS_END:
            return "malformed", protocol, at, 0, False
        has_next_hop = has_next_hop or (protocol == ROUTING and data[at + 3] != 0)
        if protocol == FRAGMENT:
            bits, identification = unpack_from(">HI", data, at + 2)
            if kind == "first":
                return "malformed", protocol, at, 0, False
            if bits & OFFSET:
                return "later", data[at], end, identification, has_next_hop
            if bits & MORE:
                kind, number = "first", identification
        protocol, at = data[at], end
    return kind, protocol, at, number, has_next_hop


def _extension_length(kind: int, said: int) -> int:
    """RFC 8200 counts in units of 8 bytes behind the first 8."""
    return 8 if kind == FRAGMENT else 8 + said * 8


def _portless(family: int, protocol: int, source: int, destination: int) -> Packet:
    """Return a packet, or a fragment of one, that rules judge by its protocol and its addresses."""
    return Packet("portless", family, destination, Flow(family, protocol, source, 0, destination, 0))


def _begin(found: Packet, datagram: Datagram, protocol: int) -> Packet:
    """Return the kind of a first fragment that would be `found` as a whole packet ("Fragments")."""
    if found.kind == "malformed":  # the header ends in the next fragment
        return Packet("fragment", datagram.family, datagram.destination, protocol=protocol)
    if found.kind in ("error", "echo_error") or (found.kind == "needed" and found.flow is None):
        found = OTHER
    return found._replace(begins=datagram)


def _upper(headers: Headers) -> Packet:
    """Return the kind of a whole packet."""
    payload, family = headers.payload, headers.family
    if headers.protocol in TRANSPORT:
        name, smallest = TRANSPORT[headers.protocol]
        if len(payload) < smallest:
            return MALFORMED
        source_port, port = unpack_from(">HH", payload)
        flow = Flow(family, name, headers.source, source_port, headers.destination, port)
        ends = name == "tcp" and bool(payload[13] & 5)
        return Packet("flow", family, headers.destination, flow, ends)
    if headers.protocol != ICMP_PROTOCOL[family]:
        return OTHER
    return MALFORMED if len(payload) < ICMP_HEADER else _icmp(headers, payload[0])


def _icmp(headers: Headers, kind: int) -> Packet:
    family = headers.family
    needed = Packet("needed", family, headers.destination)
    if kind == ECHO[family]:
        flow = Flow(family, "icmp", headers.source, _identifier(headers.payload), headers.destination, 0)
        return needed._replace(kind="echo", flow=flow)
    if kind == ECHO_REPLY[family]:
        return needed._replace(
            flow=Flow(family, "icmp", headers.source, 0, headers.destination, _identifier(headers.payload))
        )
    if kind in ERRORS[family]:
        flow = _quoted(headers, headers.payload[ICMP_HEADER:])
        if flow is None:
            return OTHER
        return Packet("echo_error" if flow.protocol == "icmp" else "error", family, headers.destination, flow)
    return needed if family == 6 and _is_sound_control(headers, kind) else OTHER


def _identifier(message: bytes) -> int:
    """Return the identifier of an echo: RFC 792, RFC 4443."""
    return int.from_bytes(message[4:6], "big")


def _is_sound_igmp(ttl: int, payload: bytes) -> bool:
    """Whether it is a query, a report or a leave message of IGMP that can only have come from the link."""
    return ttl == 1 and len(payload) >= 8 and payload[0] in GROUP_MEMBERSHIP


def _is_sound_control(headers: Headers, kind: int) -> bool:
    """Whether it is ND or MLD that can only have come from the link."""
    if kind in NEIGHBOUR_DISCOVERY:
        return headers.hop_limit == 255
    if kind in LISTENER_DISCOVERY:
        return headers.hop_limit == 1 and (headers.source == 0 or is_link_local(headers.source))
    return False


def is_link_local(address: int) -> bool:
    """Whether an IPv6 address lies in fe80::/10."""
    return address >> 118 == 0xFE80 >> 6


def _quoted(headers: Headers, quote: bytes) -> Flow | None:
    """Return the flow of the answers to the quoted packet, if the quote is sound ("ICMP and ICMPv6")."""
    found = _quoted_ipv4(quote) if headers.family == 4 else _quoted_ipv6(quote, headers)
    if found is None:
        return None
    source, destination, protocol, rest = found
    if source != headers.destination:
        return None
    if protocol not in JUDGED_OTHERWISE:
        return Flow(headers.family, protocol, destination, 0, source, 0)
    if protocol == ICMP_PROTOCOL[headers.family] and len(rest) >= 6 and rest[0] == ECHO[headers.family]:
        return Flow(headers.family, "icmp", destination, 0, source, _identifier(rest))
    if protocol not in TRANSPORT or len(rest) < 4:
        return None
    source_port, port = unpack_from(">HH", rest)
    return Flow(headers.family, TRANSPORT[protocol][0], destination, port, source, source_port)


def _quoted_ipv4(quote: bytes) -> tuple | None:
    if len(quote) < 20 or quote[0] >> 4 != 4 or quote[0] & 15 < 5:
        return None
    fragment, protocol, source, destination = unpack_from(">HxBxxII", quote, 6)
    if fragment & 0x1FFF:  # not the piece with the ports
        return None
    return source, destination, protocol, quote[(quote[0] & 15) * 4 :]


def _quoted_ipv6(quote: bytes, headers: Headers) -> tuple | None:
    if len(quote) < 40 or quote[0] >> 4 != 6:
        return None
    source, destination = int.from_bytes(quote[8:24], "big"), int.from_bytes(quote[24:40], "big")
    kind, protocol, at, _identification, _has_next_hop = skip_extensions(quote, headers.offset + ICMP_HEADER)
    if kind not in ("whole", "first"):
        return None
    return source, destination, protocol, quote[at:]
