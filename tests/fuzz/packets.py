# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random packets: flows, fragments, ICMP and others, and every length that a header can lie about."""

from __future__ import annotations

import random
from typing import NamedTuple

from ansible_collections.netedge.tproxy.tests.fuzz.model.judge import Sockets

from . import frames
from .flows import LINK_LOCAL, Drawn, Flows
from .frames import ICMP, ICMPV6, IGMP, TCP
from .setup import LAYER3_INTERFACE

ROUTES = (0, 0, 0x0400, 0x0001, 0x0403)  # type and addresses left of a routing header
NOP, LOOSE, STRICT, RECORD, ALERT, END = b"\1", b"\x83\3\4", b"\x89\7\4" + bytes(4), b"\7\3\4", b"\x94\4\0\0", b"\0"
OPTIONS = (NOP, NOP, LOOSE, STRICT, RECORD, ALERT, END, b"\x44", b"\x83", b"\7\0", b"\7\1", b"\7\xff")  # some are none
EXTENSIONS = (frames.HOP_BY_HOP, frames.ROUTING, frames.AUTHENTICATION, frames.DESTINATION_OPTIONS)
BEHIND_A_FRAGMENT = (frames.DESTINATION_OPTIONS, frames.DESTINATION_OPTIONS, frames.FRAGMENT)
IDENTIFICATIONS = (0, 1, 7, 0xFFFF)
STRANGE_TYPES = (0x0600, 0x8100, 0x88A8, 0x8847, 0x88CC, 0xFFFF)
STRANGE_PROTOCOLS = (0, 1, 2, 4, 41, 43, 44, 47, 50, 51, 58, 59, 60, 132, 135, 255)
TAGS = (0, 1, 100, 0xFFF, 0x1000, 0xE000, 0xE001)


class Arrived(NamedTuple):
    """A frame on an interface; `tag` is the TCI that the kernel took from it, if any."""

    interface: str
    frame: bytes
    tag: int | None = None


