# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.intervals import (
    PortMatch,
    SourceMatch,
    joined,
    matches_all,
    overlay,
    port_intervals,
    prefix_intervals,
)

GAP = "gap"


def value_at(intervals, point):
    return [value for start, *value in intervals if start <= point][-1]


def is_interval_map(intervals):
    starts = [start for start, _value in intervals]
    values = [value for _start, value in intervals]
    return starts[0] == 0 and starts == sorted(set(starts)) and all(a != b for a, b in zip(values, values[1:]))


@pytest.mark.parametrize(
    ("prefixes", "expected"),
    [
        ([], [(0, GAP)]),
        ([(0, 0, "a")], [(0, "a")]),
        ([(0, 1, "a")], [(0, "a"), (128, GAP)]),
        ([(128, 1, "a")], [(0, GAP), (128, "a")]),
        ([(0, 0, "a"), (255, 8, "b")], [(0, "a"), (255, "b")]),
        ([(0, 0, "a"), (0, 8, "b")], [(0, "b"), (1, "a")]),
        ([(0, 0, "a"), (64, 2, "a")], [(0, "a")]),
        ([(64, 2, "a"), (64, 3, "b"), (96, 3, "c")], [(0, GAP), (64, "b"), (96, "c"), (128, GAP)]),
        ([(16, 4, "a"), (32, 4, "a")], [(0, GAP), (16, "a"), (48, GAP)]),
    ],
)
def test_prefix_intervals(prefixes, expected):
    assert prefix_intervals(prefixes, 8, GAP) == expected


@pytest.mark.parametrize("seed", range(60))
def test_prefix_intervals_everywhere(seed):
    chance = random.Random(seed)
    prefixes = {}
    for _number in range(chance.randint(0, 12)):
        length = chance.randint(0, 8)
        prefixes[chance.randrange(256) >> 8 - length << 8 - length, length] = chance.choice("abcd")
    intervals = prefix_intervals(sorted((*key, value) for key, value in prefixes.items()), 8, GAP)
    assert is_interval_map(intervals)
    for point in range(256):
        around = [(length, value) for (network, length), value in prefixes.items() if point ^ network < 1 << 8 - length]
        assert value_at(intervals, point) == [max(around)[1] if around else GAP], f"seed {seed}, {prefixes}"


ANY, HALF, QUARTER = SourceMatch(0, 0, 1), SourceMatch(0, 1, 2), SourceMatch(64, 2, 3)


@pytest.mark.parametrize(
    ("matches", "expected"),
    [
        ([(0, 65535, ANY)], [(0, (ANY,))]),
        ([(80, 80, ANY)], [(0, ()), (80, (ANY,)), (81, ())]),
        ([(0, 80, ANY)], [(0, (ANY,)), (81, ())]),
        ([(65535, 65535, ANY)], [(0, ()), (65535, (ANY,))]),
        ([(0, 9, QUARTER), (0, 9, HALF), (5, 9, ANY)], [(0, (QUARTER, HALF)), (5, (QUARTER, HALF, ANY)), (10, ())]),
        # A source match behind one that answers for all sources, or behind one that holds its source, is never reached.
        ([(0, 9, ANY), (0, 9, HALF)], [(0, (ANY,)), (10, ())]),
        ([(0, 9, HALF), (0, 9, QUARTER)], [(0, (HALF,)), (10, ())]),
        ([(0, 9, HALF), (0, 9, SourceMatch(0, 1, 9))], [(0, (HALF,)), (10, ())]),
    ],
)
def test_port_intervals(matches, expected):
    assert port_intervals([PortMatch(*match) for match in matches], 8) == expected


@pytest.mark.parametrize("seed", range(40))
def test_port_intervals_everywhere(seed):
    chance = random.Random(seed)
    edges = (0, 1, 2, 5, 6, 7, 100, 65533, 65534, 65535)
    matches = []
    for word in range(1, chance.randint(2, 14)):
        length = chance.choice((0, 1, 2, 3))
        source = chance.randrange(8) >> 3 - length << 3 - length, length
        matches.append(PortMatch(*sorted((chance.choice(edges), chance.choice(edges))), SourceMatch(*source, word)))
    intervals = port_intervals(matches, 3)
    assert is_interval_map(intervals)
    for port in edges:
        (sources,) = value_at(intervals, port)
        answers = prefix_intervals(sorted(sources), 3, 0)
        for source in range(8):
            best = [
                word
                for low, high, (network, length, word) in matches
                if low <= port <= high and source ^ network < 1 << 3 - length
            ]
            assert value_at(answers, source) == [best[0] if best else 0], f"seed {seed}, {matches}"


@pytest.mark.parametrize("seed", range(40))
def test_overlay_looks_through_where_sources_do_not_answer(seed):
    chance = random.Random(seed)
    ports = sorted(chance.sample(range(1, 65536), 6))
    own = joined((start, chance.choice(((), (HALF,), (ANY,)))) for start in [0, *ports[::2]])
    under = joined((start, chance.randrange(3)) for start in [0, *ports[1::2], ports[0]])
    under.sort()
    merged = overlay(own, under)
    for port in {0, 65535, *ports, *(port - 1 for port in ports)}:
        sources, fallback = value_at(merged, port)
        assert [sources] == value_at(own, port)
        if not matches_all(sources):
            assert [fallback] == value_at(under, port)
