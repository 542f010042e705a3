# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The restoration of a SavedState: at boot, by the watcher, and when a change is rolled back.

1. An interface that is absent is skipped and reported. Rules and routes go by its name, so they are restored anyway.
2. Rules of services belong to the OpenZiti router. They stay as they are. A roll-back takes them from the previous
   image, which has the changes of all calls since. If the change has removed all maps, it takes those of the state.
3. Reading 20,000 rules takes seconds from a file and some 100 ms from an image. An interface that flaps makes the
   watcher look several times a second. So it keeps the state of the file and the stamp of the right image, and reads
   them again only when they have changed. A stamp has the digest of all words, so an edit by hand counts as a change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple, TypeVar

from ..abi.layout import ADDRESSES
from ..errors import LayoutMismatch, VerificationFailed
from ..model.policy import InterfaceAddresses, Policy
from ..model.rule import Identity, Rule, is_of_a_service
from ..model.saved_state import SavedAttachment, SavedRoute, SavedState, decode_state
from ..program.blob import Attached, Wanted, blob_from_json, of_blob
from ..system.netlink.messages import Link
from ..system.system import Bpf, Netlink, System
from .attachments import is_moving
from .current_state import CurrentState
from .hooks import TCX, Hook, Order, has_tcx, tcx_hook
from .host_state import HostState, InterfacePlan, Remains, RulePlan, TransactionPlan
from .interfaces import for_link, kernel_addresses
from .lost_pins import recover
from .pins import splicer_pins
from .routes import FAMILIES, FAMILY_NAMES, RouteKey, Routes, lines, with_local_routes
from .rules import PREVIOUS, RuleReader, Stamp
from .trackers import egress_of
from .transaction import Transaction

Entry = TypeVar("Entry")


class RightImage(NamedTuple):
    """An image and the interfaces that its rules name."""

    stamp: Stamp | None
    ifindexes: dict[str, int]


class RestoreCache:
    """The saved state as it was read last, and the image that had its rules."""

    def __init__(self) -> None:
        self._text: str | None = None
        self._state: SavedState | None = None
        self._forget()

    def _forget(self) -> None:
        self._wanted: Wanted | None = None
        self._right: RightImage | None = None
        self._named: tuple[Rule, ...] = ()

    @property
    def state(self) -> SavedState | None:
        """The state of the last valid text."""
        return self._state

    def read(self, text: str) -> SavedState:
        """Return the state of a text. Raises as decode_state(); then the state before is kept."""
        if text != self._text or self._state is None:
            state = decode_state(text)
            self._forget()
            self._state, self._text = state, text
        return self._state

    def wanted(self, state: SavedState) -> Wanted:
        """Return the program of a state."""
        if self._wanted is None or state is not self._state:
            self._state, self._wanted = state, of_blob(blob_from_json(state.blob), False)
        return self._wanted

    def is_right(self, table: RuleReader) -> bool:
        """Return whether the image in force is that of the last right(), with the same interfaces."""
        return self._right is not None and self._right == self._image(table)

    def right(self, table: RuleReader, rules: Iterable[Rule]) -> None:
        """Keep the image in force, which has these rules, as the one that the state wants."""
        self._named = tuple({rule.interfaces: rule for rule in rules if rule.interfaces}.values())
        self._right = self._image(table)

    def _image(self, table: RuleReader) -> RightImage:
        return RightImage(table.stamp(), table.ifindexes(self._named))


class Target(NamedTuple):
    """An attachment of the state, its interface as it exists now, and its hook."""

    entry: SavedAttachment
    link: Link
    hook: Hook


def hook_of_saved(bpf: Bpf, entry: SavedAttachment, link: Link) -> Hook:
    """Return the hook of an attachment of the state. A kernel without TCX gets a filter in its place."""
    if entry.hook == TCX and has_tcx(bpf, link.ifindex, "ingress"):
        return tcx_hook(link.ifindex, "ingress")
    return Hook(link.ifindex, "ingress", entry.priority, entry.handle)


class Restored(NamedTuple):
    """The outcome: one line for each change, the interfaces of the state, and those of them that are absent."""

    changed: bool
    changes: list[str]
    interfaces: list[str]
    absent: list[str]


