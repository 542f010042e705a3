# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Which sockets wait for connections or datagrams, and what options they have: a part of the door `_sockets`.

It sees the network namespace of the calling thread. Numbers and layouts are those of include/uapi/linux/
{netlink,sock_diag,inet_diag}.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import os
import socket
import struct
import sys
from typing import NamedTuple

from ._errors import KernelRefused

NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
NLMSG_ERROR, NLMSG_DONE = 2, 3
# TCP_LISTEN; a UDP socket without a peer is in TCP_CLOSE: include/net/tcp_states.h
WAITING = {"tcp": (socket.IPPROTO_TCP, 1 << 10), "udp": (socket.IPPROTO_UDP, 1 << 7)}
INET_DIAG_SKV6ONLY, INET_DIAG_SOCKOPT = 11, 22
SOCKOPT_TRANSPARENT = 0x20 if sys.byteorder == "little" else 0x04  # sixth bit-field of struct inet_diag_sockopt
MESSAGE = struct.Struct("=BBBB2s2s16s16s12s5I")  # struct inet_diag_msg
RECEIVED_BYTES = 1 << 16
PIDFD_GETFD = 438  # of every architecture: include/uapi/asm-generic/unistd.h

_libc = ctypes.CDLL(None, use_errno=True)


class Waiting(NamedTuple):
    """A socket that waits: its 16-byte address (IPv4 mapped) and port.

    `dual` says that an IPv6 socket takes IPv4 too; `transparent` is None where the kernel does not tell (before 5.10).
    """

    address: bytes
    port: int
    inode: int
    dual: bool
    transparent: bool | None


def listeners(protocol: str) -> list:
    """Return a Waiting for every TCP socket that listens, or every UDP socket without a peer.

    Raises KernelRefused; EOPNOTSUPP or ENOENT says that this kernel has no such listing.
    """
    return [found for family in (socket.AF_INET, socket.AF_INET6) for found in _listed(family, *WAITING[protocol])]


def _listed(family: int, protocol: int, states: int) -> list:
    request = struct.pack("=IHHII", 72, SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, 1, 0)
    request += struct.pack("=BBBxI48x", family, protocol, 0, states)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG) as opened:
            opened.send(request)
            return list(_answers(opened))
    except OSError as refusal:
        raise KernelRefused(refusal.errno, "list", "sockets that wait") from refusal


def _answers(opened: socket.socket):
    while True:
        data, at = opened.recv(RECEIVED_BYTES), 0
        while at + 16 <= len(data):
            length, kind = struct.unpack_from("=IH", data, at)
            if kind == NLMSG_DONE:
                return
            if kind == NLMSG_ERROR:
                code = -struct.unpack_from("=i", data, at + 16)[0]
                raise OSError(code, os.strerror(code))
            yield _read(data[at + 16 : at + length])
            at += length + 3 & ~3


def _read(payload: bytes) -> Waiting:
    family, _state, _timer, _retries, port, _peer, address, _far, _rest, *numbers = MESSAGE.unpack_from(payload)
    given = _attributes(payload[MESSAGE.size :])
    mapped = address if family == socket.AF_INET6 else bytes(10) + b"\xff\xff" + address[:4]
    options = given.get(INET_DIAG_SOCKOPT)
    return Waiting(
        mapped,
        int.from_bytes(port, "big"),
        numbers[-1],
        family == socket.AF_INET6 and not any(given.get(INET_DIAG_SKV6ONLY, b"\1")),
        bool(options[0] & SOCKOPT_TRANSPARENT) if options else None,
    )


def _attributes(data: bytes) -> dict:
    found, at = {}, 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        found[kind] = data[at + 4 : at + length]
        at += max(length + 3 & ~3, 4)
    return found


def has_reuseport(inode: int) -> bool | None:
    """Return whether a socket has SO_REUSEPORT, None where nobody can be asked.

    sock_diag does not tell. So the owner's descriptor is duplicated (pidfd_getfd, Linux 5.6) and asked: this changes
    nothing, and costs a look at every process.
    """
    for link in glob.iglob("/proc/[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) == f"socket:[{inode}]":
                _proc, _dir, process, _fd, number = link.rsplit("/", 4)
                return _asked(int(process), int(number))
    return None


def _asked(process: int, number: int) -> bool | None:
    try:
        handle = os.pidfd_open(process)
    except OSError as refusal:
        return _unknown(refusal.errno)
    try:
        descriptor = _libc.syscall(PIDFD_GETFD, handle, number, 0)
        if descriptor < 0:
            return _unknown(ctypes.get_errno())
        with socket.socket(fileno=descriptor) as theirs:
            return bool(theirs.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))
    finally:
        os.close(handle)


def _unknown(code: int) -> None:
    if code not in (errno.ESRCH, errno.EPERM, errno.EACCES, errno.EBADF, errno.ENOSYS):
        raise KernelRefused(code, "ask for", "a socket's options")
