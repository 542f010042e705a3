# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""resources.routes."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from ..model.policy import Mark
from .reconcile import Changes, restore_table

RTPROT_KERNEL = 2


def is_ours(rule) -> bool:
    """Whether a policy rule is of the kind that we make: proto kernel, with an interface and a mark."""
    return is_a_mark_route(rule) and rule.protocol == RTPROT_KERNEL


def is_a_mark_route(rule) -> bool:
    """Whether a policy rule does what ours do, whoever made it."""
    return rule.plain and bool(rule.iif) and bool(rule.mask)


FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}


RULE, LOCAL = "rule", "local default"


class RouteTable:
    """{(RULE, family, interface, priority, mark, mask, table): True, (LOCAL, family, table): True}."""

    def __init__(self, netlink, make_rule, tables):
        self._netlink, self._make_rule, self._tables = netlink, make_rule, tables

    def observe(self) -> dict:
        """Return our rules and the local routes that they lead to."""
        found = {}
        for family in FAMILIES.values():
            rules = [rule for rule in self._netlink.rules(family) if is_ours(rule)]
            found.update({_key(rule): True for rule in rules})
            for table in {rule.table for rule in rules} | set(self._tables):
                if self._netlink.local_default(table, family):
                    found[(LOCAL, family, table)] = True
        return found

    def shared(self) -> set:
        """Return the (family, table) that rules of somebody else's lead to."""
        rules = [rule for family in FAMILIES.values() for rule in self._netlink.rules(family)]
        return {(rule.family, rule.table) for rule in rules if not is_ours(rule)}

    def prepare(self, changes: Changes, want: Mapping) -> None:
        """Nothing to work out."""

    def apply(self, changes: Changes, want: Mapping) -> None:
        """Routes before the rules that lead to them; the other way round when they go."""
        for key in sorted(changes.puts):
            self._change(key, self._netlink.add_local_default, self._netlink.add_rule)
        for key in sorted(changes.deletes, reverse=True):
            self._change(key, self._netlink.delete_local_default, self._netlink.delete_rule)

    def restore(self, have: Mapping) -> None:
        """Take back what a failed apply() changed."""
        restore_table(self, have)

    def _change(self, key: tuple, on_local, on_rule) -> None:
        if key[0] == LOCAL:
            _kind, family, table = key
            on_local(table, family)
            return
        _kind, family, interface, priority, mark, mask, table = key
        on_rule(self._make_rule(family, priority, interface, mark, mask, table))


def _key(rule) -> tuple:
    return (RULE, rule.family, rule.iif, rule.priority, rule.mark, rule.mask, rule.table)


def with_local_routes(rules: Mapping, have: Mapping, shared: set) -> dict:
    """Return these rules, and the local route of each table that one leads to.

    A local route that a rule of somebody else's leads to stays too.
    """
    theirs = {key: True for key in have if key[0] == LOCAL and key[1:] in shared}
    return {**theirs, **rules, **{(LOCAL, key[1], key[6]): True for key in rules}}


def lines(entries: Mapping) -> list:
    """Return the entries as `ip rule` and `ip route` would write them, in order."""
    return [_line(key) for key in sorted(entries)]


def _line(key: tuple) -> str:
    family = "-4" if key[1] == socket.AF_INET else "-6"
    if key[0] == LOCAL:
        return f"ip {family} route local default dev lo table {key[2]}"
    _kind, _family, interface, priority, mark, mask, table = key
    mark_text = Mark(mark, mask)
    return f"ip {family} rule priority {priority} iif {interface} fwmark {mark_text} lookup {table} proto kernel"
