# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Opens the doors to this machine. Modules and the command line share it, so it knows no Ansible."""

from __future__ import annotations

import socket
from typing import Any, Callable, NamedTuple

from . import bpf, bpffs, daemon, files, mapped_array, procfs, sock_diag, unix_socket
from .bcc import Compiler
from .netlink.answers import RouteRule
from .netlink.client import Netlink
from .netlink.monitor import Events


def open_system() -> System:
    """Return the real doors. None of them costs anything before it is used."""
    later = (sock_diag, files, Events, procfs, procfs, daemon, mapped_array, unix_socket)
    return System(bpf, bpffs, Netlink, Compiler, procfs, ifindex_of, RouteRule, *later)


def ifindex_of(name: str) -> int | None:
    """Return the index of an interface, or None while there is none of that name."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


class System(NamedTuple):
    """The kernel interfaces, or fakes of them. `netlink` and `compiler` are opened only by a story that needs them."""

    bpf: Any
    bpffs: Any
    netlink: Callable[[], Any]
    compiler: Callable[[], Any]
    sysctl: Any
    ifindex_of: Callable[[str], Any]
    route_rule: Callable[..., Any]
    sockets: Any
    files: Any
    events: Callable[[], Any]
    processes: Any
    networkd: Any
    background: Any
    words: Any
    requests: Any
