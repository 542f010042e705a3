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
from ..system.system import System
from .attachments import MOVING, Hook, users
from .hook import HookContext, drop_clsacts, forget_gone, put_filter, remove_filter
from .interfaces import AddressTable, PolicyTable, kernel_addresses
from .pins import Pins, splicer_pins
from .programs import Programs
from .reconcile import Outcome, reconcile, restore_table
from .restore_cache import RestoreCache
from .routes import FAMILIES, RULE, RouteTable, lines, with_local_routes
from .rule_changes import commit, rule_table


class Target(NamedTuple):
    """An attachment of the state, and its interface as it is today."""

    entry: SavedAttachment
    link: Any

    @property
    def hook(self) -> Hook:
        """Return where its filter belongs."""
        return Hook(self.link.ifindex, "ingress", self.entry.priority, self.entry.handle)


class Transaction(NamedTuple):
    """What one run works on. `only` is the one interface it is about, None for all; `places` are those that exist."""

    state: SavedState
    cache: RestoreCache
    system: System
    netlink: Any
    pins: Pins
    only: str | None
    exact: bool
    check: bool
    targets: list

    def context(self, hook: Hook) -> HookContext:
        """Return one hook as the stories of tc_bpf_attach see it."""
        options = {**hook._asdict(), "function": FUNCTION, "pin_dir": self.state.pin_dir}
        return HookContext(options, self.system, self.netlink, self.pins)


def put(
    state: SavedState,
    system: System,
    netlink,
    interface: str | None = None,
    exact: bool = False,
    check: bool = False,
    cache: RestoreCache | None = None,
) -> dict:
    """Bring the machine to a saved state, within the caller's turn.

    `interface`: this one only, and what names it. `exact`: what is not in the state goes. Returns {changed, changes
    (one line each), interfaces (of the state, which the run is about), absent (those of them that do not exist)}.
    """
    meant = [entry for entry in state.attachments if interface in (None, entry.interface)]
    links = {link.name: link for link in netlink.interfaces()}
    targets = [Target(entry, links[entry.interface]) for entry in meant if entry.interface in links]
    with splicer_pins(system.bpf, system.bpffs, state.pin_dir) as pins, ExitStack() as done, ExitStack() as undo:
        pins.check()
        cache = cache or RestoreCache()
        transaction = Transaction(state, cache, system, netlink, pins, interface, exact, check, targets)
        wanted = cache.wanted(state) if targets else None
        for target in targets:
            transaction.context(target.hook).table(target.link.ifindex).refuse_foreign()
        changes = [
            *_put_rules(transaction, undo),
            *_put_routes(transaction, undo),
            *_put_addresses(transaction, undo),
            *_put_policies(transaction, undo),
            *_put_filters(transaction, wanted, done, undo),
            *(_remove_others(transaction, done, undo) if exact else []),
        ]
        undo.pop_all()
        pins.keep()
        if not check:
            pins.sweep()
    absent = sorted({entry.interface for entry in meant} - set(links))
    names = sorted({entry.interface for entry in meant})
    return {"changed": bool(changes), "changes": changes, "absent": absent, "interfaces": names}


def _put_rules(transaction: Transaction, undo: ExitStack) -> list:
    def intend(have: Mapping) -> dict:
        kept = {key: rule for key, rule in have.items() if not transaction.exact or is_of_a_service(rule)}
        return {**kept, **{rule.identity: rule for rule in transaction.state.rules if not is_of_a_service(rule)}}

    table = rule_table(transaction.system, transaction.pins)
    if not transaction.pins.has_marker(MOVING) and transaction.cache.is_right(table):
        return []
    outcome, _had, moved = commit(table, transaction.system, transaction.pins, intend, transaction.check)
    _remember(transaction, table, outcome, undo)
    if not transaction.check:
        transaction.cache.right(table, outcome.after.values())
    messages = [f"rules: {len(outcome.changes.puts)} put back"] if outcome.changes.puts else []
    messages += [f"rules: {len(outcome.changes.deletes)} removed"] if outcome.changes.deletes else []
    return messages + (["rules: compiled anew for the interfaces of today"] if moved else [])


def _put_routes(transaction: Transaction, undo: ExitStack) -> list:
    routes = [entry for entry in transaction.state.routes if transaction.only in (None, entry.interface)]
    wanted = {_route_key(entry): True for entry in routes}
    named = {(entry.family, entry.interface) for entry in routes}
    table = RouteTable(transaction.netlink, transaction.system.route_rule, {entry.table for entry in routes})
    shared = table.shared()

    def intend(have: Mapping) -> dict:
        rules = [key for key in have if key[0] == RULE]
        kept = [] if transaction.exact else [key for key in rules if (_family(key), key[2]) not in named]
        return with_local_routes({**dict.fromkeys(kept, True), **wanted}, have, shared)

    outcome = reconcile(table, intend, transaction.check)
    _remember(transaction, table, outcome, undo)
    added, removed = outcome.changes.puts, dict.fromkeys(outcome.changes.deletes, True)
    return [f"put back: {line}" for line in lines(added)] + [f"removed: {line}" for line in lines(removed)]


def _route_key(entry: SavedRoute) -> tuple:
    family = FAMILIES[entry.family]
    return (RULE, family, entry.interface, entry.priority, entry.mark.value, entry.mark.mask, entry.table)


