# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""From overlapping to disjoint: the geometry of the rule compiler.

A *partition* is a list of (start, value), the first start 0, ascending, no value equal to the one before it: value i
holds from start i up to the next start. Everything that overlaps (prefixes in prefixes, ranges over ranges) becomes a
partition here. This room knows numbers only: no rule, no image word.

A *candidate* is (network, length, word): a source prefix and what to do for it. A *claim* is (low, high, candidate).
"""

from __future__ import annotations

from bisect import bisect_left, insort

PORTS = 65536


def disjoint_prefixes(prefixes: list, bits: int, gap: int) -> list:
    """Return the partition of 2**bits addresses in which each belongs to the longest of `prefixes` around it.

    `prefixes` are (network, length, value), sorted, each network and length once; `gap` holds where there is none.
    """
    partition = [(0, gap)]
    enclosing = []  # (last address, value) of the prefixes around the current one, the longest on top
    for network, length, value in prefixes:
        _close(partition, enclosing, network, gap)
        _append(partition, network, value)
        enclosing.append((network | (1 << bits - length) - 1, value))
    _close(partition, enclosing, 1 << bits, gap)
    return partition


def _close(partition: list, enclosing: list, start: int, gap: int) -> None:
    """End the prefixes that end before `start`; beyond each of them the next longer one holds again."""
    while enclosing and enclosing[-1][0] < start:
        last = enclosing.pop()[0]
        if last + 1 < start:
            _append(partition, last + 1, enclosing[-1][1] if enclosing else gap)


def _append(partition: list, start: int, value) -> None:
    """Add a value to the end of a partition, from `start` on."""
    if partition[-1][0] == start:
        partition.pop()
    if not partition or partition[-1][1] != value:
        partition.append((start, value))


def partition_of_ports(claims: list, bits: int) -> list:
    """Return the partition of the ports into tuples of candidates, best first.

    `claims` come best first. Candidates that can never be reached are left out, so that of two candidates whose
    sources overlap the longer one is the better.
    """
    if len(claims) == 1:
        low, high, candidate = claims[0]
        return _single_claim(low, high, (candidate,))
    opening, closing = {}, {}
    for rank, (low, high, _candidate) in enumerate(claims):
        opening.setdefault(low, []).append(rank)
        closing.setdefault(high + 1, []).append(rank)
    partition, active = [], []
    for port in sorted({0, *opening, *closing} - {PORTS}):
        for rank in closing.get(port, ()):
            del active[bisect_left(active, rank)]
        for rank in opening.get(port, ()):
            insort(active, rank)
        candidates = _reachable(claims, active, bits)
        if not partition or partition[-1][1] != candidates:
            partition.append((port, candidates))
    return partition


def _single_claim(low: int, high: int, candidates: tuple) -> list:
    partition = [(0, ()), (low, candidates)] if low else [(0, candidates)]
    return partition if high == PORTS - 1 else [*partition, (high + 1, ())]


def _reachable(claims: list, active: list, bits: int) -> tuple:
    """Return the candidates of the active claims, less those whose source lies inside that of a better one."""
    found, networks = [], {}  # networks: {bits below a source: set of network >> these bits}
    for rank in active:
        candidate = claims[rank][2]
        network, length, _word = candidate
        if not length:
            found.append(candidate)
            break
        below = bits - length
        if any(shift >= below and network >> shift in seen for shift, seen in networks.items()):
            continue
        found.append(candidate)
        networks.setdefault(below, set()).add(network >> below)
    return tuple(found)


def overlay(partition: list, under: list) -> list:
    """Return [(start, candidates, fallback)]: `partition`, cut where what lies under it changes and matters.

    It matters where the candidates do not cover every source; the fallback is the value of `under` there.
    """
    merged, at = [], 0
    ends = [start for start, _candidates in partition[1:]] + [PORTS]
    for (start, candidates), end in zip(partition, ends):
        while at + 1 < len(under) and under[at + 1][0] <= start:
            at += 1
        merged.append((start, candidates, under[at][1]))
        if covers_all(candidates):
            continue
        while at + 1 < len(under) and under[at + 1][0] < end:
            at += 1
            merged.append((under[at][0], candidates, under[at][1]))
    return merged


def covers_all(candidates: tuple) -> bool:
    """Say whether the candidates answer for every source."""
    return bool(candidates) and candidates[-1][1] == 0


def joined(partition) -> list:
    """Return a partition with equal neighbours made one."""
    out = []
    for start, value in partition:
        if not out or out[-1][1] != value:
            out.append((start, value))
    return out
