# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The program that closes an interface for want of the real one: it needs no map, no compiler, and nothing of a file.

What comes in is dropped but for ARP, tagged frames of VLAN sub-interfaces, neighbour discovery, DHCP, and TCP or UDP
to the ports that are named with their sources. Pure: values in, instructions out.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..model.policy import Policy
from ..model.prefix import Prefix
from ..model.rule import PROTOCOLS

SSH_PORT = 22
ARP, IPV4, IPV6 = 0x0806, 0x0800, 0x86DD
ICMPV6, ND_FIRST, ND_LAST, ND_HOPS = 58, 133, 137, 255
TC_ACT_OK, TC_ACT_SHOT = 0, 2
# offsets in struct __sk_buff (include/uapi/linux/bpf.h)
SKB_PROTOCOL, SKB_VLAN_PRESENT, SKB_VLAN_TCI = 16, 20, 24
VLAN_ID = 0x0FFF
LOAD_BYTES_RELATIVE, FROM_NETWORK_HEADER = 68, 1
# opcodes (Documentation/bpf/standardization/instruction-set.rst)
LOAD = {1: 0x71, 2: 0x69, 4: 0x61}
MOVE, MOVE_NUMBER, ADD_NUMBER, AND_NUMBER, SHIFT_LEFT = 0xBF, 0xB7, 0x07, 0x54, 0x67
JUMP, IF_EQUAL, IF_NOT_EQUAL, IF_BELOW, IF_ABOVE, IF_NEGATIVE = 0x05, 0x16, 0x56, 0xA6, 0x26, 0xC5
IF_BITS = 0x45
CALL, EXIT = 0x85, 0x95
# registers: the answer and scratch; the packet's context; offset of the ports; the protocol
R0, R1, R2, R3, R4, R5, CONTEXT, PORTS_AT, PROTOCOL, FRAME = 0, 1, 2, 3, 4, 5, 6, 7, 8, 10
# places on the stack: the IP header, and source and destination port (or ICMPv6 type) behind it
HEADER, PORTS = -48, -8


class AllowEntry(NamedTuple):
    """Something that passes: `source_port` 0 is any."""

    protocol: str
    port: int
    source: Prefix
    source_port: int = 0


def allow_entries(policy: Policy) -> tuple:
    """Return what must pass on an interface with this policy."""
    link_local, anybody = Prefix.parse("fe80::/10")[0], (Prefix.any_of(4), Prefix.any_of(6))
    dhcp = (AllowEntry("udp", 68, anybody[0], 67), AllowEntry("udp", 546, link_local, 547))
    ssh = tuple(AllowEntry("tcp", SSH_PORT, source) for source in anybody) if policy.allow_ssh else ()
    return dhcp + ssh + tuple(AllowEntry(entry.protocol, entry.port, entry.source) for entry in policy.management)


def fail_closed_program(policy: Policy) -> bytes:
    """Return the instructions."""
    gaps = allow_entries(policy)
    code = _Code()
    code.add(MOVE, CONTEXT, R1)
    code.load(2, R2, CONTEXT, SKB_PROTOCOL)
    code.jump(IF_EQUAL, R2, _network(ARP), "pass")
    code.load(4, R3, CONTEXT, SKB_VLAN_PRESENT)
    code.jump(IF_EQUAL, R3, 0, "untagged")
    code.load(4, R3, CONTEXT, SKB_VLAN_TCI)
    code.jump(IF_BITS, R3, VLAN_ID, "pass")
    code.label("untagged")
    code.jump(IF_EQUAL, R2, _network(IPV4), "ipv4")
    code.jump(IF_NOT_EQUAL, R2, _network(IPV6), "drop")
    _ipv6(code, gaps)
    code.label("ipv4")
    _ipv4(code, gaps)
    for name, answer in (("drop", TC_ACT_SHOT), ("pass", TC_ACT_OK)):
        code.label(name)
        code.add(MOVE_NUMBER, R0, number=answer)
        code.add(EXIT)
    return code.assembled()


def _ipv4(code: _Code, gaps: tuple) -> None:
    code.fetch(0, HEADER, 20)
    code.load(2, R2, FRAME, HEADER + 6)
    code.jump(IF_BITS, R2, _network(0x1FFF), "drop")  # a later fragment has no ports
    code.load(1, PORTS_AT, FRAME, HEADER)
    code.add(AND_NUMBER, PORTS_AT, number=0x0F)
    code.add(SHIFT_LEFT, PORTS_AT, number=2)
    code.load(1, PROTOCOL, FRAME, HEADER + 9)
    code.fetch(None, PORTS, 4)
    for number, gap in enumerate(gaps):
        if gap.source.family == 4:
            _gap(code, f"ipv4 {number}", gap, [(HEADER + 12, gap.source.network & 0xFFFFFFFF, gap.source.bits)])
    code.jump_always("drop")


