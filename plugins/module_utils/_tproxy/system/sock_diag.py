# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The door to sock_diag(7): does somebody listen? One look-up, however many there are. `listeners` lists all."""

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

from ..errors import KernelRefused, Unsupported

__all__ = ["Waiting", "has_reuseport", "is_listening", "listeners"]

# include/uapi/linux/sock_diag.h, inet_diag.h, netlink.h
NLM_F_REQUEST = 1
ANY_STATE = 0xFFFFFFFF
NO_COOKIE = b"\xff" * 8
TCP_LISTEN = 10
HEADER = struct.Struct("=IHHII")
QUESTION = struct.Struct("=BBBxI2s2s16s16sI8s")
ANSWER_BYTES = 1 << 14

PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
MAPPED = bytes(10) + b"\xff\xff"


def is_listening(protocol: str, address: bytes, port: int) -> bool:
    """Whether a socket of this network namespace takes what comes to the address: TCP in LISTEN, UDP bound.

    `address` has 16 bytes, IPv4 mapped. Raises KernelRefused; Unsupported where the kernel cannot say it.
    """
    state = _state_of(protocol, address, port)
    if state is None and not _can_tell(protocol):
        raise Unsupported(f"this kernel does not tell of {protocol} sockets: load the module {protocol}_diag")
    return state == TCP_LISTEN if protocol == "tcp" else state is not None


def _can_tell(protocol: str) -> bool:
    """Whether the kernel finds a socket that is there: without the module it says ENOENT, as for one that is not."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        if protocol == "tcp":
            probe.listen(1)
        return _state_of(protocol, MAPPED + socket.inet_aton("127.0.0.1"), probe.getsockname()[1]) is not None


def _state_of(protocol: str, address: bytes, port: int) -> int | None:
    """Return the state of the socket that a packet from nowhere would find, or None."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG) as channel:
        try:
            channel.send(_question(protocol, address, port))
            answer = channel.recv(ANSWER_BYTES)
        except OSError as refusal:
            raise KernelRefused(refusal.errno, "look up", f"the {protocol} socket at port {port}") from refusal
    if HEADER.unpack_from(answer)[1] != NLMSG_ERROR:
        return answer[HEADER.size + 1]
    code = -struct.unpack_from("=i", answer, HEADER.size)[0]
    if code == errno.ENOENT:
        return None
    raise KernelRefused(code, "look up", f"the {protocol} socket at port {port}")


def _question(protocol: str, address: bytes, port: int) -> bytes:
    """Return the request. UDP has source and destination the other way round (net/ipv4/udp_diag.c:udp_dump_one)."""
    family, packed = (socket.AF_INET, address[12:]) if address.startswith(MAPPED) else (socket.AF_INET6, address)
    ends = [(struct.pack("!H", port), packed.ljust(16, b"\0")), (bytes(2), bytes(16))]
    if protocol == "udp":
        ends.reverse()
    (source_port, source), (port_there, there) = ends
    asked = QUESTION.pack(
        *(family, PROTOCOLS[protocol], 0, ANY_STATE, source_port, port_there, source, there, 0, NO_COOKIE)
    )
    return HEADER.pack(HEADER.size + len(asked), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0) + asked


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
