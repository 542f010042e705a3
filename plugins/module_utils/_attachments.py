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
from contextlib import ExitStack
from typing import Mapping, NamedTuple, Optional

from . import _codec as codec
from ._blob import Blob, blob_from_json
from ._diff import Changes
from ._errors import Conflict, InvalidInput, KernelRefused, LimitExceeded, VerificationFailed
from ._layout import BLOB_BYTES, LAYOUT

META = codec.key(0)
IDENTITY_DIGITS = 12
OUR_NAME = re.compile(r"(\w+):([0-9a-f]{%d})" % IDENTITY_DIGITS)
DIRECTIONS = ("ingress", "egress")


class Hook(NamedTuple):
    """Where one filter stands."""

    ifindex: int
    direction: str
    priority: int
    handle: int


class Attached(NamedTuple):
    """What stands there: the program's name as the filter says it, and whether it uses the maps pinned now."""

    name: str
    bound: bool = True
    direct_action: bool = True


def filter_name(function: str, identity: str) -> str:
    """Return the name that a filter running this program bears."""
    return f"{function}:{identity[:IDENTITY_DIGITS]}"


class Programs:
    """The program pinned in one pin folder, and the blob it came from."""

    def __init__(self, bpf, pins):
        self._bpf, self.pins = bpf, pins

    def meta(self) -> Optional[dict]:
        """Return struct meta, or None when no program of ours was loaded yet."""
        if "meta" not in self.pins.shapes or "meta" in self.pins.missing():
            return None
        values = codec.decode("meta", self._bpf.lookup(self.pins.fd("meta"), META, codec.size_of("meta")))
        return values if values["blob_bytes"] else None

    def blob(self) -> Optional[Blob]:
        """Return the blob of the pinned program, or None where none is kept or another release wrote it."""
        meta = self.meta()
        if meta is None:
            return None
        try:
            return blob_from_json(meta["blob"][: meta["blob_bytes"]].decode())
        except (InvalidInput, UnicodeDecodeError):
            return None

    def open(self, blob: Blob) -> int:
        """Return a descriptor of this program: the pinned one when it is the same, else newly loaded."""
        meta = self.meta()
        if meta is not None and meta["identity"].hex() == blob.identity and self.is_bound(self.pinned()):
            return self._bpf.open_pin(self.pins.path("program"))
        return self.load(blob)

    def load(self, blob: Blob, image: Optional[int] = None) -> int:
        """Load a blob on the pinned maps (or on another image map) and return its descriptor."""
        descriptors = {name: self.pins.fd(name) for name in blob.maps}
        if image is not None:
            descriptors["image"] = image
        return self._bpf.load_program(blob.bind(descriptors), blob.function)

    def remember(self, program: int, blob: Blob) -> None:
        """Pin a program as the current one, with the blob to load it again."""
        if "meta" in self.pins.shapes:
            self._bpf.update(self.pins.fd("meta"), META, _encode_meta(blob), "meta")
        self.pins.replace("program", program)

    def pinned(self) -> Optional[int]:
        """Return the id of the pinned program, or None."""
        if "program" not in self.pins.names():
            return None
        descriptor = self._bpf.open_pin(self.pins.path("program"))
        try:
            return self._bpf.program_info(descriptor).id
        finally:
            os.close(descriptor)

    def is_bound(self, program_id: Optional[int]) -> bool:
        """Whether a loaded program uses no map but those pinned now."""
        if program_id is None or "program" not in self.pins.names() or not self.pins.complete:
            return False
        try:
            descriptor = self._bpf.program_by_id(program_id)
        except KernelRefused:
            return False  # it went between the listing and now
        try:
            return set(self._bpf.program_info(descriptor).map_ids) <= self.pins.map_ids()
        finally:
            os.close(descriptor)


