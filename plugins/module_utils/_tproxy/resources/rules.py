# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The rule table: {identity: Rule} in the image that the program walks.

1. What is enforced and what is read back is one object: the canonical rules lie behind the nodes compiled from them.
2. An image is filled aside, verified there, and then put in force by one update of the outer map.
3. A rule keeps its slot, and so its counters, for as long as its identity lives.
4. An image that outgrows its map gets a bigger outer map; `rebind` pins it and moves the attached programs over to it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from typing import Callable

from ..abi import structs as codec
from ..abi.layout import IMAGE_PAGES_MIN, PAGE_BYTES, PAGE_WORDS
from ..errors import LayoutMismatch, VerificationFailed
from ..ruleset.compile import compile_image
from ..ruleset.digest import HEADER_BYTES, ImageDigest, is_changing, is_edited, without_digest
from ..ruleset.groups import classes_of
from ..ruleset.records import ImageContents, read_image
from ..ruleset.reference import assign_slots
from ..ruleset.verify import verify_image
from .pins import inner_shape
from .reconcile import Changes

COPIES = 8  # at most, until one was made between two changes
CURRENT, PREVIOUS = codec.key(0), codec.key(1)
EMPTY = ImageContents(generation=0, rules=[], bindings={}, pages=0, slots=1)


