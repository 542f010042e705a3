# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Adapter to a unix socket, both ends. A connection carries one request and one answer.

systemd listens, and passes the socket as descriptor 3 (sd_listen_fds(3)). The mode of the socket file decides which
users may connect. A client may be hostile: its request is limited in size and time, and a slow client never blocks
the others.
"""

from __future__ import annotations

import contextlib
import errno
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
DROPPED_BYTES = 1 << 22  # of a request that is too long: twice what execve(2) accepts
CLIENTS_MAX = 128
CREDENTIALS = struct.Struct("=iii")  # struct ucred: pid, uid, gid
TRIES, DENIED_MAX = 5, 3


class Request(NamedTuple):
    """A request, and the numbers of the asking user and process. `data` is None if the request was refused.

    `refusal` says why. The number of a process in another PID namespace is 0.
    """

    data: bytes | None
    user: int
    connection: socket.socket
    refusal: str = ""
    process: int = 0

    def answer(self, text: str) -> None:
        """Send the answer and close the connection. A client that has closed its end gets no answer."""
        with self.connection, contextlib.suppress(OSError):
            self.connection.send(text.encode("utf-8", "replace"), socket.MSG_DONTWAIT)


class Client:
    """A connected client, and the part of its request that has arrived."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self._data, self._size = connection, b"", 0
        self.deadline = time.monotonic() + REQUEST_SECONDS
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        self.process: int
        self.user: int
        self.process, self.user, _group = CREDENTIALS.unpack(credentials)

    def read(self) -> Request | None:
        """Read the bytes that have arrived. Return the request if it is complete, else None.

        The end of a request that is too long is read and dropped: close() would reset a connection with unread bytes
        (unix_release_sock() in net/unix/af_unix.c), and the client would lose the answer.
        """
        while self._size <= DROPPED_BYTES:
            try:
                part = self.connection.recv(REQUEST_BYTES + 1, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError:  # the client closed the connection
                part = b""
            if not part:
                break
            self._size += len(part)
            self._data = self._data + part if self._size <= REQUEST_BYTES else b""
        if self._size > REQUEST_BYTES:
            return self.refused(f"the request is too long: expected at most {REQUEST_BYTES} bytes, got {self._size}")
        return Request(self._data, self.user, self.connection, process=self.process)

    def refused(self, refusal: str) -> Request:
        """Return a request without data, which the caller must refuse."""
        return Request(None, self.user, self.connection, refusal, self.process)


class Queue:
    """The clients of a listening socket. The client with the first complete request is the next."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._clients: dict[int, Client] = {}  # {descriptor: client}, the oldest first
        self._ready = select.epoll()
        self._ready.register(listening, select.EPOLLIN)

    def next(self, seconds: float) -> Request | None:
        """Return the next request, or None if there is none within `seconds`."""
        until = time.monotonic() + seconds
        while True:
            now, oldest = time.monotonic(), next(iter(self._clients.values()), None)
            if oldest and oldest.deadline <= now:
                self._forget(oldest)
                return oldest.refused(f"the request was not sent within {REQUEST_SECONDS:g} s")
            if until <= now:
                return None
            ends = min(until, oldest.deadline) if oldest else until
            for descriptor, _events in self._ready.poll(ends - now, 1):
                client = self._clients.get(descriptor)
                request = self._accept() if client is None else client.read()
                if request is not None:
                    if client is not None:
                        self._forget(client)
                    return request

    def _accept(self) -> Request | None:
        """Accept a client. Return its request if that is complete, as it is for most clients."""
        try:
            client = Client(self._listening.accept()[0])
        except OSError:  # the client closed the connection
            return None
        request = client.read()
        if request is None:
            if len(self._clients) >= CLIENTS_MAX:
                self._disconnect_one()
            self._clients[client.connection.fileno()] = client
            self._ready.register(client.connection, select.EPOLLIN)
        return request

    def _disconnect_one(self) -> None:
        """Disconnect the oldest client of the user with the most clients. An honest client connects again."""
        user = Counter(client.user for client in self._clients.values()).most_common(1)[0][0]
        oldest = next(client for client in self._clients.values() if client.user == user)
        self._forget(oldest)
        oldest.connection.close()

    def _forget(self, client: Client) -> None:
        del self._clients[client.connection.fileno()]
        self._ready.unregister(client.connection)


def inherited() -> Queue:
    """Return the queue at the socket that systemd passed. Raises Unsupported if systemd passed none."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        raise Unsupported("no socket was handed over: start tproxy-splicer-helper.socket, which starts this by itself")
    listening = socket.socket(fileno=FIRST_DESCRIPTOR)
    listening.setblocking(False)
    return Queue(listening)


class Reply(NamedTuple):
    """The helper's answer: an exit status and one line of text."""

    status: int
    line: str


def ask(path: str, words: Iterable[str], unit: str) -> Reply | None:
    """Send a request as the script of cli/launcher.py does. Return None if no process answers at the socket.

    It waits for a socket that is being replaced. Root needs no helper, and waits for none.
    """
    denied = 0
    for number in range(1, TRIES + 1):
        try:
            with socket.socket(socket.AF_UNIX) as channel:
                channel.connect(path)
                reply = _reply(channel, words)
            if reply:
                return reply
        except OSError as refusal:
            denied += refusal.errno == errno.EACCES
            if not os.geteuid() or not _may_come(refusal.errno, denied, unit):
                return None
        time.sleep(0.2 * number)
    return None


def _reply(channel: socket.socket, words: Iterable[str]) -> Reply | None:
    """Return the answer to a request. A killed process sends none."""
    with contextlib.suppress(OSError):
        channel.sendall("\0".join(words).encode("utf-8", "surrogateescape"))
        channel.shutdown(socket.SHUT_WR)
        status, space, line = b"".join(iter(lambda: channel.recv(REQUEST_BYTES), b"")).decode().partition(" ")
        if space:
            return Reply(int(status), line.strip())
    return None


def _may_come(fault: int | None, denied: int, unit: str) -> bool:
    """Return whether a socket may be about to come. Until systemd gives it its group, it refuses all users."""
    if fault == errno.EACCES:
        return denied < DENIED_MAX
    return fault == errno.ECONNREFUSED or (fault == errno.ENOENT and os.path.exists(unit))


def reach(path: str, seconds: float) -> tuple[str, int, int]:
    """Ask the process at the socket for its version, and return how far that came. It waits `seconds` at most.

    The result is the step that failed (socket, connect, answer, or "" for none), its errno, and the number of the
    group of the socket file, which is -1 without that file.
    """
    step = "socket"
    try:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(seconds)
            step = "connect"
            channel.connect(path)
            step = "answer"
            channel.sendall(b"-V")
            channel.shutdown(socket.SHUT_WR)
            return ("", 0, -1) if channel.recv(REQUEST_BYTES) else (step, errno.ECONNRESET, -1)
    except OSError as refusal:  # a timeout has no errno
        return step, refusal.errno or errno.ETIMEDOUT, _group_of(path)


def _group_of(path: str) -> int:
    """Return the number of the group of a file, -1 if it cannot be read."""
    try:
        return os.stat(path).st_gid
    except OSError:
        return -1
