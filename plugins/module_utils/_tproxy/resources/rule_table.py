# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The rule table: the change of the image that the program reads.

1. A new image is filled aside, verified there, and put in force by one update of the outer map.
2. A rule keeps its slot, and so its counters, as long as its identity exists.
3. An image that outgrows its map gets a bigger outer map, and rules that outgrow the counters get a longer map of hits.
   The attached programs are moved to these maps. Packets that they count while the counters are copied count for none.
4. Calls of OpenZiti routers may change the image in force while a run compiles. Then the run compiles an image with
   free space, in which it repeats the changes of later calls under the image lock.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..abi.layout import HEADER_SLOTS, PAGE_BYTES, PAGE_WORDS
from ..errors import LimitExceeded, TproxyError
from ..model.rule import Identity, Rule
from ..ruleset.records import ImageContents, SlottedRule, assign_slots
from ..system.system import Bpf, System
from . import hit_counters
from .attachments import move_to_maps
from .pins import GROWING, Pins, inner_shape
from .programs import Programs
from .reconcile import Changes, diff
from .rules import CURRENT, EMPTY, PREVIOUS, RuleReader, RuleSnapshot

if TYPE_CHECKING:
    from ..ruleset.compile import RuleImage


@dataclass(frozen=True)
class CompiledRules:
    """A verified image that is not in force yet. `new_slots` are those of rules that the image before did not have.

    `image` is the compiled form of an image with free space, or None.
    """

    words: array[int]
    new_slots: tuple[int, ...]
    image: RuleImage | None = None

    @property
    def pages(self) -> int:
        """The size of the image."""
        return len(self.words) // PAGE_WORDS


class Prediction(NamedTuple):
    """An image that the prediction of a change has compiled, and all that it was compiled from."""

    rules: list[SlottedRule]
    ifindexes: dict[str, int]
    generation: int
    words: array[int]


