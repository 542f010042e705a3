# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client behind the router under test: requests of HTTP, streams, datagrams and names."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from ansible_collections.netedge.tproxy.tests.system.openziti import lab

SILENT = "timed out"


class Answer(NamedTuple):
    """The body of an HTTP answer and the seconds that it took; `fault` says why there was none."""

    body: str
    seconds: float
    size: int = 0
    fault: str = ""


class Client:
    """A client with an address of the LAN of a router."""

    def __init__(self, address: str, part: str = "cli", protocol: int = 0) -> None:
        self.address, self.part = address, part
        self._protocol = protocol  # of its streams; 0: TCP

    def connect(self, host: str, port: int, timeout: float = 3) -> socket.socket:
        """Return a connection."""
        made = lab.socket_in(self.part, protocol=self._protocol)
        try:
            made.settimeout(timeout)
            made.bind((self.address, 0))
            made.connect((host, port))
        except OSError:
            made.close()
            raise
        return made

    def get(self, host: str, port: int, path: str = "x", timeout: float = 3) -> Answer:
        """Request a path by HTTP."""
        start = time.monotonic()
        try:
            with self.connect(host, port, timeout) as made:
                made.settimeout(30 if timeout > 2 else timeout)
                made.sendall(b"GET /%s HTTP/1.1\r\nHost: lab\r\n\r\n" % path.encode())
                head, size = b"", 0
                while data := made.recv(1 << 18):
                    head, size = (head + data)[:1000] if size < 1000 else head, size + len(data)
        except OSError as error:
            return Answer("", time.monotonic() - start, 0, str(error) or type(error).__name__)
        body = head.partition(b"\r\n\r\n")[2][:60].decode("latin1").strip()
        fault = "" if head.startswith(b"HTTP/1.1 200") else f"expected HTTP 200, got {head[:60]!r}"
        return Answer(body, time.monotonic() - start, size, fault)

    def answered(self, host: str, port: int) -> Answer | None:
        """Return the answer if there is one soon."""
        answer = self.get(host, port, timeout=0.8)
        return None if answer.fault else answer

    def body(self, host: str, port: int) -> str:
        """Return what the server says, once a connection is answered."""
        return lab.eventually(lambda: self.answered(host, port), pause=0.05).body

    def silent(self, host: str, port: int) -> bool:
        """Return whether a connection is neither answered nor refused."""
        return self.get(host, port, timeout=1).fault == SILENT

    def until_answered(self, host: str, port: int, limit: float = lab.PATIENCE) -> float:
        """Return the seconds until a new connection was answered."""
        start = time.monotonic()
        lab.eventually(lambda: self.answered(host, port), limit, 0.05)
        return time.monotonic() - start

    def at_once(self, host: str, port: int, count: int) -> tuple[int, float]:
        """Return how many of `count` requests at once were answered, and the seconds that they took together."""
        start = time.monotonic()
        with ThreadPoolExecutor(count) as pool:
            answers = list(pool.map(lambda _number: self.get(host, port, timeout=20), range(count)))
        return sum(not answer.fault for answer in answers), time.monotonic() - start

    def sweep(self, hosts: Sequence[str], port: int, timeout: float = 1.5) -> dict[str, Answer]:
        """Return the answer of each host, asked by 100 connections at once."""
        with ThreadPoolExecutor(100) as pool:
            return dict(zip(hosts, pool.map(lambda host: self.get(host, port, timeout=timeout), hosts)))

    def half_close(self, host: str, port: int, size: int) -> bytes:
        """Send bytes, say that there are no more, and return the end of what came back."""
        with self.connect(host, port) as made:
            made.settimeout(20)
            sender = threading.Thread(target=lambda: (made.sendall(b"x" * size), made.shutdown(socket.SHUT_WR)))
            sender.start()
            end = b""
            while data := made.recv(1 << 16):
                end = (end + data)[-32:]
            sender.join()
        return end.lstrip(b"x")

    def echo_ms(self, host: str, port: int, count: int) -> float:
        """Return the median of round trips on one connection, in milliseconds."""
        with self.connect(host, port) as made:
            made.settimeout(10)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            times = []
            for _number in range(count):
                start = time.monotonic()
                made.sendall(b"p" * 64)
                need = 64
                while need:
                    data = made.recv(need)
                    if not data:
                        raise ConnectionResetError("the proxy closed the connection")
                    need -= len(data)
                times.append(time.monotonic() - start)
        return statistics.median(times) * 1000

    def datagrams(self, host: str, port: int, count: int, size: int, gap: float = 0.002) -> tuple[int, float]:
        """Return how many datagrams came back whole from the address asked for, and the median milliseconds."""
        with lab.socket_in(self.part, kind=socket.SOCK_DGRAM) as made:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
            made.bind((self.address, 0))
            made.settimeout(2)
            sent: dict[int, float] = {}
            times: dict[int, float] = {}

            def listen() -> None:
                while len(times) < count:
                    try:
                        data, peer = made.recvfrom(65535)
                    except OSError:
                        return
                    if peer == (host, port) and len(data) == size:
                        times[int(data[:8])] = time.monotonic() - sent[int(data[:8])]

            listener = threading.Thread(target=listen)
            listener.start()
            for number in range(count):
                sent[number] = time.monotonic()
                made.sendto(b"%08d" % number + b"u" * (size - 8), (host, port))
                time.sleep(gap)
            listener.join()
        return len(times), statistics.median(times.values()) * 1000 if times else 0.0

    def look_up(self, resolver: str, name: str, timeout: float = 2) -> str:
        """Return the first IPv4 address of a name, or "" without an answer."""
        query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
        query += b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\x00\x00\x01\x00\x01"
        with lab.socket_in(self.part, kind=socket.SOCK_DGRAM) as made:
            made.bind((self.address, 0))
            made.settimeout(timeout)
            made.sendto(query, (resolver, 53))
            try:
                data = made.recv(2000)
            except OSError:
                return ""
        return socket.inet_ntoa(data[-4:]) if int.from_bytes(data[6:8], "big") else ""
