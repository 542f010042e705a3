# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Attachments: the programs of this collection on hooks of both kinds.

An attachment tells by its name which program it runs: FUNCTION:IDENTITY. It counts as right only when its program is
also bound to the maps that are pinned now. hooks.py has the names of the two kinds.
"""

from __future__ import annotations

import errno
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Callable, NamedTuple

from ..errors import Conflict, KernelRefused, VerificationFailed
from ..program.blob import Attached, Blob, filter_name
from ..system.bpf import TcxPrograms
from ..system.netlink.messages import ETH_P_ALL, Filter, Link
from ..system.system import Bpf, Netlink
from .hooks import (
    ANYWHERE,
    BPF_FILTER,
    CLSACT,
    DIRECTIONS,
    TCX,
    Hook,
    HookProgram,
    Order,
    from_filter,
    is_ours,
    programs_of,
    programs_on,
    runs,
    tcx_hook,
)
from .pins import Pins
from .programs import Programs, pin_of

MOVING = "moving"
INGRESS_QDISC = "ingress"
# A writer that changes the list of TCX programs each time between our look and our change
TCX_ATTEMPTS = 20
TCX_MAX = 64  # kernel/bpf/mprog.c: BPF_MPROG_MAX


class Attachment(NamedTuple):
    """A program of ours on a hook, and its interface."""

    link: Link
    hook: Hook
    program: HookProgram


class Obstacle(NamedTuple):
    """A foreign object that keeps our program from its place, and the remedy."""

    found: str
    remedy: str


class HookPoint(ABC):
    """The place of one function on one hook."""

    def __init__(self, netlink: Netlink, programs: Programs, hook: Hook, function: str) -> None:
        self._netlink, self._programs, self._bpf = netlink, programs, programs.bpf
        self.hook, self._function = hook, function

    @property
    def pin(self) -> str:
        """Return the name of the program's pin."""
        return pin_of(self._function)

    def observe(self) -> Attached | None:
        """Return the state of our program, or None where there is none of ours."""
        found, programs = self.program(), self._programs
        if found is None:
            return None
        is_bound = programs.is_bound(found.program_id, self.pin)
        is_right = is_bound and programs.runs_its_name(found.name, found.tag, self.pin)
        return Attached(found.name, is_right and self.is_single(), found.direct_action)

    @abstractmethod
    def program(self) -> HookProgram | None:
        """Return our program as the kernel lists it, or None."""

    def is_single(self) -> bool:
        """Return whether our program is there at most once."""
        return True

    def foreign(self) -> HookProgram | None:
        """Return the foreign program that an attachment would replace, or None."""
        return None

    @abstractmethod
    def obstacle(self, was_ours: bool = False) -> Obstacle | None:
        """Return the foreign object that keeps our program from its place, or None.

        With `was_ours` a foreign filter may have come by replacing ours. That is drift, and ours replaces it again.
        """

    def refuse_foreign(self, was_ours: bool = False) -> None:
        """Raise Conflict when a foreign object keeps our program from its place. `was_ours` is as in obstacle()."""
        obstacle = self.obstacle(was_ours)
        if obstacle is not None:
            raise Conflict(f"{obstacle.found}: nothing was changed; {obstacle.remedy}")

    def is_misplaced(self, _order: Order) -> bool:
        """Return whether our program is there, and not in the order that is asked for."""
        return False

    def attach(self, name: str, program: int, program_id: int, order: Order = ANYWHERE) -> None:
        """Attach a loaded program under a name, in place where one of ours is.

        Raises VerificationFailed when the hook runs another program afterwards.
        """
        self._write(name, program, program_id, order)
        found = self.program()
        if found is None or found.program_id != program_id:
            raise VerificationFailed(
                f"the hook {self.hook.kind} on {self.hook.direction} runs program {found and found.program_id}, not"
                f" {program_id} as asked: is another program managing this hook?"
            )

    def put_back(self, stood: HookProgram, program: int) -> None:
        """Attach a program that stood here before, under its name and in its order."""
        order = Order(before=(str(stood.follower),), strict=True) if stood.follower else ANYWHERE
        self._write(stood.name, program, self._bpf.program_info(program).id, order)

    @abstractmethod
    def detach(self) -> None:
        """Remove our program."""

    def tidy(self) -> None:
        """Remove the clsact qdisc of the interface if we made it and no filter is left on it."""
        drop_clsact(self._netlink, self._programs.pins, self.hook.ifindex)

    @abstractmethod
    def _write(self, name: str, program: int, program_id: int, order: Order) -> None:
        """Attach a loaded program."""


