# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The adapters of operations that change the router, or roll a change back.

A change of policies or addresses brings the reserved ports up to date, and they are those of listening sockets.
"""

from __future__ import annotations

from dataclasses import replace

from . import sock_diag
from .open_core import open_core
from .system import System


def open_for_changes() -> System:
    """Return the adapters of changes."""
    return replace(open_core(), sockets=sock_diag)
