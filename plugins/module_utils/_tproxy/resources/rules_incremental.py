# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The rule table that changes in place: an image with free space, and the inner map that holds it.

1. A commit by RuleTable puts another inner map in force. This table compares the map's id before each change. After a
   foreign commit it reads the new image and puts an image with free space in its place.
2. Rules that cannot be changed in place are compiled anew, with more free space. RuleTable compiles a set that no image
   with free space can hold, each time. A change of a large set of this kind is refused.
3. A change of several flows is compiled anew: a packet could meet one flow changed and the flow around it not yet. A
   call of a router changes one flow, for example a rule replaces that of a crashed service.
4. A process that is killed between two stores leaves HEADER_CHANGING set. The next load compiles the rules of the
   journal. Until then no reader trusts the digest.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Union

from ..abi.layout import PAGE_BYTES, PAGE_WORDS, RULES
from ..errors import LimitExceeded
from ..model.rule import Identity, Rule
from ..ruleset.compile import RuleImage, compile_image
from ..ruleset.digest import HEADER_BYTES
from ..ruleset.nodes import FullCompileNeeded
from ..ruleset.records import SlottedRule, assign_slots
from ..ruleset.verify import verify_image
from ..system.system import Bpf, Words
from .operation import RuleChanges
from .rule_table import RuleTable
from .rules import CURRENT

COMPILED_EACH_TIME = 20_000  # rules; a call of a router then takes some seconds

GroupKey = Callable[[Union[Rule, Identity]], Hashable]


