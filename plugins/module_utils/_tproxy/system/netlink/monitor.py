# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""What rtnetlink tells unasked: a part of the door `_netlink`, without pyroute2.

It knows which messages may mean that an attachment, an address or a policy route went, and nothing of what is in them:
who wants to know what is so now asks. A router that learns a whole BGP table is not woken by it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct

from ...errors import KernelRefused

# RTNLGRP_ of include/uapi/linux/rtnetlink.h: LINK, TC, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, and the same for IPv6
GROUPS = (1, 4, 5, 7, 8, 9, 11, 19)
NEWROUTE, DELROUTE = 24, 25
RTN_LOCAL = 2
HEADER = struct.Struct("=IHHII")
ROUTE = struct.Struct("=BBBBBBBBI")
ROOM = 1 << 20
SO_RCVBUFFORCE = 33  # include/uapi/asm-generic/socket.h


class Events:
    """An open socket that hears of changes in the network namespace of the calling thread; a context manager."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
            self._make_room()
            self._socket.bind((0, sum(1 << group - 1 for group in GROUPS)))
            self._socket.setblocking(False)
        except OSError as refusal:
            raise KernelRefused(refusal.errno, "open", "an rtnetlink socket for events") from refusal

    def _make_room(self) -> None:
        """Have a buffer for some thousand routes: SO_RCVBUF stops at net.core.rmem_max, 208 KiB on many kernels."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        with contextlib.suppress(PermissionError):
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_fault) -> None:
        self._socket.close()

    def wait(self, seconds: float | None) -> bool:
        """Return True when something happened that may matter, False after so many seconds without; None: for ever."""
        while select.select([self._socket], [], [], seconds)[0]:
            if self._drain():
                return True
        return False

    def _drain(self) -> bool:
        """Read all there is; return whether any of it may matter. What the kernel had to leave out may matter."""
        found = False
        while True:
            try:
                found = any(_matters(*message) for message in _messages(self._socket.recv(ROOM))) or found
            except BlockingIOError:
                return found
            except OSError:  # ENOBUFS
                found = True


def _messages(data: bytes):
    """Yield (type, payload)."""
    while len(data) >= HEADER.size:
        length, kind, _flags, _sequence, _port = HEADER.unpack_from(data)
        yield kind, data[HEADER.size : length]
        data = data[(length + 3) & ~3 :] if length else b""


def _matters(kind: int, payload: bytes) -> bool:
    """Of routes only the end of a local default matters."""
    if kind not in (NEWROUTE, DELROUTE):
        return True
    _family, destination_bits, _source_bits, _tos, _table, _protocol, _scope, route_type, _flags = ROUTE.unpack_from(
        payload
    )
    return kind == DELROUTE and route_type == RTN_LOCAL and destination_bits == 0