def restore(
    state: SavedState,
    system: System,
    netlink: Netlink,
    interface: str | None = None,
    exact: bool = False,
    check_mode: bool = False,
    cache: RestoreCache | None = None,
) -> Restored:
    """Bring the router to a saved state, within the caller's lock.

    `interface`: restore only the attachment and the routes of this one, beside rules and recorded addresses, which
    belong to no attachment. `exact`: remove the parts that are not in the state.
    Raises TproxyError; then nothing was changed.
    """
    cache = cache or RestoreCache()
    entries = [entry for entry in state.attachments if interface in (None, entry.interface)]
    with splicer_pins(system.bpf, system.bpffs, state.pin_dir) as pins:
        recover(system, lambda: netlink, pins, check_mode)
        pins.check()
        routes = [entry for entry in state.routes if interface in (None, entry.interface)]
        transaction = Transaction(
            system, lambda: netlink, pins, state.pin_dir, route_tables={entry.table for entry in routes}
        )
        current = transaction.current
        links = {link.name: link for link in current.links}
        there = [(entry, links[entry.interface]) for entry in entries if entry.interface in links]
        targets = [Target(entry, link, hook_of_saved(system.bpf, entry, link)) for entry, link in there]
        for target in targets:
            transaction.point(target.hook).refuse_foreign()
        rules_are_right = not is_moving(pins) and cache.is_right(current.rule_reader)
        recorded = {links[entry.name].ifindex: entry for entry in state.recorded if entry.name in links}
        desired = HostState(
            rules=None if rules_are_right else _rules(state, current, exact),
            routes=_routes(routes, current, exact),
            addresses=_addresses(targets, recorded, current, exact),
            policies=_policies(targets, current, exact),
            attachments=_attachments(targets, current, cache.wanted(state).attached if targets else None, exact),
            orders={target.hook: Order(before=target.entry.behind) for target in targets if target.entry.behind},
            program=cache.wanted(state) if targets else None,
            flow_tables=state.flow_tables if targets else {},
            pins_program=exact,
            remains=_remains(state, current, exact),
            can_do_without_trackers=True,
        )
        planned = transaction.plan(desired)
        if not check_mode:
            transaction.apply(planned)
            if planned.rules is not None:
                cache.right(current.rule_reader, planned.rules.plan.after.values())
    absent = sorted({entry.interface for entry in entries} - set(links))
    changes = describe(planned, current)
    return Restored(planned.changed, changes, sorted({entry.interface for entry in entries}), absent)


def _rules(state: SavedState, current: CurrentState, exact: bool) -> dict[Identity, Rule]:
    kept = _services(state, current) if exact else current.rules.rules
    return {**kept, **{rule.identity: rule for rule in state.rules if not is_of_a_service(rule)}}


def _services(state: SavedState, current: CurrentState) -> dict[Identity, Rule]:
    """Return the rules of services to which a roll-back returns."""
    found = {rule.identity: rule for rule in state.rules}
    if current.rules.words is not None:
        found = current.rules.rules
    with suppress(LayoutMismatch, VerificationFailed):  # then the image in force is the better source
        previous = current.rule_reader.load(PREVIOUS)
        if previous.words is not None:
            found = previous.rules
    return {key: rule for key, rule in found.items() if is_of_a_service(rule)}


def _routes(saved: list[SavedRoute], current: CurrentState, exact: bool) -> Routes:
    wanted = [_route_key(entry) for entry in saved]
    named = {(entry.family, entry.interface) for entry in saved}
    have = current.routes
    kept = [key for key in have.rules if not exact and (FAMILY_NAMES[key.family], key.interface) not in named]
    return with_local_routes([*kept, *wanted], have.entries, have.shared)


def _route_key(entry: SavedRoute) -> RouteKey:
    mark = entry.mark
    return RouteKey(FAMILIES[entry.family], entry.interface, entry.priority, mark.value, mark.mask, entry.table)


def _addresses(
    targets: list[Target], recorded: Mapping[int, InterfaceAddresses], current: CurrentState, exact: bool
) -> dict[int, InterfaceAddresses]:
    kept = {**({} if exact else _of_existing(current, current.addresses.entries)), **recorded}
    for entry, link, _hook in targets:
        addresses = _addresses_now(current, entry, link)
        if addresses is not None:
            kept[link.ifindex] = InterfaceAddresses(link.name, addresses)
    return kept


def _of_existing(current: CurrentState, entries: Mapping[int, Entry]) -> dict[int, Entry]:
    """Return the entries of interfaces that exist. Entries of others are removed, or the table would fill up."""
    return {ifindex: entry for ifindex, entry in entries.items() if ifindex in current.names}


