# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Adapter to sock_diag(7): lookups and listings of the sockets that wait for clients.

Numbers are those of include/uapi/linux/sock_diag.h and inet_diag.h. Addresses have 16 bytes, IPv4 mapped.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping

from ..errors import KernelRefused, Unsupported, kernel_refusals
from . import libc
from .netlink.wire import (
    HEADER,
    MAPPED,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    attributes,
    error_number,
    mapped,
    split,
)
from .procfs import descriptors_of
from .system import ListeningSocket, SocketOwner

NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
REQUEST = struct.Struct("=BBBxI48s")  # struct inet_diag_req_v2: family, protocol, extensions, states, socket id
SOCKET_ID = struct.Struct("=2s2s16s16sI8s")  # struct inet_diag_sockid: ports, addresses, interface, cookie
ANY_COOKIE = b"\xff" * 8
# struct inet_diag_msg: family, state, timer, retransmissions, socket id with the cookie in two halves, numbers
ANSWER = struct.Struct("=BBBB2s2s16s16sI2I5I")
RECEIVE_BYTES = 1 << 16

PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
# include/net/tcp_states.h; a UDP socket without a peer is in TCP_CLOSE
TCP_CLOSE, TCP_LISTEN = 7, 10
WAITING_STATE = {"tcp": TCP_LISTEN, "udp": TCP_CLOSE}
ANY_STATE = 0xFFFFFFFF

INET_DIAG_SKV6ONLY, INET_DIAG_SOCKOPT = 11, 22
SOCKOPT_TRANSPARENT = 0x20 if sys.byteorder == "little" else 0x04  # sixth bit-field of struct inet_diag_sockopt
# The errors of a socket whose options this process cannot read.
UNREADABLE = (errno.ESRCH, errno.EPERM, errno.EACCES, errno.EBADF, errno.ENOSYS)


# ---- one socket --------------------------------------------------------------------


def listener_at(protocol: str, address: bytes, port: int) -> SocketOwner | None:
    """Return the cookie (SO_COOKIE) and the user of the socket that takes packets to an address, or None without one.

    That is a TCP socket in LISTEN, or a bound UDP socket, of this network namespace. The kernel looks up one socket,
    so the number of sockets does not matter. Raises KernelRefused, and Unsupported on a kernel that cannot look up
    this protocol.
    """
    found = _look_up(protocol, address, port)
    if found is None:
        if not _has_lookup(protocol):
            raise Unsupported(f"this kernel does not report {protocol} sockets: load the module {protocol}_diag")
        return None
    _family, state, *_rest = ANSWER.unpack_from(found)
    return _owner(found) if protocol == "udp" or state == TCP_LISTEN else None


