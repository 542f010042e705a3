# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The door to those who ask for something over a unix socket: one connection, one request, one answer.

systemd listens, and hands the socket over as descriptor 3 (sd_listen_fds(3)). Who may connect is the socket file's
affair. Nobody is believed: a request has a size and a time.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from typing import NamedTuple

from ._errors import Unsupported

FIRST_DESCRIPTOR = 3
REQUEST_BYTES = 4096
REQUEST_SECONDS = 2.0
CREDENTIALS = struct.Struct("=iii")  # struct ucred: pid, uid, gid


class Request(NamedTuple):
    """What somebody asked for, None when it was too long or too late; and who: a user's number."""

    data: bytes | None
    user: int
    connection: socket.socket

    def answer(self, text: str) -> None:
        """Answer, and hang up; who has gone away hears nothing."""
        with self.connection, contextlib.suppress(OSError):
            self.connection.sendall(text.encode("utf-8", "replace"))


def inherited() -> socket.socket:
    """Return the socket that systemd has handed over. Raises Unsupported when it has not."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        raise Unsupported("no socket was handed over: start tproxy-splicer-helper.socket, which starts this by itself")
    listening = socket.socket(fileno=FIRST_DESCRIPTOR)
    listening.setblocking(False)
    return listening


def wait(listening: socket.socket, seconds: float) -> Request | None:
    """Return the next request, or None when nobody came in time."""
    if not select.select([listening], [], [], seconds)[0]:
        return None
    try:
        connection, _address = listening.accept()
    except OSError:  # gone again
        return None
    user = CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))[1]
    return Request(_read(connection), user, connection)


def _read(connection: socket.socket) -> bytes | None:
    """Return all that is sent until the other side has finished."""
    data, deadline = b"", time.monotonic() + REQUEST_SECONDS
    while len(data) <= REQUEST_BYTES:
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        connection.settimeout(left)
        try:
            part = connection.recv(REQUEST_BYTES + 1)
        except OSError:
            return None
        if not part:
            return data
        data += part
    return None
