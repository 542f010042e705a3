# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""One transaction: from the state of the kernel to the state that an operation wants.

`plan` compares and prepares; it refuses before the first change, and check mode stops after it. `apply` writes in one
order:

1. Tables of tracked flows that get another size. Each program is then attached again, on the new tables.
2. Rules. An image that outgrows its map moves to another map, which the program must use when it is loaded.
3. Routes, then recorded addresses, then own addresses (host_addresses.py).
4. The program, which the verifier may refuse; then policies; then attachments. So no packet meets the program before
   everything that it looks up is there.
5. Removals: attachments, then policies, then addresses. Without its policy the program would close the interface. An
   attachment elsewhere on an interface goes last, so the interface is never without one: a move from a filter to TCX,
   or back, lets no packet pass unfiltered. Meanwhile a packet may meet both programs, which set the same mark.
6. Pins and program, when nothing uses them.

A failure on the way undoes what was done, backwards.

The writes hold the image lock. Calls of OpenZiti routers take that lock alone, so they may have changed rules since the
plan was made. Then the rules of the plan are made again from the rules in force, outside of the lock. See `write`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TypeVar

from ..constants import FUNCTION, TRACKER
from ..errors import Conflict, VerificationFailed
from ..program.blob import Attached, Wanted, of_blob
from ..ruleset.records import ImageContents
from ..system.system import Netlink, System
from .attachments import HookPoint, clsact_marker, clsact_markers, drop_clsact, is_moving, point_at
from .current_state import CurrentState
from .flow_tables import Resize
from .hooks import ANYWHERE, Hook, is_fail_closed
from .host_addresses import follow_host_addresses
from .host_state import HostState, InterfacePlan, Remains, RulePlan, TransactionPlan
from .image_lock import image_lock
from .interfaces import InterfaceSnapshot, InterfaceTable
from .older_release import drop_older_pins
from .pins import Pins
from .reconcile import diff, plan, reconcile, with_changes
from .reserved_ports import follow_reserved_ports
from .rule_table import RuleTable, finish_move, rule_table
from .rules import EMPTY
from .trackers import is_tracker, needed, obstacle_to_tracker, refusal, tracker_in, with_trackers

Entry = TypeVar("Entry")
COMPILED_OUTSIDE = 3  # attempts to compile rules without the image lock


def trust() -> None:
    """Verify nothing: each part is read back when it is written."""


