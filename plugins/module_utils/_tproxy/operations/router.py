# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The desired state of a whole router, as tproxy_router describes it, and the way back: the state as options.

`desired_state` and `gathered` are pure: they read the current state, and change nothing. gathered() returns what
desired_state() with is_whole turns into the same state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from ..constants import AUTO, FAMILY_NAMES, HANDLE, PRIORITY
from ..errors import InvalidInput
from ..model.policy import InterfaceAddresses, Mark, Policy, interface_addresses
from ..model.prefix import format_address
from ..model.router_options import WantedInterface, WantedRoute, WantedRouter
from ..model.rule import Identity, Rule, is_of_a_service, sorted_rules
from ..program.blob import Attached, Wanted
from ..resources.attachments import hook_of
from ..resources.current_state import CurrentState
from ..resources.hooks import CLSACT, TCX, Hook, Order, is_fail_closed, programs_on, runs
from ..resources.host_addresses import LOOPBACK_IFINDEX
from ..resources.host_state import HostState, Remains
from ..resources.interfaces import kernel_addresses
from ..resources.operation import Answer
from ..resources.routes import FAMILIES, RouteKey, Routes, with_local_routes
from ..resources.routes import FAMILY_NAMES as FAMILY_NAME
from ..resources.transaction import Transaction
from ..system.netlink.messages import Link
from .hook_choice import choose, elsewhere, hook_that_stands, order_of, policy_on

OPEN_AT_BOOT = "persist is off: the next boot opens the router until tproxy_router runs again; set persist to true"


class Target(NamedTuple):
    """An interface that is to run the program, and its link."""

    wanted: WantedInterface
    link: Link


class Placed(NamedTuple):
    """A target with its hook, the order there, the other hooks that the program leaves, and policy_on() for it."""

    target: Target
    hook: Hook
    order: Order
    others: tuple[Hook, ...]
    policy: Policy


def targets(current: CurrentState, wanted: WantedRouter) -> list[Target]:
    """Return the interfaces that are to run the program. Raises InvalidInput for those that do not exist."""
    links = {link.name: link for link in current.links}
    unknown = [each.name for each in wanted.present if each.name not in links]
    routed = {route.interface for route in wanted.routes} - set(unknown) - set(links)
    routed -= {key.interface for key in current.routes.rules}  # its interface may come back
    if unknown or routed:
        there = ", ".join(sorted(links))
        faults = [f"interface {name!r}: there is none on this machine; it has {there}" for name in unknown]
        faults += [f"routes: there is no interface {name!r} on this machine; it has {there}" for name in sorted(routed)]
        raise InvalidInput(faults)
    return [Target(each, links[each.name]) for each in wanted.present]


def placed(transaction: Transaction, found: Iterable[Target], program: Wanted | None) -> list[Placed]:
    """Return the targets with their hooks. Raises Conflict and Unsupported for a hook that cannot be had."""
    if program is None:
        return []
    policies, result = transaction.current.policies.entries, []
    for target in found:
        asked, link = target.wanted.hook, target.link
        standing = hook_that_stands(asked, transaction, link)
        stood = None if standing is None else transaction.point(standing).observe()
        is_same = stood is not None and stood.name == program.attached.name
        hook = choose(asked, transaction, link, program.blob, standing if is_same else None)
        transaction.point(hook).refuse_foreign(was_ours=link.ifindex in policies)
        others = tuple(elsewhere(asked, transaction, link, hook))
        policy = policy_on(hook, link, target.wanted.policy, transaction, program.blob)
        result.append(Placed(target, hook, order_of(asked, transaction, link, hook), others, policy))
    return result


# ---- desired state ------------------------------------------------------------------------------


