# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask ADDRESS:22 for its banner over a new connection, again and again; print when it fell silent and when it spoke."""

from __future__ import annotations

import socket
import sys
import time

ATTEMPT_SECONDS, PAUSE = 0.3, 0.1


def answers(address: str) -> bool:
    """Whether an SSH server speaks to a new connection."""
    try:
        with socket.create_connection((address, 22), ATTEMPT_SECONDS) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def main() -> None:
    """Watch until killed."""
    address, began, silent_since = sys.argv[1], time.monotonic(), None
    print("ready", flush=True)
    while True:
        asked = time.monotonic() - began
        if answers(address):
            if silent_since is not None:
                print(f"cut for {asked - silent_since:.1f} s", flush=True)
            silent_since = None
        elif silent_since is None:
            silent_since = asked
            print("cut", flush=True)
        time.sleep(PAUSE)


main()
