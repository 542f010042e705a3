# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The policy routes that deliver spliced packets to this host, as a keyed set.

Per family and interface: `ip rule iif IF fwmark MARK lookup TABLE proto kernel`, and in TABLE `local default dev lo`.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Union

from ..model.policy import Mark
from ..system.netlink.client import confused_rule, foreign_default_conflict
from ..system.netlink.messages import RouteRule
from ..system.system import Netlink
from .reconcile import Changes, restore_entries

RTPROT_KERNEL = 2  # include/uapi/linux/rtnetlink.h
FAMILIES = {"ipv4": int(socket.AF_INET), "ipv6": int(socket.AF_INET6)}
FAMILY_NAMES = {number: name for name, number in FAMILIES.items()}


class LocalKey(NamedTuple):
    """A route `local default dev lo` in a table."""

    family: int
    table: int


class RouteKey(NamedTuple):
    """A policy rule of ours."""

    family: int
    interface: str
    priority: int
    mark: int
    mask: int
    table: int

    @property
    def local(self) -> LocalKey:
        """Return the local route that the rule leads to."""
        return LocalKey(self.family, self.table)

    @property
    def rule(self) -> RouteRule:
        """Return the rule as the netlink adapter takes it."""
        return RouteRule(self.family, self.priority, self.interface, self.mark, self.mask, self.table)


Routes = Mapping[Union[RouteKey, LocalKey], bool]


@dataclass(frozen=True)
class RouteSnapshot:
    """Our policy rules and local routes, and the local routes that foreign rules lead to.

    `narrower` are the policy rules with selectors that ours do not have.
    """

    entries: Routes
    shared: frozenset[LocalKey]
    narrower: frozenset[RouteRule] = frozenset()

    @property
    def rules(self) -> list[RouteKey]:
        """Return our policy rules."""
        return [key for key in self.entries if isinstance(key, RouteKey)]


def is_ours(rule: RouteRule) -> bool:
    """Return whether a policy rule is of the kind that we make: proto kernel, with an interface and a mark."""
    return is_a_mark_route(rule) and rule.protocol == RTPROT_KERNEL


def is_a_mark_route(rule: RouteRule) -> bool:
    """Return whether a policy rule routes a mark of an interface as ours do, with any protocol."""
    return rule.plain and bool(rule.iif) and bool(rule.mask)


class RouteTable:
    """The set of our policy rules and local routes.

    `tables` are looked at for a local route beside the tables that our rules lead to.
    """

    def __init__(self, netlink: Netlink, tables: Iterable[int] = ()) -> None:
        self._netlink, self._tables = netlink, frozenset(tables)

    def load(self) -> RouteSnapshot:
        """Return our rules, the local routes that they lead to, and those that foreign rules lead to."""
        found: dict[RouteKey | LocalKey, bool] = {}
        shared, narrower = set(), set()
        for family in FAMILIES.values():
            listed = self._netlink.rules(family)
            ours = [_key(rule) for rule in listed if is_ours(rule)]
            shared |= {LocalKey(family, rule.table) for rule in listed if not is_ours(rule)}
            found.update(dict.fromkeys(ours, True))
            narrower |= {rule for rule in listed if not rule.plain}
            for table in {key.table for key in ours} | self._tables:
                if self._netlink.local_default(table, family):
                    found[LocalKey(family, table)] = True
        return RouteSnapshot(found, frozenset(shared), frozenset(narrower))

    def entries(self, snapshot: RouteSnapshot) -> Routes:
        """Return the entries of a snapshot."""
        return snapshot.entries

    def prepare(
        self, snapshot: RouteSnapshot, changes: Changes[RouteKey | LocalKey, bool], want: Routes
    ) -> Changes[RouteKey | LocalKey, bool]:
        """Return the changes.

        Raises Conflict if a table has another default route in the place of a local route, or if the kernel could take
        a rule with more selectors for ours.
        """
        for key in in_order([*changes.puts, *changes.deletes]):
            if isinstance(key, RouteKey) and key.rule._replace(plain=False) in snapshot.narrower:
                raise confused_rule(key.rule)
        for key in in_order(changes.puts):
            if isinstance(key, LocalKey) and self._netlink.foreign_default(key.table, key.family):
                raise foreign_default_conflict(key.table)
        return changes

    def apply(self, work: Changes[RouteKey | LocalKey, bool]) -> None:
        """Add local routes before the rules that lead to them, and remove rules before them."""
        for key in in_order(work.puts):
            if isinstance(key, LocalKey):
                self._netlink.add_local_default(key.table, key.family)
            else:
                self._netlink.add_rule(key.rule)
        for key in reversed(in_order(work.deletes)):
            if isinstance(key, LocalKey):
                self._netlink.delete_local_default(key.table, key.family)
            else:
                self._netlink.delete_rule(key.rule)

    def restore(self, snapshot: RouteSnapshot) -> None:
        """Bring back the entries of a snapshot."""
        restore_entries(self, snapshot.entries)


def _key(rule: RouteRule) -> RouteKey:
    return RouteKey(rule.family, rule.iif, rule.priority, rule.mark, rule.mask, rule.table)


def in_order(keys: Iterable[RouteKey | LocalKey]) -> list[RouteKey | LocalKey]:
    """Return the keys sorted, local routes first."""
    return sorted(keys, key=lambda key: (isinstance(key, RouteKey), key))


def with_local_routes(rules: Iterable[RouteKey], have: Routes, shared: Collection[LocalKey]) -> Routes:
    """Return these rules and the local route of each table that one leads to.

    A local route that a foreign rule leads to stays too.
    """
    wanted = list(rules)
    foreign = [key for key in have if isinstance(key, LocalKey) and key in shared]
    return dict.fromkeys([*foreign, *wanted, *(rule.local for rule in wanted)], True)


def lines(keys: Iterable[RouteKey | LocalKey]) -> list[str]:
    """Return the entries in order as `ip rule` and `ip route` write them."""
    return [_line(key) for key in in_order(keys)]


def _line(key: RouteKey | LocalKey) -> str:
    family = "-4" if key.family == socket.AF_INET else "-6"
    if isinstance(key, LocalKey):
        return f"ip {family} route local default dev lo table {key.table}"
    return (
        f"ip {family} rule priority {key.priority} iif {key.interface} fwmark {Mark(key.mark, key.mask)}"
        f" lookup {key.table} proto kernel"
    )