def desired_state(
    current: CurrentState, wanted: WantedRouter, places: Iterable[Placed], program: Wanted | None
) -> HostState:
    """Return the state that a user wants.

    The parts that the user leaves out stay; with `is_whole` they are removed.
    """
    places = list(places)
    found = [each.target for each in places]
    leaving = _leaving(current, wanted, found)
    rules = rules_after(current.rules.rules, wanted)
    policies = _policies(current, wanted, places, leaving)
    return HostState(
        rules=rules,
        routes=_routes(current, wanted),
        addresses=_addresses(current, wanted, found, leaving),
        policies=policies,
        attachments=_attachments(current, places, leaving, program),
        orders={each.hook: each.order for each in places},
        flow_tables=wanted.flow_tables,
        program=program if found else None,
        remains=Remains.EVERYTHING if rules or policies else Remains.NOTHING,
    )


def state_without_router(current: CurrentState) -> HostState:
    """Return the state without anything of this collection.

    The rules go with their pins, after the last attachment: an empty rule set would drop flows until then.
    """
    everywhere = {link.ifindex for link in current.links}
    return HostState(
        routes=with_local_routes([], current.routes.entries, current.routes.shared),
        addresses={},
        policies={},
        attachments=_attachments(current, [], everywhere, None),
        remains=Remains.NOTHING,
    )


def _leaving(current: CurrentState, wanted: WantedRouter, found: Iterable[Target]) -> set[int]:
    """Return the interfaces that lose program, policy and addresses, by ifindex."""
    if not wanted.is_whole:
        return {link.ifindex for link in current.links if link.name in wanted.leaving}
    have = {each.link.ifindex for each in current.attachments}
    # No option names the recorded addresses of lo. They stay, because an operator's SSH may come to one of them.
    have |= set(current.policies.entries) | (set(current.addresses.entries) - {LOOPBACK_IFINDEX})
    return have - {each.link.ifindex for each in found}


def rules_after(have: Mapping[Identity, Rule], wanted: WantedRouter) -> Mapping[Identity, Rule]:
    """Return the rules of a router that has these."""
    if wanted.rules is None:
        return have
    kept = {key: rule for key, rule in have.items() if _stays(rule, wanted)}
    return {**kept, **wanted.rules}


def _stays(rule: Rule, wanted: WantedRouter) -> bool:
    """Return whether a rule stays that is not listed. Rules of services belong to the OpenZiti router."""
    if wanted.is_whole:
        return is_of_a_service(rule)
    return rule.owner not in wanted.purged


def _routes(current: CurrentState, wanted: WantedRouter) -> Routes:
    have = current.routes
    named = {route.interface for route in wanted.routes} | set(wanted.leaving)
    kept = [] if wanted.is_whole else [key for key in have.rules if key.interface not in named]
    return with_local_routes([*kept, *map(_route_key, wanted.routes)], have.entries, have.shared)


def _route_key(route: WantedRoute) -> RouteKey:
    mark = route.mark
    return RouteKey(FAMILIES[route.family], route.interface, route.priority, mark.value, mark.mask, route.table)


def _addresses(
    current: CurrentState, wanted: WantedRouter, found: Iterable[Target], leaving: set[int]
) -> Mapping[int, InterfaceAddresses]:
    kept = {
        ifindex: entry
        for ifindex, entry in current.addresses.entries.items()
        if ifindex not in leaving and current.names.get(ifindex) == entry.name
    }
    for each, link in found:
        if each.addresses is None:
            kept[link.ifindex] = interface_addresses(link.name, kernel_addresses(current.netlink, link))
        elif each.addresses:
            kept[link.ifindex] = interface_addresses(link.name, each.addresses)
        elif link.ifindex in kept and kept[link.ifindex].addresses:
            del kept[link.ifindex]
    return kept


def _policies(
    current: CurrentState, wanted: WantedRouter, places: Iterable[Placed], leaving: set[int]
) -> Mapping[int, Policy]:
    """Return the policies. Those of interfaces that no longer exist go, or the table would fill up."""
    have = current.policies.entries
    kept = {key: policy for key, policy in have.items() if key in current.names and key not in leaving}
    routed = {route.interface: route.mark for route in reversed(wanted.routes)}
    for place in places:
        each, link = place.target
        had = have.get(link.ifindex)
        mark = each.mark or routed.get(each.name) or (had.mark if had is not None else Mark())
        kept[link.ifindex] = replace(place.policy, mark=mark)
    return kept


