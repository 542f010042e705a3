# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Turn-taking by flock(2) on a folder: a part of the doors that have folders to hold."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager

from ._errors import Busy

POLL_SECONDS = 0.05


@contextmanager
def hold(folder: str, seconds: float):
    """Hold a folder. Raises Busy when somebody else holds it for longer than `seconds`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _take(descriptor, folder, seconds)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Busy(
                    f"another run holds {folder} for over {seconds:g} s; find it with `fuser {folder}`"
                ) from None
            time.sleep(POLL_SECONDS)
