# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The adapters of operations that check before they change something: sockets, and the path of a packet."""

from __future__ import annotations

from dataclasses import replace

from . import sock_diag
from .netlink import conntrack, ipsec, nftables, wireguard
from .open_core import open_core
from .system import System


def open_for_checks() -> System:
    """Return the adapters of checks."""
    return replace(
        open_core(), sockets=sock_diag, conntrack=conntrack, ipsec=ipsec, nftables=nftables, wireguard=wireguard
    )
