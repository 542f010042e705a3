# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The operation of tproxy_route: the policy route that delivers spliced packets to this host.

Per family and interface: `ip rule iif IF fwmark MARK lookup TABLE proto kernel`, and in TABLE `local default dev lo`.
The rule names the interface: without `iif` the reverse look-up of src_valid_mark uses the table too, and packets are
dropped as martians. The protocol is kernel, because systemd-networkd deletes foreign rules at each restart. The rule
for table local is never changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ..checks.collect import interface, with_routing
from ..checks.facts import Facts
from ..checks.findings import findings, warnings_of
from ..errors import InvalidInput
from ..model.policy import Mark, Policy, parse_mark, route_faults
from ..resources.current_state import CurrentState
from ..resources.host_state import HostState
from ..resources.interfaces import links_by_name
from ..resources.operation import Diff, Operation, Options, Result
from ..resources.routes import FAMILIES, RouteKey, Routes, lines, with_local_routes
from ..resources.session import open_transaction
from ..system.netlink.messages import Link
from ..system.open_checks import open_for_checks
from ..system.system import Netlink, System
from .execute import execute


def manage_route(options: Options, system: System, check_mode: bool) -> Result:
    """Add or remove the policy route of interfaces. Return the values of tproxy_route. Raises InvalidInput.

    The policy of an interface that runs our program gets the mark, so tc_bpf_attach may run before or after.
    """
    mark, is_present = _validated(options), options["state"] == "present"
    with open_transaction(
        system,
        options["pin_dir"],
        check_mode,
        mount=False,
        token=options.get("confirm_token"),
        route_tables=[options["table"]],
    ) as transaction:
        links = links_by_name(transaction.netlink, options["interfaces"]) if is_present else []
        options = {**options, "interfaces": _kernel_names(transaction.netlink, options["interfaces"])}
        warnings = _warnings(transaction.current, links, mark) if is_present else []
        planned = transaction.plan(desired_state(transaction.current, options, links, mark))
        if not check_mode:
            transaction.apply(planned)
    if planned.routes is None or planned.policies is None:
        raise AssertionError("the plan of a policy route has no routes or no policies")
    before = _text(planned.routes.before, planned.policies.before)
    after = _text(planned.routes.after, planned.policies.after)
    return Result(
        planned.changed,
        {"routes": lines(planned.routes.after), "mark": str(mark), "table": options["table"]},
        Diff(before, after),
        tuple(warnings),
        released_interfaces=() if is_present else tuple(options["interfaces"]),
    )


def _kernel_names(netlink: Netlink, names: Iterable[str]) -> list[str]:
    """Return the kernel name for each name. A policy rule for an altname is detached after a rename (tried)."""
    links = {name: netlink.link(name) for name in names}
    return list(dict.fromkeys(link.name if link else name for name, link in links.items()))


def _validated(options: Options) -> Mark:
    faults, mark = [], Mark()
    try:
        mark = parse_mark(options["mark"])
    except InvalidInput as fault:
        faults += fault.faults
    faults += route_faults(options["table"], options["priority"])
    if faults:
        raise InvalidInput(faults)
    return mark


def desired_state(current: CurrentState, options: Options, links: Iterable[Link], mark: Mark) -> HostState:
    """Return the state with the routes of the named interfaces, or without them. Other interfaces keep theirs."""
    names, have = set(options["interfaces"]), current.routes
    rules = [key for key in have.rules if key.interface not in names]
    if options["state"] == "present":
        for family in FAMILIES.values():
            for name in sorted(names):
                rules.append(RouteKey(family, name, options["priority"], mark.value, mark.mask, options["table"]))
    policies = dict(current.policies.entries)
    for ifindex in {link.ifindex for link in links} & set(policies):
        if policies[ifindex].mark != mark:
            policies[ifindex] = replace(policies[ifindex], mark=mark, damaged=False)
    return HostState(routes=with_local_routes(rules, have.entries, have.shared), policies=policies)


def _text(routes: Routes, policies: Mapping[int, Policy]) -> str:
    marks = [f"interface {ifindex} marks {policies[ifindex].mark}" for ifindex in sorted(policies)]
    return "".join(f"{line}\n" for line in lines(routes) + marks)


def _warnings(current: CurrentState, links: Iterable[Link], mark: Mark) -> list[str]:
    """Return the findings that keep spliced packets from being delivered."""
    system = current.system
    looked_at = tuple(interface(system, link, mark)._replace(packet_sockets=0) for link in links)
    facts = Facts(system.sysctl.kernel_release(), interfaces=looked_at)
    return warnings_of(findings(with_routing(facts, system, current.netlink)))


MANAGE_ROUTE = Operation("tproxy_route", manage_route, execute, confirmable=True, opens=open_for_checks)