class RuleTable(RuleReader):
    """The rules in the image map. `move` pins other maps and moves the attached programs to them.

    `predicted` keeps the image that the prediction of a change has compiled, for the change itself.
    """

    def __init__(
        self,
        bpf: Bpf,
        pins: Pins,
        ifindex_of: Callable[[str], int | None],
        move: Callable[[Mapping[str, int]], None],
        ignore_damage: bool = False,
        empty: ImageContents = EMPTY,
        predicted: MutableMapping[str, Any] | None = None,
    ) -> None:
        super().__init__(bpf, pins, ifindex_of, ignore_damage, empty)
        self._move, self._predicted = move, predicted
        self._with_space = False

    def with_space(self) -> RuleTable:
        """Return the same table, which compiles images with free space where that is possible."""
        other = RuleTable(self._bpf, self._pins, self._ifindex_of, self._move, self._ignore_damage, self._empty)
        other._with_space = True
        return other

    def entries(self, snapshot: RuleSnapshot) -> Mapping[Identity, Rule]:
        """Return the rules of a snapshot by their identity."""
        return snapshot.rules

    def prepare(
        self, snapshot: RuleSnapshot, changes: Changes[Identity, Rule], want: Mapping[Identity, Rule]
    ) -> CompiledRules:
        """Return the whole set compiled and verified. Raises LimitExceeded, VerificationFailed."""
        kept = {rule.identity: slot for rule, slot in snapshot.contents.rules}
        slots = assign_slots(want.values(), kept)
        slotted = [SlottedRule(rule, slots[identity]) for identity, rule in want.items()]
        ifindexes, generation = self.ifindexes(want.values()), snapshot.contents.generation + 1
        image, words = None, self._known(slotted, ifindexes, generation)
        if words is None:
            from ..ruleset.verify import verify_image

            image, words = self._compile(slotted, ifindexes, generation)
            verify_image(words, slotted, ifindexes)
            if self._predicted is not None and image is None:
                self._predicted["image"] = Prediction(slotted, ifindexes, generation, words)
        return CompiledRules(words, tuple(slot for identity, slot in slots.items() if identity not in kept), image)

    def _known(self, rules: list[SlottedRule], ifindexes: dict[str, int], generation: int) -> array[int] | None:
        """Return the verified image of the prediction, if it was compiled from the same."""
        known: Prediction | None = (self._predicted or {}).get("image")
        if known is None or known[:3] != (rules, ifindexes, generation):
            return None
        return known.words

    def _compile(
        self, rules: Sequence[SlottedRule], ifindexes: Mapping[str, int], generation: int
    ) -> tuple[RuleImage | None, array[int]]:
        from ..ruleset.compile import RuleImage, compile_image
        from ..ruleset.nodes import FullCompileNeeded

        if self._with_space:
            with suppress(FullCompileNeeded, LimitExceeded):
                image = RuleImage(rules, ifindexes, generation, self.capacity())
                return image, image.words
        return None, compile_image(rules, ifindexes, generation)

    def follow(self, work: CompiledRules, now: RuleSnapshot, want: Mapping[Identity, Rule]) -> CompiledRules | None:
        """Return an image with free space, changed to the wanted rules; None if it must be compiled again.

        Another writer has put `now` in force since the image was compiled. A rule keeps the slot that it has now.
        """
        if work.image is None:
            return None
        from ..ruleset.nodes import FullCompileNeeded

        slots = {rule.identity: slot for rule, slot in now.contents.rules}
        changes = diff({identity: rule for identity, (rule, _slot) in work.image.rules.items()}, want)
        try:
            work.image.change(changes.deletes, changes.puts.values(), slots)
        except FullCompileNeeded:
            return None
        work.image.set_generation(now.contents.generation + 1)
        new = (slot for identity, (_rule, slot) in work.image.rules.items() if identity not in slots)
        return CompiledRules(work.image.words, tuple(new), work.image)

    def apply(self, work: CompiledRules) -> None:
        """Put the whole set in force with one update."""
        self._pins.ensure()
        self.zero(work.new_slots)
        self.commit(work.words)

    def restore(self, snapshot: RuleSnapshot) -> None:
        """Put the image of a snapshot back, if another one is in force. A refusal does not hide the first error."""
        with suppress(TproxyError):
            if self.number() == snapshot.version.number:
                return
            if snapshot.words is None:
                self._bpf.delete(self._pins.fd("image"), CURRENT, "image")
            else:
                self.commit(snapshot.words)

    def keep_previous(self) -> None:
        """Keep a copy of the image in force for the confirm deadline. The image itself may be changed in place."""
        inner = self._open(CURRENT)
        if inner is None:
            self.forget_previous()
        else:
            self._copy(inner, self._pins.fd("image"), self.capacity())

    def forget_previous(self) -> None:
        """Remove the copy that keep_previous() made."""
        self._bpf.delete(self._pins.fd("image"), PREVIOUS, "image")

    def change_previous(self, desired: Callable[[Mapping[Identity, Rule]], Mapping[Identity, Rule]]) -> RuleSnapshot:
        """Change the rules of the previous image, if there is one; return that image before the change."""
        had = self.load(PREVIOUS)
        if had.words is not None:
            want = desired(had.rules)
            changes = diff(had.rules, want)
            if changes:
                self.commit(self.prepare(had, changes, want).words, PREVIOUS)
        return had

    def restore_previous(self, had: RuleSnapshot) -> None:
        """Put the previous image back that change_previous() returned. A refusal does not hide the first error."""
        with suppress(TproxyError):
            if had.words is not None and self.number(PREVIOUS) != had.version.number:
                self.commit(had.words, PREVIOUS)

    def wait_for_programs(self, entry: bytes) -> None:
        """Wait until each program has ended that runs now.

        The update of an outer map waits for a grace period of RCU (maybe_wait_bpf_programs() in kernel/bpf/syscall.c).
        """
        inner = self._open(entry)
        if inner is not None:
            try:
                self._bpf.update(self._pins.fd("image"), entry, struct.pack("=I", inner), "image")
            finally:
                os.close(inner)

    def zero(self, slots: Iterable[int]) -> None:
        """Set the counters of these slots to zero. Those that the map lacks begin with zero."""
        with hit_counters.opened(self._bpf, self._pins.fd("hits")) as counters:
            counters.zero(slots)

    def commit(self, words: array[int] | memoryview, entry: bytes = CURRENT) -> None:
        """Put an image in a new inner map, and that map in force or beside the one in force."""
        pages, slots = len(words) // PAGE_WORDS, words[HEADER_SLOTS]
        capacity, counters = self.capacity(), self.counters()
        if pages <= capacity and slots <= counters:
            self._fill(self._pins.fd("image"), words, capacity, entry)
            return
        capacity = _next_power(capacity, pages)
        with ExitStack() as opened:
            maps = {}
            if slots > counters:
                maps["hits"] = self._pins.create("hits", slots=_next_power(counters, slots))
                opened.callback(os.close, maps["hits"])
                self._copy_hits(maps["hits"])
            outer = maps["image"] = self._pins.create("image", capacity)
            opened.callback(os.close, outer)
            other = CURRENT if entry == PREVIOUS else PREVIOUS
            kept = self._open(other)
            if kept is not None:
                self._copy(kept, outer, capacity, other)
            self._fill(outer, words, capacity, entry)
            self._move(maps)

    def counters(self) -> int:
        """Return the number of slots of rules that the pinned map of hits can count."""
        return hit_counters.slots_of(self._bpf, self._pins.fd("hits")) if self._pins.has("hits") else 0

    def _copy_hits(self, longer: int) -> None:
        """Copy the counters of the pinned map of hits to a longer one."""
        pinned = self._pins.fd("hits")
        with hit_counters.opened(self._bpf, pinned) as counters, hit_counters.opened(self._bpf, longer) as target:
            counters.copy_to(target)

    def _copy(self, inner: int, outer: int, capacity: int, entry: bytes = PREVIOUS) -> None:
        """Put a copy of an image, which it closes, into a map; all in a map have the same capacity."""
        try:
            self._fill(outer, self._words(inner), capacity, entry)
        finally:
            os.close(inner)

    def _fill(self, outer: int, words: array[int] | memoryview, capacity: int, entry: bytes) -> None:
        """Write the words into a new inner map and put that in an entry of the outer map."""
        inner = self._bpf.create_map(inner_shape(capacity), "pages")
        try:
            with self._bpf.mapped_memory(inner, capacity * PAGE_BYTES, True) as memory:
                memory[: 4 * len(words)] = words.tobytes()
            self._bpf.update(outer, entry, struct.pack("=I", inner), "image")
        finally:
            os.close(inner)


def _next_power(size: int, needed: int) -> int:
    """Return the size of a new map, doubled until it suffices, so that the map can take more later."""
    while size < needed:
        size *= 2
    return size


def rule_table(system: System, pins: Pins, ignore_damage: bool = False, empty: ImageContents = EMPTY) -> RuleTable:
    """Return the rule table of a pin folder. See RuleTable for `ignore_damage` and `empty`."""
    return RuleTable(
        system.bpf,
        pins,
        system.ifindex_of,
        lambda maps: _move(system, pins, maps),
        ignore_damage,
        empty,
        system.predicted,
    )


def finish_move(system: System, pins: Pins) -> None:
    """Move the programs to the pinned maps, which a killed run has begun."""
    _move(system, pins, {name: pins.fd(name) for name in (*GROWING, "image")})


def _move(system: System, pins: Pins, maps: Mapping[str, int]) -> None:
    """Pin bigger maps, the image last: its rules need the counters. Where a program runs, move it to these maps."""
    programs = Programs(system.bpf, pins)
    blob = programs.blob()
    if blob is None:
        for name, descriptor in maps.items():
            pins.replace(name, descriptor)
        return
    with system.netlink() as netlink:
        move_to_maps(system.bpf, netlink, programs, blob, maps)
