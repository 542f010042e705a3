# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""All adapters of this machine, for the command line and for tests."""

from __future__ import annotations

from dataclasses import replace

from . import mapped_array, systemd, unix_socket
from .bcc import Compiler
from .netlink.monitor import Events
from .open_checks import open_for_checks
from .system import System


def open_system() -> System:
    """Return every adapter of this machine."""
    return replace(
        open_for_checks(),
        compiler=Compiler,
        events=Events,
        words=mapped_array,
        requests=unix_socket,
        services=systemd,
    )