def _encode_meta(blob: Blob) -> bytes:
    text = blob.to_json().encode()
    if len(text) > BLOB_BYTES:
        raise LimitExceeded("bytes of the program's blob", len(text), BLOB_BYTES)
    return codec.encode(
        "meta",
        {
            "layout": LAYOUT,
            "instructions": blob.count,
            "blob_bytes": len(text),
            "identity": bytes.fromhex(blob.identity),
            "source_sha256": bytes.fromhex(blob.source_sha256),
            "blob": text,
        },
    )


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
        return {self._hook: Attached(found.name, self._programs.is_bound(found.program_id), found.direct_action)}

    def filter(self):
        """Return our filter as the kernel lists it, or None."""
        for entry in self._at_priority():
            named = OUR_NAME.fullmatch(entry.name)
            if entry.kind == "bpf" and entry.handle == self._hook.handle and named and named.group(1) == self._function:
                return entry
        return None

    def refuse_strangers(self) -> None:
        """Raise Conflict when somebody else's filter keeps ours from its priority and handle."""
        ours = self.filter()
        for entry in self._at_priority():
            if entry != ours and (entry.handle == self._hook.handle or entry.kind != "bpf"):
                raise Conflict(
                    f"priority {self._hook.priority} handle {self._hook.handle:#x} of {self._hook.direction} is taken by a"
                    f" filter that is not ours ({entry.kind} {entry.name or 'without a name'}, handle {entry.handle:#x}):"
                    " nothing was changed; choose another priority, or remove it with `tc filter del`"
                )

    def ahead(self) -> list:
        """Return the filters that run before ours."""
        hook = self._hook
        return [entry for entry in self._netlink.filters(hook.ifindex, hook.direction) if entry.priority < hook.priority]

    def apply(self, changes: Changes, want: Mapping) -> None:
        """Attach in place, or detach."""
        for attached in changes.puts.values():
            self._attach(attached)
        if changes.deletes:
            self._netlink.delete_filter(*self._hook)
            self._drop_clsact()

    def _at_priority(self) -> list:
        hook = self._hook
        return [entry for entry in self._netlink.filters(hook.ifindex, hook.direction) if entry.priority == hook.priority]

    def _attach(self, attached: Attached) -> None:
        program, number = self._program()
        with ExitStack() as undo:
            if self._netlink.add_clsact(self._hook.ifindex):
                self._programs.pins.set_marker(self._marker())
                undo.callback(self._drop_clsact)
            self._netlink.replace_filter(*self._hook, program, attached.name)
            undo.pop_all()
        found = self.filter()
        if found is None or found.program_id != number:
            raise VerificationFailed(
                f"the filter on {self._hook.direction} runs program {found and found.program_id}, not {number} as asked:"
                " is another program managing this hook?"
            )

    def _drop_clsact(self) -> None:
        """Remove the clsact qdisc if we made it and nothing is left on it."""
        pins, ifindex = self._programs.pins, self._hook.ifindex
        if pins.has_marker(self._marker()) and not any(self._netlink.filters(ifindex, way) for way in DIRECTIONS):
            self._netlink.delete_clsact(ifindex)
            pins.clear_marker(self._marker())

    def _marker(self) -> str:
        return f"clsact_{self._hook.ifindex}"


def users(netlink, programs: Programs, function: str) -> list:
    """Return (Link, direction, Filter) of every filter that runs this function on the maps pinned here."""
    found = []
    for link in netlink.interfaces():
        for direction in DIRECTIONS:
            for entry in netlink.filters(link.ifindex, direction):
                named = OUR_NAME.fullmatch(entry.name)
                if named and named.group(1) == function and programs.is_bound(entry.program_id):
                    found.append((link, direction, entry))
    return found


def move_to_image(bpf, netlink, programs: Programs, function: str, image: int) -> None:
    """Put the pinned program, loaded on another image map, in the place of each of its filters.

    Each replacement is in place; when one fails, those before it are taken back.
    """
    blob = programs.blob()
    if blob is None:
        return
    moved = programs.load(blob, image)
    try:
        with ExitStack() as undo:
            for link, direction, entry in users(netlink, programs, function):
                hook = Hook(link.ifindex, direction, entry.priority, entry.handle)
                old = bpf.program_by_id(entry.program_id)
                undo.callback(os.close, old)
                netlink.replace_filter(*hook, moved, filter_name(function, blob.identity))
                undo.callback(netlink.replace_filter, *hook, old, entry.name)
            programs.remember(moved, blob)
            undo.pop_all()
    finally:
        os.close(moved)
