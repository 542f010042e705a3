# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""One 16-bit field of the destination, as nodes that change: prefixes of the field, each with its word.

A level with few prefixes is one SEARCH node, made anew with each change. One with more is a HIGH page for good, a
*row* of 256 values for each of its words; a row with many prefixes is a LOW page for good. A root is a level whose rows
are all LOW pages, side by side. It knows no address and no rule.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right

from ...abi.layout import NODE_FIELD_SHIFT, NODE_HIGH, NODE_LOW, NODE_POINTER_MASK, NODE_TAG_SHIFT, PAGE_WORDS
from ..intervals import disjoint_prefixes
from ..nodes import EMPTY_PAGE, KEYS_MAX
from ..trie import NO_MATCH
from .nodes import LiveNodes

ROWS = 256


class Level:
    """Words by prefix of one field; `word` leads to it, `default` is what holds where there is no prefix."""

    def __init__(self, nodes: LiveNodes, field: int, default: int = NO_MATCH):
        self._nodes, self._field = nodes, field
        self.default = self.word = default
        self.below = {}  # value of the field: the Level of the next field
        self._wide = {}  # (row, length 0..8): word
        self._rows = {}  # row: {(offset, length 1..8): word}
        self._page = None
        self._low = {}  # row: its LOW page

    def put(self, value: int, length: int, word: int | None) -> None:
        """Give a prefix of the field its word, None to forget it. render() makes it true."""
        if length <= 8:
            table, key = self._wide, (value >> 8, length)
        else:
            table, key = self._rows.setdefault(value >> 8, {}), (value & 0xFF, length - 8)
        if word is None:
            table.pop(key, None)
        else:
            table[key] = word

    def render(self, value: int = 0, length: int = 0) -> None:
        """Write the words of a prefix of the field, and of what lies in it."""
        one = self._rows.get(value >> 8, {}).get((value & 0xFF, 8)) if length == 16 else None
        if one is not None and value >> 8 in self._low:  # nothing lies in it, and its word has a place of its own
            self._nodes.flip(self._low[value >> 8] * PAGE_WORDS + (value & 0xFF), one)
            return
        if self._page is None and not self._low:
            partition = disjoint_prefixes(self._sorted(), 16, self.default)
            if len(partition) <= KEYS_MAX:
                self._nodes.spend_row()
                self.word = self._nodes.node(self._field, partition)
                return
            self._turn_to_pages()
            value = length = 0
        wide = disjoint_prefixes([(*key, word) for key, word in sorted(self._wide.items())], 8, self.default)
        starts = [start for start, _word in wide]
        first = value >> 8
        for row in range(first, first + (ROWS >> min(length, 8))):
            self._nodes.spend_row()
            self._render_row(row, wide[bisect_right(starts, row) - 1][1])

    def _sorted(self) -> list:
        wide = [(row << 8, length, word) for (row, length), word in self._wide.items()]
        rows = self._rows.items()
        narrow = [(row << 8 | at, 8 + more, word) for row, here in rows for (at, more), word in here.items()]
        return sorted(wide + narrow)

    def _turn_to_pages(self) -> None:
        self._page = self._nodes.append_page(EMPTY_PAGE)
        self.word = NODE_HIGH << NODE_TAG_SHIFT | self._field << NODE_FIELD_SHIFT | self._page

    def _render_row(self, row: int, default: int) -> None:
        here = [(*key, word) for key, word in sorted(self._rows.get(row, {}).items())]
        partition = disjoint_prefixes(here, 8, default)
        if row in self._low:
            self._flip_row(self._low[row], partition)
            return
        (_start, first), *rest = partition
        word = self._nodes.row(self._field, [(0, first), *((row << 8 | start, word) for start, word in rest)])
        if len(partition) > KEYS_MAX:
            self._low[row] = word & NODE_POINTER_MASK
        self._nodes.flip(self._page * PAGE_WORDS + row, word)

    def _flip_row(self, page: int, partition: list) -> None:
        words, first = array("I"), page * PAGE_WORDS
        ends = [start for start, _word in partition[1:]] + [ROWS]
        for (start, word), end in zip(partition, ends):
            words.extend([word] * (end - start))
        before = self._nodes.words[first : first + ROWS]
        for number in [number for number, word in enumerate(words) if before[number] != word]:
            self._nodes.flip(first + number, words[number])


