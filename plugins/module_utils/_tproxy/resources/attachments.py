# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The program pinned in one pin folder, and the hooks that it is attached to.

A filter tells by its name which program it runs: FUNCTION:IDENTITY. It counts as right only when it is also bound to
the maps that are pinned now.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from ..abi import structs as codec
from ..abi.layout import BLOB_BYTES, LAYOUT
from ..errors import Conflict, InvalidInput, KernelRefused, LimitExceeded, VerificationFailed
from ..program.blob import IDENTITY_DIGITS, OUR_NAME, Attached, Blob, blob_from_json, filter_name
from ..system.netlink.messages import Filter, Link
from ..system.system import Bpf, Netlink
from .pins import Pins

FAIL_CLOSED_IDENTITY = "0" * IDENTITY_DIGITS
DIRECTIONS = ("ingress", "egress")
MOVING = "moving"
META = codec.key(0)


class Programs:
    """The program pinned in one pin folder, and the blob it came from."""

    def __init__(self, bpf: Bpf, pins: Pins) -> None:
        self._bpf, self.pins = bpf, pins

    def meta(self) -> dict[str, Any] | None:
        """Return struct meta, or None before the first load of a program of ours."""
        if "meta" not in self.pins.shapes or "meta" in self.pins.missing():
            return None
        values = codec.decode("meta", self._read_meta())
        return values if values["blob_bytes"] else None

    def blob(self) -> Blob | None:
        """Return the blob of the pinned program, or None where there is none, or one of another release."""
        meta = self.meta()
        if meta is None:
            return None
        try:
            return blob_from_json(meta["blob"][: meta["blob_bytes"]].decode())
        except (InvalidInput, UnicodeDecodeError):
            return None

    def open(self, blob: Blob) -> int:
        """Return a descriptor of this program: the pinned one when it is the same, else newly loaded."""
        meta, pinned = self.meta(), self.pinned()
        is_same = meta is not None and meta["identity"].hex() == blob.identity and meta["program_id"] == pinned
        found = self._bpf.open_pin(self.pins.path("program")) if is_same and self.is_bound(pinned) else None
        return self.load(blob) if found is None else found

    def load(self, blob: Blob, image: int | None = None) -> int:
        """Load a blob on the pinned maps (or on another image map) and return its descriptor."""
        descriptors = {name: self.pins.fd(name) for name in blob.maps}
        if image is not None:
            descriptors["image"] = image
        return self._bpf.load_program(blob.bind(descriptors), blob.function)

    def remember(self, program: int, blob: Blob, done: ExitStack, undo: ExitStack) -> None:
        """Pin a program as the current one, with the blob to load it again.

        `undo` gets the callbacks that bring the pinned program back, `done` those that close descriptors in any case.
        A run that is killed between the two steps leaves a meta of another program. Then open() loads the blob again.
        """
        old = self._bpf.open_pin(self.pins.path("program"))
        if old is None:
            undo.callback(self.pins.unpin, "program")
        else:
            done.callback(os.close, old)
            undo.callback(self.pins.replace, "program", old)
        self.pins.replace("program", program)
        if "meta" in self.pins.shapes:
            undo.callback(self._write_meta, self._read_meta())
            self._write_meta(_encode_meta(blob, self._bpf.program_info(program).id))

    def forget(self) -> None:
        """Unpin the program and clear its blob."""
        self.pins.unpin("program")
        self._write_meta(bytes(codec.size_of("meta")))

    def _read_meta(self) -> bytes:
        size = codec.size_of("meta")
        return self._bpf.lookup(self.pins.fd("meta"), META, size) or bytes(size)

    def _write_meta(self, raw: bytes) -> None:
        self._bpf.update(self.pins.fd("meta"), META, raw, "meta")

    def pinned(self) -> int | None:
        """Return the id of the pinned program, or None."""
        if "program" not in self.pins.names():
            return None
        descriptor = self._bpf.open_pin(self.pins.path("program"))
        if descriptor is None:
            return None
        try:
            return self._bpf.program_info(descriptor).id
        finally:
            os.close(descriptor)

    def is_bound(self, program_id: int | None) -> bool:
        """Return whether a loaded program uses only maps that are pinned now."""
        if "program" not in self.pins.names() or not self.pins.complete:
            return False
        used = self._maps_of(program_id)
        return used is not None and used <= self.pins.map_ids()

    def runs_its_name(self, name: str, tag: str | None) -> bool:
        """Return whether a filter runs the program of its name, by its tag; True for a program that is not pinned."""
        meta = self.meta()
        if meta is None or "program" not in self.pins.names() or not name.endswith(meta["identity"].hex()[:12]):
            return True
        descriptor = self._bpf.open_pin(self.pins.path("program"))
        if descriptor is None:
            return True
        try:
            return tag == self._bpf.program_info(descriptor).tag
        finally:
            os.close(descriptor)

    def shares_maps(self, program_id: int | None) -> bool:
        """Return whether a loaded program uses one of the maps pinned now, or no map at all."""
        used = self._maps_of(program_id)
        return used is not None and (not used or bool(used & self.pins.map_ids()))

    def _maps_of(self, program_id: int | None) -> set[int] | None:
        """Return the ids of a program's maps, or None where there is no such program."""
        if program_id is None:
            return None
        try:
            descriptor = self._bpf.program_by_id(program_id)
        except KernelRefused as refusal:
            if refusal.errno == errno.ENOENT:
                return None  # it was unloaded since the listing
            raise
        try:
            return set(self._bpf.program_info(descriptor).map_ids)
        finally:
            os.close(descriptor)


