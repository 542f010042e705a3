# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""resources.transaction."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

from ..abi.layout import ADDRESSES
from ..constants import FUNCTION
from ..model.policy import InterfaceAddresses, Policy
from ..model.rule import is_of_a_service
from ..model.saved_state import SavedAttachment, SavedRoute, SavedState
from ..program.select import Wanted
from ..system.system import Doors
from .attachments import MOVING, Hook, users
from .hook import Scene, drop_clsacts, forget_gone, put_filter, remove_filter
from .interfaces import AddressTable, PolicyTable, kernel_addresses
from .pins import Pins, splicer_pins
from .programs import Programs
from .reconcile import Outcome, put_back, reconcile
from .restore_cache import KnownState
from .routes import FAMILIES, RULE, RouteTable, lines, with_local_routes
from .rule_changes import commit, rule_table


class Place(NamedTuple):
    """An attachment of the state, and its interface as it is today."""

    entry: SavedAttachment
    link: Any

    @property
    def hook(self) -> Hook:
        """Return where its filter belongs."""
        return Hook(self.link.ifindex, "ingress", self.entry.priority, self.entry.handle)


class Ground(NamedTuple):
    """What one run works on. `only` is the one interface it is about, None for all; `places` are those that exist."""

    state: SavedState
    known: KnownState
    doors: Doors
    netlink: Any
    pins: Pins
    only: str | None
    exact: bool
    check: bool
    places: list

    def scene(self, hook: Hook) -> Scene:
        """Return one hook as the stories of tc_bpf_attach see it."""
        options = {**hook._asdict(), "function": FUNCTION, "pin_dir": self.state.pin_dir}
        return Scene(options, self.doors, self.netlink, self.pins)


def put(
    state: SavedState,
    doors: Doors,
    netlink,
    interface: str | None = None,
    exact: bool = False,
    check: bool = False,
    known: KnownState | None = None,
) -> dict:
    """Bring the machine to a saved state, within the caller's turn.

    `interface`: this one only, and what names it. `exact`: what is not in the state goes. Returns {changed, changes
    (one line each), interfaces (of the state, which the run is about), absent (those of them that do not exist)}.
    """
    meant = [entry for entry in state.attachments if interface in (None, entry.interface)]
    links = {link.name: link for link in netlink.interfaces()}
    places = [Place(entry, links[entry.interface]) for entry in meant if entry.interface in links]
    with splicer_pins(doors.bpf, doors.bpffs, state.pin_dir) as pins, ExitStack() as done, ExitStack() as undo:
        pins.check()
        known = known or KnownState()
        ground = Ground(state, known, doors, netlink, pins, interface, exact, check, places)
        wanted = known.wanted(state) if places else None
        for place in places:
            ground.scene(place.hook).table(place.link.ifindex).refuse_strangers()
        changes = [
            *_put_rules(ground, undo),
            *_put_routes(ground, undo),
            *_put_addresses(ground, undo),
            *_put_policies(ground, undo),
            *_put_filters(ground, wanted, done, undo),
            *(_remove_others(ground, done, undo) if exact else []),
        ]
        undo.pop_all()
        pins.keep()
        if not check:
            pins.sweep()
    absent = sorted({entry.interface for entry in meant} - set(links))
    names = sorted({entry.interface for entry in meant})
    return {"changed": bool(changes), "changes": changes, "absent": absent, "interfaces": names}


def _put_rules(ground: Ground, undo: ExitStack) -> list:
    def intend(have: Mapping) -> dict:
        kept = {key: rule for key, rule in have.items() if not ground.exact or is_of_a_service(rule)}
        return {**kept, **{rule.identity: rule for rule in ground.state.rules if not is_of_a_service(rule)}}

    table = rule_table(ground.doors, ground.pins)
    if not ground.pins.has_marker(MOVING) and ground.known.is_right(table):
        return []
    outcome, _had, moved = commit(table, ground.doors, ground.pins, intend, ground.check)
    _remember(ground, table, outcome, undo)
    if not ground.check:
        ground.known.right(table, outcome.after.values())
    said = [f"rules: {len(outcome.changes.puts)} put back"] if outcome.changes.puts else []
    said += [f"rules: {len(outcome.changes.deletes)} removed"] if outcome.changes.deletes else []
    return said + (["rules: compiled anew for the interfaces of today"] if moved else [])


def _put_routes(ground: Ground, undo: ExitStack) -> list:
    routes = [entry for entry in ground.state.routes if ground.only in (None, entry.interface)]
    wanted = {_route_key(entry): True for entry in routes}
    named = {(entry.family, entry.interface) for entry in routes}
    table = RouteTable(ground.netlink, ground.doors.route_rule, {entry.table for entry in routes})
    shared = table.shared()

    def intend(have: Mapping) -> dict:
        rules = [key for key in have if key[0] == RULE]
        kept = [] if ground.exact else [key for key in rules if (_family(key), key[2]) not in named]
        return with_local_routes({**dict.fromkeys(kept, True), **wanted}, have, shared)

    outcome = reconcile(table, intend, ground.check)
    _remember(ground, table, outcome, undo)
    added, removed = outcome.changes.puts, dict.fromkeys(outcome.changes.deletes, True)
    return [f"put back: {line}" for line in lines(added)] + [f"removed: {line}" for line in lines(removed)]