def _has_lookup(protocol: str) -> bool:
    """Return whether the kernel finds an existing socket. A kernel without the module always answers ENOENT."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        if protocol == "tcp":
            probe.listen(1)
        return _look_up(protocol, mapped(socket.inet_aton("127.0.0.1")), probe.getsockname()[1]) is not None


def _look_up(protocol: str, address: bytes, port: int) -> bytes | None:
    """Return the answer about the socket for a packet from an unspecified source, or None without such a socket."""
    operation, subject = "look up", f"the {protocol} socket at port {port}"
    with kernel_refusals(operation, subject), _socket() as channel:
        channel.send(_lookup_request(protocol, address, port))
        answer = next(split(channel.recv(RECEIVE_BYTES)))
    if answer.type != NLMSG_ERROR:
        return answer.payload
    code = error_number(answer)
    if code == errno.ENOENT:
        return None
    raise KernelRefused(code, operation, subject)


def _lookup_request(protocol: str, address: bytes, port: int) -> bytes:
    """Return the request. For UDP the kernel swaps source and destination (net/ipv4/udp_diag.c:udp_dump_one)."""
    family, packed = (socket.AF_INET, address[12:]) if address.startswith(MAPPED) else (socket.AF_INET6, address)
    ends = [(struct.pack("!H", port), packed), (bytes(2), b"")]
    if protocol == "udp":
        ends.reverse()
    (source_port, source), (destination_port, destination) = ends
    identity = SOCKET_ID.pack(source_port, destination_port, source, destination, 0, ANY_COOKIE)
    return _request(NLM_F_REQUEST, family, PROTOCOLS[protocol], ANY_STATE, identity)


# ---- all sockets -------------------------------------------------------------------


def listeners(protocol: str, port: int = 0) -> list[ListeningSocket]:
    """Return every TCP socket that listens, or every UDP socket without a peer; on one port unless that is 0.

    Raises KernelRefused. Its errno is EOPNOTSUPP or ENOENT on a kernel without such a listing.
    """
    return [found for family in (socket.AF_INET, socket.AF_INET6) for found in _list(family, protocol, port)]


def _list(family: int, protocol: str, port: int) -> list[ListeningSocket]:
    states = 1 << WAITING_STATE[protocol]
    # A port of 0 filters nothing (inet_diag_dump_icsk() in net/ipv4/inet_diag.c, udp_dump() in udp_diag.c).
    identity = SOCKET_ID.pack(struct.pack("!H", port), bytes(2), b"", b"", 0, ANY_COOKIE)
    with kernel_refusals("list", "listening sockets"), _socket() as channel:
        channel.send(_request(NLM_F_REQUEST | NLM_F_DUMP, family, PROTOCOLS[protocol], states, identity))
        return [_decoded(payload) for payload in _answers(channel)]


def _answers(channel: socket.socket) -> Iterator[bytes]:
    """Yield the payloads of a listing up to its end. Raises OSError."""
    while True:
        for message in split(channel.recv(RECEIVE_BYTES)):
            if message.type == NLMSG_DONE:
                return
            if message.type == NLMSG_ERROR:
                code = error_number(message)
                raise OSError(code, os.strerror(code))
            yield message.payload


def _decoded(payload: bytes) -> ListeningSocket:
    family, _state, _timer, _retries, port, _peer_port, address, *numbers = ANSWER.unpack_from(payload)
    given = attributes(payload[ANSWER.size :])
    options = given.get(INET_DIAG_SOCKOPT)
    return ListeningSocket(
        address if family == socket.AF_INET6 else mapped(address[:4]),
        int.from_bytes(port, "big"),
        numbers[-1],
        family == socket.AF_INET6 and not any(given.get(INET_DIAG_SKV6ONLY, b"\1")),
        bool(options[0] & SOCKOPT_TRANSPARENT) if options else None,
        *_owner(payload),
    )


def _owner(answer: bytes) -> SocketOwner:
    """Return the cookie of a socket (sock_diag_save_cookie() in net/core/sock_diag.c), and its user."""
    *_rest, low, high, _expires, _received, _sent, user, _inode = ANSWER.unpack_from(answer)
    return SocketOwner(int(high) << 32 | int(low), int(user))


def _socket() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)


def _request(flags: int, family: int, protocol: int, states: int, identity: bytes) -> bytes:
    body = REQUEST.pack(family, protocol, 0, states, identity)
    return HEADER.pack(HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, flags, 1, 0) + body


# ---- descriptors of other processes ------------------------------------------------


def has_reuseport(inode: int) -> bool | None:
    """Return whether a socket has SO_REUSEPORT, or None if this process cannot read it. Raises KernelRefused.

    sock_diag does not report it. So this reads the option of a duplicate of the owner's descriptor.
    """
    with duplicates((inode,)) as found:
        if inode not in found:
            return None
        with socket.socket(fileno=os.dup(found[inode])) as opened:
            return bool(opened.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


@contextlib.contextmanager
def duplicates(inodes: Iterable[int]) -> Iterator[Mapping[int, int]]:
    """Yield a descriptor of each socket, by its inode, duplicated from its process (pidfd_getfd(2), Linux 5.6).

    A socket that this process cannot duplicate is missing. It changes nothing, and reads the descriptors of every
    process. Raises KernelRefused.
    """
    found: dict[int, int] = {}
    with contextlib.ExitStack() as opened:
        for inode, pid, descriptor in descriptors_of(inodes):
            duplicate = _duplicate(pid, descriptor) if inode not in found else None
            if duplicate is not None:
                opened.callback(os.close, duplicate)
                found[inode] = duplicate
        yield found


def _duplicate(pid: int, descriptor: int) -> int | None:
    """Return a duplicate of a descriptor of another process, or None if this process may have none."""
    try:
        handle = os.pidfd_open(pid)
        try:
            return libc.pidfd_getfd(handle, descriptor)
        finally:
            os.close(handle)
    except OSError as refusal:
        if refusal.errno in UNREADABLE:
            return None
        raise KernelRefused.of(refusal, "ask for", "a socket of another process") from refusal
