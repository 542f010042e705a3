# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The rules of one family and protocol, as one interface group sees them, as nodes: destination, ports, source.

Each destination prefix has a port table: which node each of its ports leads to. Ports without a rule lead to the port
node of the next shorter prefix that has rules (docs/SEMANTICS.md, fall-through). So a lookup compares the port again,
and never the destination.

1. A port table with few intervals copies the intervals of its parent, which saves a step (INLINE_MAX).
2. If a chain of port tables could take too many steps, the rules of all shorter prefixes are compiled into one port
   table. So a lookup always ends within LOOKUP4_STEPS or LOOKUP6_STEPS.
3. In an image that changes in place, a prefix that many nodes point to has its port table behind an indirection node.
   So a change of it costs few words, whatever lies inside of the prefix.
4. A cover has no ports: the outcome of a prefix is its best rule that splices or drops.

Rules come best first. This module never compares the precedence of two rules.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from ..abi.layout import (
    COVER4_DADDR_HIGH,
    COVER4_DADDR_LOW,
    FIELD4_DADDR_LOW,
    FIELD4_DPORT,
    FIELD4_SADDR_HIGH,
    FIELD4_SADDR_LOW,
    FIELD6_DADDR,
    FIELD6_DPORT,
    FIELD6_SADDR,
    LOOKUP4_STEPS,
    LOOKUP6_STEPS,
    NODE_HIGH,
    NODE_LOW,
    NODE_POINTER_MASK,
    NODE_TAG_SHIFT,
    PAGE_WORDS,
)
from .groups import ROOT_PAGES
from .intervals import (
    IntervalMap,
    Network,
    PortMatch,
    PrefixMap,
    SourceMatches,
    joined,
    matches_all,
    overlay,
    port_intervals,
    prefix_intervals,
)
from .nodes import NO_MATCH, FullCompileNeeded, LookupOrder, NodeTable, compares, expand

FIELD_BITS, ROW_BITS = 16, 8
INLINE_MAX = 8
MANY_INSIDE = 32
NO_PORTS: IntervalMap[int] = [(0, NO_MATCH)]

Ranked = tuple[tuple[object, ...], PortMatch]  # (precedence, match)


class Family(NamedTuple):
    """The bits of an address, and the fields of a lookup, most significant first."""

    bits: int
    destination: tuple[int, ...]
    port: int
    source: tuple[int, ...]
    cover: tuple[int, ...]
    steps: int
    short_steps: int


# The root of IPv4 compares the upper half of the destination. `steps` are those that the destination leaves: a field
# costs two steps at most. `short_steps` are enough for any port table without a parent: 2 + 4 steps (IPv6: 2 + 16).
FAMILIES = {
    4: Family(
        bits=32,
        destination=(FIELD4_DADDR_LOW,),
        port=FIELD4_DPORT,
        source=(FIELD4_SADDR_HIGH, FIELD4_SADDR_LOW),
        cover=(COVER4_DADDR_HIGH, COVER4_DADDR_LOW),
        steps=LOOKUP4_STEPS - 2,
        short_steps=LOOKUP4_STEPS // 2,
    ),
    6: Family(
        bits=128,
        destination=tuple(range(FIELD6_DADDR, FIELD6_DADDR + 8)),
        port=FIELD6_DPORT,
        source=tuple(range(FIELD6_SADDR, FIELD6_SADDR + 8)),
        cover=tuple(range(FIELD6_DADDR, FIELD6_DADDR + 8)),
        steps=LOOKUP6_STEPS - 16,
        short_steps=LOOKUP6_STEPS // 2,
    ),
}


class PortTable:
    """The rules of one destination prefix, best first, and their node.

    `steps` are the most steps from its port node to a leaf, through all tables that it falls through to.
    """

    __slots__ = ("intervals", "is_indirect", "network", "node", "parent", "ranked", "steps")

    def __init__(self, network: Network, ranked: list[Ranked], parent: PortTable | None = None) -> None:
        self.network, self.ranked, self.parent = network, ranked, parent
        self.node, self.intervals, self.is_indirect, self.steps = NO_MATCH, NO_PORTS, False, 0

    @property
    def matches(self) -> list[PortMatch]:
        """The rules without their precedence."""
        return [match for _precedence, match in self.ranked]


class Level(NamedTuple):
    """The destinations that begin with `base`, by their next field; `old` leads to their nodes of today."""

    depth: int
    base: int
    old: Callable[[int], int]


