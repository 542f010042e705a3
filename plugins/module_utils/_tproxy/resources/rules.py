# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The rules in force, as the image holds them.

The image holds the canonical rules beside the nodes compiled from them. So the rules that the program enforces and the
rules that are read back are one object. rule_table.py writes images.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from ..abi import structs as codec
from ..abi.layout import IMAGE_PAGES_MIN, PAGE_BYTES
from ..errors import LayoutMismatch, VerificationFailed
from ..model.rule import Identity, Rule
from ..ruleset.digest import HEADER_BYTES, ImageDigest, is_changing, is_edited, without_digest
from ..ruleset.groups import interface_groups
from ..ruleset.records import ImageContents, SlottedRule, read_image
from ..system.system import Bpf
from . import hit_counters
from .pins import Pins, inner_shape

COPIES = 8  # at most, until one was made between two changes
CURRENT, PREVIOUS = codec.key(0), codec.key(1)
EMPTY = ImageContents(generation=0, rules=[], bindings={}, pages=0, slots=1)
EDITED = "its words do not have their digest"


class Version(NamedTuple):
    """The id of an inner map and the header of its image. Each change in place gives the header another generation."""

    number: int | None
    header: bytes


NO_IMAGE = Version(None, b"")


@dataclass(frozen=True)
class RuleSnapshot:
    """An image, read and decoded once.

    `words` is None while there is no image. `version` tells whether the image was replaced or changed since. `damage`
    tells how the image differs from one that a run has written, or is "".
    """

    contents: ImageContents
    words: memoryview | None = None
    version: Version = NO_IMAGE
    damage: str = ""

    @cached_property
    def rules(self) -> dict[Identity, Rule]:
        """The rules by their identity."""
        return {rule.identity: rule for rule, _slot in self.contents.rules}


class Stamp(NamedTuple):
    """The identity of an image: the id of its inner map, its header and the digest of its words."""

    number: int
    header: bytes
    digest: int


class RuleReader:
    """The rules in the image map, to read. `entry` is that of an image: CURRENT or PREVIOUS.

    `ifindex_of` returns the index of an interface, or None while it does not exist. `ignore_damage`: an image that
    cannot be read counts as none. `empty` are the contents of pins without an image.
    """

    def __init__(
        self,
        bpf: Bpf,
        pins: Pins,
        ifindex_of: Callable[[str], int | None],
        ignore_damage: bool = False,
        empty: ImageContents = EMPTY,
    ) -> None:
        self._bpf, self._pins = bpf, pins
        self._ifindex_of = ifindex_of
        self._ignore_damage, self._empty = ignore_damage, empty

    def load(self, entry: bytes = CURRENT) -> RuleSnapshot:
        """Return an image, decoded. Raises LayoutMismatch or VerificationFailed for one that is damaged."""
        version = NO_IMAGE
        inner = None if "image" in self._pins.missing() else self._open(entry)
        if inner is None:
            return RuleSnapshot(self._empty)
        try:
            version = self._version(inner)
            words = self._words(inner)
            return RuleSnapshot(read_image(words), words, version, EDITED if is_edited(words) else "")
        except (LayoutMismatch, VerificationFailed) as fault:
            if self._ignore_damage:
                return RuleSnapshot(self._empty, version=version, damage=str(fault))
            raise
        finally:
            os.close(inner)

    def is_stale(self, snapshot: RuleSnapshot) -> bool:
        """Return whether an interface that a rule names has come, gone or got another index since the compilation."""
        return self.bindings(snapshot.contents.rules) != snapshot.contents.bindings

    def stamp(self) -> Stamp | None:
        """Return the stamp of the image in force without decoding it, None while there is no image."""
        inner = None if "image" in self._pins.missing() else self._open(CURRENT)
        if inner is None:
            return None
        try:
            info = self._bpf.map_info(inner)
            with self._bpf.mapped_memory(inner, info.entries * PAGE_BYTES, False) as memory:
                return Stamp(info.id, bytes(memory[:HEADER_BYTES]), ImageDigest(memory).value)
        finally:
            os.close(inner)

    def bindings(self, slotted: Sequence[SlottedRule]) -> dict[int, int]:
        """Return {ifindex: interface group} that an image of these rules has with the interfaces of now."""
        return interface_groups(slotted, self.ifindexes(rule for rule, _slot in slotted)).group_of

    def capacity(self) -> int:
        """Return the number of pages that an image may have before its map must grow."""
        inner = self._open(CURRENT)
        if inner is None:
            return IMAGE_PAGES_MIN
        try:
            return self._bpf.map_info(inner).entries
        finally:
            os.close(inner)

    def hits(self, slots: Iterable[int]) -> dict[int, dict[str, int]]:
        """Return {slot: {packets, bytes}}; zeros while the map of counters is not pinned."""
        if not self._pins.has("hits"):
            return {slot: {"packets": 0, "bytes": 0} for slot in slots}
        with hit_counters.opened(self._bpf, self._pins.fd("hits")) as counters:
            return counters.read(slots)

    def ifindexes(self, rules: Iterable[Rule]) -> dict[str, int]:
        """Return {name: ifindex} of the interfaces that rules name and that exist."""
        names = {name for rule in rules for name in rule.interfaces}
        found = {name: self._ifindex_of(name) for name in sorted(names)}
        return {name: ifindex for name, ifindex in found.items() if ifindex is not None}

    def number(self, entry: bytes = CURRENT) -> int | None:
        """Return the id of an inner map. Each commit puts another one in force."""
        found = self._bpf.lookup(self._pins.fd("image"), entry, 4)
        return None if found is None else struct.unpack("=I", found)[0]

    def open_image(self, entry: bytes) -> int | None:
        """Return a descriptor of an inner map, or None while there is none."""
        return self._open(entry)

    def version(self, entry: bytes = CURRENT) -> Version:
        """Return the version of an image, without reading the image."""
        inner = None if "image" in self._pins.missing() else self._open(entry)
        if inner is None:
            return NO_IMAGE
        try:
            return self._version(inner)
        finally:
            os.close(inner)

    def _version(self, inner: int) -> Version:
        with self._bpf.mapped_memory(inner, PAGE_BYTES, False) as memory:
            return Version(self._bpf.map_info(inner).id, bytes(memory[:HEADER_BYTES]))

    def _open(self, entry: bytes) -> int | None:
        number = self._bpf.lookup(self._pins.fd("image"), entry, 4)
        return None if number is None else self._bpf.map_by_id(struct.unpack("=I", number)[0])

    def _words(self, inner: int) -> memoryview:
        """Return the words of an image. Raises LayoutMismatch for a map of another shape."""
        info = self._bpf.map_info(inner)
        if info.shape != inner_shape(info.entries):
            raise LayoutMismatch(f"the image in {self._pins.path('image')} is no image of this release: remove the pin")
        with self._bpf.mapped_memory(inner, info.entries * PAGE_BYTES, False) as memory:
            return memoryview(_settled(memory)).cast("I")


def _settled(memory: Any) -> bytes | bytearray:
    """Return a copy of an image as it was between two changes in place.

    Readers do not take the lock. After COPIES attempts a reader gets a copy without digest, which hides edits by hand.
    """
    header, copy = b"", b""
    for _attempt in range(COPIES):
        header, copy = memory[:HEADER_BYTES], memory[:]
        if memory[:HEADER_BYTES] == header and not is_changing(header):
            return bytes(copy)
    return bytes(copy) if memory[:HEADER_BYTES] == header else without_digest(copy)