class Root(Level):
    """The first field of IPv4, as 65536 words from a page on; with `high`, a page of words that lead to them."""

    def __init__(self, nodes: LiveNodes, field: int, page: int, high: int | None = None):
        super().__init__(nodes, field)
        self._low = {row: page + row for row in range(ROWS)}
        self.word = page
        if high is not None:
            leads = array(
                "I", [NODE_LOW << NODE_TAG_SHIFT | field << NODE_FIELD_SHIFT | low for low in self._low.values()]
            )
            nodes.words[high * PAGE_WORDS : (high + 1) * PAGE_WORDS] = leads
            self.word = NODE_HIGH << NODE_TAG_SHIFT | field << NODE_FIELD_SHIFT | high


class Destinations:
    """Words by (network, length), in bits of the family; `fields` are those of the levels, `root` the first level."""

    def __init__(self, nodes: LiveNodes, bits: int, fields: tuple, root: Level):
        self._nodes, self._bits, self._fields, self.root = nodes, bits, fields, root
        self._words = {}  # length: {network: word}
        self.home = None  # the word of a class directory that leads to the root

    def put(self, network: int, length: int, word: int) -> None:
        """Add a prefix while the image is built, those around it first; render() makes it true."""
        self._note(network, length, word)
        level, depth = self._path(network, length)[-1], _depth(length)
        level.put(self._value(network, depth), length - 16 * depth, word)

    def render(self) -> None:
        """Write all levels."""
        self._render_below(self.root)

    def _render_below(self, level: Level) -> None:
        for value, below in level.below.items():
            self._render_below(below)
            level.put(value, 16, below.word)
        level.render()

    def set(self, network: int, length: int, word: int | None) -> None:
        """Give a prefix its word, None to forget it, in an image that is in force."""
        self._note(network, length, word)
        depth, path = _depth(length), self._path(network, length)
        value, more = self._value(network, depth), length - 16 * depth
        level = path[-1]
        level.put(value, more, word)
        self._refresh(level, network >> self._bits - 16 * depth, depth, value, more)
        level.render(value, more)
        for above, below in zip(range(depth - 1, -1, -1), reversed(path)):
            value = self._value(network, above)
            path[above].put(value, 16, below.word)
            path[above].render(value, 16)
        if self.home is not None:
            self._nodes.flip(self.home, self.root.word)

    def _refresh(self, level: Level, base: int, depth: int, value: int, more: int) -> None:
        """Give the levels that begin inside a prefix their defaults."""
        last = value | (1 << 16 - more) - 1
        for at, below in level.below.items():
            if not value <= at <= last:
                continue
            inner = base << 16 | at
            below.default = self._longest(inner << self._bits - 16 * (depth + 1), 16 * (depth + 1))
            self._refresh(below, inner, depth + 1, 0, 0)
            below.render()
            level.put(at, 16, below.word)

    def _path(self, network: int, length: int) -> list:
        """Return the levels from the root to that of a prefix; missing ones are made."""
        path = [self.root]
        for depth in range(1, _depth(length) + 1):
            value = self._value(network, depth - 1)
            if value not in path[-1].below:
                default = self._longest(network, 16 * depth)
                path[-1].below[value] = Level(self._nodes, self._fields[depth], default)
            path.append(path[-1].below[value])
        return path

    def _value(self, network: int, depth: int) -> int:
        return network >> self._bits - 16 * (depth + 1) & 0xFFFF

    def _note(self, network: int, length: int, word: int | None) -> None:
        words = self._words.setdefault(length, {})
        if word is None:
            words.pop(network, None)
        else:
            words[network] = word

    def _longest(self, address: int, length: int) -> int:
        """Return the word of the longest prefix of at most `length` bits around an address."""
        for bits in sorted((bits for bits in self._words if bits <= length), reverse=True):
            word = self._words[bits].get(address >> self._bits - bits << self._bits - bits)
            if word is not None:
                return word
        return NO_MATCH


def _depth(length: int) -> int:
    return max(length - 1, 0) // 16