def _encode_meta(blob: Blob, program_id: int) -> bytes:
    text = blob.to_json().encode()
    if len(text) > BLOB_BYTES:
        raise LimitExceeded("bytes of the program's blob", len(text), BLOB_BYTES)
    return codec.encode(
        "meta",
        {
            "layout": LAYOUT,
            "instructions": blob.count,
            "blob_bytes": len(text),
            "program_id": program_id,
            "identity": bytes.fromhex(blob.identity),
            "source_sha256": bytes.fromhex(blob.source_sha256),
            "blob": text,
        },
    )


# ---- hooks ---------------------------------------------------------------------------------


class Hook(NamedTuple):
    """The place of one filter."""

    ifindex: int
    direction: str
    priority: int
    handle: int


class Attachment(NamedTuple):
    """A filter of ours and its interface."""

    link: Link
    direction: str
    filter: Filter

    @property
    def hook(self) -> Hook:
        """Return the place of the filter."""
        return Hook(self.link.ifindex, self.direction, self.filter.priority, self.filter.handle)


def runs(entry: Filter, function: str) -> bool:
    """Return whether a filter has the name of a program of ours that runs this function."""
    named = OUR_NAME.fullmatch(entry.name)
    return entry.kind == "bpf" and named is not None and named.group(1) == function


def is_fail_closed(entry: Filter) -> bool:
    """Return whether a filter runs the fail_closed program."""
    return entry.name.endswith(f":{FAIL_CLOSED_IDENTITY}")


