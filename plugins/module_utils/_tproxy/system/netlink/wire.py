# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The bytes of netlink: messages, their attributes, and addresses. It opens no socket and needs no library.

Numbers are those of include/uapi/linux/netlink.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length with header, type, flags, sequence, port
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x4, 0x10, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400  # of a request that makes an object
NLM_F_ACK_TLVS = 0x200  # of an answer
ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length with header, type
NLA_TYPE_MASK = 0x3FFF
MAPPED = bytes(10) + b"\xff\xff"  # begins an IPv4-mapped address (RFC 4291, 2.5.5.2)


class Message(NamedTuple):
    """One netlink message: its header, its payload, and both together as `frame`."""

    type: int
    flags: int
    sequence: int
    payload: bytes
    frame: bytes


def split(data: bytes) -> Iterator[Message]:
    """Yield the messages of one datagram. Each begins at a multiple of four bytes."""
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, flags, sequence, _port = HEADER.unpack_from(data, at)
        if length < HEADER.size:
            return
        frame = data[at : at + length]
        yield Message(kind, flags, sequence, frame[HEADER.size :], frame)
        at += (length + 3) & ~3


def error_number(message: Message) -> int:
    """Return the errno of an NLMSG_ERROR or NLMSG_DONE. It is 0 for an acknowledgement and a complete listing."""
    return -int(struct.unpack_from("=i", message.payload)[0]) if len(message.payload) >= 4 else 0


def attributes(data: bytes) -> dict[int, bytes]:
    """Return {type: payload} of a sequence of attributes."""
    return dict(attribute_list(data))


def attribute_list(data: bytes) -> list[tuple[int, bytes]]:
    """Return (type, payload) of each attribute of a sequence. Each begins at a multiple of four bytes."""
    found, at = [], 0
    while at + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, at)
        found.append((kind & NLA_TYPE_MASK, data[at + ATTRIBUTE.size : at + length]))
        at += max((length + 3) & ~3, ATTRIBUTE.size)
    return found


def mapped(address: bytes) -> bytes:
    """Return an address of 4 or 16 bytes as 16 bytes, IPv4 mapped."""
    return address if len(address) == 16 else MAPPED + address
