# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""A netlink socket for rtnetlink requests.

pyroute2 encodes requests and decodes answers, and nothing else of it is used. Its message classes are the same from
0.5.14 to 0.9.7. Its sockets are not: options, methods, errors and threads differ from release to release.

Numbers are those of include/uapi/linux/netlink.h.
"""

from __future__ import annotations

import socket
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import MissingLibrary
from .wire import HEADER, NLMSG_DONE, NLMSG_ERROR, Message, attributes, error_number, messages

OLDEST_LIBRARY = "pyroute2 0.5.14 or later"
REMEDY = "install python3-pyroute2 for the system's own Python, or pyroute2 for the one in use"

DUMP_INTERRUPTED, ACK_TLVS = 0x10, 0x200  # NLM_F_DUMP_INTR, NLM_F_ACK_TLVS
NLMSGERR_ATTR_MSG = 1
SOL_NETLINK = 270
NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 10, 11, 12
RECEIVE_BYTES = 1 << 20


class Refusal(Exception):
    """The kernel refused a request: its errno, and its words ("" without any)."""

    def __init__(self, errno: int, words: str) -> None:
        super().__init__(errno, words)
        self.errno, self.words = errno, words


class Interrupted(Exception):
    """A listing changed while the kernel wrote it."""


class RequestSocket:
    """An open rtnetlink socket in the network namespace of the calling thread.

    The kernel filters the listings (NETLINK_GET_STRICT_CHK, Linux 4.20) and gives its reasons (NETLINK_EXT_ACK).
    Raises MissingLibrary without pyroute2, OSError when the kernel gives no socket.
    """

    def __init__(self) -> None:
        self._classes = _message_classes()
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        try:
            for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
                self._socket.setsockopt(SOL_NETLINK, option, 1)
            self._socket.bind((0, 0))
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def exchange(self, kind: int, flags: int, fields: Mapping[str, int], attrs: tuple[tuple[str, Any], ...]) -> list:
        """Send one request and return the decoded answers. The flags must ask for a listing or an acknowledgement.

        Raises Refusal, and Interrupted for a listing that is not of one moment.
        """
        self._sequence += 1
        request, answers, interrupted = self._encoded(kind, flags, fields, attrs), [], False
        for message in self._answers(request):
            interrupted = interrupted or bool(message.flags & DUMP_INTERRUPTED)
            if message.type not in (NLMSG_ERROR, NLMSG_DONE):
                answers.append(self._decoded(message))
                continue
            _raise_refusal(message)
            if interrupted:
                raise Interrupted
            break
        return answers

    def _answers(self, request: bytes) -> Iterator[Message]:
        """Send a request and yield the messages with its sequence number. The caller knows which is the last one.

        Others answer an earlier request that the caller left before its end.
        """
        try:
            self._socket.send(request)
            while True:
                for message in messages(self._socket.recv(RECEIVE_BYTES)):
                    if message.sequence == self._sequence:
                        yield message
        except OSError as refusal:  # ENOBUFS
            raise Refusal(refusal.errno or 0, "") from refusal

    def _encoded(self, kind: int, flags: int, fields: Mapping[str, int], attrs: tuple[tuple[str, Any], ...]) -> bytes:
        """Return the request as bytes. pyroute2 fills in the length."""
        request = self._class_of(kind)()
        request["header"].update(type=kind, flags=flags, sequence_number=self._sequence)
        for field, value in fields.items():
            request[field] = value
        request["attrs"] = list(attrs)
        request.encode()
        return bytes(request.data)

    def _decoded(self, message: Message):
        """Return the answer as pyroute2 has it. Its `data` and `offset` are those of this one message."""
        answer = self._class_of(message.type)(message.frame, offset=0)
        answer.decode()
        return answer

    def _class_of(self, kind: int):
        """Return the class of a message. Types come in blocks of four with one layout (RTM_FAM of rtnetlink.h)."""
        return self._classes[kind & ~3]


def _raise_refusal(message: Message) -> None:
    """Raise Refusal for an error. An acknowledgement and the end of a listing carry the errno 0.

    With NETLINK_CAP_ACK the header of the request follows the errno of NLMSG_ERROR. NLMSG_DONE has no such header.
    """
    errno = error_number(message)
    if errno:
        rest = message.payload[4 + (HEADER.size if message.type == NLMSG_ERROR else 0) :]
        words = attributes(rest).get(NLMSGERR_ATTR_MSG, b"") if message.flags & ACK_TLVS else b""
        raise Refusal(errno, words.rstrip(b"\0").decode(errors="replace"))


def _message_classes() -> dict[int, type]:
    """Return pyroute2's class for each block of message types. Raises MissingLibrary."""
    try:
        from pyroute2.netlink.rtnl.fibmsg import fibmsg
        from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
        from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
        from pyroute2.netlink.rtnl.rtmsg import rtmsg
        from pyroute2.netlink.rtnl.tcmsg import tcmsg
    except ImportError:
        raise MissingLibrary(OLDEST_LIBRARY, REMEDY, {"traceback": traceback.format_exc()}) from None
    return {16: ifinfmsg, 20: ifaddrmsg, 24: rtmsg, 32: fibmsg, 36: tcmsg, 44: tcmsg}
