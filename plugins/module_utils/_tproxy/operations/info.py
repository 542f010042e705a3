# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The operation of tproxy_info: the state in force, its counters, and findings. It changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from typing import Any

from ..abi import layout
from ..abi import structs as codec
from ..abi.structs import COUNTER_NAMES, REASON_NAMES
from ..checks.collect import (
    WaitingSockets,
    change_drift,
    collect_status,
    daemons,
    intercepts_of,
    interface,
    leftovers,
    machine,
    with_listeners,
    with_networks,
    with_routing,
)
from ..checks.drift import InterfaceStatus, RouteStatus, route_drift
from ..checks.facts import Daemons, DriftFact, Facts
from ..checks.findings import by_severity, findings
from ..checks.flow_tables import flow_tables
from ..checks.router_facts import helper_group, router_facts, service_names
from ..checks.routers import RouterFacts, findings_of_routers, service_of
from ..constants import INFO_MEMBERS, STATE_FILE
from ..model.policy import Mark
from ..model.rule import Rule, is_routers, reading_order
from ..persistence.state_file import saved_drift, watcher_changes
from ..resources.attachments import Obstacle, hook_of
from ..resources.current_state import CurrentState, DriftEntry
from ..resources.hooks import CLSACT, HookProgram
from ..resources.in_force import Waiting, waiting_rules
from ..resources.lock import pending_change, refuse_without_capabilities
from ..resources.older_release import older_attachments, pins_to_read
from ..resources.operation import Answer, Operation, Options, Result
from ..resources.pins import Pins
from ..resources.programs import SK_LOOKUP_PIN
from ..resources.reserved_ports import reserved_ports
from ..resources.routes import FAMILIES, LocalKey, RouteSnapshot, lines
from ..resources.socket_lookup import SocketLookup
from ..resources.trackers import untracked
from ..system.open_checks import open_for_checks
from ..system.system import System
from .drops import entries as drop_log
from .drops import time_of_day

WATCHER_NS = 5 * 10**9  # in which a watcher has seen what a packet wants, and has looked for it
# The return values where the state cannot be read, or another user could have written it.
NOTHING: Answer = {
    "attachments": [],
    "program": None,
    "rules": [],
    "generation": 0,
    "image": {"pages": 0, "bytes": 0, "rules": 0},
    "routes": [],
    "drops": [],
    "flows": {},
    "reserved_ports": [],
    "own_addresses": [],
    "drift": [],
    "daemons": None,
    "pending_change": None,
}


