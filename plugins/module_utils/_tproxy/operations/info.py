# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The story of tproxy_info: what is in force, what it has seen, and what is wrong. It changes nothing."""

from __future__ import annotations

from collections.abc import Mapping

from ..abi import layout
from ..abi import structs as codec
from ..abi.structs import REASON_NAMES
from ..checks.collect import interface, machine, with_listeners, with_networks, with_routing
from ..checks.drift import Route, route_drift
from ..checks.facts import Facts
from ..checks.findings import findings
from ..checks.status import InterfaceStatus, collect_status, leftovers
from ..model.policy import Mark
from ..model.rule import reading_order
from ..persistence.state_file import saved_drift
from ..resources.lock import refuse_without_capabilities
from ..resources.migrate import older_attachments, pins_in_force
from ..resources.programs import Programs
from ..resources.routes import FAMILIES, LOCAL, RULE, RouteTable, lines
from ..resources.rule_changes import rule_table
from ..resources.rules import RuleTable
from ..ruleset.records import ImageContents
from ..system.system import System

# What can be said without the right to look.
NOTHING = {
    "changed": False,
    "attachments": [],
    "program": None,
    "rules": [],
    "generation": 0,
    "image": {"pages": 0, "bytes": 0, "rules": 0},
    "routes": [],
    "drift": [],
}


def inspect(options: Mapping, system: System, _check: bool) -> dict:
    """Return what tproxy_info returns."""
    facts = machine(system, options["pin_dir"])
    if facts.missing_capabilities:
        return {**NOTHING, "findings": findings(facts)}
    with system.netlink() as netlink, pins_in_force(system, options["pin_dir"], True) as pins:
        pins.check()
        older = {link.ifindex for link, _direction, _entry in older_attachments(system, netlink, options["pin_dir"])}
        table, stands = rule_table(system, pins), collect_status(system, netlink, pins, older)
        table.ignore_damage = True
        contents, edited = table.reading()
        routes = RouteTable(netlink, system.route_rule, []).observe()
        facts = _facts(facts, system, netlink, stands, contents)
        drift = {stand.link.name: _drift(stand, facts, routes) for stand in stands}
        saved = [] if older else saved_drift(system, netlink, options["pin_dir"])
        drift[None] = leftovers(system, netlink, pins) + _image_drift(table, contents, edited) + saved
        facts = facts._replace(drift=tuple((name, *each) for name, found in drift.items() for each in found))
        return {
            "changed": False,
            "attachments": [_attachment(system, pins, stand, drift[stand.link.name]) for stand in stands],
            "program": _program(Programs(system.bpf, pins)),
            **_rules(table, contents, pins),
            "routes": lines(routes),
            "drift": _words(drift[None]),
            "findings": findings(facts),
        }


def look(options: Mapping, system: System, check: bool) -> dict:
    """As inspect(), but refused without the right to look: nothing would seem to be in force."""
    refuse_without_capabilities(system)
    return inspect(options, system, check)


def _facts(facts: Facts, system: System, netlink, stands: list[InterfaceStatus], contents: ImageContents) -> Facts:
    """Return the facts with all that can be looked at."""
    marks = [stand.policy.mark if stand.policy else Mark() for stand in stands]
    recorded = {
        stand.link.ifindex: stand.recorded.addresses if stand.recorded else () for stand in stands if stand.policy
    }
    looked_at = [interface(system, stand.link, mark) for stand, mark in zip(stands, marks)]
    facts = facts._replace(interfaces=with_networks(netlink, [stand.link for stand in stands], looked_at, recorded))
    return with_listeners(with_routing(facts, system, netlink), system, [rule for rule, _slot in contents.rules])


def _drift(stand: InterfaceStatus, facts: Facts, routes: Mapping) -> list:
    """Return [(word, who)] of an interface."""
    name, mark = stand.link.name, stand.policy.mark if stand.policy else Mark()
    cache = {rule.family for rule in facts.policy_rules}
    found = []
    for word, family in FAMILIES.items():
        tables = [key[6] for key in routes if key[:3] == (RULE, family, name) and key[4:6] == (mark.value, mark.mask)]
        if family in cache:
            found.append(Route(word, bool(tables), any((LOCAL, family, table) in routes for table in tables)))
    intercepts = any(not rule.interfaces or name in rule.interfaces for rule in facts.intercepts)
    return stand.drift() + route_drift(found, intercepts)


def _image_drift(table: RuleTable, contents: ImageContents, edited: str) -> list:
    if edited:
        return [("image_damaged", edited)]
    found = [("change_unfinished", "")] if contents.interrupted else []
    return found + ([("image_stale", "")] if table.bindings(contents.rules) != contents.bindings else [])


def _words(drift: list) -> list:
    return list(dict.fromkeys(word for word, _who in drift))


def _attachment(system: System, pins, stand: InterfaceStatus, drift: list) -> dict:
    """Return the entry of an interface that has a filter of ours or a policy."""
    ours, policy = stand.ours, stand.policy
    return {
        "interface": stand.link.name,
        "ifindex": stand.link.ifindex,
        "direction": "ingress",
        "priority": ours and ours.priority,
        "handle": ours and ours.handle,
        "program_id": ours and ours.program_id,
        "tag": ours and ours.tag,
        "name": ours and ours.name,
        "drift": _words(drift),
        "policy": policy and policy.to_params(),
        "addresses": stand.recorded.to_params()["addresses"] if stand.recorded else [],
        "reasons": {} if stand.slot is None else reasons(system, pins, stand.slot),
        "ahead": [each.who for each in stand.hook.ahead],
    }


def reasons(system: System, pins, slot: int) -> dict:
    """Return {reason: {passed, dropped}} of the reasons that an interface met; each has packets and bytes."""
    if not pins.has("reasons"):
        return {}
    descriptor, size = pins.fd("reasons"), codec.size_of("counter") * system.bpf.possible_cpus()
    found = {}
    for number, name in REASON_NAMES.items():
        first = (slot * layout.REASONS + number) * layout.VERDICTS
        passed, dropped = (
            codec.sum_counters(system.bpf.lookup(descriptor, codec.key(first + verdict), size))
            for verdict in (layout.VERDICT_PASS, layout.VERDICT_DROP)
        )
        if passed["packets"] or dropped["packets"]:
            found[name] = {"passed": passed, "dropped": dropped}
    return found


def _program(programs: Programs) -> dict | None:
    meta = programs.meta()
    if meta is None:
        return None
    return {
        "program_id": programs.pinned(),
        "identity": meta["identity"].hex(),
        "source_sha256": meta["source_sha256"].hex(),
        "instructions": meta["instructions"],
        "layout": meta["layout"],
    }


def _rules(table: RuleTable, contents: ImageContents, pins) -> dict:
    hits = table.hits([slot for _rule, slot in contents.rules]) if contents.rules else {}
    ordered = sorted(contents.rules, key=lambda pair: reading_order(pair[0]))
    image = {"pages": contents.pages, "bytes": contents.pages * layout.PAGE_BYTES, "rules": len(contents.rules)}
    if pins.complete:
        image["capacity_bytes"] = table.capacity() * layout.PAGE_BYTES
    return {
        "rules": [{**rule.to_params(), "hits": hits[slot]} for rule, slot in ordered],
        "generation": contents.generation,
        "image": image,
    }