# ---- clsact -----------------------------------------------------------------------------------


class FilterPoint(HookPoint):
    """The place of one function as a filter: a priority and a handle."""

    def program(self) -> HookProgram | None:
        """Return our filter as the kernel lists it, or None."""
        return self._at_handle(ours=True)

    def foreign(self) -> HookProgram | None:
        """Return the foreign bpf filter at our priority and handle, or None."""
        return self._at_handle(ours=False)

    def _at_handle(self, ours: bool) -> HookProgram | None:
        for entry in map(from_filter, self._at_priority()):
            if entry.handle == self.hook.handle and entry.kind == BPF_FILTER and runs(entry, self._function) == ours:
                return entry
        return None

    def obstacle(self, was_ours: bool = False) -> Obstacle | None:
        """Return the foreign filter or qdisc that keeps our filter from its priority and handle, or None."""
        hook, ours = self.hook, self.program() or (self.foreign() if was_ours else None)
        if hook.direction != "ingress" and self._netlink.hook_qdisc(hook.ifindex) == INGRESS_QDISC:
            return Obstacle(
                f"the qdisc `ingress` of another program has the place of clsact and no {hook.direction} hook",
                "remove it with `tc qdisc del dev INTERFACE ingress`, or use hook: tcx (Linux 6.6)",
            )
        block = self._netlink.shared_block(hook.ifindex, hook.direction)
        if block and ours is None:
            return Obstacle(
                f"the {hook.direction} qdisc shares filter block {block} with other interfaces, and the kernel takes no"
                " filter for one of them",
                "use hook: tcx (Linux 6.6), or remove the qdisc",
            )
        for entry in self._at_priority():
            is_other = from_filter(entry) != ours and entry.handle == hook.handle
            if is_other or entry.kind != BPF_FILTER or entry.protocol != ETH_P_ALL:
                return Obstacle(
                    f"priority {hook.priority} handle {hook.handle:#x} of {hook.direction} is taken by a filter that is"
                    f" not ours ({_described(entry)})",
                    "choose another priority, or remove it with `tc filter del`",
                )
        return None

    def _write(self, name: str, program: int, _program_id: int, _order: Order) -> None:
        """Attach a program, and add the clsact qdisc where there is none."""
        hook = self.hook
        with ExitStack() as undo:
            if not self._netlink.hook_qdisc(hook.ifindex):
                # The marker comes first: a run that is killed in between must not leave a qdisc without a marker.
                undo.callback(self.tidy)
                self._programs.pins.set_marker(clsact_marker(hook.ifindex))
                self._netlink.add_clsact(hook.ifindex)
            self._netlink.replace_filter(hook.ifindex, hook.direction, hook.priority, hook.handle, program, name)
            undo.pop_all()

    def detach(self) -> None:
        """Remove our filter, and the clsact qdisc if it is ours and unused."""
        hook = self.hook
        self._netlink.delete_filter(hook.ifindex, hook.direction, hook.priority, hook.handle)
        self.tidy()

    def _at_priority(self) -> list[Filter]:
        """Return the filters at our priority. Each chain has priorities of its own, and ours is chain 0."""
        listed = self._netlink.filters(self.hook.ifindex, self.hook.direction)
        return [entry for entry in listed if entry.priority == self.hook.priority and not entry.chain]


