# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The door to other processes: by which SSH session this one was started, and which daemons run.

It reads /proc alone, and what it may not read is as if it were not there.
"""

from __future__ import annotations

import contextlib
import glob

INIT = 1
SSH_CONNECTION = b"SSH_CONNECTION="


def ssh_connection(process: str = "self") -> tuple | None:
    """Return (client, its port, our address, our port) of the SSH session that this process belongs to, or None.

    sudo hides the variable from its children, so every parent is asked in turn.
    """
    while process:
        for entry in _bytes(f"/proc/{process}/environ").split(b"\0"):
            words = entry[len(SSH_CONNECTION) :].decode(errors="replace").split()
            if entry.startswith(SSH_CONNECTION) and len(words) == 4:
                return tuple(words)
        process = _parent(process)
    return None


def is_running(name: str) -> bool:
    """Whether a process of this name runs; the kernel knows the first 15 bytes of it."""
    return any(_bytes(path).strip() == name.encode()[:15] for path in glob.iglob("/proc/[0-9]*/comm"))


def _parent(process: str) -> str:
    """Return the number of a process's parent, "" behind the first one."""
    for line in _bytes(f"/proc/{process}/status").splitlines():
        if line.startswith(b"PPid:"):
            number = int(line.split()[1])
            return str(number) if number > INIT else ""
    return ""


def _bytes(path: str) -> bytes:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read()
    return b""
