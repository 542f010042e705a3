# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The door to sock_diag(7): does somebody listen? One look-up, however many there are. `listeners` lists all."""

from __future__ import annotations

import errno
import socket
import struct

from ._errors import KernelRefused, Unsupported
from ._listeners import NETLINK_SOCK_DIAG, NLMSG_ERROR, SOCK_DIAG_BY_FAMILY, Waiting, has_reuseport, listeners

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