def _described(entry: Filter) -> str:
    protocol = "" if entry.protocol == ETH_P_ALL else f", for protocol {entry.protocol:#06x} alone"
    return f"{entry.kind} {entry.name or 'without a name'}, handle {entry.handle:#x}{protocol}"


def drop_clsact(netlink: Netlink, pins: Pins, ifindex: int) -> None:
    """Remove the clsact qdisc of an interface if we made it and no filter is left on it."""
    marker = clsact_marker(ifindex)
    if pins.has_marker(marker) and not any(netlink.filters(ifindex, way) for way in DIRECTIONS):
        netlink.delete_clsact(ifindex)
        pins.clear_marker(marker)


# ---- TCX --------------------------------------------------------------------------------------


class TcxPoint(HookPoint):
    """The place of one function among the TCX programs of a hook.

    Each change names the revision of the list that it was planned for. The kernel refuses it if another program has
    changed the list meanwhile, and the change is planned again.
    """

    def program(self) -> HookProgram | None:
        """Return our program as the kernel lists it, or None."""
        found = self._ours(self._list())
        return found[0] if found else None

    def obstacle(self, was_ours: bool = False) -> Obstacle | None:
        """Return that the hook has no room for another program, or None."""
        if len(self._list().ids) < TCX_MAX or self.program() is not None:
            return None
        return Obstacle(
            f"{self.hook.direction} has {TCX_MAX} TCX programs, and the kernel takes no more",
            "detach one of them (`bpftool net` lists them)",
        )

    def is_single(self) -> bool:
        """Return whether our program is there at most once. A run that was killed while it moved it leaves two."""
        return len(self._ours(self._list())) <= 1

    def is_misplaced(self, order: Order) -> bool:
        """Return whether our program is there, and not in the order that is asked for."""
        listed = self._list()
        ours = self._ours(listed)
        return order.strict and bool(ours) and not _is_in_order(self._chain(listed), ours[0], order)

    def _write(self, _name: str, program: int, program_id: int, order: Order) -> None:
        self._retry(lambda listed: self._place(listed, program, program_id, order))
        self._retry(lambda listed: self._remove(listed, program_id))

    def detach(self) -> None:
        """Remove our program."""
        self._retry(lambda listed: self._remove(listed, 0))

    def _place(self, listed: TcxPrograms, program: int, program_id: int, order: Order) -> None:
        """Attach a program in place of ours, or in its order."""
        hook, chain, ours = self.hook, self._chain(listed), self._ours(listed)
        if any(entry.program_id == program_id for entry in ours):
            return
        moves = order.strict and bool(ours) and not _is_in_order(chain, ours[0], order)
        if ours and not moves:
            with ExitStack() as done:
                old = self._bpf.program_by_id(ours[0].program_id or 0)
                done.callback(os.close, old)
                self._bpf.attach_tcx(hook.ifindex, hook.direction, program, listed.revision, old)
            return
        place = order.place_in(chain)
        before = (chain[place].program_id or 0) if place < len(chain) else 0
        self._bpf.attach_tcx(hook.ifindex, hook.direction, program, listed.revision, 0, before)

    def _remove(self, listed: TcxPrograms, kept: int) -> None:
        """Detach each program of ours but one."""
        for entry in self._ours(listed):
            if entry.program_id not in (None, kept):
                with ExitStack() as done:
                    program = self._bpf.program_by_id(entry.program_id or 0)
                    done.callback(os.close, program)
                    self._bpf.detach_tcx(self.hook.ifindex, self.hook.direction, program, listed.revision)
                listed = self._list()

    def _retry(self, change: Callable[[TcxPrograms], None]) -> None:
        """Make a change by the list of now, again if the list changes meanwhile."""
        for _attempt in range(TCX_ATTEMPTS):
            try:
                change(self._list())
                return
            except KernelRefused as refusal:
                if refusal.errno not in (errno.ESTALE, errno.ENOENT):
                    raise
        raise Conflict(
            f"another program changes the TCX programs of {self.hook.direction} all the time: {TCX_ATTEMPTS} attempts"
            " of ours met another revision; stop it (`bpftool net` lists the programs), and run again"
        )

    def _list(self) -> TcxPrograms:
        return self._bpf.tcx_programs(self.hook.ifindex, self.hook.direction) or TcxPrograms((), 0)

    def _chain(self, listed: TcxPrograms) -> list[HookProgram]:
        return programs_of(self._bpf, listed.ids, self._function)

    def _ours(self, listed: TcxPrograms) -> list[HookProgram]:
        return [entry for entry in self._chain(listed) if is_ours(entry, self._programs, self._function)]


