# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The price of changes in place: an image with space for them beside a compact one, on the same rules and packets.

One loaded program reads the images by turns, so nothing but the image differs. Each image gets new pages of memory
every few rounds, because their place decides about cache conflicts. The number of nodes and of cache lines that a
packet reads is the same in every run; it comes from a lookup in Python.
"""

from __future__ import annotations

import os
import random
import struct
import time
from array import array
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import rules as rulesets
import targets
from measure import RUN_NS, quartiles
from programs import MAPPED_TARGET, Bench, compile_all
from report import Report

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import layout
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import structs as codec
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import family_of
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.pins import inner_shape
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.compile import RuleImage, compile_image
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.lookup import fields_of
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf

FAMILIES = {4: "IPv4", 6: "IPv6"}
FORMS = ("compact", "changes")
ROUNDS_PER_PLACE = 8
TRACED = 2000
LINE_WORDS = 16


class Cost(NamedTuple):
    """Of one packet, on average: nodes and cache lines that it reads."""

    nodes: float
    lines: float


def run(report: Report, sizes: Sequence[int], rounds: int) -> int:
    """Measure and print; return how many answers were wrong."""
    blob = compile_all([("bench/images.c", "images_lookup")])["images_lookup"]
    rows, wrong = [], 0
    for family, name in FAMILIES.items():
        for size in sizes:
            slotted = rulesets.slotted(rulesets.mixed_rules(size, family=family))
            images = dict(zip(FORMS, (compile_image(slotted, {}, 1), _changeable(slotted))))
            with Bench() as bench:
                found, faults = _one_size(bench, blob, slotted, images, rounds, family)
            rows += [[name, f"{size:,}", *row] for row in found]
            wrong += faults
    report.table(
        "IMAGES: a compact image, and one with space for changes in place",
        ["", "rules", "flows", "nodes", "lines", "ns", "min", "nodes", "lines", "ns more", "quartiles", "min more"],
        rows,
        rounds,
        (
            "left: the compact image of a run; right: the image of the helper, and how many ns more it takes",
            "nodes, lines: nodes and cache lines of 64 bytes that a packet reads, on average; ns: all of the test run",
            f"each answered {targets.COUNT:,} flows per row; {wrong or 'no'} answers differ from the rule reference",
        ),
    )
    return wrong


def _changeable(slotted: list) -> array:
    return RuleImage(slotted, {}, 1, layout.IMAGE_PAGES_MIN).words


def _one_size(bench: Bench, blob, slotted: list, images: dict, rounds: int, family: int) -> tuple:
    """Return (rows, wrong answers) of one rule set."""
    pages = max(
        layout.IMAGE_PAGES_MIN, *(1 << (words[layout.HEADER_PAGES] - 1).bit_length() for words in images.values())
    )
    first = bench.adopt(_map_of(images[FORMS[0]], pages))
    outer = bench.maps["image"] = bench.adopt(bpf.create_map(layout.MAPS["image"][1], "image", first))
    for name in ("mapped_targets", "progress"):
        bench.add_map(name)
    table, run_program = bench.mapped_memory("mapped_targets"), bench.runner(blob, bytes(64))
    judge, rows, wrong = rulesets.Judge(slotted), [], 0
    for kind in rulesets.KINDS:
        flows = rulesets.traffic([rule for rule, _slot in slotted], kind, targets.COUNT)
        table[:] = b"".join(_target(flow, family) for flow in flows)
        want = judge.slots(flows)
        times, faults = _interleave(run_program, outer, images, pages, rounds, partial(_faults, table, want))
        wrong += faults
        costs = [_cost(images[form], flows[:TRACED]) for form in FORMS]
        rows.append([kind, *_row(times, costs)])
    return rows, wrong


def _interleave(run_program, outer: int, images: dict, pages: int, rounds: int, faults) -> tuple:
    """Return ({form: [ns per packet, one for each round]}, wrong answers), the forms by turns in a random order."""
    times, chance, wrong, maps = {form: [] for form in images}, random.Random(1), 0, {}
    count = targets.COUNT
    for number in range(rounds):
        if number % ROUNDS_PER_PLACE == 0:
            made = {form: _map_of(images[form], pages) for form in chance.sample(FORMS, len(FORMS))}
            _close(maps)
            maps = made
        for form in chance.sample(FORMS, len(FORMS)):
            bpf.update(outer, codec.key(0), struct.pack("=I", maps[form]), "image")
            run_program(targets.COUNT)
            if not number:
                wrong += faults()
                count = targets.COUNT * max(1, round(RUN_NS / _time(run_program, targets.COUNT)))
            times[form].append(_time(run_program, count) / count)
    _close(maps)
    return times, wrong


def _close(maps: dict) -> None:
    for descriptor in maps.values():
        os.close(descriptor)


def _time(run_program, count: int) -> int:
    start = time.thread_time_ns()
    run_program(count)
    return time.thread_time_ns() - start


def _row(times: dict, costs: list) -> list:
    compact, changes = (times[form] for form in FORMS)
    low, middle, high = quartiles([one - other for one, other in zip(changes, compact)])
    first, second = costs
    more = min(changes) - min(compact)
    return [
        *first,
        quartiles(compact)[1],
        min(compact),
        *second,
        f"{middle:+.1f}",
        f"{low:+.1f}..{high:+.1f}",
        f"{more:+.1f}",
    ]


def _map_of(words: array, pages: int) -> int:
    """Return the descriptor of a new inner map with an image."""
    inner = bpf.create_map(inner_shape(pages), "pages")
    with bpf.mapped_memory(inner, pages * layout.PAGE_BYTES, True) as memory:
        memory[: 4 * len(words)] = words.tobytes()
    return inner


def _target(flow: rulesets.Flow, family: int) -> bytes:
    addresses = (address.to_bytes(16, "big") for address in (flow.destination, flow.source))
    return MAPPED_TARGET.pack(
        *addresses, flow.port.to_bytes(2, "big"), targets.PROTOCOLS[flow.protocol], family == 6, 0
    )


def _faults(table, want: list) -> int:
    """Return how many answers in the table are wrong."""
    return sum(record[-1] != right for record, right in zip(MAPPED_TARGET.iter_unpack(table[:]), want))


def _cost(words: array, flows: list) -> Cost:
    """Return the nodes and the cache lines that lookups of some flows read. It decodes the nodes by itself."""
    traces = [_trace(words, flow) for flow in flows]
    return Cost(*(sum(column) / len(traces) for column in zip(*traces)))


def _trace(words: array, flow: rulesets.Flow) -> tuple:
    """Return (nodes, cache lines) of one lookup: header, directory, root, nodes and action."""
    family, fields = family_of(flow.destination), fields_of(flow.destination, flow.source, flow.port)
    column = (0 if family == 4 else layout.GROUP_IPV6_TCP) + (flow.protocol == "udp")
    read, nodes = [0, layout.GROUP_BASE + column], 0
    node = words[read[-1]]
    if family == 4 and node:
        read.append(node * layout.PAGE_WORDS + (flow.destination >> 16 & 0xFFFF))
        node = words[read[-1]]
    while node >> layout.NODE_TAG_SHIFT != layout.NODE_LEAF:
        nodes += 1
        value = fields[node >> layout.NODE_FIELD_SHIFT & layout.NODE_FIELD_MASK]
        tag, pointer = node >> layout.NODE_TAG_SHIFT, node & layout.NODE_POINTER_MASK
        if tag == layout.NODE_SEARCH:
            read += _search(words, node, value)
        else:
            read.append(pointer * layout.PAGE_WORDS + (value >> 8 if tag == layout.NODE_HIGH else value & 0xFF))
        node = words[read[-1]]
    if node:
        read.append(words[layout.HEADER_ACTIONS] * layout.PAGE_WORDS + node * layout.ACTION_WORDS)
    return nodes, len({word // LINE_WORDS for word in read})


def _search(words: array, node: int, value: int) -> list:
    """Return the words that a search reads: keys as in bpf/lib/trie.h, then the node."""
    count = 4 << (node >> layout.NODE_WIDTH_SHIFT & layout.NODE_WIDTH_MASK)
    at = (node & layout.NODE_POINTER_MASK) * layout.UNIT_WORDS
    keys = memoryview(words[at : at + count // 2]).cast("B").cast("H")
    read, found, step = [], 0, count // 2
    while step:
        read.append(at + (found + step) // 2)
        if keys[found + step] <= value:
            found += step
        step //= 2
    return [*read, at + count // 2 + found]
