# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The adapters that every operation may use. They cost nothing before their first use."""

from __future__ import annotations

import socket

from . import bpf, bpffs, daemon, files, journal, procfs
from .netlink.client import Netlink
from .system import System


def open_core() -> System:
    """Return the adapters of this machine, without the rare ones."""
    return System(
        bpf=bpf,
        bpffs=bpffs,
        netlink=Netlink,
        sysctl=procfs,
        ifindex_of=ifindex_of,
        files=files,
        processes=procfs,
        networkd=procfs,
        background=daemon,
        journal=journal,
    )


def ifindex_of(name: str) -> int | None:
    """Return the index of an interface, or None while there is no interface of that name."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None
