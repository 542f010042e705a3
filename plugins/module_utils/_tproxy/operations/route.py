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

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

from ..checks.collect import interface, with_routing
from ..checks.facts import Facts
from ..checks.findings import findings, warnings_of
from ..errors import InvalidInput
from ..model.policy import Mark, parse_mark
from ..resources.interfaces import PolicyTable, links_by_name
from ..resources.lock import lock_for_change
from ..resources.migrate import pins_in_force
from ..resources.reconcile import Outcome, reconcile, restore_table
from ..resources.routes import FAMILIES, RULE, RouteTable, lines, with_local_routes
from ..system.system import System

RESERVED_TABLES = (0, 253, 254, 255)  # unspec, default, main, local: include/uapi/linux/rtnetlink.h


def manage_route(options: Mapping, system: System, check: bool) -> dict:
    """Add or remove the policy route of interfaces. Returns what tproxy_route returns.

    Where our program is attached already, its policy is warnings_of the mark, so that either may come first.
    """
    mark = _validated(options)
    present = options["state"] == "present"
    with (
        lock_for_change(system, options["pin_dir"], check, False, options.get("confirm_token")),
        system.netlink() as netlink,
    ):
        links = links_by_name(netlink, options["interfaces"]) if present else []
        warnings = _warnings(system, netlink, links, mark) if present else []
        table = RouteTable(netlink, system.route_rule, [options["table"]])
        shared = table.shared()
        routes = reconcile(table, lambda have: _intended(have, options, mark, shared), check)
        with ExitStack() as undo:
            undo.callback(restore_table, table, routes.before)
            policies = _mark_policies(system, options["pin_dir"], {link.ifindex for link in links}, mark, check)
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


def _mark_policies(system: System, pin_dir: str, ifindexes: set, mark: Mark, check: bool) -> Outcome:
    with pins_in_force(system, pin_dir, check) as pins:

        def intend(have: Mapping) -> dict:
            meant = {key for key in ifindexes & set(have) if have[key].mark != mark}
            warnings_of = {key: replace(have[key], mark=mark, damaged=False) for key in meant}
            return {**have, **warnings_of}

        return reconcile(PolicyTable(system.bpf, pins), intend, check)


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


def _text(entries: Mapping, policies: Mapping) -> str:
    marks = [f"interface {ifindex} marks {policies[ifindex].mark}" for ifindex in sorted(policies)]
    return "".join(f"{line}\n" for line in lines(entries) + marks)


def _warnings(system: System, netlink, links: list, mark: Mark) -> list:
    """Return what keeps spliced packets from being delivered."""
    looked_at = tuple(interface(system, link, mark)._replace(packet_sockets=0) for link in links)
    facts = Facts(system.sysctl.kernel_release(), interfaces=looked_at)
    return warnings_of(findings(with_routing(facts, system, netlink)))