class Destinations:
    """Writes the nodes of destinations, one level for each 16 bits of the address. The longest prefix applies.

    A level begins where prefixes are longer than the fields above it. Where a level has no prefix of its own, the
    longest prefix around it applies. A level with few intervals is a SEARCH node, which is made anew with each change.
    A level with more is a HIGH page, and a row with many intervals a LOW page. Their words change in place.
    Destinations that no longer prefix divides need no level: they lead to the node of their prefix.

    `fields` are those of the levels. With `root_page` the first level is a root of 65,536 words from that page on.
    """

    def __init__(
        self,
        nodes: NodeTable,
        tables: PrefixMap[PortTable],
        fields: Sequence[int],
        root_page: int | None,
    ) -> None:
        self.nodes = nodes
        self.root = NO_MATCH  # the node of the first level, if that is no root page
        self._tables, self._fields, self._root_page = tables, fields, root_page

    def build(self) -> None:
        """Write the nodes of all destinations."""
        prefixes = ((*network, self._tables[network].node) for network in self._tables.order)
        intervals = prefix_intervals(prefixes, self._tables.bits, NO_MATCH)
        if self._root_page is None:
            self.root = self.nodes.trie(self._fields, intervals)
        else:
            first = self.nodes.first_field(self._fields[1:], intervals)
            self.nodes.write(self._root_page * PAGE_WORDS, expand(first, 1 << FIELD_BITS))

    def write(self, changed: Network) -> None:
        """Write the nodes of the destinations inside of a prefix."""
        if self._root_page is None:
            self.root = self._level(self.root, 0, 0, changed)
        else:
            first = self._root_page * PAGE_WORDS
            root = Level(0, 0, lambda value: self.nodes.words[first + value])
            for row in self._rows(0, changed):
                self.nodes.publish_row(self._root_page + row, expand(self._intervals(root, changed, row)))

    def _level(self, old: int, depth: int, base: int, changed: Network) -> int:
        """Return the node of a level. It is `old` if that is a page, because its words change in place."""
        field = self._fields[depth]
        level = Level(depth, base, lambda value: self.nodes.follow(old, field, value))
        if not compares(old, field) or old >> NODE_TAG_SHIFT != NODE_HIGH:
            self.nodes.count_row()
            return self.nodes.own_node(field, self._intervals(level, changed))
        page = old & NODE_POINTER_MASK
        for row in self._rows(depth, changed):
            at, intervals = page * PAGE_WORDS + row, self._intervals(level, changed, row)
            before = self.nodes.words[at]
            if before >> NODE_TAG_SHIFT == NODE_LOW and compares(before, field):
                self.nodes.publish_row(before & NODE_POINTER_MASK, expand(intervals))
            else:
                self.nodes.publish(at, self.nodes.row(field, row, intervals))
        return old

    def _rows(self, depth: int, changed: Network) -> range:
        """Return the rows of a level that a change affects."""
        values = self._values(depth, changed)
        return range(values.start >> ROW_BITS, (values.stop - 1 >> ROW_BITS) + 1)

    def _values(self, depth: int, changed: Network) -> range:
        """Return the values of a field that a change affects."""
        bits = min(max(changed.length - FIELD_BITS * depth, 0), FIELD_BITS)
        first = changed.address >> self._shift(depth) & 0xFFFF if bits else 0
        return range(first, first + (1 << FIELD_BITS - bits))

    def _shift(self, depth: int) -> int:
        return self._tables.bits - FIELD_BITS * (depth + 1)

    def _intervals(self, level: Level, changed: Network, row: int | None = None) -> IntervalMap[int]:
        """Return the nodes of a level or of one row of it, as an interval map that starts with the first value."""
        if row is None:
            first, width = 0, FIELD_BITS
        else:
            self.nodes.count_row()
            first, width = row << ROW_BITS, ROW_BITS
        shift, above = self._shift(level.depth), FIELD_BITS * (level.depth + 1) - width
        affected, order = self._values(level.depth, changed), self._tables.order
        address = (level.base << FIELD_BITS | first) << shift
        around = self._tables.longest(address, above)
        found: list[tuple[int, int, int]] = []
        at = bisect_left(order, (address, above + 1))
        end = bisect_left(order, (address + (1 << shift + width), 0), at)
        while at < end:
            network = order[at]
            value, length = network.address >> shift & 0xFFFF, network.length - above
            if length <= width:
                found.append((value - first, length, self._tables[network].node))
                at += 1
                continue
            base = level.base << FIELD_BITS | value
            at = bisect_left(order, (base + 1 << shift, 0), at)
            node = level.old(value)
            if value in affected:
                node = self._level(node, level.depth + 1, base, changed)
            if found and found[-1][:2] == (value - first, width):
                found.pop()
            found.append((value - first, width, node))
        return prefix_intervals(found, width, NO_MATCH if around is None else around.node)


