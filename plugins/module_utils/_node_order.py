# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Nodes in the order of a walk: each is followed by those it leads to.

A table is filled children first, so a walk of a large image would wait for another cache line with every step. Depth
first, a short node and the one behind it mostly share a line. This room moves nodes; it makes and joins none.
"""

from __future__ import annotations

from ._layout import (
    NODE_LEAF,
    NODE_POINTER_MASK,
    NODE_SEARCH,
    NODE_TAG_SHIFT,
    NODE_WIDTH_MASK,
    NODE_WIDTH_SHIFT,
    PAGE_WORDS,
    UNIT_WORDS,
)
from ._nodes import SEARCH_WORDS, NodeTable


class WalkOrder:
    """Copies what it is asked for from one table to another, once."""

    def __init__(self, nodes: NodeTable, first_page: int):
        self.nodes = NodeTable(first_page)
        self._from = nodes.words
        self._moved = {}

    def move(self, word: int) -> int:
        """Return the word that leads to the same node, and all behind it, in the new table."""
        if word >> NODE_TAG_SHIFT == NODE_LEAF:
            return word
        moved = self._moved.get(word)
        if moved is None:
            moved = self._search(word) if word >> NODE_TAG_SHIFT == NODE_SEARCH else self._page(word)
            self._moved[word] = moved
        return moved

    def _search(self, word: int) -> int:
        width = word >> NODE_WIDTH_SHIFT & NODE_WIDTH_MASK
        keys = 4 << width
        old, values = (word & NODE_POINTER_MASK) * UNIT_WORDS, keys // 2
        at = self.nodes.reserve(SEARCH_WORDS[width])
        words = self.nodes.words
        words[at : at + values] = self._from[old : old + values]
        for number in range(values, values + keys):
            words[at + number] = self.move(self._from[old + number])
        return word & ~NODE_POINTER_MASK | at // UNIT_WORDS

    def _page(self, word: int) -> int:
        old = (word & NODE_POINTER_MASK) * PAGE_WORDS
        page = self.nodes.append_page(self._from[old : old + PAGE_WORDS])
        first = page * PAGE_WORDS
        for number in range(PAGE_WORDS):
            self.nodes.words[first + number] = self.move(self._from[old + number])
        return word & ~NODE_POINTER_MASK | page
