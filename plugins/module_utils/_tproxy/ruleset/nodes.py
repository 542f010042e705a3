# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The node words of an image: where they stand and how they are written (bpf/abi.h, "Node word").

This room turns partitions (_intervals) of one or more 16-bit fields into nodes. It knows no rule and no prefix.

1. A node examines one field. Up to 32 values: a sorted SEARCH node. More: a HIGH page indexed by the upper byte, whose
   entries are words, SEARCH nodes or LOW pages indexed by the lower byte. So a field costs two steps at most.
2. Equal nodes exist once.
3. A SEARCH node of up to 16 words lies within one cache line of 64 bytes, a larger one begins one, none leaves its
   page: the program masks offsets with the page size.
"""

from __future__ import annotations

import struct
from array import array

from ..abi.layout import (
    IMAGE_PAGES_MAX,
    NODE_FIELD_SHIFT,
    NODE_HIGH,
    NODE_LEAF,
    NODE_LOW,
    NODE_POINTER_MASK,
    NODE_SEARCH,
    NODE_TAG_SHIFT,
    NODE_WIDTH_MASK,
    NODE_WIDTH_SHIFT,
    PAGE_BYTES,
    PAGE_WORDS,
    UNIT_WORDS,
)
from ..errors import LimitExceeded

KEYS_MAX = 32
LINE_WORDS = 16
NODE_PAGES_MAX = min(IMAGE_PAGES_MAX, (NODE_POINTER_MASK + 1) * UNIT_WORDS // PAGE_WORDS)
EMPTY_PAGE = bytes(PAGE_BYTES)

# SEARCH nodes with 4, 8, 16 and 32 keys: u16 keys, then u32 values, host order.
SEARCH_STRUCTS = tuple(struct.Struct(f"={4 << size}H{4 << size}I") for size in range(4))
SEARCH_WORDS = tuple(-(-form.size // (4 * UNIT_WORDS)) * UNIT_WORDS for form in SEARCH_STRUCTS)
SEARCH_SIZES = tuple(next(size for size in range(4) if 4 << size >= keys) for keys in range(KEYS_MAX + 1))


class NodeTable:
    """The words of one image. The first pages are left to the caller; nodes follow them."""

    def __init__(self, first_page: int):
        self.words = array("I", EMPTY_PAGE * first_page)
        self._cursor = len(self.words)
        self._interned = {}
        self._steps = {}

    @property
    def pages(self) -> int:
        """Pages in use."""
        return len(self.words) // PAGE_WORDS

    def steps(self, word: int) -> int:
        """Return the most steps that a walk can take from this word to a leaf."""
        return self._steps.get(word, 0)

    def steps_of(self, partition: list) -> int:
        """Return what steps() would say of the node of this partition."""
        if len(partition) == 1:
            return self.steps(partition[0][1])
        own = 1 if len(partition) <= KEYS_MAX else 2
        return own + max(self._steps.get(word, 0) for _start, word in partition)

    def node(self, field: int, partition: list) -> int:
        """Return the word for a partition of a field's 65536 values into words."""
        if len(partition) == 1:
            return partition[0][1]
        key = field, tuple(partition)
        word = self._interned.get(key)
        if word is None:
            word = self._interned[key] = self.make(field, partition)
        return word

    def make(self, field: int, partition: list) -> int:
        """Return the word of a new node for a partition of at least two values."""
        word = (self._search if len(partition) <= KEYS_MAX else self._high)(field, partition)
        self._steps[word] = self.steps_of(partition)
        return word

    def trie(self, fields: tuple, partition: list) -> int:
        """Return the word for a partition of a number that is spread over several fields, most significant first."""
        return self.node(fields[0], self.first_field(fields[1:], partition))

    def first_field(self, rest: tuple, partition: list) -> list:
        """Return the partition of the first 16 bits; nodes on the fields of `rest` decide about the other bits."""
        if not rest:
            return partition
        shift = 16 * len(rest)
        out = []
        for value, inner in _by_first_field(partition, shift):
            word = self.trie(rest, inner) if len(inner) > 1 else inner[0][1]
            if not out or out[-1][1] != word:
                out.append((value, word))
        return out

    def _search(self, field: int, partition: list) -> int:
        size = SEARCH_SIZES[len(partition)]
        padding = (4 << size) - len(partition)
        starts, values = zip(*partition)
        at = self.reserve(SEARCH_WORDS[size])
        SEARCH_STRUCTS[size].pack_into(
            self.words, 4 * at, 0, *starts[1:], *(0xFFFF,) * padding, *values, *values[-1:] * padding
        )
        return NODE_SEARCH << NODE_TAG_SHIFT | size << NODE_WIDTH_SHIFT | field << NODE_FIELD_SHIFT | at // UNIT_WORDS

    def _high(self, field: int, partition: list) -> int:
        page = array("I")
        for row in _rows(partition):
            page.append(self.row(field, row))
        return NODE_HIGH << NODE_TAG_SHIFT | field << NODE_FIELD_SHIFT | self.append_page(page)

    def row(self, field: int, row: list) -> int:
        """Return the word for the values of a field that share their upper byte; the first key is 0 all the same."""
        return self.node(field, row) if len(row) <= KEYS_MAX else self._low(field, row)

    def _low(self, field: int, row: list) -> int:
        ends = [start & 0xFF for start, _word in row[1:]] + [256]
        page = array("I")
        for end, (_start, word) in zip(ends, row):
            page.extend([word] * (end - len(page)))
        return NODE_LOW << NODE_TAG_SHIFT | field << NODE_FIELD_SHIFT | self.append_page(page)

    def reserve(self, count: int) -> int:
        """Return the word at which `count` free words begin; see rule 3."""
        at = self._cursor
        if count > LINE_WORDS or at % LINE_WORDS + count > LINE_WORDS:
            at = -(-at // LINE_WORDS) * LINE_WORDS
        # A page that ends here, or that a HIGH or LOW page was appended to, is full.
        if at % PAGE_WORDS + count > PAGE_WORDS or at % PAGE_WORDS == 0:
            at = self.append_page(EMPTY_PAGE) * PAGE_WORDS
        self._cursor = at + count
        return at

    def append_page(self, content) -> int:
        """Append a page and return its number."""
        page = self.pages
        if page >= NODE_PAGES_MAX:
            raise LimitExceeded("pages of rule nodes", page + 1, NODE_PAGES_MAX, "nothing was changed; use fewer rules")
        self.words.frombytes(bytes(content))
        return page


def _rows(partition: list):
    """Yield 256 partitions, one for each upper byte; each begins with 0, as the keys of a node do."""
    at, word = 0, partition[0][1]
    for high in range(256):
        row = [] if at < len(partition) and partition[at][0] == high << 8 else [(0, word)]
        while at < len(partition) and partition[at][0] >> 8 == high:
            row.append(partition[at])
            at += 1
        word = row[-1][1]
        yield [(0, row[0][1]), *row[1:]]


def _by_first_field(partition: list, shift: int):
    """Yield (first field, partition of the bits below it), only where something changes; fields ascend."""
    low = (1 << shift) - 1
    field, inner = 0, []
    for start, value in partition:
        if start >> shift != field:
            yield field, inner
            last = inner[-1][1]
            if start >> shift > field + 1:
                yield field + 1, [(0, last)]
            field = start >> shift
            inner = [(0, last)] if start & low else []
        inner.append((start & low, value))
    yield field, inner
    if field < 0xFFFF:
        yield field + 1, [(0, inner[-1][1])]


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