class HookFilter:
    """The filter of one function on one hook."""

    def __init__(self, netlink: Netlink, programs: Programs, hook: Hook, function: str) -> None:
        self._netlink, self._programs = netlink, programs
        self._hook, self._function = hook, function

    def observe(self) -> Attached | None:
        """Return the state of our filter, or None where there is none of ours."""
        found, programs = self.filter(), self._programs
        if found is None:
            return None
        is_right = programs.is_bound(found.program_id) and programs.runs_its_name(found.name, found.tag)
        return Attached(found.name, is_right, found.direct_action)

    def filter(self) -> Filter | None:
        """Return our filter as the kernel lists it, or None."""
        for entry in self._at_priority():
            if entry.handle == self._hook.handle and runs(entry, self._function):
                return entry
        return None

    def foreign(self) -> Filter | None:
        """Return the foreign bpf filter at our priority and handle, or None."""
        for entry in self._at_priority():
            if entry.handle == self._hook.handle and entry.kind == "bpf" and not runs(entry, self._function):
                return entry
        return None

    def refuse_foreign(self, was_ours: bool = False) -> None:
        """Raise Conflict when a foreign filter keeps ours from its priority and handle.

        With `was_ours` a foreign filter may have come by replacing ours. That is drift, and ours replaces it again.
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

    def attach(self, name: str, program: int, program_id: int) -> None:
        """Attach a loaded program under a name, in place where a filter is; make the clsact qdisc where there is none.

        Raises VerificationFailed when the hook runs another program afterwards.
        """
        with ExitStack() as undo:
            if not self._netlink.has_clsact(self._hook.ifindex):
                # The marker comes first: a run that is killed in between must not leave a qdisc without a marker.
                undo.callback(self.drop_clsact)
                self._programs.pins.set_marker(self._marker())
                self._netlink.add_clsact(self._hook.ifindex)
            self._netlink.replace_filter(*self._hook, program, name)
            undo.pop_all()
        found = self.filter()
        if found is None or found.program_id != program_id:
            raise VerificationFailed(
                f"the filter on {self._hook.direction} runs program {found and found.program_id}, not {program_id} as"
                " asked: is another program managing this hook?"
            )

    def detach(self) -> None:
        """Remove our filter, and the clsact qdisc if it is ours and unused."""
        self._netlink.delete_filter(*self._hook)
        self.drop_clsact()

    def drop_clsact(self) -> None:
        """Remove the clsact qdisc if we made it and no filter is left on it."""
        pins, ifindex = self._programs.pins, self._hook.ifindex
        if pins.has_marker(self._marker()) and not any(self._netlink.filters(ifindex, way) for way in DIRECTIONS):
            self._netlink.delete_clsact(ifindex)
            pins.clear_marker(self._marker())

    def _at_priority(self) -> list[Filter]:
        listed = self._netlink.filters(self._hook.ifindex, self._hook.direction)
        return [entry for entry in listed if entry.priority == self._hook.priority]

    def _marker(self) -> str:
        return clsact_marker(self._hook.ifindex)


def is_moving(pins: Pins) -> bool:
    """Return whether a run was killed while it moved programs to a bigger image."""
    return pins.has_marker(MOVING)


def clsact_marker(ifindex: int) -> str:
    """Return the name of the marker that the clsact qdisc of an interface is ours."""
    return f"clsact_{ifindex}"


def clsact_markers(pins: Pins) -> set[int]:
    """Return the indexes of the interfaces that have such a marker."""
    return {int(name[len("clsact_") :]) for name in pins.names() if re.fullmatch("clsact_[0-9]+", name)}


def users(netlink: Netlink, programs: Programs, function: str, links: Sequence[Link] | None = None) -> list[Attachment]:
    """Return each filter that runs this function on maps pinned here, or on no maps at all."""
    found = []
    for link in netlink.interfaces() if links is None else links:
        for direction in DIRECTIONS:
            for entry in netlink.filters(link.ifindex, direction):
                if runs(entry, function) and programs.shares_maps(entry.program_id):
                    found.append(Attachment(link, direction, entry))
    return found


def move_to_image(bpf: Bpf, netlink: Netlink, programs: Programs, blob: Blob, image: int) -> None:
    """Pin another image map, and replace each filter of a program by the program loaded on that map.

    Each replacement is in place. When one fails, all before it are undone. A run that is killed half way leaves the
    marker MOVING, and the next run moves again.
    """
    pins = programs.pins
    with ExitStack() as done, ExitStack() as undo:
        pins.set_marker(MOVING)
        undo.callback(pins.clear_marker, MOVING)
        moved = programs.load(blob, image)
        done.callback(os.close, moved)
        old_image = bpf.open_pin(pins.path("image"))
        if old_image is not None:
            done.callback(os.close, old_image)
            undo.callback(pins.replace, "image", old_image)
        pins.replace("image", image)
        for attachment in users(netlink, programs, blob.function):
            program_id, name = attachment.filter.program_id, attachment.filter.name
            if program_id is None:
                continue
            old = bpf.program_by_id(program_id)
            done.callback(os.close, old)
            undo.callback(netlink.replace_filter, *attachment.hook, old, name)
            netlink.replace_filter(*attachment.hook, moved, filter_name(blob.function, blob.identity))
        programs.remember(moved, blob, done, undo)
        pins.clear_marker(MOVING)
        undo.pop_all()
