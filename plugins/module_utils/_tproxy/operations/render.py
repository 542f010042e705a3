# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The state that a router would have, from options and a saved state, without a router.

tproxy_router does this for state=rendered on the controller. It finds each fault that needs no look at a router: of the
options, of the limits, of the compiled rules. Users of proxies, hooks and the addresses of `auto` are known there only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..abi.layout import INTERFACES
from ..checks.findings import format_finding, not_in_force
from ..constants import AUTO, FAIL_OPEN, METRICS_INTERVAL, REPLACED
from ..errors import InvalidInput, TproxyError
from ..model.flow_tables import SIZES
from ..model.option_text import option_lines
from ..model.policy import Mark, Policy, WantedHook, interface_addresses, policy_of
from ..model.prefix import format_address
from ..model.router_options import WantedInterface, WantedRoute, WantedRouter, router_from_params
from ..model.rule import Identity, Rule, sorted_rules
from ..resources.in_force import waiting_rules
from ..resources.operation import Answer, Diff, Options, Result
from ..resources.reconcile import diff
from ..ruleset.compile import compile_image
from ..ruleset.records import SlottedRule, assign_slots
from ..ruleset.verify import verify_image
from .router import OPEN_AT_BOOT, rules_after, shown_routes, shown_rule

UNKNOWN_USERS = 1 << 31  # numbers in place of users that only the router knows
NOTHING: Answer = {
    "persist": False,
    "failure": FAIL_OPEN,
    "cli": False,
    "helper": {"group": ""},
    "metrics": {"dir": "", "interval": METRICS_INTERVAL, "rules": False},
}


class _Interface(NamedTuple):
    """An interface that runs the program. `addresses` is None for those of the kernel."""

    hook: WantedHook
    policy: Policy
    addresses: tuple[bytes, ...] | None


@dataclass(frozen=True)
class _Router:
    """The state of a router.

    `rest` has the options of tproxy_router that are no interfaces, rules, routes and tables.
    """

    interfaces: Mapping[str, _Interface] = field(default_factory=dict)
    rules: Mapping[Identity, Rule] = field(default_factory=dict)
    routes: tuple[WantedRoute, ...] = ()
    flow_tables: Mapping[str, int] = field(default_factory=lambda: SIZES)
    rest: Answer = field(default_factory=lambda: NOTHING)


def render(options: Options) -> Result:
    """Return the state after a run with these options. Raises InvalidInput with every fault.

    `running_config` is the state before the run, as options of tproxy_router. The argument specification has checked
    both. `rendered_as` is the state of the run, merged or replaced.
    """
    users = _Users()
    wanted = router_from_params({**options, "state": options["rendered_as"]}, users.number_of)
    before = _saved(options.get("running_config"))
    after = _after(before, wanted, options)
    after = replace(after, rules=users.resolved(after.rules, before.rules))
    faults = [*_faults_of_interfaces(after), *_faults_of_rules(after.rules)]
    if faults:
        raise InvalidInput(faults)
    shown, had = users.named(_shown(after)), _shown(before)
    changes = diff(before.rules, after.rules)
    data = {
        "rendered": shown,
        "interfaces": sorted(after.interfaces),
        "rules": len(after.rules),
        "added": len(changes.puts.keys() - before.rules.keys()),
        "changed_rules": len(changes.puts.keys() & before.rules.keys()),
        "removed": len(changes.deletes),
    }
    warnings = [*wanted.warnings, *_warnings(after)]
    return Result(shown != had, data, Diff(_text(had), _text(shown)), tuple(warnings))


def _text(shown: Answer) -> str:
    return "".join(f"{line}\n" for line in option_lines(shown))


# ---- the state before and after --------------------------------------------------------------------


def _saved(config: Options | None) -> _Router:
    """Return the state of a saved file, or that of a new router."""
    if not config:
        return _Router()
    saved = router_from_params({**config, "state": REPLACED})
    return _after(_Router(), saved, {**NOTHING, **config, "rendered_as": REPLACED})


def _after(before: _Router, wanted: WantedRouter, options: Options) -> _Router:
    """Return the state of a router after a run, as operations/router.py makes it."""
    marks = {route.interface: route.mark for route in reversed(wanted.routes)}
    named = {name: _interface(each, before, marks) for each in wanted.present for name in [each.name]}
    kept = {} if wanted.is_whole else _without(before.interfaces, wanted.leaving)
    routed = {route.interface for route in wanted.routes} | set(wanted.leaving)
    stay = () if wanted.is_whole else tuple(route for route in before.routes if route.interface not in routed)
    rest = _rest(options, NOTHING if wanted.is_whole else before.rest)
    routes, tables = (*stay, *wanted.routes), {**before.flow_tables, **wanted.flow_tables}
    return _Router({**kept, **named}, rules_after(before.rules, wanted), routes, tables, rest)