def _is_in_order(chain: Sequence[HookProgram], ours: HookProgram, order: Order) -> bool:
    return order.is_kept(chain, chain.index(ours))


# ---- both kinds -------------------------------------------------------------------------------


def point_at(netlink: Netlink, programs: Programs, hook: Hook, function: str) -> HookPoint:
    """Return the place of a function on a hook."""
    kind = TcxPoint if hook.kind == TCX else FilterPoint
    return kind(netlink, programs, hook, function)


def hook_of(ifindex: int, direction: str, entry: HookProgram) -> Hook:
    """Return the hook of an entry."""
    if entry.kind == TCX:
        return tcx_hook(ifindex, direction)
    return Hook(ifindex, direction, entry.priority, entry.handle, CLSACT)


def users(
    netlink: Netlink,
    programs: Programs,
    function: str,
    links: Sequence[Link] | None = None,
    directions: Sequence[str] = DIRECTIONS,
) -> list[Attachment]:
    """Return each attachment of this function on maps pinned here, or on no maps at all."""
    found = []
    for link in netlink.interfaces() if links is None else links:
        for direction in directions:
            for entry in programs_on(programs.bpf, netlink, link.ifindex, direction, function):
                if is_ours(entry, programs, function) and programs.shares_maps(entry.program_id):
                    found.append(Attachment(link, hook_of(link.ifindex, direction, entry), entry))
    return found


def is_moving(pins: Pins) -> bool:
    """Return whether a run was killed while it moved programs to bigger maps."""
    return pins.has_marker(MOVING)


def clsact_marker(ifindex: int) -> str:
    """Return the name of the marker that the clsact qdisc of an interface is ours."""
    return f"clsact_{ifindex}"


def clsact_markers(pins: Pins) -> set[int]:
    """Return the indexes of the interfaces that have such a marker."""
    return {int(name[len("clsact_") :]) for name in pins.names() if re.fullmatch("clsact_[0-9]+", name)}


def move_to_maps(bpf: Bpf, netlink: Netlink, programs: Programs, blob: Blob, maps: Mapping[str, int]) -> None:
    """Pin other maps, and replace each attached program by the program loaded on these maps.

    Each replacement is in place. When one fails, all before it are undone. A run that is killed half way leaves the
    marker MOVING, and the next run moves again.
    """
    pins = programs.pins
    with ExitStack() as done, ExitStack() as undo:
        pins.set_marker(MOVING)
        undo.callback(pins.clear_marker, MOVING)
        moved = programs.load(blob, maps)
        done.callback(os.close, moved)
        moved_id = bpf.program_info(moved).id
        attached = users(netlink, programs, blob.function)
        for name, descriptor in maps.items():
            old_map = bpf.open_pin(pins.path(name))
            if old_map is not None:
                done.callback(os.close, old_map)
                undo.callback(pins.replace, name, old_map)
            pins.replace(name, descriptor)
        for _link, hook, stood in attached:
            if stood.program_id is None:
                continue
            old = bpf.program_by_id(stood.program_id)
            done.callback(os.close, old)
            point = point_at(netlink, programs, hook, blob.function)
            undo.callback(point.put_back, stood, old)
            point.attach(filter_name(blob.function, blob.identity), moved, moved_id)
        programs.remember(moved, blob, done, undo)
        pins.clear_marker(MOVING)
        undo.pop_all()