def inspect(options: Options, system: System, _check: bool) -> Result:
    """Return the values of tproxy_info, and of doctor without the rights. Raises LayoutMismatch for foreign pins.

    The option `gather_subset` names the members of INFO_MEMBERS to read, all of them by default.
    """
    wanted = _wanted(options.get("gather_subset"))
    facts = machine(system, options["pin_dir"])
    if facts.missing_capabilities or facts.foreign_parts:
        return Result(False, {**NOTHING, "findings": findings(facts)})
    with ExitStack() as held:
        netlink = held.enter_context(system.netlink())
        older = {each.link.ifindex for each in older_attachments(system, netlink, options["pin_dir"])}
        pins = held.enter_context(pins_to_read(system, netlink, options["pin_dir"]))
        pins.check()
        current = CurrentState(system, lambda: netlink, pins, ignore_damage=True)
        statuses = collect_status(current, older)
        names, sockets = service_names(system), WaitingSockets(system.sockets)
        facts = _facts(facts, current, statuses, names, sockets if "findings" in wanted else None)
        drift = {status.link.name: _drift(status, facts, current.routes) for status in statuses}
        saved = [] if older else saved_drift(current, options["pin_dir"])
        of_machine = [*change_drift(system, options["pin_dir"]), *leftovers(current), *_image_drift(current), *saved]
        everything = [DriftFact(name, *each) for name, found in drift.items() for each in found]
        everything += [DriftFact(None, *each) for each in of_machine]
        enforcing = {status.link.name for status in statuses if status.enforces}
        tables = tuple(flow_tables(system, pins)) if wanted & {"flows", "findings"} else ()
        facts = facts._replace(
            drift=tuple(everything),
            attached=any(status.ours for status in statuses),
            daemons=daemons(system),
            waiting=_waiting(current, enforcing),
            flow_tables=tables,
            unfound=_unfound(current) if "findings" in wanted else (),
        )
        pending = pending_change(system, options["pin_dir"])
        members: dict[str, Callable[[], Any]] = {
            "attachments": lambda: [_attachment(current, status, drift[status.link.name]) for status in statuses],
            "program": lambda: _program(current),
            "rules": lambda: _rules(current, names, enforcing),
            "flows": lambda: {table.name: {"entries": table.flows, "size": table.size} for table in tables},
            "drops": lambda: drop_log(
                system, netlink, pins, options.get("drops", 0), lambda: current.rules.contents.rules
            ),
            "routes": lambda: lines(current.routes.entries),
            "findings": lambda: by_severity(
                findings(facts) + findings_of_routers(_router_facts(current, statuses, enforcing, names, sockets))
            ),
        }
        data = {
            **{name: read() for name, read in members.items() if name in wanted},
            "generation": current.rules.contents.generation,
            "image": _image(current),
            "reserved_ports": _reserved_ports(current),
            "own_addresses": _own_addresses(current, {status.link.ifindex for status in statuses}),
            "drift": _codes(of_machine),
            "daemons": _daemons(facts.daemons, system),
            "pending_change": pending and pending.shown(system),
        }
        return Result(False, data)


def _wanted(subset: Collection[str] | None) -> frozenset[str]:
    return frozenset(INFO_MEMBERS if subset is None or "all" in subset else subset)


def look(options: Options, system: System, check_mode: bool) -> Result:
    """Return the values of inspect(). Raises Unsupported without the rights: the state would seem empty.

    Raises Conflict where another user could have replaced the pins.
    """
    refuse_without_capabilities(system)
    system.bpffs.refuse_foreign(os.path.abspath(options["pin_dir"]))
    return inspect(options, system, check_mode)


def _facts(
    facts: Facts,
    current: CurrentState,
    statuses: list[InterfaceStatus],
    names: Mapping[str, str],
    sockets: WaitingSockets | None,
) -> Facts:
    """Return the facts with interfaces and policy routing, and with sockets also with listeners.

    Rules of routers have the names of services.
    """
    system, netlink = current.system, current.netlink
    filtered = {status.link.ifindex for status in statuses if status.policy}
    links = [status.link for status in statuses]
    looked_at = [
        interface(system, status.link, _mark(status))._replace(
            untracked=_untracked(current, status), takes_ssh=_takes_ssh(status)
        )
        for status in statuses
    ]
    if _finds_sockets(current):
        looked_at = [each._replace(packet_sockets=0) for each in looked_at]
    facts = facts._replace(interfaces=with_networks(netlink, links, looked_at, filtered))
    facts = with_routing(facts, system, netlink)
    rules = [rule for rule, _slot in current.rules.contents.rules]
    if sockets is None:
        return facts._replace(intercepts=intercepts_of(rules))
    named = [rule._replace(name=rule.name or service_of(rule.owner, names)) for rule in rules]
    return with_listeners(facts, system, named, sockets)


def _router_facts(
    current: CurrentState,
    statuses: list[InterfaceStatus],
    enforcing: Collection[str],
    names: Mapping[str, str],
    sockets: WaitingSockets,
) -> RouterFacts:
    """Return the facts about OpenZiti routers."""
    system, rules = current.system, [rule for rule, _slot in current.rules.contents.rules]
    counted = {
        status.link.name: reasons(system, current.pins, status.slot).get("fragment", {}).get("dropped", {})
        for status in ([] if _finds_sockets(current) else statuses)
        if status.slot is not None
    }
    fragments = {name: dropped["packets"] for name, dropped in counted.items() if dropped.get("packets")}
    group = helper_group(system)
    return router_facts(system, current.netlink, current.links, rules, enforcing, fragments, sockets)._replace(
        missing_group="" if not group or system.processes.has_group(group) else group, names=names
    )


