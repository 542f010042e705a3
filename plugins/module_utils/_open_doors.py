# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Opens the doors to this machine. Modules and the command line share it, so it knows no Ansible."""

from __future__ import annotations

import socket

from . import _background, _bpf, _bpffs, _files, _networkd, _processes, _requests, _sockets, _sysctl, _words
from ._compiler import Compiler
from ._doors import Doors
from ._netlink import Netlink, RouteRule
from ._netlink_events import Events


def open_doors() -> Doors:
    """Return the real doors. None of them costs anything before it is used."""
    later = (_sockets, _files, Events, _processes, _networkd, _background, _words, _requests)
    return Doors(_bpf, _bpffs, Netlink, Compiler, _sysctl, ifindex_of, RouteRule, *later)


def ifindex_of(name: str) -> int | None:
    """Return the index of an interface, or None while there is none of that name."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None
