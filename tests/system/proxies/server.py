# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server behind the router: HTTP on 80 and 8080, which tells the client's address, and an echo on 7000."""

from __future__ import annotations

import asyncio
import resource
from contextlib import suppress

ADDRESS = "10.1.2.2"
CONNECTIONS = 5000


async def answer_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request of any kind."""
    with suppress(OSError, asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
        body = f"hello {writer.get_extra_info('peername')[0]}\n".encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
    writer.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send every line back."""
    with suppress(OSError):
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    writer.close()


async def main() -> None:
    """Serve until stopped."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (CONNECTIONS, CONNECTIONS))
    for serve, port in (answer_http, 80), (answer_http, 8080), (echo, 7000):
        await asyncio.start_server(serve, ADDRESS, port, backlog=CONNECTIONS)
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
