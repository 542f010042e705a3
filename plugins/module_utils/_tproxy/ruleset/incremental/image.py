# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""An image with room to grow: one rule more or less is a few words, not another image.

    page 0   header, directory of class 0     then  actions, with room for slots
    page 1   interfaces that have a class     then  the canonical rules, and a journal for what becomes of them
    page 2   directories of further classes   then  nodes, up to the end
    then     IPv4 roots of each class: TCP, UDP, cover and its page

The program walks it as it walks any other. A change gives Writes; _live_nodes says which words may change in force.
A walk passes exactly one of the words that flip for one rule, so it sees the rule or does not. The cover of a new rule
comes before its flows, that of an old one goes after them: a fragment never runs ahead of its intercept.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import NamedTuple

from ...abi.layout import (
    ACTION_WORDS,
    ACTIONS_PER_PAGE,
    GROUP_BASE,
    HEADER_ACTIONS,
    HEADER_CHANGING,
    HEADER_DIGEST,
    HEADER_GENERATION,
    HEADER_GROUPS,
    HEADER_JOURNAL,
    HEADER_JOURNAL_END,
    HEADER_PAGES,
    HEADER_RULES,
    HEADER_SLOTS,
    HEADER_SOURCE,
    IMAGE_PAGES_MAX,
    INTERCEPT4_DADDR_HIGH,
    PAGE_WORDS,
    RULES,
)
from ...errors import LimitExceeded
from ...model.rule import Rule
from ..compile import CLASS_WORD, COVER, ROOT_PAGES, check_limits, tables_of, write_actions, write_header
from ..digest import ImageDigest
from ..groups import CLASS_PAGES, bound_page, classes_of
from ..records import encode_action, encode_entry, encode_source
from ..trie import FAMILIES
from .levels import Destinations, Level, Root
from .nodes import CompileAnew, LiveNodes
from .view import LiveView

CLASSES_MAX = 16
SPARE_SLOTS = 4096
SPARE_PAGES = 512
ENTRY_WORDS = 40  # of a journal entry with names of usual length
COVER_ADDED, FLOWS, COVER_REMOVED, PUBLISHED = range(4)
ACTION_PORT = 4  # word of an action that holds port, kind and flags: the only one that may change in force
CLASS_ROOT_PAGES = 3 * ROOT_PAGES + 1


class Writes(NamedTuple):
    """A change: `begin` [(word, value)]; then `fresh` [(first word, words)], where no walk comes yet; then `flips`.

    Those of begin and of flips are written in their order.
    """

    begin: list
    fresh: list
    flips: list