def _takes_ssh(status: InterfaceStatus) -> bool:
    """Return whether a closed interface that runs our program lets SSH in from any source."""
    policy = status.policy
    if policy is None or status.ours is None or status.is_fail_closed:
        return False
    return policy.allow_ssh and policy.default_action == "drop" and not policy.loopback


def _untracked(current: CurrentState, status: InterfaceStatus) -> Obstacle | None:
    """Return the reason why a closed interface that runs our program can have no tracker."""
    if status.ours is None or status.is_older or status.is_fail_closed:
        return None
    hook = hook_of(status.link.ifindex, "ingress", status.ours)
    return untracked(current.netlink, current.programs, hook, status.policy)


def _daemons(facts: Daemons, system: System) -> Answer:
    """Return the saved state, the unit of the boot, and the processes. None: not configured."""
    saved = system.files.changed_at(STATE_FILE)
    return {
        "saved_at": "" if saved is None else time_of_day(saved),
        "boots": facts.boots,
        "watcher": facts.watcher,
        "watcher_changes": watcher_changes(system),
        "helper": facts.helper,
    }


def _mark(status: InterfaceStatus) -> Mark:
    return status.policy.mark if status.policy else Mark()


def _drift(status: InterfaceStatus, facts: Facts, routes: RouteSnapshot) -> list[DriftEntry]:
    """Return the drift of an interface."""
    name, mark = status.link.name, _mark(status)
    known = {rule.family for rule in facts.policy_rules}
    found = []
    for word, family in FAMILIES.items():
        tables = [
            key.table
            for key in routes.rules
            if (key.family, key.interface, key.mark, key.mask) == (family, name, mark.value, mark.mask)
        ]
        if family in known:
            has_local = any(LocalKey(family, table) in routes.entries for table in tables)
            found.append(RouteStatus(word, bool(tables), has_local))
    intercepts = any(not rule.interfaces or name in rule.interfaces for rule in facts.intercepts)
    return status.drift() + route_drift(found, intercepts)


def _image_drift(current: CurrentState) -> list[DriftEntry]:
    if current.rules.damage:
        return [DriftEntry("image_damaged", current.rules.damage)]
    found = [DriftEntry("change_unfinished", "")] if current.rules.contents.interrupted else []
    return found + ([DriftEntry("image_stale", "")] if current.rule_reader.is_stale(current.rules) else [])


def _codes(drift: list[DriftEntry]) -> list[str]:
    return list(dict.fromkeys(entry.code for entry in drift))


def _attachment(current: CurrentState, status: InterfaceStatus, drift: list[DriftEntry]) -> Answer:
    """Return the entry of an interface that has a filter of ours or a policy."""
    ours, policy = status.ours, status.policy
    return {
        "interface": status.link.name,
        "ifindex": status.link.ifindex,
        "direction": "ingress",
        "hook": ours and ours.hook_kind,
        "priority": _of_filter(ours, "priority"),
        "handle": _of_filter(ours, "handle"),
        "program_id": ours and ours.program_id,
        "tag": ours and ours.tag,
        "name": ours and ours.name,
        "drift": _codes(drift),
        "policy": policy and policy.to_params(),
        "addresses": status.recorded.to_params()["addresses"] if status.recorded else [],
        "reasons": {} if status.slot is None else reasons(current.system, current.pins, status.slot),
        "ahead": [each.detail for each in status.ahead],
    }


def _of_filter(ours: HookProgram | None, field: str) -> int | None:
    """Return the priority or the handle, which only a filter has."""
    return getattr(ours, field) if ours is not None and ours.hook_kind == CLSACT else None