class Packets:
    """Draws packets for one setup on a host with these sockets."""

    def __init__(self, setup: dict, sockets: Sockets, chance: random.Random):
        self._random = chance.random
        self._interfaces = list(setup["interfaces"])
        self._layer3 = bool(setup["interfaces"][LAYER3_INTERFACE])
        self._flows = Flows(setup, sockets, chance)
        self._pick = self._flows.pick
        self.fragments = []  # those that were drawn: they decide what later ones get
        self._queue = []  # the rest of a datagram: (interface, EtherType, packet)
        self._kinds = [make for make, weight in _KINDS for _number in range(weight)]

    def draw(self) -> Arrived:
        """Return the next packet."""
        if not self._queue and self._random() < 0.04:
            self._queue = self._datagram()
        if self._queue and self._random() < 0.8:
            arrived = self._arrived(*self._queue.pop(0), 0.02)
            self.fragments.append(arrived)
            return arrived
        make = self._pick(self._kinds)
        arrived = self._arrived(self._pick(self._interfaces), *make(self), 0.2)
        if make in _FRAGMENTS:
            self.fragments.append(arrived)
        return arrived

    def _arrived(self, interface: str, kind: int, packet: bytes, lies: float) -> Arrived:
        if packet and self._random() < lies:
            packet = self._pick(_LIES)(self, packet)
        if interface == LAYER3_INTERFACE and self._layer3:
            frame = frames.without_ethernet(packet.ljust(frames.ETHERNET_HEADER, b"\0"), kind)
        else:
            frame = frames.ethernet(packet, kind)
        missing = frames.SHORTEST.get(kind, frames.ETHERNET_HEADER + 1) - len(frame)
        if missing > 0:
            frame += bytes(missing)
        return Arrived(interface, frame[: frames.LONGEST], self._pick(TAGS) if self._random() < 0.02 else None)

    # ---- datagrams in fragments -----------------------------------------------------------

    def _datagram(self) -> list:
        """A datagram in fragments: in any order, overlapping, missing, and with a second first one."""
        flow, cut = self._flows.draw(), self._pick((8, 8, 16, 24, 24, 32))
        if self._random() < 0.15:
            flow = flow._replace(protocol={4: ICMP, 6: ICMPV6}[flow.family])
        other = flow._replace(port=self._pick(self._flows.ports)) if self._random() < 0.4 else flow
        first = (frames.transport(each.protocol, each.source_port, each.port, 27) for each in (flow, other))
        pieces = [(0, True, (start + bytes(32))[:cut]) for start in first if self._random() < 0.8]
        pieces += [(at, self._random() < 0.5, bytes(16)) for at in (cut, self._pick((8, cut + 8, 64)))]
        if self._random() < 0.3:
            pieces.reverse()
        number, interface = self._pick(IDENTIFICATIONS), self._pick(self._interfaces)
        queue = [self._piece(flow, interface, number, *piece) for piece in pieces]
        if flow.family == 6 and self._random() < 0.2:
            queue[0] = interface, frames.IPV6, self._error_about_a_fragment(flow, number)
        return queue

    def _error_about_a_fragment(self, flow: Drawn, number: int) -> bytes:
        payload = frames.transport(flow.protocol, flow.port, flow.source_port, 20)
        quote = frames.fragment(6, flow.destination, flow.source, flow.protocol, payload, 0, True, number)
        return frames.ipv6(flow.source, flow.destination, ICMPV6, frames.icmp(1, quote))

    def _piece(self, flow: Drawn, interface: str, number: int, offset: int, more: bool, payload: bytes) -> tuple:
        if self._random() < 0.05:
            interface = self._pick(self._interfaces)
        if flow.family == 4:
            options, bits = b"\1" * 4 * self._pick((0, 0, 1)), offset >> 3 | more << 13
            packet = frames.ipv4(
                flow.source, flow.destination, flow.protocol, payload, options, bits, identification=number
            )
            return interface, frames.IPV4, packet
        before = [(self._pick(EXTENSIONS[:2]), 0, 0)] * self._pick((0, 0, 0, 1))
        behind = [(self._pick(BEHIND_A_FRAGMENT), 0, 0)] * self._pick((0, 0, 0, 1))
        headers = [*before, (frames.FRAGMENT, 0, offset | more, number), *behind]
        protocol = self._pick(STRANGE_PROTOCOLS) if offset and self._random() < 0.1 else flow.protocol
        return (
            interface,
            frames.IPV6,
            frames.ipv6(flow.source, flow.destination, *frames.chain(headers, protocol, payload)),
        )

    # ---- kinds of packets ---------------------------------------------------------------

    def _plain(self) -> tuple:
        flow = self._flows.draw()
        payload = frames.transport(flow.protocol, flow.source_port, flow.port, flags=self._pick(frames.TCP_FLAGS))
        packet = frames.ip(flow.family, flow.source, flow.destination, flow.protocol, payload)
        return frames.TYPES[flow.family], packet

    def _dressed(self) -> tuple:
        """A flow behind IPv4 options or IPv6 extension headers."""
        flow = self._flows.draw()
        payload = frames.transport(flow.protocol, flow.source_port, flow.port, 20)
        return frames.TYPES[flow.family], self._dress(flow, payload)

    def _dress(self, flow: Drawn, payload: bytes, fragment: int = 0) -> bytes:
        if flow.family == 4:
            return frames.ipv4(flow.source, flow.destination, flow.protocol, payload, self._options(), fragment)
        protocol, payload = frames.chain(self._extensions(), flow.protocol, payload)
        return frames.ipv6(flow.source, flow.destination, protocol, payload)

    def _options(self) -> bytes:
        """Return up to 40 bytes of IPv4 options; some are cut, or continue in the transport header."""
        drawn = b"".join(self._pick(OPTIONS) for _number in range(self._pick((0, 0, 1, 2, 3, 7, 8, 9, 40))))[:40]
        return drawn + self._pick((NOP, END)) * (-len(drawn) % 4)

    def _extensions(self) -> list:
        """Return up to nine extension headers; some end near offset 2048."""
        count = self._pick((0, 1, 1, 1, 2, 3, 7, 8, 9))
        kinds = [self._pick(EXTENSIONS) for _number in range(count)]
        found = [
            (kind, self._pick((0, 0, 1, 2)), self._pick(ROUTES) if kind == frames.ROUTING else 0) for kind in kinds
        ]
        if found and self._random() < 0.1:
            found[-1] = (self._pick(EXTENSIONS), 254 - int(self._random() * 24), 0)
        if found and self._random() < 0.25:
            bits = self._pick((0, 0, 6, 1, 8, 0xFFF8))
            found[int(self._random() * count)] = (frames.FRAGMENT, self._pick((0, 0, 9)), bits)
        return found

    def _fragment(self) -> tuple:
        flow = self._flows.draw()
        payload = frames.transport(flow.protocol, flow.source_port, flow.port, 20)
        if flow.family == 4:
            bits = self._pick((0x2000, 0x2001, 0x0001, 0x1FFF, 0x4000, 0x8000, 0x2000 | 0x8000))
            return frames.IPV4, self._dress(flow, payload, bits)
        bits = self._pick((1, 8, 9, 0xFFF8, 0xFFF9, 0, 6))
        before = [(self._pick(EXTENSIONS), 0, 0)] * self._pick((0, 0, 1, 7, 8))
        protocol, payload = frames.chain([*before, (frames.FRAGMENT, 0, bits)], flow.protocol, payload)
        return frames.IPV6, frames.ipv6(flow.source, flow.destination, protocol, payload)

    def _error(self) -> tuple:
        """An ICMP error to the host, quoting an answer of a flow."""
        flow = self._flows.draw()
        quoted = Drawn(flow.family, flow.protocol, flow.destination, flow.port, flow.source, flow.source_port)
        quote = self._quote(quoted)
        destination, source = flow.destination, self._pick(self._flows.addresses[flow.family])
        if self._random() < 0.1:
            destination = self._pick(self._flows.addresses[flow.family])
        if flow.family == 4:
            message = frames.icmp(self._pick((3, 3, 11, 12, 12, 4, 5)), quote)
            return frames.IPV4, self._dress(Drawn(4, ICMP, source, 0, destination, 0), message)
        message = frames.icmp(self._pick((1, 2, 2, 3, 4, 0, 5)), quote)
        if self._random() < 0.9:
            return frames.IPV6, frames.ipv6(source, destination, ICMPV6, message)
        return frames.IPV6, self._dress(Drawn(6, ICMPV6, source, 0, destination, 0), message)

    def _quote(self, quoted: Drawn) -> bytes:
        """Return the packet that an error quotes: whole, cut, behind options, a fragment, or of another version."""
        size = self._pick((8, 8, 20, 4, 3, 0))
        payload = frames.transport(quoted.protocol, quoted.source_port, quoted.port, size)
        if self._random() < 0.05:
            quoted = quoted._replace(protocol=self._pick(STRANGE_PROTOCOLS))
        if self._random() < 0.1:
            quoted = quoted._replace(protocol={4: ICMP, 6: ICMPV6}[quoted.family] if self._random() < 0.9 else ICMP)
            payload = frames.icmp(self._pick((8, 8, 128, 128, 0, 129)))[: max(size, 4)]
        if self._random() < 0.6:
            quote = frames.ip(quoted.family, quoted.source, quoted.destination, quoted.protocol, payload)
        else:
            quote = self._dress(quoted, payload, self._pick((0, 0x4000, 0x2000, 0x2001, 1, 0x1000)))
        if self._random() < 0.05:
            return bytes((self._pick((0x44, 0x40, 0x54, 0x65, 0x05)),)) + quote[1:]
        return quote[: int(self._random() * len(quote))] if self._random() < 0.1 else quote

    def _control(self) -> tuple:
        """Echo, neighbour and listener discovery, and other messages."""
        if self._random() < 0.3:
            source, destination = self._pick(self._flows.addresses[4]), self._flows.destination(4)
            if self._random() < 0.3:
                message = frames.icmp(self._pick((0x11, 0x12, 0x16, 0x17, 0x22, 0x13)))[: self._pick((8, 8, 8, 7))]
                ttl = self._pick((1, 1, 1, 2, 64))
                return frames.IPV4, frames.ipv4(source, destination, IGMP, message, ttl=ttl)
            message = frames.icmp(self._pick((0, 0, 8, 8, 9, 10, 13, 17, int(self._random() * 256))))
            return frames.IPV4, frames.ipv4(source, destination, ICMP, message)
        kinds = (128, 128, 129, 130, 131, 132, 143, *range(133, 138), 127, 138, 142, 144, int(self._random() * 256))
        source, hop_limit = self._pick(LINK_LOCAL), self._pick((255, 255, 1, 1, 254, 2, 0, 64))
        destination = self._flows.destination(6)
        protocol, message = ICMPV6, frames.icmp(self._pick(kinds), bytes(16))
        if self._random() < 0.2:
            protocol, message = frames.chain([(frames.HOP_BY_HOP, 0, 0)], protocol, message)
        return frames.IPV6, frames.ipv6(source, destination, protocol, message, hop_limit)

    def _other_protocol(self) -> tuple:
        flow = self._flows.draw()
        protocol = int(self._random() * 256) if self._random() < 0.3 else self._pick(STRANGE_PROTOCOLS)
        return frames.TYPES[flow.family], self._dress(flow._replace(protocol=protocol), bytes(24))

    def _other_type(self) -> tuple:
        kind = self._pick((frames.ARP, frames.ARP, *STRANGE_TYPES, frames.IPV4, frames.IPV6))
        return kind, bytes(int(self._random() * 60) + 20)

    # ---- lies -----------------------------------------------------------------------------

    def _cut(self, packet: bytes) -> bytes:
        """The frame ends early."""
        return packet[: int(self._random() * (len(packet) + 1))]

    def _pad(self, packet: bytes) -> bytes:
        """Let the frame go on behind the packet, with bytes that look like the rest of a packet."""
        more = frames.transport(TCP, self._pick(self._flows.ports), self._pick(self._flows.ports), 20)
        return packet + more * self._pick((1, 1, 2, 3))

    def _length(self, packet: bytes) -> bytes:
        """The IP header tells another length, so that headers lie in the padding or beyond the frame."""
        start = (packet[0] & 15) * 4 if packet[0] >> 4 == 4 else 0
        size = len(packet) - (0 if packet[0] >> 4 == 4 else 40)
        wrong = self._pick((-1, 0, 1, 7, 8, 12, 19, 20, 28, 39, 40, 41, 48)) + start
        return frames.with_length(packet, self._pick((wrong, wrong, wrong, size - 1, size - 2, size + 1, 0, 65535)))

    def _flip(self, packet: bytes) -> bytes:
        """One bit is another one."""
        changed = bytearray(packet)
        changed[int(self._random() * min(len(packet), 100))] ^= 1 << int(self._random() * 8)
        return bytes(changed)

    def _first_byte(self, packet: bytes) -> bytes:
        """Another version, or another header length."""
        nibble = int(self._random() * 16)
        first = packet[0] & 0xF0 | nibble if self._random() < 0.6 else packet[0] & 0x0F | nibble << 4
        return bytes((first,)) + packet[1:]


_KINDS = (
    (Packets._plain, 48),
    (Packets._dressed, 12),
    (Packets._fragment, 9),
    (Packets._error, 16),
    (Packets._control, 9),
    (Packets._other_protocol, 3),
    (Packets._other_type, 3),
)
_FRAGMENTS = (Packets._fragment, Packets._dressed)
_LIES = (Packets._cut, Packets._pad, Packets._length, Packets._length, Packets._flip, Packets._first_byte)
