# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The options of tproxy_router: the whole desired state of one router, as a user writes it.

Reading them needs no router, so controller and router check the same input by the same code. All faults come together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from ..constants import AUTO, FAMILY_NAMES, HANDLE, PRIORITY, REPLACED, ROUTE_PRIORITY, ROUTE_TABLE
from ..errors import InvalidInput
from .flow_tables import SIZES, sizes_from_params
from .layers import read_layers
from .policy import CHOICES, Mark, WantedHook, masked_sources, parse_mark, policy_from_params, route_faults
from .prefix import parse_address
from .rule import Identity, Rule, is_routers
from .rule_options import Users, no_user, rules_from_params, shared_flows

Options = Mapping[str, Any]
INTERVAL_MIN, INTERVAL_MAX = 5, 3600  # seconds between two writes of metrics
_FOLDER = re.compile(r"(/[A-Za-z0-9._+@-]+)+/?")


class WantedRoute(NamedTuple):
    """The policy route of one interface in one family, "ipv4" or "ipv6"."""

    family: str
    interface: str
    priority: int
    mark: Mark
    table: int


class WantedInterface(NamedTuple):
    """One interface. `policy` has the given fields of its policy, None for the policy in force.

    `mark` is None where the interface marks as its route does. `addresses` are 16 bytes each, None for those of the
    kernel.
    """

    name: str
    is_present: bool
    policy: Mapping[str, Any] | None
    mark: Mark | None
    hook: WantedHook
    addresses: tuple[bytes, ...] | None


@dataclass(frozen=True)
class WantedRouter:
    """The desired state. `is_whole`: interfaces, rules and routes that are not listed are removed.

    `rules` is None where the rules in force stay, `routes` where each interface of the list has the default one. Other
    rules of the owners in `purged` are removed. `flow_tables` has the wanted sizes by name; other tables keep theirs.
    """

    is_whole: bool
    interfaces: tuple[WantedInterface, ...] = ()
    rules: Mapping[Identity, Rule] | None = None
    purged: frozenset[str] = frozenset()
    routes: tuple[WantedRoute, ...] = ()
    flow_tables: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def present(self) -> tuple[WantedInterface, ...]:
        """Return the interfaces that run the program."""
        return tuple(each for each in self.interfaces if each.is_present)

    @property
    def leaving(self) -> tuple[str, ...]:
        """Return the names of the interfaces that no longer run the program."""
        return tuple(each.name for each in self.interfaces if not each.is_present)


def router_from_params(options: Options, users: Users = no_user) -> WantedRouter:
    """Return the desired state that the options of tproxy_router describe. Raises InvalidInput with every fault.

    `users` returns the number of a user by name.
    """
    faults: list[str] = []
    interfaces = _interfaces(options.get("interfaces") or [], faults)
    rules, warnings = _rules(options, users, faults)
    routes = _routes(options.get("routes"), interfaces, faults)
    is_whole = options.get("state") == REPLACED
    tables = {**(SIZES if is_whole else {}), **sizes_from_params(options.get("flow_tables") or {}, faults)}
    if is_whole:
        faults += [
            f"{name}: missing; state=replaced describes the whole router, so give [] for none"
            for name in ("interfaces", "rules")
            if options.get(name) is None and not (name == "rules" and options.get("layers"))
        ]
    faults += _metrics_faults(options.get("metrics") or {})
    if not options.get("cli", True):
        needs = ["persist"] if options.get("persist") else []
        needs += ["helper"] if (options.get("helper") or {}).get("group") else []
        needs += ["metrics"] if (options.get("metrics") or {}).get("dir") else []
        faults += [f"cli: false goes without {name} only, whose units run the command line" for name in needs]
    if faults:
        raise InvalidInput(faults)
    for entry in options.get("interfaces") or []:
        warnings += [f"{_place(entry)}: {text}" for text in masked_sources(entry.get("policy"))]
    return WantedRouter(is_whole, interfaces, rules, _purged(options), routes, tables, tuple(warnings))


def _metrics_faults(options: Options) -> list[str]:
    """Return the faults of the option `metrics`. In a unit file a space or a % would have a meaning of its own."""
    faults = []
    folder, interval = options.get("dir") or "", options.get("interval", INTERVAL_MIN)
    if folder and not _FOLDER.fullmatch(folder):
        faults.append(f"metrics.dir: expected an absolute path of letters, digits and ._-+@, got {folder!r}")
    if not INTERVAL_MIN <= interval <= INTERVAL_MAX:
        faults.append(f"metrics.interval: expected {INTERVAL_MIN} to {INTERVAL_MAX} seconds, got {interval}")
    return faults


# ---- interfaces --------------------------------------------------------------------------------


def _interfaces(entries: Iterable[Options], faults: list[str]) -> tuple[WantedInterface, ...]:
    found, names = [], set()
    for number, entry in enumerate(entries, 1):
        name = entry.get("name")
        if not name:
            faults.append(f"interface number {number}: name: missing; give the name of an interface")
            continue
        if name in names:
            faults.append(f"{_place(entry)}: it is listed twice; keep one entry")
        names.add(name)
        found.append(_interface(str(name), entry, faults))
    return tuple(found)


