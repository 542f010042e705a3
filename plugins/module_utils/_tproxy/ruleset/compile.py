# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The rule image: a rule set as one array of u32 words in pages (bpf/abi.h, docs/IMAGE.md).

    page 0       header, directory of group 0     then  actions, by rule slot
    pages 1 - 4  interface groups                 then  the canonical rules (records), and their journal
    page 5       directories of other groups      then  nodes
    then         IPv4 roots, 256 pages each

compile_image() returns an image that is never changed, and that is as small as it can be. A RuleImage with a capacity
has space for changes in place: spare slots and pages, a journal, and each root of each group.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ..abi.layout import (
    ACTION_WORDS,
    ACTIONS_PER_PAGE,
    HEADER_ACTIONS,
    HEADER_CHANGING,
    HEADER_DIGEST,
    HEADER_FORMAT,
    HEADER_GENERATION,
    HEADER_GROUP_SEED,
    HEADER_GROUPS,
    HEADER_JOURNAL,
    HEADER_JOURNAL_END,
    HEADER_MAGIC,
    HEADER_PAGES,
    HEADER_RULES,
    HEADER_SLOTS,
    HEADER_SOURCE,
    HEADER_SOURCE_BYTES,
    HEADER_SOURCE_CRC,
    IMAGE_FORMAT,
    IMAGE_MAGIC,
    IMAGE_PAGES_MAX,
    PAGE_WORDS,
    RULES,
)
from ..errors import LimitExceeded
from ..model.prefix import MAPPED_BITS, Prefix
from ..model.protocol import PORTLESS
from ..model.rule import Identity, Rule
from .digest import ImageDigest
from .groups import (
    DIRECTORY,
    FIRST_GROUP_PAGE,
    ROOT_PAGES,
    directory_word,
    group_pages,
    interface_groups,
    is_cover,
    tables_of,
)
from .intervals import Network, PortMatch, SourceMatch
from .nodes import FullCompileNeeded, LookupOrder, NodeTable
from .records import SlottedRule, encode_action, encode_entry, encode_source
from .trie import FAMILIES, Ranked, RuleTrie

GROUPS_MAX = 16  # in an image with space for changes
SPARE_SLOTS = 4096
SPARE_PAGES = 512
ENTRY_WORDS = 40  # of a journal entry with names of usual length
ACTIONS, COVER_ADDED, FLOWS, COVER_REMOVED, RULES_KNOWN = range(5)  # phases of a change
# Words of an action that may change in place: port, kind and flags; the user, and the cookie of the listener.
ACTION_PORT, ACTION_LISTENER = 4, (5, 6, 7)

Table = tuple[int, str]  # family, and tcp, udp, PORTLESS or one of COVERS


class Row(NamedTuple):
    """A rule in a table."""

    network: Network
    ranked: Ranked


class View(NamedTuple):
    """A table as an interface group sees it: all rules that name no interface, and those in these slots.

    Groups that see the same rules share a view. `group` keeps them apart in an image that changes in place.
    """

    table: Table
    slots: frozenset[int]
    group: int | None

    @property
    def has_root(self) -> bool:
        """Whether its word in the directory is the page of a root, and not a node."""
        return self.table[0] == 4 and not is_cover(self.table[1])


class Writes(NamedTuple):
    """The words of a change, in the order of their writing.

    `begin` is [(word, value)]. `fresh` is [(first word, words)] that no lookup reaches yet, in any order. `published`
    is [(word, value)], each of which a lookup may reach.
    """

    begin: list[tuple[int, int]]
    fresh: list[tuple[int, int]]
    published: list[tuple[int, int]]


def compile_image(rules: Iterable[SlottedRule], ifindexes: Mapping[str, int], generation: int) -> array[int]:
    """Return the words of an image, in whole pages.

    `ifindexes` is {name: ifindex} of the interfaces that exist. Raise LimitExceeded if the rules are too many.
    """
    return RuleImage(rules, ifindexes, generation).words


