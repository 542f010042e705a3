# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The lock of the pinned maps, for as long as a write takes.

There are two locks, taken in this order:

1. lock.py: one run at a time. A run holds it while it reads, compares, compiles, verifies and writes.
2. This one: one writer at a time. A run holds it only while it writes.

A call of an OpenZiti router takes the second lock alone. So it waits neither for a run that compiles a large rule set,
nor for a change that waits for confirmation. A run finds the rules of such calls when it takes this lock, see
transaction.py.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from ..system.system import System
from .lock import run_path

SECONDS = 120.0


def image_lock(system: System, pin_dir: str) -> AbstractContextManager[None]:
    """Hold the pinned maps for a write. Raises Busy, KernelRefused."""
    return system.files.lock_file(run_path(pin_dir, "lock"), SECONDS)