def reasons(system: System, pins: Pins, slot: int) -> Answer:
    """Return {reason: {passed, dropped, would_drop}} of the reasons with packets; each has packets and bytes."""
    if not pins.has("reasons"):
        return {}
    size = codec.size_of("interface_counters") * system.bpf.possible_cpus()
    counted = codec.sum_outcomes(system.bpf.lookup(pins.fd("reasons"), codec.key(slot), size) or bytes(size))
    found = {
        name: {counter: counted[number, verdict] for verdict, counter in COUNTER_NAMES.items()}
        for number, name in REASON_NAMES.items()
    }
    return {name: each for name, each in found.items() if any(one["packets"] for one in each.values())}


def _program(current: CurrentState) -> Answer | None:
    programs = current.programs
    meta = programs.meta()
    if meta is None:
        return None
    return {
        "program_id": programs.pinned(),
        "identity": meta["identity"].hex(),
        "source_sha256": meta["source_sha256"].hex(),
        "instructions": meta["instructions"],
        "layout": meta["layout"],
        "socket_lookup": _finds_sockets(current),
    }


def _unfound(current: CurrentState) -> tuple[str, ...]:
    """Return the proxy addresses that datagrams in fragments cannot reach. A watcher has a while to see to it."""
    rules = [rule for rule, _slot in current.rules.contents.rules]
    since = current.system.background.monotonic_ns() - WATCHER_NS
    return tuple(map(str, SocketLookup(current.system.bpf, current.pins).unfound(rules, since)))


def _finds_sockets(current: CurrentState) -> bool:
    """Return whether intercepted packets that lose their assigned socket reach the listener of their rule."""
    return SK_LOOKUP_PIN in current.pins.names()


def _rules(current: CurrentState, names: Mapping[str, str], enforcing: Collection[str]) -> list[Answer]:
    table, contents = current.rule_reader, current.rules.contents
    hits = table.hits([slot for _rule, slot in contents.rules]) if contents.rules else {}
    ordered = sorted(contents.rules, key=lambda pair: reading_order(pair[0]))
    return [
        {
            **rule.to_params(),
            "service": service_of(rule.owner, names),
            "hits": hits[slot],
            "in_force": _is_in_force(rule, enforcing),
        }
        for rule, slot in ordered
    ]


def _waiting(current: CurrentState, enforcing: Collection[str]) -> tuple[Waiting, ...]:
    """Return the rules of operators that are not in force yet."""
    rules = (rule for rule, _slot in current.rules.contents.rules if not is_routers(rule.owner))
    return waiting_rules(rules, set(enforcing))


def _reserved_ports(current: CurrentState) -> list[Answer]:
    found = sorted(reserved_ports(current.system.bpf, current.pins))
    return [{"protocol": protocol, "port": port} for protocol, port in found]


def _own_addresses(current: CurrentState, attached: Collection[int]) -> list[Answer]:
    """Return the recorded addresses of interfaces without the program, such as lo. An attachment has its own."""
    others = sorted(current.addresses.entries.items())
    return [{"ifindex": ifindex, **entry.to_params()} for ifindex, entry in others if ifindex not in attached]


def _image(current: CurrentState) -> Answer:
    contents = current.rules.contents
    image: dict[str, int] = {
        "pages": contents.pages,
        "bytes": contents.pages * layout.PAGE_BYTES,
        "rules": len(contents.rules),
    }
    if current.pins.complete:
        image["capacity_bytes"] = current.rule_reader.capacity() * layout.PAGE_BYTES
    return image


def _is_in_force(rule: Rule, enforcing: Collection[str]) -> bool:
    """Return whether packets of an interface meet a rule."""
    return bool(set(rule.interfaces) & set(enforcing) if rule.interfaces else enforcing)


INSPECT = Operation("doctor", inspect, opens=open_for_checks)
LOOK = Operation("tproxy_info", look, opens=open_for_checks)
