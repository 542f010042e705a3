# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The rule table that changes in place: an image with free space, and the inner map that holds it.

1. A commit by RuleTable puts another inner map in force. This table compares the map's id before each change. After a
   foreign commit it reads the new image and puts an image with free space in its place.
2. Rules that cannot be changed in place are compiled anew, with more free space. RuleTable compiles a set that no image
   with free space can hold, each time.
3. A process that is killed between two stores leaves HEADER_CHANGING set. The next load compiles the rules of the
   journal. Until then no reader trusts the digest.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Callable

from ..abi.layout import PAGE_BYTES, PAGE_WORDS
from ..errors import LimitExceeded
from ..ruleset.compile import RuleImage, compile_image
from ..ruleset.nodes import FullCompileNeeded
from ..ruleset.records import SlottedRule, assign_slots
from ..ruleset.verify import verify_image
from .rule_table import RuleTable


class LiveTable:
    """Rules in force, by identity and by what `key` gives of a Rule or an Identity; None: in no group."""

    def __init__(self, bpf, words, table: RuleTable, key: Callable):
        self._bpf, self._words, self._table, self._key = bpf, words, table, key
        self._number, self._image, self._memory = None, None, None
        self._rules, self._groups, self._ifindexes = {}, {}, {}
        self._named = {}  # {interfaces: one rule that names them}

    def close(self) -> None:
        """Let go of the memory; the image stays in force."""
        if self._memory is not None:
            self._memory.close()
        self._number, self._image, self._memory = None, None, None

    def refresh(self) -> None:
        """See what is in force, if that is not what was left there."""
        if self._number is None or self._table.number() != self._number:
            self._load()
        elif self._table.ifindexes(self._named.values()) != self._ifindexes:
            self._commit(dict(self._rules))

    def rules(self) -> list:
        """Return all rules."""
        return [rule for rule, _slot in self._rules.values()]

    def group(self, member) -> list:
        """Return the rules that have the same key as a Rule or an Identity."""
        return list(self._groups.get(self._key(member), {}).values())

    def change(self, removes: Iterable, puts: Iterable) -> bool:
        """Remove identities and put rules; return whether anything had to be done. Call refresh() before."""
        removes = [identity for identity in removes if identity in self._rules]
        puts = [rule for rule in puts if self._rules.get(rule.identity, (None,))[0] != rule]
        if not removes and not puts:
            return False
        try:
            self._change_in_place(removes, puts)
        except FullCompileNeeded:
            after = {key: pair for key, pair in self._rules.items() if key not in removes}
            self._commit({**after, **{rule.identity: (rule, after.get(rule.identity, (None, 0))[1]) for rule in puts}})
        return True

    def _change_in_place(self, removes: list, puts: list) -> None:
        if self._image is None:
            raise FullCompileNeeded("there is no image with free space")
        if not self._table.ifindexes(puts).keys() <= self._ifindexes.keys():
            raise FullCompileNeeded("an interface is named for the first time")
        image, self._image = self._image, None
        writes = image.change(removes, puts)
        self._table.zero(image.rules[rule.identity][1] for rule in puts if rule.identity not in self._rules)
        fresh = [(at, image.words[at : at + count]) for at, count in writes.fresh]
        self._words.store(self._memory, writes.begin, fresh, writes.published)
        for identity in removes:
            self._forget(identity)
        for rule in puts:
            self._remember(*image.rules[rule.identity])
        self._image = image

    def _load(self) -> None:
        """Take over what is in force."""
        self._commit({rule.identity: (rule, slot) for rule, slot in self._table.load().contents.rules})

    def _commit(self, rules: dict) -> None:
        """Compile {identity: (Rule, slot)} anew, slot 0 being none yet, and put it in force."""
        self.close()
        contents = self._table.load().contents
        kept = {rule.identity: slot for rule, slot in contents.rules}
        slots = assign_slots([rule for rule, _slot in rules.values()], kept)
        slotted = [SlottedRule(rule, slots[identity]) for identity, (rule, _slot) in rules.items()]
        self._ifindexes = self._table.ifindexes(rule for rule, _slot in slotted)
        words = self._compile(slotted, contents.generation + 1)
        verify_image(words, slotted, self._ifindexes)
        self._table.zero(slot for identity, slot in slots.items() if identity not in kept)
        self._table.commit(words)
        self._open(len(words) // PAGE_WORDS)
        self._rules, self._groups, self._named = {}, {}, {}
        for rule, slot in slotted:
            self._remember(rule, slot)

    def _compile(self, slotted: list, generation: int):
        try:
            self._image = RuleImage(slotted, self._ifindexes, generation, self._table.capacity())
        except (FullCompileNeeded, LimitExceeded):
            self._image = None
            return compile_image(slotted, self._ifindexes, generation)
        return self._image.words

    def _open(self, pages: int) -> None:
        """Map the image in force into memory, for the words to come."""
        self._number = self._table.number()
        inner = self._table.open_current()
        try:
            self._memory = self._bpf.window(inner, pages * PAGE_BYTES, True) if self._image else None
        finally:
            os.close(inner)

    def _remember(self, rule, slot: int) -> None:
        self._rules[rule.identity] = rule, slot
        key = self._key(rule)
        if key is not None:
            self._groups.setdefault(key, {})[rule.identity] = rule
        if rule.interfaces:
            self._named[rule.interfaces] = rule

    def _forget(self, identity) -> None:
        rule, _slot = self._rules.pop(identity)
        self._groups.get(self._key(rule), {}).pop(identity, None)
