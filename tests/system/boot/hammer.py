# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client that asks without end through every network fault: `hammer.py SOURCE ADDRESS PORT`, run in the client.

Sends a datagram every few milliseconds and prints one line for each answer: the monotonic time in milliseconds, and who
was asked last. Runs until it is stopped.
"""

from __future__ import annotations

import select
import socket
import sys
import time

SECONDS_BETWEEN = 0.003


def ask(source: str, target: tuple) -> socket.socket | None:
    """Send a datagram from a new port; return the socket, or None while there is no network."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.bind((source, 0))
        made.connect(target)
        made.send(b"is anybody there?")
    except OSError:
        made.close()
        return None
    return made


def main() -> None:
    """Ask without end."""
    source, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    open_sockets: list = []
    while True:
        made = ask(source, (address, port))
        if made:
            open_sockets.append(made)
        if len(open_sockets) > 50:
            open_sockets.pop(0).close()
        for answered in select.select(open_sockets, [], [], SECONDS_BETWEEN)[0]:
            try:
                answered.recv(1500)
                print(int(time.monotonic() * 1000), flush=True)
            except OSError:  # refused by an ICMP error: that is no answer
                pass
            open_sockets.remove(answered)
            answered.close()


main()
