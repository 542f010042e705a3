# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The nodes of an image: their words, and the changes of words that packets may be reading (bpf/abi.h, "A node").

This module turns interval maps of one or more 16-bit fields into nodes. It knows no rule and no prefix.

1. A node compares one field. Up to 32 intervals are a SEARCH node. More are a HIGH page, indexed by the upper byte of
   the field. Its entries are nodes of another field, SEARCH nodes, or LOW pages, indexed by the lower byte. So a field
   costs two steps at most.
2. A SEARCH node of up to 16 words lies within one cache line of 64 bytes. A larger one starts at a cache line. None
   crosses a page, because the program masks offsets with the page size.
3. Equal SEARCH nodes exist once.
4. A node is never changed and never freed once a lookup can reach it, because a packet may be reading it. Only words of
   pages and of indirection nodes change.
5. An indirection node is a SEARCH node with one outcome: three of its keys are 0, so its last value applies to every
   packet. Many nodes can point to it, and one store changes its outcome. It costs one step.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence

from ..abi.layout import (
    IMAGE_PAGES_MAX,
    NODE_FIELD_MASK,
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
from .intervals import IntervalMap

KEYS_MAX = 32
ROWS = 256  # values of the upper byte of a field; a row is the values of its lower byte
LINE_WORDS = 16
NODE_PAGES_MAX = min(IMAGE_PAGES_MAX, (NODE_POINTER_MASK + 1) * UNIT_WORDS // PAGE_WORDS)

# SEARCH nodes with 4, 8, 16 and 32 keys: u16 keys, then u32 values, host order.
SEARCH_STRUCTS = tuple(struct.Struct(f"={4 << width}H{4 << width}I") for width in range(4))
SEARCH_WORDS = tuple(-(-form.size // (4 * UNIT_WORDS)) * UNIT_WORDS for form in SEARCH_STRUCTS)
SEARCH_WIDTHS = tuple(next(width for width in range(4) if 4 << width >= keys) for keys in range(KEYS_MAX + 1))

INDIRECTION_OUTCOME = 5  # word of the last value in an indirection node: behind four u16 keys and three values
ROWS_PER_CHANGE = 2048

NO_MATCH = NODE_LEAF
LEAF_MAX = (1 << NODE_TAG_SHIFT) - 1  # the tag of a leaf is 0


class FullCompileNeeded(Exception):
    """A change in place is impossible or too expensive: the whole set must be compiled into a new image."""


class NodeTable:
    """The words of one image. The first pages belong to the caller, and nodes follow them.

    `fresh` and `published` are the changes since begin(): [(first word, words)] that no lookup reaches yet, and
    {word: (phase, value)} that make them reachable.
    """

    def __init__(self, first_page: int) -> None:
        self.words = array("I", bytes(PAGE_BYTES * first_page))
        self.pages = first_page
        self.phase = 0
        self.fresh: list[tuple[int, int]] = []
        self.published: dict[int, tuple[int, int]] = {}
        self._end = 0  # the word after the last SEARCH node
        self._capacity: int | None = None
        self._known: dict[tuple[int, bytes], int] = {}
        self._known_pages: dict[tuple[int, tuple[tuple[int, int], ...]], int] = {}
        self._steps: dict[int, int] = {}
        self._rows = 0

    # ---- nodes ------------------------------------------------------------------------------

    def steps(self, node: int) -> int:
        """Return the most steps from this node to a leaf, or to the outcome of an indirection node."""
        return self._steps.get(node, 0)

    def steps_of(self, intervals: IntervalMap[int]) -> int:
        """Return the steps() of the node for an interval map."""
        if len(intervals) == 1:
            return self.steps(intervals[0][1])
        own = 1 if len(intervals) <= KEYS_MAX else 2
        return own + max(self._steps.get(node, 0) for _start, node in intervals)

    def node(self, field: int, intervals: IntervalMap[int]) -> int:
        """Return the node for an interval map of a field, which may be shared."""
        if len(intervals) == 1:
            return intervals[0][1]
        if len(intervals) <= KEYS_MAX:
            return self._search(field, intervals)
        key = field, tuple(intervals)
        node = self._known_pages.get(key)
        if node is None:
            node = self._known_pages[key] = self._high(field, intervals)
        return node

    def own_node(self, field: int, intervals: IntervalMap[int]) -> int:
        """Return the node for an interval map of a field. Its pages belong to the caller, who may change them."""
        return self.node(field, intervals) if len(intervals) <= KEYS_MAX else self._high(field, intervals)

    def row(self, field: int, high: int, intervals: IntervalMap[int]) -> int:
        """Return the node for an interval map of the values with the upper byte `high`."""
        if len(intervals) > KEYS_MAX:
            return _node(NODE_LOW, field, self.append_page(expand(intervals)))
        first = high << 8
        # The first key is never compared.
        return self.node(field, [intervals[0], *((first | start, node) for start, node in intervals[1:])])

    def trie(self, fields: Sequence[int], intervals: IntervalMap[int]) -> int:
        """Return the node for an interval map of a number that is spread over fields, most significant first."""
        return self.node(fields[0], self.first_field(fields[1:], intervals))

    def first_field(self, rest: Sequence[int], intervals: IntervalMap[int]) -> IntervalMap[int]:
        """Return the interval map of the first 16 bits. Nodes for the fields `rest` compare the other bits."""
        if not rest:
            return intervals
        found: IntervalMap[int] = []
        for value, inner in _by_first_field(intervals, 16 * len(rest)):
            node = self.trie(rest, inner) if len(inner) > 1 else inner[0][1]
            if not found or found[-1][1] != node:
                found.append((value, node))
        return found

    def _search(self, field: int, intervals: IntervalMap[int]) -> int:
        """Return the SEARCH node with this content. Its bytes are its key, which is shorter than the intervals."""
        width = SEARCH_WIDTHS[len(intervals)]
        padding = (4 << width) - len(intervals)
        starts, values = zip(*intervals)
        content = SEARCH_STRUCTS[width].pack(0, *starts[1:], *(0xFFFF,) * padding, *values, *values[-1:] * padding)
        key = field, content
        node = self._known.get(key)
        if node is None:
            at = self.reserve(SEARCH_WORDS[width])
            self.words[at : at + len(content) // 4] = array("I", content)
            node = self._known[key] = _node(NODE_SEARCH, field, at // UNIT_WORDS, width)
            self._steps[node] = self.steps_of(intervals)
        return node

    def _high(self, field: int, intervals: IntervalMap[int]) -> int:
        page = array("I", (self.row(field, high, row) for high, row in enumerate(_rows(intervals))))
        node = _node(NODE_HIGH, field, self.append_page(page))
        self._steps[node] = self.steps_of(intervals)
        return node

    def follow(self, node: int, field: int, value: int) -> int:
        """Return the node of another field, or the leaf, that a lookup of `value` in this field reaches."""
        while compares(node, field):
            tag, pointer = node >> NODE_TAG_SHIFT, node & NODE_POINTER_MASK
            if tag == NODE_SEARCH:
                width = node >> NODE_WIDTH_SHIFT & NODE_WIDTH_MASK
                form, keys = SEARCH_STRUCTS[width], 4 << width
                content = form.unpack_from(self.words, 4 * UNIT_WORDS * pointer)
                node = content[keys + max(at for at in range(keys) if not at or content[at] <= value)]
            else:
                node = self.words[pointer * PAGE_WORDS + (value >> 8 if tag == NODE_HIGH else value & 0xFF)]
        return node

    # ---- indirection nodes ------------------------------------------------------------------

    def indirection(self, field: int, outcome: int) -> int:
        """Return a new indirection node. `field` is one that no other node before it compares."""
        at = self.reserve(SEARCH_WORDS[0])
        SEARCH_STRUCTS[0].pack_into(self.words, 4 * at, *(0,) * 4, *(outcome,) * 4)
        node = _node(NODE_SEARCH, field, at // UNIT_WORDS)
        self._steps[node] = 1
        return node

    def redirect(self, node: int, outcome: int) -> None:
        """Publish another outcome of an indirection node."""
        self.publish((node & NODE_POINTER_MASK) * UNIT_WORDS + INDIRECTION_OUTCOME, outcome)

    # ---- words ------------------------------------------------------------------------------

    def reserve(self, count: int) -> int:
        """Return the position of `count` free words; see rule 2."""
        at = self._end
        if count > LINE_WORDS or at % LINE_WORDS + count > LINE_WORDS:
            at = -(-at // LINE_WORDS) * LINE_WORDS
        # At the start of a page there is none yet, or a page of 256 values follows.
        if at % PAGE_WORDS + count > PAGE_WORDS or at % PAGE_WORDS == 0:
            at = self.append_page(array("I", bytes(PAGE_BYTES))) * PAGE_WORDS
        self._end = at + count
        self.fresh.append((at, count))
        return at

    def append_page(self, content: array[int]) -> int:
        """Return the number of a new page with this content."""
        page = self.pages
        if self._capacity is not None and page >= self._capacity:
            raise FullCompileNeeded("no page is left")
        if page >= NODE_PAGES_MAX:
            raise LimitExceeded("pages of rule nodes", page + 1, NODE_PAGES_MAX, "nothing was changed; use fewer rules")
        self.write(page * PAGE_WORDS, content)
        self.pages += 1
        return page

    def write(self, at: int, content: array[int]) -> None:
        """Write words that no lookup reaches yet."""
        self.words[at : at + len(content)] = content
        self.fresh.append((at, len(content)))

    def publish(self, at: int, value: int) -> None:
        """Write one word that a lookup may reach."""
        if self.words[at] != value:
            self.words[at] = value
            if self._capacity is not None:
                self.published[at] = self.phase, value

    def publish_row(self, page: int, row: array[int]) -> None:
        """Write the words of a page that a lookup may reach."""
        first = page * PAGE_WORDS
        if self._capacity is None:
            self.words[first : first + PAGE_WORDS] = row
            return
        for at, (old, new) in enumerate(zip(self.words[first : first + PAGE_WORDS], row), first):
            if old != new:
                self.publish(at, new)

    # ---- changes in place -------------------------------------------------------------------

    def fix_capacity(self, pages: int) -> None:
        """Extend the image to `pages` pages. From now on changes happen within them."""
        self.words.frombytes(bytes(PAGE_BYTES * (pages - len(self.words) // PAGE_WORDS)))
        self._capacity = pages
        self.forget_contents()
        self.begin()

    def forget_contents(self) -> None:
        """Forget which nodes have which content. Nodes that are made from now on are new ones."""
        self._known.clear()
        self._known_pages.clear()

    def begin(self) -> None:
        """Begin a change: forget the writes of the last one."""
        self.fresh, self.published, self._rows, self.phase = [], {}, 0, 0

    def count_row(self) -> None:
        """Count a part that is written anew. Raise FullCompileNeeded if a change writes too many."""
        self._rows += 1
        if self._capacity is not None and self._rows > ROWS_PER_CHANGE:
            raise FullCompileNeeded("the change affects too many destinations")

    def take_steps(self, steps: dict[int, int]) -> None:
        """Take the steps of nodes that were copied to this table."""
        self._steps = steps


class LookupOrder:
    """Copies nodes to a new table in the order of a lookup: each is followed by those that it leads to.

    A compiler makes the last nodes of a lookup first. In that order each step of a lookup in a large image would wait
    for another cache line. Depth first, a short node and the one behind it mostly share a line.
    """

    def __init__(self, nodes: NodeTable, first_page: int, keeps_steps: bool) -> None:
        """`keeps_steps`: the new table will be changed. No node may be made in the old table any more."""
        self.nodes = NodeTable(first_page)
        self._old, self._keeps_steps = nodes, keeps_steps
        nodes.forget_contents()
        self._moved: dict[int, int] = {}

    def move(self, node: int) -> int:
        """Return the node in the new table. It and all nodes behind it are copied once."""
        if node <= LEAF_MAX:
            return node
        moved = self._moved.get(node)
        if moved is None:
            copy = self._search if node >> NODE_TAG_SHIFT == NODE_SEARCH else self._page
            moved = self._moved[node] = copy(node)
        return moved

    def move_page(self, page: int) -> None:
        """Copy a page that has the same number in both tables."""
        first = page * PAGE_WORDS
        content = self._old.words[first : first + PAGE_WORDS]
        moved = {node: self.move(node) for node in dict.fromkeys(content)}
        self.nodes.words[first : first + PAGE_WORDS] = array("I", map(moved.__getitem__, content))

    def finish(self) -> NodeTable:
        """Return the new table."""
        if self._keeps_steps:
            self.nodes.take_steps({moved: self._old.steps(node) for node, moved in self._moved.items()})
        return self.nodes

    def _search(self, node: int) -> int:
        width = node >> NODE_WIDTH_SHIFT & NODE_WIDTH_MASK
        keys, count = 4 << width, SEARCH_WORDS[width]
        old, values = (node & NODE_POINTER_MASK) * UNIT_WORDS, keys // 2
        at = self.nodes.reserve(count)
        words = self.nodes.words
        content = self._old.words[old : old + count]
        words[at : at + count] = content
        for number in range(values, values + keys):
            if content[number] > LEAF_MAX:
                words[at + number] = self.move(content[number])
        return node & ~NODE_POINTER_MASK | at // UNIT_WORDS

    def _page(self, node: int) -> int:
        old = (node & NODE_POINTER_MASK) * PAGE_WORDS
        content = self._old.words[old : old + PAGE_WORDS]
        page = self.nodes.append_page(content)
        first = page * PAGE_WORDS
        for number, value in enumerate(content, first):
            if value > LEAF_MAX:
                self.nodes.words[number] = self.move(value)
        return node & ~NODE_POINTER_MASK | page


def _node(tag: int, field: int, pointer: int, width: int = 0) -> int:
    return tag << NODE_TAG_SHIFT | width << NODE_WIDTH_SHIFT | field << NODE_FIELD_SHIFT | pointer


def compares(node: int, field: int) -> bool:
    """Return whether a node compares this field."""
    return node >> NODE_TAG_SHIFT != NODE_LEAF and node >> NODE_FIELD_SHIFT & NODE_FIELD_MASK == field


def expand(intervals: IntervalMap[int], values: int = ROWS) -> array[int]:
    """Return the words of an interval map, one for each value."""
    words = array("I")
    ends = [start for start, _node in intervals[1:]] + [values]
    for (start, node), end in zip(intervals, ends):
        words.extend(array("I", (node,)) * (end - start))
    return words


def _rows(intervals: IntervalMap[int]) -> Iterator[IntervalMap[int]]:
    """Yield the interval map of each row, by the lower byte."""
    at, node = 0, intervals[0][1]
    for high in range(ROWS):
        row = [] if at < len(intervals) and intervals[at][0] == high << 8 else [(0, node)]
        while at < len(intervals) and intervals[at][0] >> 8 == high:
            row.append((intervals[at][0] & 0xFF, intervals[at][1]))
            at += 1
        node = row[-1][1]
        yield row


def _by_first_field(intervals: IntervalMap[int], shift: int) -> Iterator[tuple[int, IntervalMap[int]]]:
    """Yield (value of the first field, interval map of the bits below it) for each value where a node changes."""
    low = (1 << shift) - 1
    value: int = 0
    inner: IntervalMap[int] = []
    for start, node in intervals:
        if start >> shift != value:
            yield value, inner
            last = inner[-1][1]
            if start >> shift > value + 1:
                yield value + 1, [(0, last)]
            value = start >> shift
            inner = [(0, last)] if start & low else []
        inner.append((start & low, node))
    yield value, inner
    if value < 0xFFFF:
        yield value + 1, [(0, inner[-1][1])]
