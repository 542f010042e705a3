# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Programs and where they are attached.

A filter says itself what it runs: its name is FUNCTION:IDENTITY. It counts as right only when it is also bound to the
maps that are pinned now. Doors are handed in: `bpf`, `netlink`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from typing import NamedTuple

from ..errors import Conflict, VerificationFailed
from ..program.blob import IDENTITY_DIGITS, OUR_NAME, Attached, filter_name
from .programs import Programs
from .reconcile import Changes

FAIL_CLOSED_IDENTITY = "0" * IDENTITY_DIGITS
DIRECTIONS = ("ingress", "egress")
MOVING = "moving"


class Hook(NamedTuple):
    """Where one filter stands."""

    ifindex: int
    direction: str
    priority: int
    handle: int


def runs(entry, function: str) -> bool:
    """Whether a filter bears the name of a program of ours that runs this function."""
    named = OUR_NAME.fullmatch(entry.name)
    return entry.kind == "bpf" and bool(named) and named.group(1) == function


def is_fail_closed(entry) -> bool:
    """Return whether a filter runs the fail_closed program."""
    return entry.name.endswith(f":{FAIL_CLOSED_IDENTITY}")


class AttachmentTable:
    """{Hook: Attached} for one hook and one function.

    `program` returns (descriptor, id) of what to attach; it is asked only when something must be attached.
    """

    def __init__(self, netlink, programs: Programs, hook: Hook, function: str, program=None):
        self._netlink, self._programs = netlink, programs
        self._hook, self._function, self._program = hook, function, program

    def observe(self) -> dict:
        """Return {hook: Attached}, or {} when nothing of ours stands there."""
        found = self.filter()
        if found is None:
            return {}
        programs = self._programs
        is_right = programs.is_bound(found.program_id) and programs.runs_its_name(found.name, found.tag)
        return {self._hook: Attached(found.name, is_right, found.direct_action)}

    def filter(self):
        """Return our filter as the kernel lists it, or None."""
        for entry in self._at_priority():
            if entry.handle == self._hook.handle and runs(entry, self._function):
                return entry
        return None

    def foreign(self):
        """Return the bpf filter that stands exactly where ours belongs and is not ours, or None."""
        for entry in self._at_priority():
            if entry.handle == self._hook.handle and entry.kind == "bpf" and not runs(entry, self._function):
                return entry
        return None

    def refuse_foreign(self, was_ours: bool = False) -> None:
        """Raise Conflict when somebody else's filter keeps ours from its priority and handle.

        Where the place was ours, a filter that can be replaced as ours could has come by replacing ours: that is drift.
        """
        ours = self.filter() or (self.foreign() if was_ours else None)
        for entry in self._at_priority():
            if entry != ours and (entry.handle == self._hook.handle or entry.kind != "bpf"):
                hook = self._hook
                raise Conflict(
                    f"priority {hook.priority} handle {hook.handle:#x} of {hook.direction} is taken by a filter that is"
                    f" not ours ({entry.kind} {entry.name or 'without a name'}, handle {entry.handle:#x}): nothing was"
                    " changed; choose another priority, or remove it with `tc filter del`"
                )

    def ahead(self) -> list:
        """Return the filters that run before ours."""
        return [entry for entry in self._filters() if entry.priority < self._hook.priority]

    def prepare(self, changes: Changes, want: Mapping) -> None:
        """Nothing to work out: the story has the program loaded."""

    def apply(self, changes: Changes, want: Mapping) -> None:
        """Attach in place, or detach."""
        for attached in changes.puts.values():
            self._attach(attached)
        if changes.deletes:
            self._netlink.delete_filter(*self._hook)
            self.drop_clsact()

    def restore(self, have: Mapping) -> None:
        """Nothing to do: attaching is one request; the story that replaced a program brings it back."""

    def _at_priority(self) -> list:
        return [entry for entry in self._filters() if entry.priority == self._hook.priority]

    def _filters(self) -> list:
        return self._netlink.filters(self._hook.ifindex, self._hook.direction)

    def _attach(self, attached: Attached) -> None:
        program, number = self._program()
        with ExitStack() as undo:
            if not self._netlink.has_clsact(self._hook.ifindex):
                # The marker comes first: a run that is killed in between must not leave a qdisc that nobody owns.
                undo.callback(self.drop_clsact)
                self._programs.pins.set_marker(self._marker())
                self._netlink.add_clsact(self._hook.ifindex)
            self._netlink.replace_filter(*self._hook, program, attached.name)
            undo.pop_all()
        found = self.filter()
        if found is None or found.program_id != number:
            raise VerificationFailed(
                f"the filter on {self._hook.direction} runs program {found and found.program_id}, not {number} as"
                " asked: is another program managing this hook?"
            )

    def drop_clsact(self) -> None:
        """Remove the clsact qdisc if we made it and nothing is left on it."""
        pins, ifindex = self._programs.pins, self._hook.ifindex
        if pins.has_marker(self._marker()) and not any(self._netlink.filters(ifindex, way) for way in DIRECTIONS):
            self._netlink.delete_clsact(ifindex)
            pins.clear_marker(self._marker())

    def _marker(self) -> str:
        return clsact_marker(self._hook.ifindex)


def clsact_marker(ifindex: int) -> str:
    """Return the marker that says that the interface's clsact qdisc is ours."""
    return f"clsact_{ifindex}"


def clsact_markers(pins) -> set:
    """Return the indexes of the interfaces that have such a marker."""
    return {int(name[len("clsact_") :]) for name in pins.names() if re.fullmatch("clsact_[0-9]+", name)}


def users(netlink, programs: Programs, function: str) -> list:
    """Return (Link, direction, Filter) of every filter that runs this function on maps pinned here."""
    found = []
    for link in netlink.interfaces():
        for direction in DIRECTIONS:
            for entry in netlink.filters(link.ifindex, direction):
                if runs(entry, function) and programs.shares_maps(entry.program_id):
                    found.append((link, direction, entry))
    return found


def move_to_image(bpf, netlink, programs: Programs, function: str, image: int) -> None:
    """Pin another image map, and put the program, loaded on it, in the place of each of its filters.

    Each replacement is in place; when one fails, all before it is taken back. A run that is killed half way leaves the
    marker, and the next one moves again.
    """
    pins, blob = programs.pins, programs.blob()
    with ExitStack() as done, ExitStack() as undo:
        pins.set_marker(MOVING)
        undo.callback(pins.clear_marker, MOVING)
        moved = programs.load(blob, image)
        done.callback(os.close, moved)
        old_image = bpf.open_pin(pins.path("image"))
        done.callback(os.close, old_image)
        undo.callback(pins.replace, "image", old_image)
        pins.replace("image", image)
        for link, direction, entry in users(netlink, programs, function):
            hook = Hook(link.ifindex, direction, entry.priority, entry.handle)
            old = bpf.program_by_id(entry.program_id)
            done.callback(os.close, old)
            undo.callback(netlink.replace_filter, *hook, old, entry.name)
            netlink.replace_filter(*hook, moved, filter_name(function, blob.identity))
        programs.remember(moved, blob, done, undo)
        pins.clear_marker(MOVING)
        undo.pop_all()
