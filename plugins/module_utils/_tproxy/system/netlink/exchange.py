# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""One exchange with a netlink family other than rtnetlink, as bytes. It needs no library."""

from __future__ import annotations

import os
import socket
import struct

from .wire import ATTRIBUTE, HEADER, NLM_F_ACK, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, Message, error_number, split

NLA_F_NESTED = 0x8000
RECEIVE_BYTES = 1 << 16


def ask(family: int, kind: int, payload: bytes, flags: int = NLM_F_ACK) -> list[Message]:
    """Send one request and return its answers. Raises OSError.

    The flags must ask for an acknowledgement or a listing.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family) as channel:
        channel.send(HEADER.pack(HEADER.size + len(payload), kind, NLM_F_REQUEST | flags, 1, 0) + payload)
        found: list[Message] = []
        while True:
            for message in split(channel.recv(RECEIVE_BYTES)):
                if message.type not in (NLMSG_ERROR, NLMSG_DONE):
                    found.append(message)
                    continue
                code = error_number(message)
                if code:
                    raise OSError(code, os.strerror(code))
                return found


def attribute(number: int, payload: bytes) -> bytes:
    """Return one attribute, padded to four bytes."""
    head = ATTRIBUTE.pack(ATTRIBUTE.size + len(payload), number)
    return head + payload + bytes(-len(payload) % 4)


def nest(number: int, *inner: bytes) -> bytes:
    """Return an attribute that holds others."""
    return attribute(number | NLA_F_NESTED, b"".join(inner))


def port(number: int) -> bytes:
    """Return a port in network order."""
    return struct.pack(">H", number)