def _place(entry: Options) -> str:
    return f"interface {str(entry.get('name'))!r}"


def _interface(name: str, entry: Options, faults: list[str]) -> WantedInterface:
    place, policy, mark = _place(entry), None, None
    if entry.get("policy") is not None:
        policy = _policy(entry["policy"], place, faults)
    if entry.get("mark") is not None:
        mark = _mark(entry["mark"], place, faults)
    hook = WantedHook.of({"priority": PRIORITY, "handle": HANDLE, **entry})
    faults += [f"{place}: {fault}" for fault in hook.faults()]
    addresses = _addresses(entry.get("addresses"), place, faults)
    return WantedInterface(name, entry.get("state", "present") == "present", policy, mark, hook, addresses)


def _policy(params: Options, place: str, faults: list[str]) -> Mapping[str, Any]:
    for name, allowed in CHOICES.items():
        if params.get(name) not in (None, *allowed):
            faults.append(f"{place}: policy.{name}: {params[name]!r} is not one of {', '.join(allowed)}")
    try:
        return policy_from_params(params)
    except InvalidInput as wrong:
        faults += [f"{place}: {fault}" for fault in wrong.faults]
        return {}


def _addresses(given: Sequence[str] | None, place: str, faults: list[str]) -> tuple[bytes, ...] | None:
    if given is None or list(given) == [AUTO]:
        return None
    found = []
    for text in given:
        try:
            found.append(parse_address(text))
        except InvalidInput as fault:
            faults.append(f"{place}: addresses: {fault}; give addresses of the interface, or auto")
    return tuple(sorted(set(found)))


# ---- rules -------------------------------------------------------------------------------------


def _rules(options: Options, users: Users, faults: list[str]) -> tuple[Mapping[Identity, Rule] | None, list[str]]:
    """Return the rules by identity, and warnings."""
    items, layers, owner = options.get("rules"), options.get("layers"), options.get("owner")
    if items is None and not layers:
        if options.get("purge"):
            faults.append("purge: goes with rules or layers only; it removes the rules that they do not list")
        return None, []
    before = len(faults)
    found: list[Rule] = []
    warnings: list[str] = []
    read = partial(rules_from_params, users=users)
    try:
        found, warnings = read([{**item, "owner": item.get("owner") or owner} for item in items or ()])
    except InvalidInput as wrong:
        faults += wrong.faults
    try:
        in_layers, warned = read_layers(layers, read, None if items is None else str(owner))
        found = [*found, *in_layers]
        warnings = [*warnings, *warned, *(shared_flows(found) if in_layers else [])]
    except InvalidInput as wrong:
        faults += wrong.faults
    if options.get("state") == REPLACED:
        faults += _rules_of_routers(options)
    return (None, []) if len(faults) > before else ({rule.identity: rule for rule in found}, warnings)


def _purged(options: Options) -> frozenset[str]:
    """Return the owners whose other rules are removed: those of the rules and of the layers that are given."""
    if not options.get("purge"):
        return frozenset()
    owners = [] if options.get("rules") is None else [str(options.get("owner") or "")]
    return frozenset([*owners, *map(str, options.get("layers") or ())])


def _rules_of_routers(options: Options) -> list[str]:
    """Return a fault for each owner that is an OpenZiti router."""
    faults = []
    names = [(f"layer {name!r}", str(name)) for name in options.get("layers") or ()]
    for number, item in enumerate(options.get("rules") or (), 1):
        names.append((f"rule number {number}: owner", str(item.get("owner") or options.get("owner"))))
    for place, name in names:
        if is_routers(name):
            faults.append(f"{place}: {name!r} is an OpenZiti router, which sets its rules itself; leave them out")
    return faults


# ---- routes ------------------------------------------------------------------------------------


def _routes(
    entries: Sequence[Options] | None, interfaces: Iterable[WantedInterface], faults: list[str]
) -> tuple[WantedRoute, ...]:
    """Return the routes of the options; without them the default route of each interface of the list."""
    if entries is None:
        names = [each.name for each in interfaces if each.is_present]
        entries = [{"interfaces": names}]
    found = []
    for number, entry in enumerate(entries, 1):
        place = f"route number {number}"
        names = [str(name) for name in entry.get("interfaces") or []]
        mark = _mark(entry.get("mark") or Mark(), place, faults)
        table, priority = entry.get("table", ROUTE_TABLE), entry.get("priority", ROUTE_PRIORITY)
        faults += [f"{place}: {fault}" for fault in route_faults(table, priority)]
        families = entry.get("families") or FAMILY_NAMES
        faults += [
            f"{place}: families: {family!r} is not one of {', '.join(FAMILY_NAMES)}"
            for family in families
            if family not in FAMILY_NAMES
        ]
        found += [WantedRoute(family, name, priority, mark, table) for name in names for family in families]
    return tuple(dict.fromkeys(found))


def _mark(text: object, place: str, faults: list[str]) -> Mark:
    if isinstance(text, Mark):
        return text
    try:
        return parse_mark(str(text))
    except InvalidInput as wrong:
        faults += [f"{place}: {fault}" for fault in wrong.faults]
        return Mark()