def _ipv6(code: _Code, gaps: tuple) -> None:
    code.fetch(0, HEADER, 40)
    code.add(MOVE_NUMBER, PORTS_AT, number=40)
    code.load(1, PROTOCOL, FRAME, HEADER + 6)
    code.fetch(None, PORTS, 4)
    code.jump(IF_NOT_EQUAL, PROTOCOL, ICMPV6, "not ICMPv6")
    code.load(1, R2, FRAME, HEADER + 7)
    code.jump(IF_NOT_EQUAL, R2, ND_HOPS, "drop")
    code.load(1, R2, FRAME, PORTS)
    code.jump(IF_BELOW, R2, ND_FIRST, "drop")
    code.jump(IF_ABOVE, R2, ND_LAST, "drop")
    code.jump_always("pass")
    code.label("not ICMPv6")
    for number, gap in enumerate(gaps):
        if gap.source.family == 6:
            words = [gap.source.network >> shift & 0xFFFFFFFF for shift in (96, 64, 32, 0)]
            left = [min(max(gap.source.length - 32 * place, 0), 32) for place in range(4)]
            places = [(HEADER + 8 + 4 * place, word, bits) for place, (word, bits) in enumerate(zip(words, left))]
            _gap(code, f"ipv6 {number}", gap, places)
    code.jump_always("drop")


def _gap(code: _Code, name: str, gap: AllowEntry, source: list) -> None:
    """Let a packet pass whose ports and source are these; `source` is [(place, word, how many of its bits count)]."""
    other = f"after {name}"
    code.jump(IF_NOT_EQUAL, PROTOCOL, PROTOCOLS[gap.protocol], other)
    code.load(2, R2, FRAME, PORTS + 2)
    code.jump(IF_NOT_EQUAL, R2, _network(gap.port), other)
    if gap.source_port:
        code.load(2, R2, FRAME, PORTS)
        code.jump(IF_NOT_EQUAL, R2, _network(gap.source_port), other)
    for place, word, bits in source:
        if bits:
            code.load(4, R2, FRAME, place)
            code.add(AND_NUMBER, R2, number=_network_word(0xFFFFFFFF << 32 - bits & 0xFFFFFFFF))
            code.jump(IF_NOT_EQUAL, R2, _network_word(word), other)
    code.jump_always("pass")
    code.label(other)


class _Code:
    """Instructions in the making; a jump goes to a label, which may come later."""

    def __init__(self):
        self._instructions: list = []
        self._labels: dict = {}

    def add(self, opcode: int, to: int = 0, source: int = 0, offset: int = 0, number: int = 0, label: str = "") -> None:
        """Add one instruction."""
        self._instructions.append((opcode, source << 4 | to, offset, number, label))

    def label(self, name: str) -> None:
        """Name the place of the next instruction."""
        self._labels[name] = len(self._instructions)

    def load(self, size: int, to: int, base: int, offset: int) -> None:
        """Load 1, 2 or 4 bytes; of struct __sk_buff a field is always read by its low bytes."""
        self.add(LOAD[4 if base == CONTEXT else size], to, base, offset)

    def jump(self, opcode: int, register: int, number: int, label: str) -> None:
        """Jump when the low 32 bits of a register compare so with a number."""
        self.add(opcode, register, number=number, label=label)

    def jump_always(self, label: str) -> None:
        """Jump."""
        self.add(JUMP, label=label)

    def fetch(self, offset: int | None, place: int, size: int) -> None:
        """Copy bytes of the packet to the stack, from the IP header on or from the ports; drop where it ends before."""
        self.add(MOVE, R1, CONTEXT)
        if offset is None:
            self.add(MOVE, R2, PORTS_AT)
        else:
            self.add(MOVE_NUMBER, R2, number=offset)
        self.add(MOVE, R3, FRAME)
        self.add(ADD_NUMBER, R3, number=place)
        self.add(MOVE_NUMBER, R4, number=size)
        self.add(MOVE_NUMBER, R5, number=FROM_NETWORK_HEADER)
        self.add(CALL, number=LOAD_BYTES_RELATIVE)
        self.jump(IF_NEGATIVE, R0, 0, "drop")

    def assembled(self) -> bytes:
        """Return the bytes."""
        found = []
        for place, (opcode, registers, offset, number, label) in enumerate(self._instructions):
            offset = self._labels[label] - place - 1 if label else offset
            found.append(struct.pack("=BBhI", opcode, registers, offset, number & 0xFFFFFFFF))
        return b"".join(found)


def _network(number: int) -> int:
    """Return 16 bits as they are read from a packet."""
    return struct.unpack("=H", struct.pack(">H", number))[0]


def _network_word(number: int) -> int:
    return struct.unpack("=I", struct.pack(">I", number))[0]
