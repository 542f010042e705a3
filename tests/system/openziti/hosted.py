# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers behind the hosting router: HTTP on 8080 and 8081, an echo of streams on 7000 and of datagrams on 5000.

HTTP tells the address that it was asked at, or sends N MiB for the path /N. The echo says BYE and the number of bytes
when its client is done. Port 7001 answers the first bytes by a reset. A name server behind the router under test gives
each name one address.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import struct
import sys
from contextlib import suppress

MIB = bytes(range(256)) * 4096
BACKLOG, DESCRIPTORS = 4096, 5000
NO_LINGER = struct.pack("ii", 1, 0)
UPSTREAM_ANSWER = "198.51.100.53"


async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request."""
    with suppress(OSError, asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split()[1].strip(b"/")
        sockname = writer.get_extra_info("sockname")
        body = b"%s:%d\n" % (sockname[0].encode(), sockname[1])
        parts = [MIB] * int(path) if path.isdigit() else [body]
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % sum(map(len, parts)))
        for part in parts:
            writer.write(part)
            await writer.drain()
    writer.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send all back."""
    total = 0
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            total += len(data)
            writer.write(data)
            await writer.drain()
        writer.write(b"BYE %d\n" % total)
    writer.close()


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reset the connection at its first bytes."""
    with suppress(OSError):
        await reader.read(1)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    writer.transport.abort()


class Datagrams(asyncio.DatagramProtocol):
    """Send each datagram back."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple) -> None:
        """Answer."""
        self._transport.sendto(data, addr)  # type: ignore[attr-defined]


class Names(Datagrams):
    """Answer each question with one address."""

    def datagram_received(self, data: bytes, addr: tuple) -> None:
        """Repeat the question, and add one record of type A that points to its name."""
        question = data[12 : data.index(b"\0", 12) + 5]
        record = struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(UPSTREAM_ANSWER)
        head = data[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0)
        self._transport.sendto(head + question + record, addr)  # type: ignore[attr-defined]


async def main(address: str, upstream: str) -> None:
    """Serve until stopped."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    for serve, port in ((web, 8080), (web, 8081), (echo, 7000), (reset, 7001)):
        await asyncio.start_server(serve, "0.0.0.0", port, backlog=BACKLOG)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    datagrams.bind((address, 5000))
    await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, sock=datagrams)
    await asyncio.get_running_loop().create_datagram_endpoint(Names, (upstream, 53))
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