class LiveImage:
    """A rule set in force, {identity: (Rule, slot)}, and its words. After CompileAnew it is worthless."""

    def __init__(self, slotted: list, ifindexes: Mapping, generation: int, capacity: int):
        """Compile [(Rule, slot)] for a map of `capacity` pages, or for a bigger one.

        `ifindexes` is {name: ifindex} of today's interfaces. Raises LimitExceeded; CompileAnew for a set that needs
        compile_image: too many classes, or prefixes nested too deeply.
        """
        check_limits(slotted)
        self.rules = {rule.identity: (rule, slot) for rule, slot in slotted}
        self.ifindexes = dict(ifindexes)
        self._set_classes(classes_of(slotted, ifindexes))
        used = {slot for _rule, slot in slotted}
        self._slots = min(4 * max(used, default=0) + SPARE_SLOTS, RULES + 1)
        # One that loses its rule from here on is not used again: a packet may have read it, and not yet its action.
        self._free = [slot for slot in range(self._slots - 1, 0, -1) if slot not in used]
        source = encode_source(slotted)
        self._lay_out(len(source))
        self._nodes = LiveNodes(self._first_node_page)
        self._views = self._build(slotted)
        self._fill(slotted, source, generation)
        spare = max(SPARE_PAGES, 2 * (self._nodes.pages - self._first_node_page))
        self._nodes.fix_room(_room(self._nodes.pages + spare, capacity))
        self.words[HEADER_PAGES] = len(self.words) // PAGE_WORDS
        self._digest = ImageDigest(self.words)
        self.words[HEADER_DIGEST] = self._digest.value

    @property
    def words(self) -> array:
        """The image, in whole pages."""
        return self._nodes.words

    @property
    def generation(self) -> int:
        """Number of the last change."""
        return self.words[HEADER_GENERATION]

    def change(self, removes: list, puts: list) -> Writes:
        """Remove identities, and add or change Rules; return what must be written.

        Raises CompileAnew when that cannot be done in place.
        """
        self._nodes.begin()
        for identity in removes:
            self._remove(*self.rules.pop(identity))
        for rule in puts:
            self._put(rule)
        self._check_classes()
        if not self._published:
            return Writes([], [], [])
        self._nodes.phase = PUBLISHED
        for word, length in self._published:
            self._nodes.flip(word, length)
        self._nodes.flip(HEADER_GENERATION, self.generation + 1)
        self._published = []
        fresh, flips = self._nodes.fresh, self._nodes.flips()
        digest = self._digest.follow(self.words, [*fresh, *((word, 1) for word, _value in flips)])
        self.words[HEADER_DIGEST] = digest
        return Writes([(HEADER_CHANGING, 1)], fresh, [*flips, (HEADER_DIGEST, digest), (HEADER_CHANGING, 0)])

    # ---- a change ---------------------------------------------------------------------------

    def _put(self, rule: Rule) -> None:
        had, slot = self.rules.get(rule.identity, (None, 0))
        if had == rule:
            return
        if had:
            self._change_action(had, rule, slot)
        else:
            if not self._free:
                raise CompileAnew("no slot is left")
            slot = self._free.pop()
            self._nodes.write(self._action_at(slot), array("I", encode_action(rule)))
            self._add(rule, slot)
        self.rules[rule.identity] = rule, slot
        self._append(slot, rule)

    def _change_action(self, had: Rule, rule: Rule, slot: int) -> None:
        old, new = array("I", encode_action(had)), array("I", encode_action(rule))
        if had.action != rule.action or old[:ACTION_PORT] != new[:ACTION_PORT]:
            raise CompileAnew("an action changes in more than one word")
        self._nodes.phase = FLOWS
        self._nodes.flip(self._action_at(slot) + ACTION_PORT, new[ACTION_PORT])

    def _add(self, rule: Rule, slot: int) -> None:
        for number in self._classes_of(rule):
            if rule.interfaces:
                self._classes[number].add(slot)
            for phase, key, row in _rows(rule, slot):
                self._nodes.phase = phase
                self._views[number, key].add(*row)

    def _remove(self, rule: Rule, slot: int) -> None:
        for number in self._classes_of(rule):
            self._classes[number].discard(slot)
            for phase, key, row in _rows(rule, slot):
                self._nodes.phase = COVER_REMOVED if phase == COVER_ADDED else phase
                self._views[number, key].remove(*row)
        self._append(slot, None)

    def _append(self, slot: int, rule: Rule | None) -> None:
        """Append to the journal; the entry's first word is left to be published."""
        entry = encode_entry(slot, rule)
        if self._journal + len(entry) > self._journal_end:
            raise CompileAnew("the journal is full")
        self._published.append((self._journal, entry[0]))
        self._nodes.write(self._journal + 1, entry[1:])
        self._journal += len(entry)

    def _action_at(self, slot: int) -> int:
        return self.words[HEADER_ACTIONS] * PAGE_WORDS + slot * ACTION_WORDS

    # ---- classes ----------------------------------------------------------------------------

    def _set_classes(self, classes) -> None:
        if len(classes.numbers) > CLASSES_MAX:
            raise CompileAnew("too many classes")
        self._bound = classes.bound
        self._classes = {number: set(slots) for slots, number in classes.numbers.items()}
        self._published = []

    def _classes_of(self, rule: Rule) -> list:
        """Return the classes that see a rule. Raises CompileAnew when it would divide one, or make one."""
        if not rule.interfaces:
            return list(self._classes)
        named = {self.ifindexes[name] for name in rule.interfaces if name in self.ifindexes}
        if not named <= set(self._bound):
            raise CompileAnew("an interface has no class yet")
        numbers = {self._bound[ifindex] for ifindex in named}
        if any(number in numbers and ifindex not in named for ifindex, number in self._bound.items()):
            raise CompileAnew("interfaces part that had the same rules")
        return sorted(numbers)

    def _check_classes(self) -> None:
        """Classes are sets of rules: none may be empty, or equal to another."""
        sets = [frozenset(slots) for number, slots in self._classes.items() if number]
        if not all(sets) or len(set(sets)) < len(sets):
            raise CompileAnew("interfaces have the same rules now")

    # ---- the whole --------------------------------------------------------------------------

    def _lay_out(self, source_bytes: int) -> None:
        self._roots_page = CLASS_PAGES + len(self._classes) - 1
        self._actions_page = self._roots_page + len(self._classes) * CLASS_ROOT_PAGES
        self._source = (self._actions_page + -(-self._slots // ACTIONS_PER_PAGE)) * PAGE_WORDS
        self._journal = self._source + -(-source_bytes // 4)
        room = min(len(self._free), 3 * len(self.rules) + SPARE_SLOTS) * ENTRY_WORDS
        self._first_node_page = -(-(self._journal + room) // PAGE_WORDS)
        self._journal_end = self._first_node_page * PAGE_WORDS
        if self._first_node_page > IMAGE_PAGES_MAX:
            raise LimitExceeded("pages of the image", self._first_node_page, IMAGE_PAGES_MAX, "nothing was changed")

    def _build(self, slotted: list) -> dict:
        """Return {(class, (family, protocol or COVER)): LiveView}, written."""
        tables = tables_of(sorted(slotted, key=lambda pair: (pair[0].precedence, pair[0].protocol)))
        rules = {slot: (rule.precedence, rule.protocol) for rule, slot in slotted}
        views = {}
        for index, (number, slots) in enumerate(self._classes.items()):
            page = self._roots_page + index * CLASS_ROOT_PAGES
            for key in CLASS_WORD:
                view = views[number, key] = self._new_view(key, page)
                by_prefix = {}
                for prefix, claim, slot in tables.get(key, ()):
                    if not slot or slot in slots:
                        by_prefix.setdefault(prefix, []).append((rules[claim.candidate[2]], claim))
                view.build(by_prefix)
        return views

    def _new_view(self, key: tuple, page: int) -> LiveView:
        number, protocol = key
        family, cover = FAMILIES[number], protocol == COVER
        if number == 6:
            fields, root = family.destination, Level(self._nodes, family.destination[0])
        elif cover:
            high = page + 3 * ROOT_PAGES
            fields, root = family.cover, Root(self._nodes, INTERCEPT4_DADDR_HIGH, page + 2 * ROOT_PAGES, high)
        else:
            fields, root = (0, *family.destination), Root(self._nodes, 0, page + ROOT_PAGES * (protocol == "udp"))
        return LiveView(self._nodes, family, Destinations(self._nodes, family.bits, fields, root), cover)

    def _fill(self, slotted: list, source: bytes, generation: int) -> None:
        words = self._nodes.words
        for (number, key), view in self._views.items():
            home = PAGE_WORDS * number + GROUP_BASE + CLASS_WORD[key]
            words[home] = view.lead_from(home)
        words[PAGE_WORDS : 2 * PAGE_WORDS] = bound_page(self._bound)
        write_actions(words, self._actions_page, slotted)
        raw = array("I", source.ljust(-(-len(source) // 4) * 4, b"\0"))
        words[self._source : self._source + len(raw)] = raw
        write_header(
            words,
            source,
            {
                HEADER_GENERATION: generation,
                HEADER_RULES: len(slotted),
                HEADER_SLOTS: self._slots,
                HEADER_GROUPS: len(self._classes),
                HEADER_ACTIONS: self._actions_page,
                HEADER_SOURCE: self._source,
                HEADER_JOURNAL: self._journal,
                HEADER_JOURNAL_END: self._journal_end,
            },
        )


def _rows(rule: Rule, slot: int) -> list:
    """Return [(phase, (family, protocol or COVER), what LiveView.add() takes)] of a rule."""
    precedence = rule.precedence, rule.protocol
    tables = tables_of([(rule, slot)]).items()
    rows = [(COVER_ADDED if key[1] == COVER else FLOWS, key, row) for key, (row,) in tables]
    return [(phase, key, (row.prefix, precedence, row.claim)) for phase, key, row in rows]


def _room(pages: int, capacity: int) -> int:
    """Return how many pages the image gets: all that the map has, or a power of two. Raises LimitExceeded."""
    while capacity < pages:
        capacity *= 2
    if capacity > IMAGE_PAGES_MAX:
        raise LimitExceeded("pages of the image", pages, IMAGE_PAGES_MAX, "nothing was changed; use fewer rules")
    return capacity
