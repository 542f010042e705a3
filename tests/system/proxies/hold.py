# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many connections, held open: `hold.py SOURCE COUNT STRAY_ADDRESS:PORT`, run in the lab's client.

Opens COUNT connections at once and has a line echoed on each. Says `held N` and waits for a line on its input; then has
another line echoed on each, and prints the result as a line of JSON. Meanwhile it sends stray packets, TCP and UDP,
which must get no answer. After another line on its input it waits until the other side closes, and says how many did.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import socket
import sys
from contextlib import suppress

SPARE_FILES = 256
OPEN_SECONDS, ECHO_SECONDS, CLOSE_SECONDS = 60, 30, 20
STRAYS_PER_SECOND = 100
TARGET_PORT = 7000


async def connect(number: int, source: str) -> tuple:
    """Return reader and writer of connection `number`: 250 addresses that exist nowhere take turns."""
    target = f"198.51.100.{number % 250 + 1}"
    return await asyncio.open_connection(target, TARGET_PORT, local_addr=(source, 0))


async def echoed(stream: tuple, text: str) -> bool:
    """Send a line and say whether it came back."""
    reader, writer = stream
    with suppress(OSError, asyncio.TimeoutError):
        writer.write(text.encode() + b"\n")
        return await asyncio.wait_for(reader.readline(), ECHO_SECONDS) == text.encode() + b"\n"
    return False


async def open_one(number: int, source: str):
    """Return a stream that has answered, or None."""
    with suppress(OSError, asyncio.TimeoutError):
        stream = await asyncio.wait_for(connect(number, source), OPEN_SECONDS)
        return stream if await echoed(stream, f"first {number}") else None
    return None


async def closed(stream: tuple) -> bool:
    """Wait for the other side's end of it."""
    try:
        return await asyncio.wait_for(stream[0].read(), CLOSE_SECONDS) == b""
    except asyncio.TimeoutError:
        return False
    except OSError:  # a reset is an end, too
        return True


class Strays:
    """Packets to destinations without a rule, and the answers to them."""

    def __init__(self, source: str, target: tuple) -> None:
        self.source, self.target = source, target
        self.sent, self.answered = 0, 0

    async def send(self) -> None:
        """Send until cancelled: datagrams, and now and then a connection attempt."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
            sending.bind((self.source, 0))
            sending.connect(self.target)  # so that an ICMP error is an answer, too
            sending.setblocking(False)
            for number in itertools.count():
                if number % STRAYS_PER_SECOND == 0:
                    await self.try_to_connect()
                self.send_datagram(sending)
                await asyncio.sleep(1 / STRAYS_PER_SECOND)

    def send_datagram(self, sending: socket.socket) -> None:
        try:
            sending.send(b"stray\n")
            self.sent += 1
            sending.recv(64)
        except BlockingIOError:
            return
        except OSError:
            pass
        self.answered += 1

    async def try_to_connect(self) -> None:
        self.sent += 1
        try:
            attempt = asyncio.open_connection(*self.target, local_addr=(self.source, 0))
            _reader, writer = await asyncio.wait_for(attempt, 0.2)
            writer.close()
        except asyncio.TimeoutError:
            return
        except OSError:  # a refusal is an answer
            pass
        self.answered += 1


async def wait_for_line() -> None:
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def main() -> None:
    """Open, hold, ask again."""
    source, count, (host, _colon, port) = sys.argv[1], int(sys.argv[2]), sys.argv[3].partition(":")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + SPARE_FILES, count + SPARE_FILES))
    opened = await asyncio.gather(*(open_one(number, source) for number in range(count)))
    held = [stream for stream in opened if stream]
    print("held", len(held), flush=True)
    strays = Strays(source, (host, int(port)))
    sending = asyncio.ensure_future(strays.send())
    await wait_for_line()
    again = await asyncio.gather(*(echoed(stream, f"again {number}") for number, stream in enumerate(held)))
    sending.cancel()
    found = {"opened": len(held), "again": sum(again), "strays": strays.sent, "strays_answered": strays.answered}
    print(json.dumps(found), flush=True)
    await wait_for_line()
    print(json.dumps({"closed": sum(await asyncio.gather(*map(closed, held)))}), flush=True)


asyncio.run(main())