class RuleTrie:
    """Port tables by destination prefix, and the nodes of the destinations."""

    def __init__(
        self, nodes: NodeTable, family: Family, *, is_cover: bool, root_page: int | None, may_change: bool
    ) -> None:
        self._nodes, self._family, self._is_cover, self._may_change = nodes, family, is_cover, may_change
        self._tables: PrefixMap[PortTable] = PrefixMap(family.bits)
        self._sources: dict[tuple[SourceMatches, int], int] = {}
        self._merged: set[Network] = set()  # prefixes whose table has the rules of shorter prefixes; see rule 2
        self._root_page = root_page
        # Short chains are faster. But a merged table cannot follow changes of shorter prefixes; see _check_merged().
        self._most_steps = family.steps if may_change else family.short_steps
        fields = family.cover if is_cover else family.destination
        if root_page is not None:
            fields = (-1, *fields)  # no node compares the field of the root
        self._destinations = Destinations(nodes, self._tables, fields, root_page)

    @property
    def root(self) -> int:
        """The word for the directory of the interface group."""
        return self._destinations.root if self._root_page is None else self._root_page

    def build(self, ranked: Iterable[tuple[Network, list[Ranked]]]) -> None:
        """Compile all rules: (prefix, [(precedence, match)] best first), the prefixes sorted."""
        made = (PortTable(network, matches) for network, matches in ranked)
        if self._may_change:
            self._tables.fill((table.network, table) for table in made)
            for _table in self._written(map(self._tables.__getitem__, self._tables.order)):
                pass
            self._destinations.build()
        else:
            self._tables.fill((table.network, table) for table in self._written(made))
            self._destinations.build()
            self._tables.fill(())
            self._sources.clear()

    def _written(self, tables: Iterable[PortTable]) -> Iterator[PortTable]:
        """Write sorted tables, and yield them. Without changes, only the node of a table is kept."""
        around: list[PortTable] = []
        for table in tables:
            while around and not _holds(around[-1].network, table.network, self._family.bits):
                behind = around.pop()
                if not self._may_change:
                    behind.ranked, behind.intervals, behind.parent = [], NO_PORTS, None
            table.parent = around[-1] if around else None
            self._write(table)
            around.append(table)
            yield table

    def reorder(self, order: LookupOrder) -> None:
        """Move all nodes to the new table of `order`."""
        self._nodes = self._destinations.nodes = order.nodes
        if self._root_page is None:
            self._destinations.root = order.move(self._destinations.root)
        else:
            for page in range(self._root_page, self._root_page + ROOT_PAGES):
                order.move_page(page)
        if self._may_change:
            self._sources.clear()
            for network in self._tables.order:
                table = self._tables[network]
                table.node = order.move(table.node)
                table.intervals = [(start, order.move(node)) for start, node in table.intervals]

    # ---- changes in place -------------------------------------------------------------------

    def add(self, network: Network, ranked: Ranked) -> None:
        """Add a rule."""
        table = self._tables.get(network)
        if table is not None:
            insort(table.ranked, ranked)
            self._rewrite(table)
            return
        table = PortTable(network, [ranked], self._tables.longest(network.address, network.length - 1))
        self._tables.add(network, table)
        self._write(table)
        self._adopt(network, table)

    def remove(self, network: Network, ranked: Ranked) -> None:
        """Remove a rule that was added."""
        table = self._tables[network]
        table.ranked.remove(ranked)
        if table.ranked:
            self._rewrite(table)
            return
        self._tables.remove(network)
        self._merged.discard(network)
        self._adopt(network, table.parent)

    def _rewrite(self, table: PortTable) -> None:
        """Write a port table anew. If its node is another one, write the nodes that point to it."""
        before = table.node
        self._write(table)
        if table.node != before:
            self._adopt(table.network, table)
        else:
            self._check_merged(table.network)

    def _adopt(self, network: Network, table: PortTable | None) -> None:
        """Let the destinations of a prefix lead to a port table, and the tables inside fall through to it."""
        if not self._is_cover:
            self._check_merged(network)
            self._write_inside(network, table)
        self._destinations.write(network)

    def _write_inside(self, network: Network, parent: PortTable | None) -> None:
        for child in list(self._tables.children(network)):
            self._nodes.count_row()
            child.parent, before = parent, child.node
            self._write(child)
            if child.node != before:
                self._write_inside(child.network, child)

    def _check_merged(self, network: Network) -> None:
        """Raise FullCompileNeeded if a table inside of a prefix has a copy of its rules."""
        if any(_holds(network, merged, self._family.bits) and merged != network for merged in self._merged):
            raise FullCompileNeeded("prefixes are nested too deeply")

    # ---- nodes ------------------------------------------------------------------------------

    def _write(self, table: PortTable) -> None:
        """Write the node of a port table."""
        before = table.steps
        if self._is_cover:
            table.intervals = [(0, table.ranked[0][1].source.node)]
        else:
            self._write_ports(table)
        node = self._nodes.node(self._family.port, table.intervals)
        if table.is_indirect:
            self._nodes.redirect(table.node, node)
            self._add_steps(table.network, table.steps - before)
        elif self._may_change and self._is_wide(table.network):
            table.node, table.is_indirect = self._nodes.indirection(self._family.source[0], node), True
        else:
            table.node = node

    def _write_ports(self, table: PortTable) -> None:
        """Write the nodes of the ports of a table, together with those of shorter prefixes if a chain gets too long."""
        table.intervals = self._ports(table.matches, table.parent)
        table.steps = self._nodes.steps_of(table.intervals)
        behind = table.parent
        while behind is not None and not behind.is_indirect:
            behind = behind.parent
        if behind is not None:
            table.steps += behind.steps
        self._merged.discard(table.network)
        if table.steps > self._most_steps:
            table.intervals = self._ports(_with_shorter(table), None)
            table.steps = self._nodes.steps_of(table.intervals)
            self._merged.add(table.network)

    def _add_steps(self, network: Network, more: int) -> None:
        """Count other steps for the tables inside of a prefix. Raise FullCompileNeeded if they are too many."""
        for at in self._tables.inside(network) if more else ():
            table = self._tables[self._tables.order[at]]
            table.steps += more
            if table.steps > self._family.steps:
                raise FullCompileNeeded("prefixes are nested too deeply")

    def _is_wide(self, network: Network) -> bool:
        """Return whether many nodes may point to a prefix: those of prefixes inside, or those of its own values."""
        if not network.length or (network.length - 1) % FIELD_BITS < ROW_BITS:
            return True
        return len(self._tables.inside(network)) > MANY_INSIDE

    def _ports(self, matches: Sequence[PortMatch], parent: PortTable | None) -> IntervalMap[int]:
        """Return the nodes of the ports: those of the matches, and those of the parent where no match applies."""
        own, merged = port_intervals(matches, self._family.bits), None
        if parent is None or not parent.is_indirect:
            merged = _inlined(own, parent.intervals if parent else NO_PORTS)
        if merged is None:
            fallback = parent.node if parent else NO_MATCH
            merged = [(start, sources, fallback) for start, sources in own]
        return joined((start, self._source(sources, fallback)) for start, sources, fallback in merged)

    def _source(self, sources: SourceMatches, fallback: int) -> int:
        """Return the node that compares the source."""
        if not sources:
            return fallback
        if not sources[0].length:
            return sources[0].node
        key = sources, NO_MATCH if matches_all(sources) else fallback
        node = self._sources.get(key)
        if node is None:
            intervals = prefix_intervals(sorted(sources), self._family.bits, key[1])
            node = self._sources[key] = self._nodes.trie(self._family.source, intervals)
        return node


def _inlined(own: IntervalMap[SourceMatches], under: IntervalMap[int]) -> list[tuple[int, SourceMatches, int]] | None:
    """Return the overlay of two interval maps if it is small."""
    if len(own) + len(under) > 2 * INLINE_MAX:
        return None
    merged = overlay(own, under)
    return merged if len(merged) <= INLINE_MAX else None


def _with_shorter(table: PortTable) -> list[PortMatch]:
    """Return the rules of a prefix and of all prefixes around it, best first."""
    found = table.matches
    while table.parent is not None:
        table = table.parent
        found += table.matches
    return found


def _holds(network: Network, other: Network, bits: int) -> bool:
    """Return whether a prefix is inside of a shorter one, or equal."""
    return network.length <= other.length and not (network.address ^ other.address) >> bits - network.length