def _family(key: tuple) -> str:
    return next(name for name, number in FAMILIES.items() if number == key[1])


def _put_addresses(transaction: Transaction, undo: ExitStack) -> list:
    wanted = {}
    for entry, link in transaction.targets:
        addresses = _addresses_today(transaction, entry, link)
        if addresses is not None:
            wanted[link.ifindex] = InterfaceAddresses(link.name, addresses)
    return _put_table(transaction, AddressTable(transaction.system.bpf, transaction.pins), wanted, "addresses", undo)


def _addresses_today(transaction: Transaction, entry: SavedAttachment, link) -> tuple | None:
    """Return the addresses to record, None for none: where they follow the kernel, those that it has.

    Before the network is up it has none: then those that it had when the state was saved. Has it more than can be
    recorded, nobody is there to choose: those of old that are left go first.
    """
    today = set(kernel_addresses(transaction.netlink, link)) if entry.follows else set()
    if not today:
        return entry.addresses
    cache = today.intersection(entry.addresses or ())
    return tuple(sorted((sorted(cache) + sorted(today - cache))[:ADDRESSES]))


def _put_policies(transaction: Transaction, undo: ExitStack) -> list:
    wanted = {
        link.ifindex: Policy(**{**vars(entry.policy), "layer3": link.layer3, "loopback": link.loopback})
        for entry, link in transaction.targets
    }
    return _put_table(transaction, PolicyTable(transaction.system.bpf, transaction.pins), wanted, "policy", undo)


def _put_table(transaction: Transaction, table, wanted: Mapping, what: str, undo: ExitStack) -> list:
    """Put entries of interfaces in a table. Those of interfaces that are gone go, or the table would fill up."""
    names = {link.ifindex: link.name for link in transaction.netlink.interfaces()}

    def intend(have: Mapping) -> dict:
        alive = {ifindex: value for ifindex, value in have.items() if ifindex in names or transaction.exact}
        return {**alive, **wanted}

    outcome = reconcile(table, intend, transaction.check)
    _remember(transaction, table, outcome, undo)
    messages = [f"{names[ifindex]}: {what} put back" for ifindex in sorted(outcome.changes.puts)]
    return messages + [
        f"interface {ifindex}, which is gone: {what} removed" for ifindex in sorted(outcome.changes.deletes)
    ]


def _remember(transaction: Transaction, table, outcome: Outcome, undo: ExitStack) -> None:
    """Let `undo` know how to take back what was written."""
    if outcome.changed and not transaction.check:
        undo.callback(restore_table, table, outcome.before)


def _put_filters(transaction: Transaction, wanted: Wanted | None, done: ExitStack, undo: ExitStack) -> list:
    messages = []
    for target in transaction.targets:
        context = transaction.context(target.hook)
        stands = context.table(target.link.ifindex).observe().get(target.hook) == wanted.attached
        if stands and (not transaction.exact or _is_kept(context, wanted)):
            continue
        messages.append(f"{target.link.name}: filter {wanted.attached.name} put back")
        if not transaction.check:
            transaction.pins.ensure()
            forget_gone(context)
            program = context.programs.open(wanted.blob)
            done.callback(os.close, program)
            put_filter(context, target.hook, wanted, program, done, undo)
    return messages


def _is_kept(context: HookContext, wanted: Wanted) -> bool:
    """Whether the program pinned beside the maps is the wanted one: what is taken next for the state is read there."""
    kept = context.programs.blob()
    return kept is not None and kept.identity == wanted.identity


def _remove_others(transaction: Transaction, done: ExitStack, undo: ExitStack) -> list:
    """Remove filters, then policies and addresses, that are not in the state; with the last of all, the maps."""
    stay = {target.hook for target in transaction.targets}
    messages = []
    for link, direction, entry in users(
        transaction.netlink, Programs(transaction.system.bpf, transaction.pins), FUNCTION
    ):
        hook = Hook(link.ifindex, direction, entry.priority, entry.handle)
        if hook not in stay:
            messages.append(f"{link.name}: filter {entry.name} removed")
            if not transaction.check:
                remove_filter(transaction.context(hook), link, done, undo)
    messages += _clear_table(transaction, PolicyTable, stay, "policy", undo)
    recorded = {target.hook for target in transaction.targets if target.entry.addresses is not None}
    messages += _clear_table(transaction, AddressTable, recorded, "addresses", undo)
    if not transaction.state.attachments and not transaction.check:
        _leave_nothing(transaction)
    return messages


def _clear_table(transaction: Transaction, kind, stay: Iterable, what: str, undo: ExitStack) -> list:
    keep = {hook.ifindex for hook in stay}
    table = kind(transaction.system.bpf, transaction.pins)

    def intend(have: Mapping) -> dict:
        return {ifindex: value for ifindex, value in have.items() if ifindex in keep}

    outcome = reconcile(table, intend, transaction.check)
    _remember(transaction, table, outcome, undo)
    return [f"interface {ifindex}: {what} removed" for ifindex in sorted(outcome.changes.deletes)]


def _leave_nothing(transaction: Transaction) -> None:
    """Where the state had no program, none stays; and where it had no rules either, no maps."""
    drop_clsacts(transaction.context(Hook(0, "ingress", 1, 1)))
    if rule_table(transaction.system, transaction.pins).observe():
        Programs(transaction.system.bpf, transaction.pins).forget()
    elif transaction.pins.names():
        transaction.pins.retire()
