# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The door to those who ask for something over a unix socket: one connection, one request, one answer. And its outside.

systemd listens, and hands the socket over as descriptor 3 (sd_listen_fds(3)). Who may connect is the socket file's
affair. Nobody is believed: a request has a size and a time, and who takes his time holds up nobody.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import Unsupported

FIRST_DESCRIPTOR = 3
REQUEST_BYTES = 4096
REQUEST_SECONDS = 2.0
WAITING_MAX = 128
CREDENTIALS = struct.Struct("=iii")  # struct ucred: pid, uid, gid
TRIES = 5


class Request(NamedTuple):
    """What somebody asked for, None when it was too long or too late; and who: a user's number."""

    data: bytes | None
    user: int
    connection: socket.socket

    def answer(self, text: str) -> None:
        """Answer, and hang up; who has gone away hears nothing."""
        with self.connection, contextlib.suppress(OSError):
            self.connection.send(text.encode("utf-8", "replace"), socket.MSG_DONTWAIT)


class Asking:
    """Somebody who has connected, and what he has said up to now."""

    def __init__(self, connection: socket.socket):
        self.connection, self._data = connection, b""
        self.deadline = time.monotonic() + REQUEST_SECONDS
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        self.user = CREDENTIALS.unpack(credentials)[1]

    def read(self) -> Request | None:
        """Take what has come; return the request when that is all, or too much."""
        while len(self._data) <= REQUEST_BYTES:
            try:
                part = self.connection.recv(REQUEST_BYTES + 1, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError:  # hung up
                part = b""
            if not part:
                return Request(self._data, self.user, self.connection)
            self._data += part
        return self.give_up()

    def give_up(self) -> Request:
        """Return what is left to be refused."""
        return Request(None, self.user, self.connection)


class Queue:
    """All who ask at a listening socket. The next request is that of who has first said all of it."""

    def __init__(self, listening: socket.socket):
        self._listening = listening
        self._asking = {}  # {descriptor: Asking}, the oldest first
        self._ready = select.epoll()
        self._ready.register(listening, select.EPOLLIN)

    def next(self, seconds: float) -> Request | None:
        """Return the next request, or None when there was none in time."""
        until = time.monotonic() + seconds
        while True:
            now, oldest = time.monotonic(), next(iter(self._asking.values()), None)
            if oldest and oldest.deadline <= now:
                return self._forget(oldest).give_up()
            if until <= now:
                return None
            ends = min(until, oldest.deadline) if oldest else until
            for descriptor, _events in self._ready.poll(ends - now, 1):
                request = self._hear(descriptor)
                if request is not None:
                    return request

    def _hear(self, descriptor: int) -> Request | None:
        """Take what has come by a descriptor; return the request that is complete with it."""
        asking = self._asking.get(descriptor)
        if asking is None:
            return self._admit()
        request = asking.read()
        if request is not None:
            self._forget(asking)
        return request

    def _admit(self) -> Request | None:
        """Let somebody in; return his request if he has said all of it, as he mostly has."""
        try:
            asking = Asking(self._listening.accept()[0])
        except OSError:  # gone again
            return None
        request = asking.read()
        if request is None:
            if len(self._asking) >= WAITING_MAX:
                self._make_room()
            self._asking[asking.connection.fileno()] = asking
            self._ready.register(asking.connection, select.EPOLLIN)
        return request

    def _make_room(self) -> None:
        """Hang up on who waits longest, of the user who has most there: an honest one asks again."""
        user = Counter(each.user for each in self._asking.values()).most_common(1)[0][0]
        self._forget(next(each for each in self._asking.values() if each.user == user)).connection.close()

    def _forget(self, asking: Asking) -> Asking:
        del self._asking[asking.connection.fileno()]
        self._ready.unregister(asking.connection)
        return asking


def inherited() -> Queue:
    """Return those who ask at the socket that systemd has handed over. Raises Unsupported when it has not."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        raise Unsupported("no socket was handed over: start tproxy-splicer-helper.socket, which starts this by itself")
    listening = socket.socket(fileno=FIRST_DESCRIPTOR)
    listening.setblocking(False)
    return Queue(listening)


def ask(path: str, words: Iterable) -> tuple | None:
    """Ask whoever serves there, as the script of _prologue does; return (exit status, line), or None: nobody does."""
    for number in range(1, TRIES + 1):
        with socket.socket(socket.AF_UNIX) as channel:
            try:
                channel.connect(path)
            except OSError:
                return None
            with contextlib.suppress(OSError):  # he was killed: there is no answer
                channel.sendall("\0".join(words).encode("utf-8", "surrogateescape"))
                channel.shutdown(socket.SHUT_WR)
                status, space, line = b"".join(iter(lambda: channel.recv(REQUEST_BYTES), b"")).decode().partition(" ")
                if space:
                    return int(status), line.strip()
        time.sleep(0.2 * number)
    return None
