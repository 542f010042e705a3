# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The story of tproxy_info: what is in force, what it has seen, and what is wrong. It changes nothing."""

from __future__ import annotations

from collections.abc import Mapping

from . import _codec as codec
from . import _layout as layout
from ._apply_rules import reading_order, rule_table
from ._attachments import runs
from ._doors import Doors, missing_rights
from ._findings import findings
from ._interface_tables import AddressTable, PolicyTable
from ._lay_route import RouteTable, lines
from ._pins import PAGE_BYTES, splicer_pins
from ._programs import Programs
from ._reasons import REASON_NAMES
from ._splicer import FUNCTION

# What can be said without the right to look.
NOTHING = {
    "changed": False,
    "attachments": [],
    "program": None,
    "rules": [],
    "generation": 0,
    "image": {"pages": 0, "bytes": 0, "rules": 0},
    "routes": [],
}


def inspect(options: Mapping, doors: Doors, _check: bool) -> dict:
    """Return what tproxy_info returns."""
    if missing_rights(doors):
        return {**NOTHING, "findings": findings(doors, options["pin_dir"], [], {})}
    with doors.netlink() as netlink, splicer_pins(doors.bpf, doors.bpffs, options["pin_dir"]) as pins:
        pins.check()
        attachments = _attachments(doors, netlink, pins)
        routes = RouteTable(netlink, doors.route_rule, []).observe()
        answer = {
            "changed": False,
            "attachments": attachments,
            "program": _program(Programs(doors.bpf, pins)),
            **_rules(doors, pins),
            "routes": lines(routes),
        }
        answer["findings"] = findings(doors, options["pin_dir"], attachments, routes)
    return answer


def _attachments(doors: Doors, netlink, pins) -> list:
    """Return one entry for each interface that has a filter of ours or a policy."""
    policies, addresses = PolicyTable(doors.bpf, pins), AddressTable(doors.bpf, pins).observe()
    had, found = policies.observe(), []
    for link in netlink.interfaces():
        filters = netlink.filters(link.ifindex, "ingress")
        ours = next((entry for entry in filters if runs(entry, FUNCTION)), None)
        if ours is None and link.ifindex not in had:
            continue
        recorded = addresses.get(link.ifindex)
        found.append(
            {
                "interface": link.name,
                "ifindex": link.ifindex,
                "direction": "ingress",
                **_filter(doors, pins, ours),
                "policy": had[link.ifindex].to_params() if link.ifindex in had else None,
                "addresses": recorded.to_params()["addresses"] if recorded else [],
                "reasons": _reasons(doors, pins, policies.slot_of(link.ifindex)) if link.ifindex in had else {},
                "ahead": _ahead(doors, link, filters, ours),
            }
        )
    return found


def _filter(doors: Doors, pins, ours) -> dict:
    """Return what stands on the hook; `drift` says in one word what is not as it was left."""
    if ours is None:
        return {"priority": None, "handle": None, "program_id": None, "tag": None, "name": None, "drift": "no_filter"}
    bound = Programs(doors.bpf, pins).is_bound(ours.program_id)
    return {
        "priority": ours.priority,
        "handle": ours.handle,
        "program_id": ours.program_id,
        "tag": ours.tag,
        "name": ours.name,
        "drift": None if bound else "other_maps",
    }


def _ahead(doors: Doors, link, filters: list, ours) -> list:
    """Return who sees the packets first, in words."""
    found = [f"TCX program {number}" for number in doors.bpf.tcx_programs(link.ifindex, "ingress")]
    for entry in filters:
        if ours is not None and entry.priority < ours.priority:
            found.append(f"{entry.kind} filter at priority {entry.priority} {entry.name}".rstrip())
    return found


def _reasons(doors: Doors, pins, slot: int) -> dict:
    """Return {reason: {passed, dropped}} of the reasons that were met; each has packets and bytes."""
    if "reasons" in pins.missing():
        return {}
    descriptor, size = pins.fd("reasons"), codec.size_of("counter") * doors.bpf.possible_cpus()
    found = {}
    for number, name in REASON_NAMES.items():
        first = (slot * layout.REASONS + number) * layout.VERDICTS
        passed, dropped = (
            codec.sum_counters(doors.bpf.lookup(descriptor, codec.key(first + verdict), size))
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


def _rules(doors: Doors, pins) -> dict:
    table = rule_table(doors, pins)
    contents = table.contents()
    hits = table.hits([slot for _rule, slot in contents.rules]) if contents.rules else {}
    ordered = sorted(contents.rules, key=lambda pair: reading_order(pair[0]))
    image = {"pages": contents.pages, "bytes": contents.pages * PAGE_BYTES, "rules": len(contents.rules)}
    if pins.complete:
        image["capacity_bytes"] = table.capacity() * PAGE_BYTES
    return {
        "rules": [{**rule.to_params(), "hits": hits[slot]} for rule, slot in ordered],
        "generation": contents.generation,
        "image": image,
    }
