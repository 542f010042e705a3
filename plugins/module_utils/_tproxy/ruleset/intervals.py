# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Overlapping ranges and prefixes as disjoint intervals, and prefixes inside of prefixes.

An interval map is a list of (start, value). The first start is 0, starts ascend, and neighbours have different values.
A value applies from its start up to the next start. This module knows numbers only: no rule and no node.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

PORTS = 65536

T = TypeVar("T")
IntervalMap = list[tuple[int, T]]


class SourceMatch(NamedTuple):
    """A source prefix, in bits of its family, and the node for packets from it."""

    network: int
    length: int
    node: int


class PortMatch(NamedTuple):
    """The part of a rule below its destination: a port range, both ends included, and a source."""

    low: int
    high: int
    source: SourceMatch


SourceMatches = tuple[SourceMatch, ...]


def prefix_intervals(prefixes: Iterable[tuple[int, int, T]], bits: int, gap: T) -> IntervalMap[T]:
    """Return an interval map of 2**bits addresses: each has the value of the longest prefix around it.

    `prefixes` are sorted (network, length, value), each network and length once. `gap` applies outside of all of them.
    """
    intervals = [(0, gap)]
    enclosing: list[tuple[int, T]] = []  # (last address, value) of the prefixes around the current one, longest last
    for network, length, value in prefixes:
        _close(intervals, enclosing, network, gap)
        _append(intervals, network, value)
        enclosing.append((network | (1 << bits - length) - 1, value))
    _close(intervals, enclosing, 1 << bits, gap)
    return intervals


def _close(intervals: IntervalMap[T], enclosing: list[tuple[int, T]], start: int, gap: T) -> None:
    """End the prefixes that end before `start`. After each of them the next longer one applies again."""
    while enclosing and enclosing[-1][0] < start:
        last = enclosing.pop()[0]
        if last + 1 < start:
            _append(intervals, last + 1, enclosing[-1][1] if enclosing else gap)


def _append(intervals: IntervalMap[T], start: int, value: T) -> None:
    """Let `value` apply from `start` on."""
    if intervals[-1][0] == start:
        intervals.pop()
    if not intervals or intervals[-1][1] != value:
        intervals.append((start, value))


def port_intervals(matches: Sequence[PortMatch], bits: int) -> IntervalMap[SourceMatches]:
    """Return an interval map of the ports. Its values are source matches, best first.

    `matches` come best first. Source matches that no packet can reach are left out. So if two of the rest overlap, the
    one with the longer prefix is the better one.
    """
    if len(matches) == 1:
        low, high, source = matches[0]
        intervals: IntervalMap[SourceMatches] = [(0, ()), (low, (source,))] if low else [(0, (source,))]
        return intervals if high == PORTS - 1 else [*intervals, (high + 1, ())]
    opening: dict[int, list[int]] = {}
    closing: dict[int, list[int]] = {}
    for rank, (low, high, _source) in enumerate(matches):
        opening.setdefault(low, []).append(rank)
        closing.setdefault(high + 1, []).append(rank)
    intervals = []
    active: list[int] = []
    for port in sorted({0, *opening, *closing} - {PORTS}):
        for rank in closing.get(port, ()):
            del active[bisect_left(active, rank)]
        for rank in opening.get(port, ()):
            insort(active, rank)
        sources = _reachable(matches, active, bits)
        if not intervals or intervals[-1][1] != sources:
            intervals.append((port, sources))
    return intervals


def _reachable(matches: Sequence[PortMatch], active: Iterable[int], bits: int) -> SourceMatches:
    """Return the sources of the active matches without those inside a better one."""
    found: list[SourceMatch] = []
    networks: dict[int, set[int]] = {}  # {bits below a prefix: {network >> these bits}}
    for rank in active:
        source = matches[rank].source
        network, length, _node = source
        if not length:
            found.append(source)
            break
        below = bits - length
        if any(shift >= below and network >> shift in seen for shift, seen in networks.items()):
            continue
        found.append(source)
        networks.setdefault(below, set()).add(network >> below)
    return tuple(found)


def overlay(intervals: IntervalMap[SourceMatches], under: IntervalMap[T]) -> list[tuple[int, SourceMatches, T]]:
    """Return [(start, source matches, fallback)]: `intervals` with the values of `under` as fallbacks.

    An interval is divided at the starts of `under` unless its matches apply to every source.
    """
    merged, at = [], 0
    ends = [start for start, _sources in intervals[1:]] + [PORTS]
    for (start, sources), end in zip(intervals, ends):
        while at + 1 < len(under) and under[at + 1][0] <= start:
            at += 1
        merged.append((start, sources, under[at][1]))
        if matches_all(sources):
            continue
        while at + 1 < len(under) and under[at + 1][0] < end:
            at += 1
            merged.append((under[at][0], sources, under[at][1]))
    return merged


def matches_all(sources: SourceMatches) -> bool:
    """Return whether one of the matches applies to every source."""
    return bool(sources) and sources[-1].length == 0


def joined(intervals: Iterable[tuple[int, T]]) -> IntervalMap[T]:
    """Return an interval map with equal neighbours merged."""
    merged: IntervalMap[T] = []
    for start, value in intervals:
        if not merged or merged[-1][1] != value:
            merged.append((start, value))
    return merged


# ---- prefixes inside of prefixes ----------------------------------------------------------------


class Network(NamedTuple):
    """A prefix in bits of its family: 32 for IPv4, 128 for IPv6."""

    address: int
    length: int


class PrefixMap(Generic[T]):
    """Values by Network. `order` is sorted, so a prefix stands directly before those inside of it."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.order: list[Network] = []
        self._values: dict[Network, T] = {}
        self._lengths: dict[int, int] = {}  # length: number of prefixes with it

    def fill(self, items: Iterable[tuple[Network, T]]) -> None:
        """Replace all prefixes, by sorted ones."""
        self._values = dict(items)
        self.order[:] = self._values
        self._lengths.clear()
        for network in self.order:
            self._lengths[network.length] = self._lengths.get(network.length, 0) + 1

    def add(self, network: Network, value: T) -> None:
        """Add a prefix that is not there yet."""
        self._values[network] = value
        insort(self.order, network)
        self._lengths[network.length] = self._lengths.get(network.length, 0) + 1

    def remove(self, network: Network) -> None:
        """Remove a prefix."""
        del self._values[network]
        del self.order[bisect_left(self.order, network)]
        self._lengths[network.length] -= 1
        if not self._lengths[network.length]:
            del self._lengths[network.length]

    def get(self, network: Network) -> T | None:
        """Return the value of a prefix, None if it is not there."""
        return self._values.get(network)

    def __getitem__(self, network: Network) -> T:
        return self._values[network]

    def longest(self, address: int, most: int) -> T | None:
        """Return the value of the longest prefix of at most `most` bits around an address, None if there is none."""
        for length in sorted((length for length in self._lengths if length <= most), reverse=True):
            below = self.bits - length
            value = self._values.get(Network(address >> below << below, length))
            if value is not None:
                return value
        return None

    def inside(self, network: Network) -> range:
        """Return the positions in `order` of the prefixes inside of a prefix, itself excluded."""
        last = network.address | (1 << self.bits - network.length) - 1
        first = bisect_right(self.order, network)
        return range(first, bisect_right(self.order, Network(last, self.bits), first))

    def children(self, network: Network) -> Iterator[T]:
        """Yield the values of the prefixes inside of a prefix that are inside no longer one."""
        inside = self.inside(network)
        at = inside.start
        while at < inside.stop:
            child = self.order[at]
            yield self._values[child]
            at = self.inside(child).stop
