# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The adapters of operations that check before they change something: also the path of a packet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

from .open_changes import open_for_changes
from .system import System


def open_for_checks() -> System:
    """Return the adapters of checks. Few runs ask about the path of a packet, so its adapters are imported then."""
    return replace(
        open_for_changes(),
        conntrack=_Late(_conntrack),
        ipsec=_Late(_ipsec),
        nftables=_Late(_nftables),
        wireguard=_Late(_wireguard),
    )


class _Late:
    """A module that is imported at its first use."""

    def __init__(self, imported: Callable[[], ModuleType]) -> None:
        self._imported = imported

    def __getattr__(self, name: str) -> Any:
        return getattr(self._imported(), name)


def _conntrack() -> ModuleType:
    from .netlink import conntrack

    return conntrack


def _ipsec() -> ModuleType:
    from .netlink import ipsec

    return ipsec


def _nftables() -> ModuleType:
    from .netlink import nftables

    return nftables


def _wireguard() -> ModuleType:
    from .netlink import wireguard

    return wireguard
