# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces without a name, and calls inside them. A namespace ends with its last descriptor."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000
OURS = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network namespace. The process is inside only within `inside()`."""

    def __init__(self):
        home = _open_own()
        try:
            _checked(_libc.unshare(CLONE_NEWNET))
            self._descriptor = _open_own()
        finally:
            _checked(_libc.setns(home, CLONE_NEWNET))
            os.close(home)

    def close(self) -> None:
        """Let the namespace end."""
        os.close(self._descriptor)

    @property
    def path(self) -> str:
        """A path of the namespace, for other processes."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    @contextmanager
    def inside(self) -> Iterator:
        """Be in the namespace, with every command that is run meanwhile."""
        home = _open_own()
        _checked(_libc.setns(self._descriptor, CLONE_NEWNET))
        try:
            yield
        finally:
            _checked(_libc.setns(home, CLONE_NEWNET))
            os.close(home)


def command(words: str, given: str = "") -> str:
    """Run a command and return its output. Raise RuntimeError with its message when it fails."""
    done = subprocess.run(words.split(), input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{words}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def set_sysctl(name: str, value: int) -> None:
    """Set net.NAME of the namespace we are in."""
    Path("/proc/sys/net", name).write_text(f"{value}\n", encoding="ascii")


def mac_of(interface: str) -> bytes:
    """Return an interface's Ethernet address."""
    found = re.search(r"link/ether (\S+)", command(f"ip link show dev {interface}"))
    return bytes.fromhex(found.group(1).replace(":", ""))


def _open_own() -> int:
    return os.open(OURS, os.O_RDONLY | os.O_CLOEXEC)


def _checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