def _addresses_now(current: CurrentState, entry: SavedAttachment, link: Link) -> tuple[bytes, ...] | None:
    """Return the addresses to record, None for none: those of the kernel, where the record follows the kernel.

    Before the network is up the kernel has none: then the saved ones are recorded. When the kernel has more than can be
    recorded, the saved ones among them go first.
    """
    now = set(kernel_addresses(current.netlink, link)) if entry.follows else set()
    if not now:
        return entry.addresses
    kept = now.intersection(entry.addresses or ())
    return tuple(sorted((sorted(kept) + sorted(now - kept))[:ADDRESSES]))


def _policies(targets: list[Target], current: CurrentState, exact: bool) -> dict[int, Policy]:
    kept = {} if exact else _of_existing(current, current.policies.entries)
    restored = {link.ifindex: for_link(entry.policy, link) for entry, link, _hook in targets}
    return {**kept, **restored}


def _attachments(
    targets: list[Target], current: CurrentState, attached: Attached | None, exact: bool
) -> dict[Hook, Attached | None]:
    """Return the attachments of the state, and the removal of others on the same interfaces, with `exact` on all."""
    restored = {target.link.ifindex for target in targets}
    others = [each.hook for each in current.attachments if exact or each.link.ifindex in restored]
    return {**dict.fromkeys(others, None), **{target.hook: attached for target in targets}}


def _remains(state: SavedState, current: CurrentState, exact: bool) -> Remains:
    """Return MAPS where the state had no program, and NOTHING where it had no rules and own addresses either."""
    if not exact or state.attachments:
        return Remains.EVERYTHING
    return Remains.MAPS if state.recorded or _rules(state, current, True) else Remains.NOTHING


# ---- the changes as lines --------------------------------------------------------------------


def describe(planned: TransactionPlan, current: CurrentState) -> list[str]:
    """Return one line for each change of a plan from the current state."""
    names = current.names
    added = [f"pins: {', '.join(planned.repaired)} pinned again"] if planned.repaired else []
    added += [f"table {name}: {size} flows in place of {had}" for name, (had, size) in planned.flow_tables.items()]
    added += _rule_lines(planned.rules) if planned.rules else []
    removed: list[str] = []
    if planned.routes is not None:
        added += [f"put back: {line}" for line in lines(planned.routes.changes.puts)]
        added += [f"removed: {line}" for line in lines(planned.routes.changes.deletes)]
    if planned.addresses is not None:
        added += _put_lines(planned.addresses, names, "addresses")
    if planned.policies is not None:
        added += _put_lines(planned.policies, names, "policy")
    program = planned.desired.program
    if program is not None:
        wanted = {hook: planned.desired.attachments[hook] for hook in planned.puts}
        put = {hook: attached.name for hook, attached in wanted.items() if attached}
        added += _program_lines(put, names, "put back")
    attached = (*current.attachments, *current.trackers) if planned.removes else ()
    gone = {each.hook: each.program.name for each in attached if each.hook in planned.removes}
    removed += _program_lines(gone, names, "removed")
    if planned.policies is not None:
        removed += _delete_lines(planned.policies, names, "policy")
    if planned.addresses is not None:
        removed += _delete_lines(planned.addresses, names, "addresses")
    return added + removed


def _program_lines(found: Mapping[Hook, str], names: Mapping[int, str], verb: str) -> list[str]:
    """Return one line for each program. A tracker stands in the line of its program, if there is one."""
    result = []
    for hook, name in found.items():
        program, tracker = hook._replace(direction="ingress"), egress_of(hook)
        if hook == program or program not in found:
            also = " and its tracker" if hook == program and tracker in found else ""
            result.append(f"{names[hook.ifindex]}: {_noun(hook)} {name}{also} {verb}")
    return result


def _noun(hook: Hook) -> str:
    return "TCX program" if hook.kind == TCX else "filter"


def _rule_lines(planned: RulePlan) -> list[str]:
    changes = planned.plan.changes
    found = [f"rules: {len(changes.puts)} put back"] if changes.puts else []
    found += [f"rules: {len(changes.deletes)} removed"] if changes.deletes else []
    return found + (["rules: compiled anew for the interfaces of today"] if planned.recompiled else [])


def _put_lines(planned: InterfacePlan[Entry], names: Mapping[int, str], part: str) -> list[str]:
    return [f"{names[ifindex]}: {part} put back" for ifindex in sorted(planned.changes.puts)]


def _delete_lines(planned: InterfacePlan[Entry], names: Mapping[int, str], part: str) -> list[str]:
    gone = sorted(planned.changes.deletes)
    return [f"{names.get(ifindex, f'interface {ifindex}, which is gone')}: {part} removed" for ifindex in gone]