def _attachments(
    current: CurrentState, places: Iterable[Placed], leaving: set[int], program: Wanted | None
) -> dict[Hook, Attached | None]:
    """Return the attachments: the program on each place, and none on other hooks of these and of leaving interfaces.

    A leaving interface may run the program of an older release, or on maps that are no longer pinned. A killed run may
    have left its qdisc without a filter.
    """
    gone: dict[Hook, Attached | None] = {hook: None for each in places for hook in each.others}
    for ifindex in sorted(leaving & set(current.names)):
        entries = programs_on(current.system.bpf, current.netlink, ifindex, "ingress", current.function)
        ours = [hook_of(ifindex, "ingress", entry) for entry in entries if runs(entry, current.function)]
        gone.update(dict.fromkeys(ours or [Hook(ifindex, "ingress", PRIORITY, HANDLE)]))
    if program is None:
        return gone
    return {**gone, **{each.hook: program.attached for each in places}}


# ---- gathered state -------------------------------------------------------------------------------


def gathered(current: CurrentState) -> Answer:
    """Return the state in force as the options `interfaces`, `rules`, `routes` and `flow_tables` of tproxy_router.

    Values that the defaults give are left out where a rule has them, so that the text reads as an operator writes it.
    """
    return {
        "interfaces": _gathered_interfaces(current),
        "rules": [shown_rule(rule) for rule in sorted_rules(current.rules.rules) if not is_of_a_service(rule)],
        "routes": shown_routes(map(_wanted_route, sorted(current.routes.rules))),
        "flow_tables": current.flow_tables,
    }


def shown_rule(rule: Rule) -> Answer:
    """Return the options of a rule that have a value."""
    return {name: value for name, value in rule.to_params().items() if value not in ("", 0, [])}


def _gathered_interfaces(current: CurrentState) -> list[Answer]:
    policies, recorded = current.policies.entries, current.addresses.entries
    marks = {key.interface: Mark(key.mark, key.mask) for key in reversed(current.routes.rules)}
    found = []
    for link, hook, entry in current.attachments:
        if hook.direction != "ingress" or is_fail_closed(entry):
            continue
        policy = policies.get(link.ifindex, Policy())
        params = policy.to_params()
        mark = params.pop("mark")
        entry_of = recorded.get(link.ifindex)
        addresses = entry_of.addresses if entry_of else ()
        follows = entry_of and addresses == tuple(sorted(set(kernel_addresses(current.netlink, link))))
        found.append(
            {
                "name": link.name,
                **_gathered_hook(hook),
                "policy": params,
                "addresses": [AUTO] if follows else [format_address(address) for address in addresses],
                **({} if marks.get(link.name, Mark()) == policy.mark else {"mark": mark}),
            }
        )
    return sorted(found, key=lambda entry: str(entry["name"]))


def _gathered_hook(hook: Hook) -> Answer:
    """Return the options of a hook. A TCX program is where `auto` puts it on a kernel that has TCX."""
    if hook.kind == TCX:
        return {}
    return {"hook": CLSACT, "priority": hook.priority, "handle": hook.handle}


def _wanted_route(key: RouteKey) -> WantedRoute:
    return WantedRoute(FAMILY_NAME[key.family], key.interface, key.priority, Mark(key.mark, key.mask), key.table)


def shown_routes(routes: Iterable[WantedRoute]) -> list[Answer]:
    """Return one entry for each mark, table and priority that interfaces share."""
    families: dict[tuple[str, int, Mark, int], list[str]] = {}
    for route in routes:
        families.setdefault((route.interface, route.priority, route.mark, route.table), []).append(route.family)
    names: dict[tuple[int, Mark, int, tuple[str, ...]], list[str]] = {}
    for (name, priority, mark, table), found in families.items():
        names.setdefault((priority, mark, table, tuple(sorted(found))), []).append(name)
    return [
        {
            "interfaces": sorted(listed),
            "mark": str(mark),
            "table": table,
            "priority": priority,
            **({} if known == FAMILY_NAMES else {"families": list(known)}),
        }
        for (priority, mark, table, known), listed in names.items()
    ]