class RuleImage:
    """A rule set, {identity: SlottedRule}, and its image. After FullCompileNeeded it must not be used again."""

    def __init__(
        self,
        rules: Iterable[SlottedRule],
        ifindexes: Mapping[str, int],
        generation: int,
        capacity: int | None = None,
    ) -> None:
        """Compile rules, for changes in a map of `capacity` pages or of more; None: for no changes.

        Raise LimitExceeded, and FullCompileNeeded if there are too many groups for changes.
        """
        slotted = [SlottedRule(rule, slot) for rule, slot in rules]
        self._may_change = capacity is not None
        # An image that never changes does not need them, and 131,071 identities are 40 MB.
        self.rules = {pair.rule.identity: pair for pair in slotted} if self._may_change else {}
        self.ifindexes = dict(ifindexes)
        highest = max((slot for _rule, slot in slotted), default=0)
        if max(highest, len(slotted)) > RULES:
            raise LimitExceeded("rule slots", max(highest, len(slotted)), RULES, "nothing was changed")
        groups = interface_groups(slotted, ifindexes)
        if self._may_change and len(groups.numbers) > GROUPS_MAX:
            raise FullCompileNeeded("too many interface groups")
        self._group_of = groups.group_of
        self._groups = {number: set(slots) for slots, number in groups.numbers.items()}
        self._slots = min(4 * highest + SPARE_SLOTS, RULES + 1) if self._may_change else highest + 1
        used = {slot for _rule, slot in slotted}
        self._free = [slot for slot in range(self._slots - 1, 0, -1) if slot not in used]
        self._retired: list[int] = []  # slots that lost their rule; see reuse_slots()
        self._entries: list[tuple[int, int]] = []  # first words of new journal entries
        self._tries: dict[tuple[int, Table], RuleTrie] = {}
        self._compile(slotted, generation)
        if capacity is not None:
            first = self._nodes_page
            spare = max(SPARE_PAGES, 2 * (self._nodes.pages - first))
            self._nodes.fix_capacity(_capacity_for(self._nodes.pages + spare, capacity))
        self.words[HEADER_PAGES] = len(self.words) // PAGE_WORDS
        self._digest = ImageDigest(self.words)
        self.words[HEADER_DIGEST] = self._digest.value

    @property
    def words(self) -> array[int]:
        """The image."""
        return self._nodes.words

    # ---- the whole --------------------------------------------------------------------------

    def _compile(self, rules: Sequence[SlottedRule], generation: int) -> None:
        """Lay out the image, and write everything but its size and its digest."""
        tables = _tables(rules)
        views = self._views(tables)
        source = encode_source(rules)
        roots = FIRST_GROUP_PAGE + len(self._groups) - 1
        actions = roots + ROOT_PAGES * sum(view.has_root for view in set(views.values()))
        start = (actions + -(-self._slots // ACTIONS_PER_PAGE)) * PAGE_WORDS
        self._journal = start + -(-len(source) // 4)
        entries = min(len(self._free), 3 * len(self.rules)) + SPARE_SLOTS if self._may_change else 0
        self._nodes_page = -(-(self._journal + entries * ENTRY_WORDS) // PAGE_WORDS)
        self._journal_end = self._nodes_page * PAGE_WORDS
        if self._nodes_page > IMAGE_PAGES_MAX:
            raise LimitExceeded(
                "pages of the image", self._nodes_page, IMAGE_PAGES_MAX, "nothing was changed; use fewer rules"
            )
        self._nodes = NodeTable(self._nodes_page)
        tries = self._build(tables, views.values(), roots)
        order = LookupOrder(self._nodes, self._nodes_page, keeps_steps=self._may_change)
        for trie in tries.values():
            trie.reorder(order)
        self._nodes = order.finish()
        self._tries = {key: tries[view] for key, view in views.items()}
        words = self._nodes.words
        for (group, table), trie in self._tries.items():
            words[directory_word(group, *table)] = trie.root
        pairs = group_pages(self._group_of)
        words[PAGE_WORDS : FIRST_GROUP_PAGE * PAGE_WORDS] = pairs.words
        for rule, slot in rules:
            at = actions * PAGE_WORDS + slot * ACTION_WORDS
            words[at : at + ACTION_WORDS] = array("I", encode_action(rule))
        content = array("I", source.ljust(-(-len(source) // 4) * 4, b"\0"))
        words[start : start + len(content)] = content
        header = {
            HEADER_MAGIC: IMAGE_MAGIC,
            HEADER_FORMAT: IMAGE_FORMAT,
            HEADER_GENERATION: generation,
            HEADER_RULES: len(rules),
            HEADER_SLOTS: self._slots,
            HEADER_GROUPS: len(self._groups),
            HEADER_GROUP_SEED: pairs.seed,
            HEADER_ACTIONS: actions,
            HEADER_SOURCE: start,
            HEADER_SOURCE_BYTES: len(source),
            HEADER_SOURCE_CRC: zlib.crc32(source),
            HEADER_JOURNAL: self._journal if entries else 0,
            HEADER_JOURNAL_END: self._journal_end if entries else 0,
        }
        for word, value in header.items():
            words[word] = value

    def _views(self, tables: Mapping[Table, list[SlottedRule]]) -> dict[tuple[int, Table], View]:
        """Return {(group, table): view}. Without changes, a view without rules needs no nodes.

        OpenZiti routers, which change rules in place, intercept TCP and UDP only. So the table of other protocols has
        space for changes if it has rules.
        """
        views = {}
        for table in DIRECTORY:
            named = {slot if rule.interfaces else 0 for rule, slot in tables.get(table, ())}
            for group, slots in self._groups.items():
                seen = frozenset(slots & named)
                if self._may_change and (table[1] != PORTLESS or table in tables):
                    views[group, table] = View(table, seen, group)
                elif seen or 0 in named:
                    views[group, table] = View(table, seen, None)
        return views

    def _build(
        self, tables: Mapping[Table, list[SlottedRule]], views: Iterable[View], root_page: int
    ) -> dict[View, RuleTrie]:
        """Return {view: trie}, compiled; roots begin at a page."""
        tries = {}
        for view in dict.fromkeys(views):
            family, table = view.table
            trie = tries[view] = RuleTrie(
                self._nodes,
                FAMILIES[family],
                is_cover=is_cover(table),
                root_page=root_page if view.has_root else None,
                may_change=self._may_change,
            )
            root_page += ROOT_PAGES * view.has_root
            by_destination: dict[Prefix, list[SlottedRule]] = {}
            for pair in tables.get(view.table, ()):
                if not pair.rule.interfaces or pair.slot in view.slots:
                    by_destination.setdefault(pair.rule.destination, []).append(pair)
            trie.build(
                (_network(prefix, family), _best_first(by_destination[prefix], family))
                for prefix in sorted(by_destination)
            )
        return tries

    # ---- changes in place -------------------------------------------------------------------

    def change(
        self, removes: Iterable[Identity], puts: Iterable[Rule], slots: Mapping[Identity, int] | None = None
    ) -> Writes:
        """Remove identities, add rules, and replace the actions of rules; return the words to write.

        The words that lead to one flow are published once, with their last value. Actions are published before: a rule
        that follows another one has its new action before a packet can reach it. So a packet meets the rules before a
        change of one flow or those after it. See IncrementalTable for changes of several flows.
        A new rule gets its slot of `slots`, if that is free. Raise FullCompileNeeded if that is impossible in place.
        """
        if not self._may_change:
            raise FullCompileNeeded("the image has no space for changes")
        nodes = self._nodes
        nodes.begin()
        for identity in removes:
            self._remove(*self.rules.pop(identity))
        for rule in puts:
            self._put(rule, slots or {})
        self._check_groups()
        if not self._entries:
            return Writes([], [], [])
        nodes.phase = RULES_KNOWN
        for word, length in self._entries:
            nodes.publish(word, length)
        nodes.publish(HEADER_GENERATION, self.words[HEADER_GENERATION] + 1)
        self._entries = []
        by_phase = sorted(nodes.published.items(), key=lambda item: item[1][0])
        published = [(word, value) for word, (_phase, value) in by_phase]
        digest = self._digest.follow(self.words, [*nodes.fresh, *((word, 1) for word, _value in published)])
        self.words[HEADER_DIGEST] = digest
        return Writes([(HEADER_CHANGING, 1)], nodes.fresh, [*published, (HEADER_DIGEST, digest), (HEADER_CHANGING, 0)])

    @property
    def free_slots(self) -> int:
        """The number of new rules that the image can get."""
        return len(self._free)

    def reuse_slots(self) -> None:
        """Let new rules have the slots of removed rules.

        No program may run that began before the removal: it may have read a slot, and not yet its action.
        """
        self._free, self._retired = self._retired + self._free, []

    def set_generation(self, generation: int) -> None:
        """Give the image another number, before it is in force."""
        self.words[HEADER_GENERATION] = generation
        self.words[HEADER_DIGEST] = self._digest.follow(self.words, [(HEADER_GENERATION, 1)])

    def _put(self, rule: Rule, slots: Mapping[Identity, int]) -> None:
        old, slot = self.rules.get(rule.identity, (None, 0))
        if old == rule:
            return
        if old is not None:
            self._change_action(old, rule, slot)
        else:
            if not self._free:
                raise FullCompileNeeded("no slot is left")
            slot = self._take_slot(slots.get(rule.identity, 0))
            self._nodes.write(self._action(slot), array("I", encode_action(rule)))
            for trie, row in self._tries_of(rule, slot, COVER_ADDED):
                trie.add(row.network, row.ranked)
            if rule.interfaces:
                for group in self._groups_of(rule):
                    self._groups[group].add(slot)
        self.rules[rule.identity] = SlottedRule(rule, slot)
        self._append(slot, rule)

    def _take_slot(self, wanted: int) -> int:
        """Return a free slot, the wanted one if it is free."""
        if wanted in self._free:
            self._free.remove(wanted)
            return wanted
        return self._free.pop()

    def _remove(self, rule: Rule, slot: int) -> None:
        for trie, row in self._tries_of(rule, slot, COVER_REMOVED):
            trie.remove(row.network, row.ranked)
        for slots in self._groups.values():
            slots.discard(slot)
        self._retired.append(slot)
        self._append(slot, None)

    def _tries_of(self, rule: Rule, slot: int, cover_phase: int) -> Iterator[tuple[RuleTrie, Row]]:
        """Yield each trie of a rule and its row there, and publish the root of a trie after its change."""
        for group in self._groups_of(rule):
            for table, row in _rows(rule, slot):
                self._nodes.phase = cover_phase if is_cover(table[1]) else FLOWS
                trie = self._tries.get((group, table))
                if trie is None:
                    raise FullCompileNeeded("the image has no rules for protocols without ports yet")
                yield trie, row
                self._nodes.publish(directory_word(group, *table), trie.root)

    def _change_action(self, old: Rule, rule: Rule, slot: int) -> None:
        """Publish the port and the listener of an action.

        The word with the port makes the new listener count, so it comes last. Until then the program compares the
        socket at the old port with the new user, and with the new cookie or a half of it. No socket has that cookie:
        the flow is dropped.
        """
        before, after = array("I", encode_action(old)), array("I", encode_action(rule))
        if old.action != rule.action or before[:ACTION_PORT] != after[:ACTION_PORT]:
            raise FullCompileNeeded("an action changes in its address or its kind")
        self._nodes.phase = ACTIONS
        for word in (*ACTION_LISTENER, ACTION_PORT):
            self._nodes.publish(self._action(slot) + word, after[word])

    def _append(self, slot: int, rule: Rule | None) -> None:
        """Append an entry to the journal. Its first word is published at the end of the change."""
        entry = encode_entry(slot, rule)
        if self._journal + len(entry) > self._journal_end:
            raise FullCompileNeeded("the journal is full")
        self._entries.append((self._journal, entry[0]))
        self._nodes.write(self._journal + 1, entry[1:])
        self._journal += len(entry)

    def _action(self, slot: int) -> int:
        return self.words[HEADER_ACTIONS] * PAGE_WORDS + slot * ACTION_WORDS

    def _groups_of(self, rule: Rule) -> list[int]:
        """Return the groups that see a rule. Raise FullCompileNeeded if it divides a group, or needs a new one."""
        if not rule.interfaces:
            return list(self._groups)
        named = {self.ifindexes[name] for name in rule.interfaces if name in self.ifindexes}
        if not named <= set(self._group_of):
            raise FullCompileNeeded("an interface has no group yet")
        numbers = {self._group_of[ifindex] for ifindex in named}
        if any(number in numbers and ifindex not in named for ifindex, number in self._group_of.items()):
            raise FullCompileNeeded("interfaces with the same rules get different ones")
        return sorted(numbers)

    def _check_groups(self) -> None:
        """Raise FullCompileNeeded if a group has no rules of its own now, or the same ones as another."""
        sets = [frozenset(slots) for group, slots in self._groups.items() if group]
        if not all(sets) or len(set(sets)) < len(sets):
            raise FullCompileNeeded("interfaces have the same rules now")


def _tables(rules: Iterable[SlottedRule]) -> dict[Table, list[SlottedRule]]:
    """Return the rules of each table."""
    tables: dict[Table, list[SlottedRule]] = {}
    for pair in rules:
        for table in tables_of(pair.rule):
            tables.setdefault((pair.rule.destination.family, table), []).append(pair)
    return tables


def _rows(rule: Rule, slot: int) -> list[tuple[Table, Row]]:
    """Return the tables of a rule, and its row in them."""
    family = rule.destination.family
    row = Row(_network(rule.destination, family), (rule.precedence, _match(rule, slot, family)))
    return [((family, table), row) for table in tables_of(rule)]


def _best_first(pairs: list[SlottedRule], family: int) -> list[Ranked]:
    """Return the rules of one destination, best first."""
    if len(pairs) > 1:
        pairs.sort(key=lambda pair: pair.rule.precedence)
    return [(rule.precedence, _match(rule, slot, family)) for rule, slot in pairs]


def _match(rule: Rule, slot: int, family: int) -> PortMatch:
    """Return the match of a rule, in bits of the family: short numbers are quicker."""
    return PortMatch(rule.low, rule.high, SourceMatch(*_network(rule.source, family), slot))


def _network(prefix: Prefix, family: int) -> Network:
    if family == 4:
        return Network(prefix.network & 0xFFFFFFFF, prefix.length - MAPPED_BITS)
    return Network(*prefix)


def _capacity_for(pages: int, capacity: int) -> int:
    """Return the pages that an image gets: all those of its map, or a power of two. Raise LimitExceeded."""
    while capacity < pages:
        capacity *= 2
    if capacity > IMAGE_PAGES_MAX:
        raise LimitExceeded("pages of the image", pages, IMAGE_PAGES_MAX, "nothing was changed; use fewer rules")
    return capacity