class Transaction:
    """The change of one router's state, for one program and its pins.

    `deadline` is that of the pending change that the transaction belongs to, in ns of the monotonic clock, or 0.
    """

    def __init__(
        self,
        system: System,
        netlink: Callable[[], Netlink],
        pins: Pins,
        pin_dir: str,
        function: str = FUNCTION,
        route_tables: Iterable[int] = (),
        ignore_damage: bool = False,
        empty: ImageContents = EMPTY,
        deadline: int = 0,
    ) -> None:
        self.system, self.pins, self.pin_dir, self.function = system, pins, pin_dir, function
        self.deadline, self._netlink = deadline, netlink
        self.current = CurrentState(system, netlink, pins, function, route_tables, ignore_damage, empty)
        self.rule_table = rule_table(system, pins, ignore_damage, empty)

    def with_pins(self, pins: Pins) -> Transaction:
        """Return the same transaction on other pins; on the same pins, itself."""
        if pins is self.pins:
            return self
        return Transaction(self.system, self._netlink, pins, self.pin_dir, self.function, deadline=self.deadline)

    @property
    def netlink(self) -> Netlink:
        """The netlink adapter, opened at its first use."""
        return self.current.netlink

    @property
    def is_splicer(self) -> bool:
        """Return whether the transaction is about our own program, which has policies and rules."""
        return self.function == FUNCTION

    def point(self, hook: Hook) -> HookPoint:
        """Return the place of the program on a hook."""
        function = TRACKER if is_tracker(hook, self.function) else self.function
        return point_at(self.netlink, self.current.programs, hook, function)

    # ---- plan ----------------------------------------------------------------------------------

    def plan(self, desired: HostState) -> TransactionPlan:
        """Return the way to a wanted state. Raises TproxyError for a state that cannot be. Change nothing."""
        current, tables = self.current, self._plan_flow_tables(desired)
        if tables:
            desired = self._on_new_tables(desired)
        if self.is_splicer and desired.attachments:
            desired = replace(desired, attachments=self._with_trackers(desired))
        puts, removes = self._plan_attachments(desired, bool(tables))
        addresses = policies = routes = None
        if desired.routes is not None:
            routes = plan(current.route_table, current.routes, desired.routes)
        if desired.addresses is not None:
            table, snapshot = current.address_table, current.addresses
            addresses = _plan_interfaces(table, snapshot, desired.addresses, self._keep_while_removing(removes))
        if desired.policies is not None:
            kept = self._keep_while_removing(removes)
            policies = _plan_interfaces(current.policy_table, current.policies, desired.policies, kept)
        rules, repaired = self._plan_rules(desired), self.pins.repaired
        return TransactionPlan(desired, rules, routes, addresses, policies, puts, removes, tables, repaired)

    def _plan_flow_tables(self, desired: HostState) -> dict[str, tuple[int, int]]:
        """Return the sizes before and after of the tables that get another one."""
        wanted = desired.flow_tables if desired.remains is Remains.EVERYTHING else {}
        have = self.current.flow_tables if wanted else {}
        return {name: (have[name], size) for name, size in wanted.items() if have[name] != size}

    def _on_new_tables(self, desired: HostState) -> HostState:
        """Return the state with each program of ours on a hook: it must be loaded again. Raises Conflict without it."""
        standing = [each.hook for each in self.current.attachments if not is_fail_closed(each.program)]
        if not standing:
            return desired
        kept = self.current.blob
        program = of_blob(kept, False) if desired.program is None and kept is not None else desired.program
        if program is None:
            raise Conflict(
                "tables of tracked flows get another size when the program is loaded again, and its pin has no blob:"
                " nothing was changed; name an interface in `interfaces`, so that the run has a program"
            )
        attachments = {**dict.fromkeys(standing, program.attached), **desired.attachments}
        return replace(desired, attachments=attachments, program=program)

    def _with_trackers(self, desired: HostState) -> dict[Hook, Attached | None]:
        """Return the wanted attachments with their trackers. Raises Conflict, Unsupported if one cannot be had."""
        policies = self.current.policies.entries if desired.policies is None else desired.policies
        standing, blob = [each.hook for each in self.current.trackers], desired.program and desired.program.blob
        found = with_trackers(desired.attachments, policies, standing)
        for hook in [hook for hook, attached in found.items() if attached and is_tracker(hook, self.function)]:
            obstacle = obstacle_to_tracker(self.current, hook, blob)
            if obstacle is not None and not desired.can_do_without_trackers:
                raise refusal(obstacle, self.current.names[hook.ifindex], policies[hook.ifindex].track, blob)
            if obstacle is not None:
                del found[hook]
        return found

    def _keep_while_removing(self, removes: Collection[Hook]) -> Collection[int]:
        """Return the interfaces that keep their entries until attachments are removed: those that exist."""
        return self.current.names if removes else ()

    def _plan_rules(self, desired: HostState) -> RulePlan | None:
        if desired.rules is None:
            return None
        table, snapshot = self.rule_table, self.current.rules
        refresh = bool(snapshot.damage) or snapshot.contents.interrupted or table.is_stale(snapshot)
        moving = is_moving(self.pins)
        return RulePlan(plan(table, snapshot, desired.rules, rewrite=refresh), refresh, moving)

    def _plan_attachments(self, desired: HostState, moves_tables: bool) -> tuple[tuple[Hook, ...], tuple[Hook, ...]]:
        repin = moves_tables or (desired.pins_program and not self._is_pinned(desired.program))
        puts = [
            hook
            for hook, attached in desired.attachments.items()
            if attached is not None and (repin or not self._stands(desired, hook, attached))
        ]
        removes = [
            hook
            for hook, attached in desired.attachments.items()
            if attached is None and self.point(hook).program() is not None
        ]
        return tuple(puts), tuple(removes)

    def _stands(self, desired: HostState, hook: Hook, attached: Attached) -> bool:
        """Return whether the program stands on a hook in the order that is asked for."""
        point = self.point(hook)
        return point.observe() == attached and not point.is_misplaced(desired.orders.get(hook, ANYWHERE))

    def _is_pinned(self, program: Wanted | None) -> bool:
        """Return whether the pinned blob is that of a program. The state file takes its blob from there."""
        kept = self.current.blob
        return program is None or (kept is not None and kept.identity == program.identity)

    # ---- apply ---------------------------------------------------------------------------------

    def apply(self, planned: TransactionPlan, verify: Callable[[], None] = trust) -> TransactionPlan:
        """Apply a plan of this transaction, and remove pins that nothing uses; return the plan as it was written.

        `verify` looks at the new state, before the way back is given up. A failure undoes everything.
        """
        planned = self.write(planned, verify)
        self.pins.keep()
        if self.is_splicer and (planned.puts or planned.removes or planned.remains is Remains.NOTHING):
            drop_older_pins(self.system, self.pin_dir)
        self.pins.sweep()
        return planned

    def write(self, planned: TransactionPlan, verify: Callable[[], None] = trust) -> TransactionPlan:
        """Write the parts of a plan in order, and return the plan as it was written. A failure undoes everything.

        A plan of rules that another writer has overtaken is made again outside of the lock, with free space for the
        changes that follow. The last attempt compiles within the lock, so the number of compilations is bounded.
        """
        for _attempt in range(COMPILED_OUTSIDE):
            with self._image_locked():
                current = self._followed(planned)
                if current is not None:
                    self._write(current, verify)
                    return current
            planned = self._replanned(planned, self.rule_table.with_space())
        with self._image_locked():
            planned = self._replanned(planned, self.rule_table)
            self._write(planned, verify)
            return planned

    @contextmanager
    def _image_locked(self) -> Iterator[None]:
        """Hold the image lock. Another writer may have pinned a bigger image map since this one was opened."""
        with image_lock(self.system, self.pin_dir):
            self.pins.drop_stale()
            yield

    def _followed(self, planned: TransactionPlan) -> TransactionPlan | None:
        """Return the plan for the rules in force now, or None if their image must be compiled first."""
        rules = planned.rules
        if rules is None or rules.compiled is None or rules.snapshot.version == self.rule_table.version():
            return planned
        now = self.rule_table.load()
        want = with_changes(now.rules, rules.plan.changes)
        work = self.rule_table.follow(rules.compiled, now, want)
        if work is None:
            return None
        changes = diff(now.rules, want)
        followed = replace(rules.plan, snapshot=now, before=now.rules, after=want, changes=changes, work=work)
        return replace(planned, rules=replace(rules, plan=followed))

    def _replanned(self, planned: TransactionPlan, table: RuleTable) -> TransactionPlan:
        """Return the plan with the same changes of the rules in force now."""
        if planned.rules is None:
            return planned
        now = table.load()
        want = with_changes(now.rules, planned.rules.plan.changes)
        again = plan(table, now, want, rewrite=planned.rules.recompiled)
        return replace(planned, rules=replace(planned.rules, plan=again))

    def _write(self, planned: TransactionPlan, verify: Callable[[], None]) -> None:
        """Write the parts of a plan in order, within the image lock. A failure undoes everything that was written."""
        with ExitStack() as done, ExitStack() as undo:
            if planned.puts or planned.flow_tables:
                self.pins.ensure()
            tables = Resize(self.system.bpf, self.pins, planned.flow_tables)
            tables.pin(done, undo)
            self._forget_gone_interfaces()
            if planned.rules is not None:
                self._write_rules(planned.desired, planned.rules, undo)
            if planned.routes is not None:
                planned.routes.apply(undo)
            undo.callback(self._follow_host_addresses, planned)
            if planned.addresses is not None:
                planned.addresses.first.apply(undo)
            self._follow_host_addresses(planned)
            programs = self._open_programs(planned, done)
            undo.callback(self._follow_reserved_ports, planned)
            if planned.policies is not None:
                planned.policies.first.apply(undo)
            self._follow_reserved_ports(planned)
            self._put_attachments(planned, programs, done, undo)
            tables.finish()
            self._remove_attachments(planned, done, undo)
            if planned.policies is not None and _finish(planned.policies, undo):
                self._follow_reserved_ports(planned)
            if planned.addresses is not None and _finish(planned.addresses, undo):
                self._follow_host_addresses(planned)
            verify()
            self._leave(planned.remains)
            undo.pop_all()

    def _follow_host_addresses(self, planned: TransactionPlan) -> None:
        """Bring the own addresses up to date, unless no interface has or had a policy or recorded addresses."""
        tables = [table for table in (planned.addresses, planned.policies) if table is not None]
        if self.is_splicer and any(table.before or table.after for table in tables):
            follow_host_addresses(self.system.bpf, self.pins, self.netlink)

    def _follow_reserved_ports(self, planned: TransactionPlan) -> None:
        """Bring the reserved ports up to date, unless the plan has no policies."""
        if self.is_splicer and planned.policies is not None:
            follow_reserved_ports(self.system, self.pins)

    def _write_rules(self, desired: HostState, planned: RulePlan, undo: ExitStack) -> None:
        if planned.moving:
            finish_move(self.system, self.pins)
        if desired.previous_rules is not None and self.pins.complete:
            had = self.rule_table.change_previous(desired.previous_rules)
            undo.callback(self.rule_table.restore_previous, had)
        planned.plan.apply(undo)

    def _forget_gone_interfaces(self) -> None:
        """Remove the markers of clsact qdiscs that went with their interfaces."""
        markers = clsact_markers(self.pins)
        for ifindex in markers - set(self.current.names) if markers else ():
            self.pins.clear_marker(clsact_marker(ifindex))

    def _open_programs(self, planned: TransactionPlan, done: ExitStack) -> dict[str, int]:
        """Return {direction: descriptor}. TCX takes a program once: one that must stand elsewhere is loaded again."""
        desired, programs, opened = planned.desired, self.current.programs, {}
        moves = any(self.point(hook).is_misplaced(desired.orders.get(hook, ANYWHERE)) for hook in planned.puts)
        for direction in dict.fromkeys(hook.direction for hook in planned.puts):
            blob = needed(desired.program and desired.program.blob)
            if direction == "egress" and self.is_splicer:
                opened[direction] = programs.open_tracker(tracker_in(blob))
            else:
                opened[direction] = programs.load(blob) if moves else programs.open(blob)
            done.callback(os.close, opened[direction])
        return opened

    def _put_attachments(
        self, planned: TransactionPlan, programs: Mapping[str, int], done: ExitStack, undo: ExitStack
    ) -> None:
        """Pin the programs as the current ones, and attach them to their hooks in place of our programs there."""
        bpf, pinned, wanted = self.system.bpf, set(), planned.desired.program
        for hook, attached in planned.desired.attachments.items():
            if attached is None or hook not in planned.puts:
                continue
            program, point = programs[hook.direction], self.point(hook)
            stood = point.program() or point.foreign()
            if stood is None or stood.program_id is None:
                undo.callback(point.detach)
            else:
                old = bpf.program_by_id(stood.program_id)
                done.callback(os.close, old)
                undo.callback(point.put_back, stood, old)
            if hook.direction not in pinned:
                pinned.add(hook.direction)
                if is_tracker(hook, self.function):
                    self.current.programs.remember_tracker(program, done, undo)
                else:
                    self.current.programs.remember(program, needed(wanted and wanted.blob), done, undo)
            point.attach(
                attached.name, program, bpf.program_info(program).id, planned.desired.orders.get(hook, ANYWHERE)
            )
            if point.observe() != attached:
                raise VerificationFailed(
                    f"the {hook.kind} attachment on {hook.direction} reads back as {point.observe()}, not"
                    f" {attached}: is another program managing this hook?"
                )

    def _remove_attachments(self, planned: TransactionPlan, done: ExitStack, undo: ExitStack) -> None:
        for hook, attached in planned.desired.attachments.items():
            if attached is not None:
                continue
            point = self.point(hook)
            stood = point.program()
            if stood is None or stood.program_id is None:
                point.tidy()  # a killed run may have left the qdisc
                continue
            old = self.system.bpf.program_by_id(stood.program_id)
            done.callback(os.close, old)
            undo.callback(point.put_back, stood, old)
            point.detach()
            if point.program() is not None:
                raise VerificationFailed(
                    f"the {hook.kind} attachment on {hook.direction} is still there: is another program managing it?"
                )

    def _leave(self, remains: Remains) -> None:
        """Remove the pins that must not stay, and our clsact qdiscs that lost their filter by hand."""
        if remains is Remains.EVERYTHING:
            return
        for link in self.current.links:
            drop_clsact(self.netlink, self.pins, link.ifindex)
        if remains is Remains.MAPS:
            self.current.programs.forget()
        else:
            self.pins.retire()


def _plan_interfaces(
    table: InterfaceTable[Entry], snapshot: InterfaceSnapshot[Entry], want: Mapping[int, Entry], kept: Collection[int]
) -> InterfacePlan[Entry]:
    """Return the plan of a table; the entries of `kept` interfaces go in its second step."""
    late = {ifindex: entry for ifindex, entry in snapshot.entries.items() if ifindex in kept and ifindex not in want}
    return InterfacePlan(plan(table, snapshot, {**late, **want}), want)


def _finish(planned: InterfacePlan[Entry], undo: ExitStack) -> bool:
    """Remove the entries of interfaces that lost their attachment. Return whether there are any."""
    if planned.first.after == planned.after:
        return False
    undo.callback(planned.first.table.restore, planned.first.snapshot)
    reconcile(planned.first.table, lambda _have: planned.after)
    return True