def _route_key(entry: SavedRoute) -> tuple:
    family = FAMILIES[entry.family]
    return (RULE, family, entry.interface, entry.priority, entry.mark.value, entry.mark.mask, entry.table)


def _family(key: tuple) -> str:
    return next(name for name, number in FAMILIES.items() if number == key[1])


def _put_addresses(ground: Ground, undo: ExitStack) -> list:
    wanted = {}
    for entry, link in ground.places:
        addresses = _addresses_today(ground, entry, link)
        if addresses is not None:
            wanted[link.ifindex] = InterfaceAddresses(link.name, addresses)
    return _put_table(ground, AddressTable(ground.doors.bpf, ground.pins), wanted, "addresses", undo)


def _addresses_today(ground: Ground, entry: SavedAttachment, link) -> tuple | None:
    """Return the addresses to record, None for none: where they follow the kernel, those that it has.

    Before the network is up it has none: then those that it had when the state was saved. Has it more than can be
    recorded, nobody is there to choose: those of old that are left go first.
    """
    today = set(kernel_addresses(ground.netlink, link)) if entry.follows else set()
    if not today:
        return entry.addresses
    known = today.intersection(entry.addresses or ())
    return tuple(sorted((sorted(known) + sorted(today - known))[:ADDRESSES]))


def _put_policies(ground: Ground, undo: ExitStack) -> list:
    wanted = {
        link.ifindex: Policy(**{**vars(entry.policy), "layer3": link.layer3, "loopback": link.loopback})
        for entry, link in ground.places
    }
    return _put_table(ground, PolicyTable(ground.doors.bpf, ground.pins), wanted, "policy", undo)


def _put_table(ground: Ground, table, wanted: Mapping, what: str, undo: ExitStack) -> list:
    """Put entries of interfaces in a table. Those of interfaces that are gone go, or the table would fill up."""
    names = {link.ifindex: link.name for link in ground.netlink.interfaces()}

    def intend(have: Mapping) -> dict:
        alive = {ifindex: value for ifindex, value in have.items() if ifindex in names or ground.exact}
        return {**alive, **wanted}

    outcome = reconcile(table, intend, ground.check)
    _remember(ground, table, outcome, undo)
    said = [f"{names[ifindex]}: {what} put back" for ifindex in sorted(outcome.changes.puts)]
    return said + [f"interface {ifindex}, which is gone: {what} removed" for ifindex in sorted(outcome.changes.deletes)]


def _remember(ground: Ground, table, outcome: Outcome, undo: ExitStack) -> None:
    """Let `undo` know how to take back what was written."""
    if outcome.changed and not ground.check:
        undo.callback(put_back, table, outcome.before)


def _put_filters(ground: Ground, wanted: Wanted | None, done: ExitStack, undo: ExitStack) -> list:
    said = []
    for place in ground.places:
        scene = ground.scene(place.hook)
        stands = scene.table(place.link.ifindex).observe().get(place.hook) == wanted.attached
        if stands and (not ground.exact or _is_kept(scene, wanted)):
            continue
        said.append(f"{place.link.name}: filter {wanted.attached.name} put back")
        if not ground.check:
            ground.pins.ensure()
            forget_gone(scene)
            program = scene.programs.open(wanted.blob)
            done.callback(os.close, program)
            put_filter(scene, place.hook, wanted, program, done, undo)
    return said


def _is_kept(scene: Scene, wanted: Wanted) -> bool:
    """Whether the program pinned beside the maps is the wanted one: what is taken next for the state is read there."""
    kept = scene.programs.blob()
    return kept is not None and kept.identity == wanted.identity


def _remove_others(ground: Ground, done: ExitStack, undo: ExitStack) -> list:
    """Remove filters, then policies and addresses, that are not in the state; with the last of all, the maps."""
    stay = {place.hook for place in ground.places}
    said = []
    for link, direction, entry in users(ground.netlink, Programs(ground.doors.bpf, ground.pins), FUNCTION):
        hook = Hook(link.ifindex, direction, entry.priority, entry.handle)
        if hook not in stay:
            said.append(f"{link.name}: filter {entry.name} removed")
            if not ground.check:
                remove_filter(ground.scene(hook), link, done, undo)
    said += _clear_table(ground, PolicyTable, stay, "policy", undo)
    recorded = {place.hook for place in ground.places if place.entry.addresses is not None}
    said += _clear_table(ground, AddressTable, recorded, "addresses", undo)
    if not ground.state.attachments and not ground.check:
        _leave_nothing(ground)
    return said


def _clear_table(ground: Ground, kind, stay: Iterable, what: str, undo: ExitStack) -> list:
    keep = {hook.ifindex for hook in stay}
    table = kind(ground.doors.bpf, ground.pins)

    def intend(have: Mapping) -> dict:
        return {ifindex: value for ifindex, value in have.items() if ifindex in keep}

    outcome = reconcile(table, intend, ground.check)
    _remember(ground, table, outcome, undo)
    return [f"interface {ifindex}: {what} removed" for ifindex in sorted(outcome.changes.deletes)]


def _leave_nothing(ground: Ground) -> None:
    """Where the state had no program, none stays; and where it had no rules either, no maps."""
    drop_clsacts(ground.scene(Hook(0, "ingress", 1, 1)))
    if rule_table(ground.doors, ground.pins).observe():
        Programs(ground.doors.bpf, ground.pins).forget()
    elif ground.pins.names():
        ground.pins.retire()
