# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The story of tproxy_route: the policy route that delivers spliced packets to this host.

Per family and interface: `ip rule iif IF fwmark MARK lookup TABLE proto kernel`, and in TABLE `local default dev lo`.
The rule names the interface: without `iif` the reverse look-up of src_valid_mark takes the table too, and packets are
dropped as martians. Protocol kernel, since systemd-networkd deletes the rules of others at each restart. The rule for
table local is never touched.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

from ._diff import Changes
from ._doors import Doors, known_links, turn
from ._errors import InvalidInput
from ._facts import Facts, is_ours
from ._findings import findings, told
from ._gather import interface, with_routing
from ._interface import Mark, parse_mark
from ._interface_tables import PolicyTable
from ._reconcile import Outcome, put_back, reconcile
from ._take_over import pins_in_force

FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
RESERVED_TABLES = (0, 253, 254, 255)  # unspec, default, main, local: include/uapi/linux/rtnetlink.h
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
        put_back(self, have)

    def _change(self, key: tuple, on_local, on_rule) -> None:
        if key[0] == LOCAL:
            _kind, family, table = key
            on_local(table, family)
            return
        _kind, family, interface, priority, mark, mask, table = key
        on_rule(self._make_rule(family, priority, interface, mark, mask, table))


def _key(rule) -> tuple:
    return (RULE, rule.family, rule.iif, rule.priority, rule.mark, rule.mask, rule.table)


def lay_route(options: Mapping, doors: Doors, check: bool) -> dict:
    """Add or remove the policy route of interfaces. Returns what tproxy_route returns.

    Where our program is attached already, its policy is told the mark, so that either may come first.
    """
    mark = _validated(options)
    present = options["state"] == "present"
    with turn(doors, options["pin_dir"], check, False, options.get("confirm_token")), doors.netlink() as netlink:
        links = known_links(netlink, options["interfaces"]) if present else []
        warnings = _warnings(doors, netlink, links, mark) if present else []
        table = RouteTable(netlink, doors.route_rule, [options["table"]])
        shared = table.shared()
        routes = reconcile(table, lambda have: _intended(have, options, mark, shared), check)
        with ExitStack() as undo:
            undo.callback(put_back, table, routes.before)
            policies = _mark_policies(doors, options["pin_dir"], {link.ifindex for link in links}, mark, check)
            undo.pop_all()
    return {
        "changed": routes.changed or policies.changed,
        "routes": lines(routes.after),
        "mark": str(mark),
        "table": options["table"],
        "warnings": warnings,
        "left": [] if present else options["interfaces"],
        "diff": {"before": _text(routes.before, policies.before), "after": _text(routes.after, policies.after)},
    }


def _mark_policies(doors: Doors, pin_dir: str, ifindexes: set, mark: Mark, check: bool) -> Outcome:
    with pins_in_force(doors, pin_dir, check) as pins:

        def intend(have: Mapping) -> dict:
            meant = {key for key in ifindexes & set(have) if have[key].mark != mark}
            told = {key: replace(have[key], mark=mark, damaged=False) for key in meant}
            return {**have, **told}

        return reconcile(PolicyTable(doors.bpf, pins), intend, check)


def _validated(options: Mapping) -> Mark:
    faults, mark = [], Mark()
    try:
        mark = parse_mark(options["mark"])
    except InvalidInput as fault:
        faults += fault.faults
    if options["table"] in RESERVED_TABLES or not 0 < options["table"] < 2**32:
        faults.append(f"table: {options['table']} is reserved or no table; take one of your own, such as the default")
    if not 0 < options["priority"] < 32766:
        faults.append(f"priority: {options['priority']} must lie between table local (0) and table main (32766)")
    if faults:
        raise InvalidInput(faults)
    return mark


def _intended(have: Mapping, options: Mapping, mark: Mark, shared: set) -> dict:
    """Return the wanted set: other interfaces' rules stay."""
    names = set(options["interfaces"])
    want = {key: True for key in have if key[0] == RULE and key[2] not in names}
    if options["state"] == "present":
        for family in FAMILIES.values():
            for name in sorted(names):
                want[(RULE, family, name, options["priority"], mark.value, mark.mask, options["table"])] = True
    return with_local_routes(want, have, shared)


def with_local_routes(rules: Mapping, have: Mapping, shared: set) -> dict:
    """Return these rules, and the local route of each table that one leads to.

    A local route that a rule of somebody else's leads to stays too.
    """
    theirs = {key: True for key in have if key[0] == LOCAL and key[1:] in shared}
    return {**theirs, **rules, **{(LOCAL, key[1], key[6]): True for key in rules}}


def lines(entries: Mapping) -> list:
    """Return the entries as `ip rule` and `ip route` would write them, in order."""
    return [_line(key) for key in sorted(entries)]


def _text(entries: Mapping, policies: Mapping) -> str:
    marks = [f"interface {ifindex} marks {policies[ifindex].mark}" for ifindex in sorted(policies)]
    return "".join(f"{line}\n" for line in lines(entries) + marks)


def _line(key: tuple) -> str:
    family = "-4" if key[1] == socket.AF_INET else "-6"
    if key[0] == LOCAL:
        return f"ip {family} route local default dev lo table {key[2]}"
    _kind, _family, interface, priority, mark, mask, table = key
    mark_text = Mark(mark, mask)
    return f"ip {family} rule priority {priority} iif {interface} fwmark {mark_text} lookup {table} proto kernel"


def _warnings(doors: Doors, netlink, links: list, mark: Mark) -> list:
    """Return what keeps spliced packets from being delivered."""
    looked_at = tuple(interface(doors, link, mark)._replace(packet_sockets=0) for link in links)
    facts = Facts(doors.sysctl.kernel_release(), interfaces=looked_at)
    return told(findings(with_routing(facts, doors, netlink)))