class IncrementalTable:
    """The rules of an image, by identity and by group. `key` returns the group of a rule or an identity, or None.

    `entry` is CURRENT, or PREVIOUS for the image to which a pending change returns.
    """

    def __init__(self, bpf: Bpf, words: Words, table: RuleTable, key: GroupKey, entry: bytes = CURRENT) -> None:
        self._bpf, self._words, self._table, self._key, self._entry = bpf, words, table, key, entry
        self._number: int | None = None  # id of the inner map that this table has put in force
        self._image: RuleImage | None = None  # None if no image with free space can hold the rules
        self._memory: Any = None  # the mmap of the image
        self._generation = 0  # of the image
        self._rules: dict[Identity, SlottedRule] = {}
        self._groups: dict[Hashable, dict[Identity, Rule]] = {}
        self._ifindexes: dict[str, int] = {}
        self._named: dict[tuple[str, ...], Rule] = {}  # {interfaces: one rule that names them}

    def adopt(self, other: IncrementalTable) -> None:
        """Take over the compiled form of another table, if the image of this entry is a copy of that table's image.

        A pending change begins with such a copy. The other table reads its rules again at its next refresh().
        """
        if other._image is None or self._table.number(self._entry) == self._number:
            return
        if self._table.version(self._entry).header != other._image.words[: HEADER_BYTES // 4].tobytes():
            return
        self.close()
        self._image, self._rules, self._groups = other._image, other._rules, other._groups
        self._ifindexes, self._named, self._generation = other._ifindexes, other._named, other._generation
        other.close()
        self._map(len(self._image.words) // PAGE_WORDS)

    def close(self) -> None:
        """Unmap the image. It stays in force."""
        if self._memory is not None:
            self._memory.close()
        self._number, self._image, self._memory = None, None, None

    def refresh(self) -> bool:
        """Read the rules again if another writer replaced the image; return whether there is an image to change.

        The rules are compiled anew if interfaces changed. Only the image in force is made where there is none.
        """
        if self._entry != CURRENT and self._table.number(self._entry) is None:
            self.close()
            return False
        if self._number is None or self._table.number(self._entry) != self._number:
            self._commit({rule.identity: rule for rule, _slot in self._table.load(self._entry).contents.rules})
        elif self._table.ifindexes(self._named.values()) != self._ifindexes:
            self._commit({identity: rule for identity, (rule, _slot) in self._rules.items()})
        return True

    def rules(self) -> list[Rule]:
        """Return all rules."""
        return [rule for rule, _slot in self._rules.values()]

    def group(self, member: Rule | Identity) -> list[Rule]:
        """Return the rules in the group of a rule or an identity."""
        return list(self._groups.get(self._key(member), {}).values())

    def change(self, removes: Iterable[Identity], puts: Iterable[Rule]) -> RuleChanges | None:
        """Remove identities and put rules; return the rules that changed, or None. Call refresh() before."""
        gone = [identity for identity in removes if identity in self._rules]
        new = [rule for rule in puts if rule.identity not in self._rules or self._rules[rule.identity].rule != rule]
        if not gone and not new:
            return None
        replaced = sum(rule.identity in self._rules for rule in new)
        added = len(new) - replaced
        self._refuse_too_many(len(self._rules) - len(gone) + added)
        if self._image is not None and self._image.free_slots < added:
            self._table.wait_for_programs(self._entry)
            self._image.reuse_slots()
        try:
            self._change_in_place(gone, new)
        except FullCompileNeeded:
            after = {identity: rule for identity, (rule, _slot) in self._rules.items() if identity not in gone}
            self._commit({**after, **{rule.identity: rule for rule in new}})
        owners = {identity.owner for identity in gone} | {rule.owner for rule in new}
        return RuleChanges(tuple(sorted(owners)), added, replaced, len(gone), self._generation)

    def _refuse_too_many(self, count: int) -> None:
        """Raise LimitExceeded if the rules are too many, or too many to be compiled for each change."""
        if count > RULES:
            raise LimitExceeded("rules", count, RULES, "nothing was changed")
        if self._image is None and count > COMPILED_EACH_TIME:
            raise LimitExceeded(
                "rules that are compiled anew for each change",
                count,
                COMPILED_EACH_TIME,
                "no image of them has free space for changes in place; nothing was changed; use fewer rules, or fewer"
                " sets of rules that name interfaces",
            )

    def _change_in_place(self, removes: Sequence[Identity], puts: Sequence[Rule]) -> None:
        if self._image is None:
            raise FullCompileNeeded("there is no image with free space")
        if len({_flow(identity) for identity in (*removes, *(rule.identity for rule in puts))}) > 1:
            raise FullCompileNeeded("several flows change at once")
        if not self._table.ifindexes(puts).keys() <= self._ifindexes.keys():
            raise FullCompileNeeded("an interface is named for the first time")
        image, self._image = self._image, None  # after an error it is not used again
        writes = image.change(removes, puts)
        self._zero(image.rules[rule.identity].slot for rule in puts if rule.identity not in self._rules)
        fresh = [(at, image.words[at : at + count]) for at, count in writes.fresh]
        self._words.store(self._memory, writes.begin, fresh, writes.published)
        for identity in removes:
            rule, _slot = self._rules.pop(identity)
            self._groups.get(self._key(rule), {}).pop(identity, None)
        for rule in puts:
            self._remember(image.rules[rule.identity])
        self._image = image
        self._generation += 1

    def _commit(self, rules: Mapping[Identity, Rule]) -> None:
        """Compile rules anew, and put them in force."""
        self.close()
        contents = self._table.load(self._entry).contents
        kept = {rule.identity: slot for rule, slot in contents.rules}
        slots = assign_slots(rules.values(), kept)
        slotted = [SlottedRule(rule, slots[identity]) for identity, rule in rules.items()]
        self._ifindexes = self._table.ifindexes(rules.values())
        self._generation = contents.generation + 1
        words = self._compile(slotted, self._generation)
        verify_image(words, slotted, self._ifindexes)
        self._zero(slot for identity, slot in slots.items() if identity not in kept)
        self._table.commit(words, self._entry)
        self._map(len(words) // PAGE_WORDS)
        self._rules, self._groups, self._named = {}, {}, {}
        for one in slotted:
            self._remember(one)

    def _zero(self, slots: Iterable[int]) -> None:
        """Set the counters of new rules to zero. The slots of the previous image may have other rules now."""
        if self._entry == CURRENT:
            self._table.zero(slots)

    def _compile(self, rules: Sequence[SlottedRule], generation: int) -> array[int]:
        try:
            self._image = RuleImage(rules, self._ifindexes, generation, self._table.capacity())
        except (FullCompileNeeded, LimitExceeded):
            self._image = None
            return compile_image(rules, self._ifindexes, generation)
        return self._image.words

    def _map(self, pages: int) -> None:
        """Map the image in force into memory, for the changes to come."""
        self._number = self._table.number(self._entry)
        inner = self._table.open_image(self._entry)
        if inner is None:
            return
        try:
            self._memory = self._bpf.mapped_memory(inner, pages * PAGE_BYTES, True) if self._image else None
        finally:
            os.close(inner)

    def _remember(self, one: SlottedRule) -> None:
        rule = one.rule
        self._rules[rule.identity] = one
        key = self._key(rule)
        if key is not None:
            self._groups.setdefault(key, {})[rule.identity] = rule
        if rule.interfaces:
            self._named[rule.interfaces] = rule


def _flow(identity: Identity) -> tuple[object, ...]:
    """Return the packets that a rule is about. Owners and interfaces divide them no further: see RuleImage.change()."""
    return identity.destination, identity.source, identity.protocol, identity.low, identity.high