class RuleTable:
    """Rules by identity. `ifindex_of` gives an interface's index by its name, None while there is none of that name.

    `nothing` is what stands for no image at all. `judge` is told of changes and of the words compiled from them before
    anything is put in force, in check mode too; it raises what it refuses.
    """

    ignore_damage = False  # whether an image that cannot be read counts as none
    judge: Callable = staticmethod(lambda changes, words: None)

    def __init__(self, bpf, pins, ifindex_of: Callable, rebind: Callable[[int], None], nothing: ImageContents = EMPTY):
        self._bpf, self._pins = bpf, pins
        self._ifindex_of, self._rebind, self._nothing = ifindex_of, rebind, nothing
        self._compiled, self._new = None, []

    def observe(self) -> dict:
        """Return {identity: Rule}; {} while there are no maps."""
        return {rule.identity: rule for rule, _slot in self.contents().rules}

    def contents(self) -> ImageContents:
        """Return what the image in force says of itself."""
        return self.reading()[0]

    def reading(self) -> tuple:
        """Return (what the image in force says of itself, how one sees that it was edited by hand or "")."""
        try:
            words = self.words()
            if words is None:
                return self._nothing, ""
            contents = read_image(words)
            return contents, "its words do not have their digest" if is_edited(words) else ""
        except (LayoutMismatch, VerificationFailed) as fault:
            if self.ignore_damage:
                return self._nothing, str(fault)
            raise

    def words(self):
        """Return the words of the image in force, None while there is none."""
        inner = None if "image" in self._pins.missing() else self._open(CURRENT)
        if inner is None:
            return None
        try:
            return self._words(inner)
        finally:
            os.close(inner)

    def stamp(self) -> tuple | None:
        """Return what tells the image in force from every other one, without a look at its rules; None without one."""
        inner = None if "image" in self._pins.missing() else self._open(CURRENT)
        if inner is None:
            return None
        try:
            info = self._bpf.map_info(inner)
            with self._bpf.window(inner, info.entries * PAGE_BYTES, False) as memory:
                return info.id, bytes(memory[:HEADER_BYTES]), ImageDigest(memory).value
        finally:
            os.close(inner)

    def bindings(self, rules) -> dict:
        """Return {ifindex: class} that an image of these [(Rule, slot)] would have with today's interfaces."""
        return classes_of(rules, self.ifindexes(rule for rule, _slot in rules)).bound

    def capacity(self) -> int:
        """Return how many pages an image may have before its map must grow."""
        inner = self._open(CURRENT)
        if inner is None:
            return IMAGE_PAGES_MIN
        try:
            return self._bpf.map_info(inner).entries
        finally:
            os.close(inner)

    def prepare(self, changes: Changes, want: Mapping) -> None:
        """Compile and verify the whole set. Raises LimitExceeded, VerificationFailed."""
        self.judge(changes, self.compile(want))

    def compile(self, want: Mapping):
        """Return the verified words of a rule set, which apply() will put in force. Raises as prepare()."""
        before = self.contents()
        kept = {rule.identity: slot for rule, slot in before.rules}
        slots = assign_slots(want.values(), kept)
        slotted = [(rule, slots[identity]) for identity, rule in want.items()]
        ifindexes = self.ifindexes(want.values())
        self._compiled = compile_image(slotted, ifindexes, before.generation + 1)
        self._new = [slot for identity, slot in slots.items() if identity not in kept]
        verify_image(self._compiled, slotted, ifindexes)
        return self._compiled

    def apply(self, changes: Changes, want: Mapping) -> None:
        """Put the whole set in force with one update."""
        self._pins.ensure()
        self.zero(self._new)
        self.commit(self._compiled)

    def keep_previous(self) -> None:
        """Keep a copy of the image in force, for what falls back to it. A copy: the image may be written in place."""
        inner = self._open(CURRENT)
        if inner is None:
            self.forget_previous()
        else:
            self._copy(inner, self._pins.fd("image"), self.capacity())

    def forget_previous(self) -> None:
        """Let go of that copy."""
        self._bpf.delete(self._pins.fd("image"), PREVIOUS, "image")

    def restore(self, have: Mapping) -> None:
        """Nothing to do: apply() is one update, and what comes before it is in nobody's sight."""

    def hits(self, slots) -> dict:
        """Return {slot: {packets, bytes}}; zeros where there are no counters of ours."""
        if not self._pins.has("hits"):
            return {slot: {"packets": 0, "bytes": 0} for slot in slots}
        descriptor, size = self._pins.fd("hits"), codec.size_of("counter") * self._bpf.possible_cpus()
        return {slot: codec.sum_counters(self._bpf.lookup(descriptor, codec.key(slot), size)) for slot in slots}

    def ifindexes(self, rules) -> dict:
        """Return {name: ifindex} of the interfaces that rules name and that are there."""
        names = {name for rule in rules for name in rule.interfaces}
        found = {name: self._ifindex_of(name) for name in sorted(names)}
        return {name: ifindex for name, ifindex in found.items() if ifindex is not None}

    def zero(self, slots) -> None:
        """Let the counters of these slots begin anew."""
        descriptor, zero = self._pins.fd("hits"), codec.no_counters(self._bpf.possible_cpus())
        for slot in slots:
            self._bpf.update(descriptor, codec.key(slot), zero, "hits")

    def commit(self, words) -> None:
        """Put an image in force, in a new inner map."""
        pages = len(words) // PAGE_WORDS
        capacity = self.capacity()
        if pages <= capacity:
            self._fill(self._pins.fd("image"), words, capacity)
            return
        outer = self._pins.create("image", _room_for(pages))
        try:
            previous = self._open(PREVIOUS)
            if previous is not None:
                self._copy(previous, outer, _room_for(pages))
            self._fill(outer, words, _room_for(pages))
            self._rebind(outer)
        finally:
            os.close(outer)

    def _copy(self, inner: int, outer: int, capacity: int) -> None:
        """Put a copy of an image, which it closes, beside the one in force; all in a map have the same capacity."""
        try:
            self._fill(outer, self._words(inner), capacity, PREVIOUS)
        finally:
            os.close(inner)

    def _fill(self, outer: int, words, capacity: int, slot: bytes = CURRENT) -> None:
        """Write the words into a new inner map and put it in force, or in another slot."""
        inner = self._bpf.create_map(inner_shape(capacity), "pages")
        try:
            with self._bpf.window(inner, capacity * PAGE_BYTES, True) as memory:
                memory[: 4 * len(words)] = words.tobytes()
            self._bpf.update(outer, slot, struct.pack("=I", inner), "image")
        finally:
            os.close(inner)

    def number(self) -> int | None:
        """Return the id of the inner map in force: another one means that somebody committed."""
        found = self._bpf.lookup(self._pins.fd("image"), CURRENT, 4)
        return None if found is None else struct.unpack("=I", found)[0]

    def open_current(self):
        """Return a descriptor of the inner map in force, or None when none ever was."""
        return self._open(CURRENT)

    def _open(self, slot: bytes):
        """Return a descriptor of the inner map in a slot, or None when there is none."""
        number = self._bpf.lookup(self._pins.fd("image"), slot, 4)
        return None if number is None else self._bpf.map_by_id(struct.unpack("=I", number)[0])

    def _words(self, inner: int):
        """Return the image's words, after a look at the map's shape."""
        info = self._bpf.map_info(inner)
        if info.shape != inner_shape(info.entries):
            raise LayoutMismatch(f"the image in {self._pins.path('image')} is no image of this release: remove the pin")
        with self._bpf.window(inner, info.entries * PAGE_BYTES, False) as memory:
            return memoryview(_settled(memory)).cast("I")


def _room_for(pages: int) -> int:
    """Return a power of two that leaves the image room to grow a little."""
    room = IMAGE_PAGES_MIN
    while room < pages:
        room *= 2
    return room


def _settled(memory) -> bytes:
    """Return a copy of an image, as it was between two changes in place.

    Readers take no turn. One that meets a change every time gets a copy that says nothing of edits by hand.
    """
    header, copy = b"", b""
    for _attempt in range(COPIES):
        header, copy = memory[:HEADER_BYTES], memory[:]
        if memory[:HEADER_BYTES] == header and not is_changing(header):
            return copy
    return copy if memory[:HEADER_BYTES] == header else without_digest(copy)