def _interface(each: WantedInterface, before: _Router, marks: Mapping[str, Mark]) -> _Interface:
    had = before.interfaces.get(each.name)
    policy = had.policy if had is not None and each.policy is None else policy_of(each.policy or {})
    mark = each.mark or marks.get(each.name) or (had.policy.mark if had is not None else Mark())
    is_automatic = each.hook.kind == "auto" and not each.hook.is_ordered
    hook = had.hook if had is not None and is_automatic else each.hook
    return _Interface(hook, replace(policy, mark=mark), each.addresses)


def _without(interfaces: Mapping[str, _Interface], gone: Collection[str]) -> dict[str, _Interface]:
    return {name: each for name, each in interfaces.items() if name not in gone}


def _rest(options: Options, before: Answer) -> Answer:
    """Return the other options. Saved state, helper and timer need the command line."""
    found = {name: before[name] if options.get(name) is None else options[name] for name in NOTHING}
    needed = found["persist"] or found["helper"]["group"] or found["metrics"]["dir"]
    return {**found, "cli": bool(found["cli"] or needed)}


class _Users:
    """The users of proxies, by name. Only the router knows their numbers, so each gets a number in place of it."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number_of(self, name: str) -> int:
        """Return the number of a user."""
        return self._numbers.setdefault(name, UNKNOWN_USERS + len(self._numbers))

    def resolved(self, rules: Mapping[Identity, Rule], had: Mapping[Identity, Rule]) -> Mapping[Identity, Rule]:
        """Return the rules with the numbers of the saved state, where that has a user for the same rule."""
        found = dict(rules)
        for key, rule in rules.items():
            if rule.user in self._numbers.values() and key in had and had[key].user is not None:
                found[key] = rule._replace(user=had[key].user)
        return found

    def named(self, shown: Answer) -> Answer:
        """Return options with the names of the users that have no number yet."""
        names = {str(number): name for name, number in self._numbers.items()}
        rules = [
            {**rule, "tproxy_user": names.get(rule["tproxy_user"], rule["tproxy_user"])}
            if "tproxy_user" in rule
            else rule
            for rule in shown["rules"]
        ]
        return {**shown, "rules": rules}


# ---- faults and warnings ---------------------------------------------------------------------------


def _faults_of_interfaces(router: _Router) -> list[str]:
    """Return the faults of limits."""
    faults = []
    if len(router.interfaces) > INTERFACES:
        faults.append(f"interfaces: expected at most {INTERFACES}, got {len(router.interfaces)}; use fewer")
    for name, each in router.interfaces.items():
        try:
            interface_addresses(name, each.addresses or ())
        except TproxyError as fault:
            faults.append(f"interface {name!r}: {fault}")
    return faults


def _faults_of_rules(rules: Mapping[Identity, Rule]) -> list[str]:
    """Return the fault of rules that cannot be compiled. Each interface that a rule names counts as one that exists."""
    names = sorted({name for rule in rules.values() for name in rule.interfaces})
    ifindexes = {name: number for number, name in enumerate(names, 1)}
    try:
        slots = assign_slots(rules.values(), {})
        slotted = [SlottedRule(rule, slots[key]) for key, rule in rules.items()]
        verify_image(compile_image(slotted, ifindexes, 1), slotted, ifindexes)
    except TproxyError as fault:
        return [str(fault)]
    return []


def _warnings(router: _Router) -> Iterable[str]:
    for waiting in waiting_rules(router.rules.values(), router.interfaces.keys()):
        yield format_finding(not_in_force(waiting))
    if not router.rest["persist"]:
        yield OPEN_AT_BOOT


# ---- the state as options --------------------------------------------------------------------------


def _shown(router: _Router) -> Answer:
    """Return a state as state=gathered returns it."""
    marks = {route.interface: route.mark for route in reversed(router.routes)}
    return {
        "interfaces": [_shown_interface(name, router.interfaces[name], marks) for name in sorted(router.interfaces)],
        "rules": [shown_rule(rule) for rule in sorted_rules(router.rules)],
        "routes": shown_routes(sorted(router.routes, key=_order)),
        "flow_tables": dict(router.flow_tables),
        **router.rest,
    }


def _order(route: WantedRoute) -> tuple[object, ...]:
    """Return the order of routes in state=gathered."""
    mark = route.mark
    return route.family, route.interface, route.priority, mark.value, mark.mask, route.table


def _shown_interface(name: str, each: _Interface, marks: Mapping[str, Mark]) -> Answer:
    params = each.policy.to_params()
    mark = params.pop("mark")
    addresses = [AUTO] if each.addresses is None else [format_address(address) for address in each.addresses]
    return {
        "name": name,
        **_shown_hook(each.hook),
        "policy": params,
        "addresses": addresses,
        **({} if marks.get(name, Mark()) == each.policy.mark else {"mark": mark}),
    }


def _shown_hook(hook: WantedHook) -> Answer:
    """Return the options of a hook. `auto` is left out, as for a TCX program."""
    order = {name: value for name, value in (("before", hook.before), ("after", hook.after)) if value}
    if hook.kind != "clsact":
        return order
    return {"hook": hook.kind, "priority": hook.priority, "handle": hook.handle}
