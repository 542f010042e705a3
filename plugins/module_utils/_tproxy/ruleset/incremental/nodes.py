# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Words of an image that changes while packets walk in it.

A change is written in two parts. First the *fresh* words: new nodes that no walk reaches yet. Then the *flips*: single
words that lead to them. Both are noted here, as they are made in our own copy; whoever owns the map writes them.

1. A node is never changed once a walk can reach it, and never freed: a packet may be inside. Only these words flip:
   those of HIGH and LOW pages and roots, of class directories and places, and one word of an action.
2. A *place* is a node with one answer, whatever is asked: three of its keys are 0, so the last of its four values
   holds for all. Nodes may point to it for good, what it holds flips. It costs one step.
3. Room is fixed. What does not fit, or costs too much, raises CompileAnew; this copy is then worthless.
"""

from __future__ import annotations

from array import array

from ...abi.layout import NODE_POINTER_MASK, NODE_SEARCH, NODE_TAG_SHIFT, PAGE_WORDS, UNIT_WORDS
from ..nodes import SEARCH_WORDS, NodeTable

ROWS_PER_CHANGE = 2048
PLACE_VALUES = 2  # word of a place at which its values begin: behind four u16 keys
PLACE_ANSWER = PLACE_VALUES + 3


class CompileAnew(Exception):
    """A change cannot be made cheaply in place: the whole set must be compiled into a new image."""


class LiveNodes(NodeTable):
    """A NodeTable whose words are in force. Until fix_room() it grows, and notes nothing."""

    def __init__(self, first_page: int):
        super().__init__(first_page)
        self._used = first_page
        self._is_fixed = False
        self._rows = 0
        self._flips = {}  # word: (phase, value)
        self.fresh = []  # (first word, words)
        self.phase = 0

    @property
    def pages(self) -> int:
        """Pages in use."""
        return self._used

    def fix_room(self, pages: int) -> None:
        """From now on there are `pages` pages, and what is written is noted."""
        self.words.frombytes(bytes(4 * (pages * PAGE_WORDS - len(self.words))))
        self._is_fixed = True
        self.begin()

    def begin(self) -> None:
        """Begin a change: forget what the last one wrote."""
        self._flips, self.fresh, self._rows, self.phase = {}, [], 0, 0

    def flips(self) -> list:
        """Return [(word, value)] in the order of their phases; each word once."""
        return [(word, value) for word, (_phase, value) in sorted(self._flips.items(), key=lambda pair: pair[1][0])]

    def node(self, field: int, partition: list) -> int:
        """Return the word for a partition. Nothing is joined: what was joined could not be given up."""
        return partition[0][1] if len(partition) == 1 else self.make(field, partition)

    def reserve(self, count: int) -> int:
        """Return the word at which `count` free words begin."""
        at = super().reserve(count)
        self.fresh.append((at, count))
        return at

    def append_page(self, content) -> int:
        """Fill a page that was free, and return its number. Raises CompileAnew when none is left."""
        page, raw = self._used, bytes(content)
        if not self._is_fixed:
            super().append_page(raw)
        elif (page + 1) * PAGE_WORDS > len(self.words):
            raise CompileAnew("no page is left")
        else:
            self.write(page * PAGE_WORDS, array("I", raw))
        self._used += 1
        return page

    def write(self, at: int, words: array) -> None:
        """Fill words that no walk reaches yet."""
        self.words[at : at + len(words)] = words
        self.fresh.append((at, len(words)))

    def flip(self, at: int, value: int) -> None:
        """Change one word that walks may reach."""
        if self.words[at] != value:
            self.words[at] = value
            self._flips[at] = self.phase, value

    def place(self, word: int) -> int:
        """Return the word of a new place that leads to `word`."""
        at = self.reserve(SEARCH_WORDS[0])
        self.words[at : at + PLACE_VALUES + 4] = array("I", [0] * PLACE_VALUES + [word] * 4)
        return NODE_SEARCH << NODE_TAG_SHIFT | at // UNIT_WORDS

    def move_place(self, place: int, word: int) -> None:
        """Let a place lead to another word."""
        self.flip((place & NODE_POINTER_MASK) * UNIT_WORDS + PLACE_ANSWER, word)

    def spend_row(self) -> None:
        """Count a row that is written anew. Raises CompileAnew when a change touches too many."""
        self._rows += 1
        if self._is_fixed and self._rows > ROWS_PER_CHANGE:
            raise CompileAnew("the change touches too many destinations")
