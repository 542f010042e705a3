# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Notifications of rtnetlink, without pyroute2, and of mounts.

They tell that an attachment, an address, a policy route or the bpffs may be gone. The caller then reads the current
state itself. The import of a whole BGP table wakes no caller. Nor do the addresses on lo: an OpenZiti router puts one
there for each service, and an address on lo is an own address only if an operator recorded it.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct

from ...errors import kernel_refusals
from .messages import LOOPBACK_IFINDEX, RTM_DELADDR, RTM_DELROUTE, RTM_NEWADDR, RTM_NEWROUTE, RTN_LOCAL
from .wire import Message, split

# RTNLGRP_ of include/uapi/linux/rtnetlink.h: LINK, TC, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, and the same for IPv6
GROUPS = (1, 4, 5, 7, 8, 9, 11, 19)
RTMSG = struct.Struct("=BBBBBBBBI")  # struct rtmsg
IFADDRMSG = struct.Struct("=BBBBI")  # struct ifaddrmsg
BUFFER_BYTES = 1 << 20  # for some thousand routes
SO_RCVBUFFORCE = 33  # include/uapi/asm-generic/socket.h
MOUNTS = "/proc/self/mountinfo"  # its poll(2) tells of each mount and unmount in the namespace (proc(5))


class Events:
    """Open notifications of the network and mount namespaces of the calling thread; a context manager.

    Raises KernelRefused.
    """

    def __init__(self) -> None:
        with kernel_refusals("open", "an rtnetlink socket for events"):
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
            # SO_RCVBUF stops at net.core.rmem_max, which is 208 KiB on many kernels
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            with contextlib.suppress(PermissionError):
                self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
            self._socket.bind((0, sum(1 << group - 1 for group in GROUPS)))
            self._socket.setblocking(False)
        with kernel_refusals("open", MOUNTS):
            self._mounts = os.open(MOUNTS, os.O_RDONLY | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._poll.register(self._mounts, select.POLLPRI)

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_fault: object) -> None:
        self._socket.close()
        os.close(self._mounts)

    def wait(self, seconds: float | None) -> bool:
        """Return True after a relevant notification, or False if none arrives within `seconds`. None waits forever."""
        while True:
            ready = {descriptor for descriptor, _events in self._poll.poll(None if seconds is None else seconds * 1000)}
            if not ready:
                return False
            drained = self._socket.fileno() in ready and self._drain()
            if drained or self._mounts in ready:
                return True

    def _drain(self) -> bool:
        """Read all notifications. Return whether one is relevant, or whether the kernel had to drop some."""
        relevant = False
        while True:
            try:
                data = self._socket.recv(BUFFER_BYTES)
            except BlockingIOError:
                return relevant
            except OSError:  # ENOBUFS
                relevant = True
            else:
                relevant = any(_is_relevant(message) for message in split(data)) or relevant


def _is_relevant(message: Message) -> bool:
    """Return whether a notification is relevant. Of those about routes, only the end of a local default is."""
    if message.type in (RTM_NEWADDR, RTM_DELADDR):
        *_family_to_scope, ifindex = IFADDRMSG.unpack_from(message.payload)
        return bool(ifindex != LOOPBACK_IFINDEX)
    if message.type not in (RTM_NEWROUTE, RTM_DELROUTE):
        return True
    _family, destination_bits, _source_bits, _tos, _table, _protocol, _scope, kind, _flags = RTMSG.unpack_from(
        message.payload
    )
    return message.type == RTM_DELROUTE and kind == RTN_LOCAL and destination_bits == 0
