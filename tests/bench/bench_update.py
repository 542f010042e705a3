# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure a change of rules by the collection's own rule table, and whether packets see a gap."""

from __future__ import annotations

import os
import statistics
import struct
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import rules as rulesets
import targets
from measure import CPUS
from programs import PROGRESS_BYTES, Bench, compile_all
from report import Report

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import (
    HEADER_ACTIONS,
    PAGE_BYTES,
    PAGE_WORDS,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.pins import Pins, splicer_pins
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.reconcile import reconcile
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.rule_table import RuleTable
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.compile import compile_image
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.groups import FIRST_GROUP_PAGE
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.verify import verify_image
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf, bpffs

PIN_DIR = "/sys/fs/bpf/bench"
RULES_UNDER_TRAFFIC = 200


class Stopwatch:
    """The bpf(2) adapter, with a note of each creation and update of a map."""

    def __init__(self):
        self.events = []  # (function, subject, start, end), in s

    def __getattr__(self, name):
        return getattr(bpf, name)

    def create_map(self, shape: tuple, name: str, inner: int = 0) -> int:
        """Call the adapter."""
        with self._timed("create_map", name):
            return bpf.create_map(shape, name, inner)

    def update(self, descriptor: int, key: bytes, value: bytes, subject: str = "map") -> None:
        """Call the adapter."""
        with self._timed("update", subject):
            bpf.update(descriptor, key, value, subject)

    def fill_and_swap(self) -> tuple:
        """Return the seconds from the newest image's creation to its swap, and those of the swap."""
        created = next(event for event in reversed(self.events) if event[:2] == ("create_map", "pages"))
        swapped = next(event for event in reversed(self.events) if event[:2] == ("update", "image"))
        return swapped[2] - created[2], swapped[3] - swapped[2]

    @contextmanager
    def _timed(self, function: str, subject: str):
        start = time.perf_counter()
        yield
        self.events.append((function, subject, start, time.perf_counter()))


def run(report: Report, sizes: Iterable, seconds: float) -> int:
    """Measure and print; return how many answers were wrong while rule sets were exchanged."""
    rows = [[f"{size:,}", *_one_size(size)] for size in sizes]
    report.table(
        "UPDATE: ms for a whole rule set, from nothing",
        ["rules", "compile", "verify", "fill", "swap", "all", "image KiB", "bytes/rule"],
        rows,
        1,
        (
            "compile, verify: processor time; the others as a user waits for them; the best of a few runs",
            "fill: a new map, and the image copied into it; swap: one update, until no packet is in the old image",
            "all: the collection's reconcile(): read, compile, verify, zero the counters, fill, swap, read back",
            "bytes/rule: nodes, actions and canonical rules; what is left is the roots, 256 KiB for each protocol",
        ),
    )
    return _under_traffic(report, seconds)


def _one_size(size: int) -> list:
    """Return the cells of a row: the best times of a few runs, of one when that takes long."""
    rules = rulesets.mixed_rules(size)
    runs = [_change(rules) for _run in range(5 if size <= 1000 else 1)]
    times = [1000 * min(times) for times in zip(*runs)]
    words = compile_image(rulesets.slotted(rules), {}, 1)
    beyond = len(words) // PAGE_WORDS - (words[HEADER_ACTIONS] - FIRST_GROUP_PAGE)
    return [*times, len(words) // PAGE_WORDS * PAGE_BYTES // 1024, beyond * PAGE_BYTES / size]


def _change(rules: list) -> tuple:
    """Return the seconds of compile, verify, fill, swap and of the whole operation."""
    slotted, watch = rulesets.slotted(rules), Stopwatch()
    start = time.thread_time()
    words = compile_image(slotted, {}, 1)
    compiled = time.thread_time()
    verify_image(words, slotted, {})
    verified = time.thread_time()
    with _rule_table(watch) as (table, _pins):
        began = time.perf_counter()
        _put(table, rules)
        whole = time.perf_counter() - began
    return (compiled - start, verified - compiled, *watch.fill_and_swap(), whole)


@contextmanager
def _rule_table(adapter):
    """A table of rules on pins of its own, gone afterwards."""
    with splicer_pins(adapter, bpffs, PIN_DIR) as pins:
        pins.ensure()
        try:
            # No program is attached that would have to follow an image map which outgrew its space.
            yield RuleTable(adapter, pins, lambda _name: None, lambda image: pins.replace("image", image)), pins
        finally:
            pins.remove()


def _put(table: RuleTable, rules: list) -> None:
    want = {rule.identity: rule for rule in rules}
    reconcile(table, lambda _have: want)


def _under_traffic(report: Report, seconds: float) -> int:
    """Exchange two rule sets on one processor while packets are classified on the other."""
    sets = [rulesets.mixed_rules(RULES_UNDER_TRAFFIC, seed) for seed in (1, 2)]
    watch = Stopwatch()
    with _rule_table(watch) as (table, pins), Bench() as bench:
        program = _load_classifier(bench, table, pins, sets)
        times = []
        with _traffic(program):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                _put(table, sets[len(times) % 2])
                times.append(watch.fill_and_swap()[1])
        counted = bpf.lookup(bench.maps["progress"], struct.pack("=I", 0), PROGRESS_BYTES)
    runs, wrong = struct.unpack("=QQ", counted)
    report.table(
        f"SWAP UNDER TRAFFIC: two sets of {RULES_UNDER_TRAFFIC} rules exchanged while packets are classified",
        ["packets classified", "wrong answers", "exchanges", "swap ms, median", "max"],
        [[runs, wrong, len(times), 1000 * statistics.median(times), 1000 * max(times)]],
        1,
        ("right is the answer of the one set or of the other; packets on one processor, exchanges on the other",),
    )
    return wrong


def _load_classifier(bench: Bench, table: RuleTable, pins: Pins, sets: list) -> int:
    """Return a program that walks the table's own image and knows the right answers."""
    for name in ("targets", "progress", "either"):
        bench.add_map(name)
    flows = [flow for rules in sets for flow in rulesets.traffic(rules, "hit", targets.COUNT // 2)]
    bench.mapped_memory("targets")[:] = targets.table(flows)
    bench.mapped_memory("either")[:] = _right_answers(table, sets, flows)
    bench.maps["image"] = bench.adopt(os.dup(pins.fd("image")))
    return bench.load(compile_all([("bench/classify.c", "classify_either")])["classify_either"])


def _right_answers(table: RuleTable, sets: list, flows: list) -> bytes:
    """Return the slots that the two sets give for each flow. Once both were in force, their slots stay as they are."""
    columns = []
    for rules in sets * 2:
        _put(table, rules)
        columns.append(rulesets.Judge(table.load().contents.rules).slots(flows))
    return b"".join(struct.pack("=II", *pair) for pair in zip(*columns[-2:]))


@contextmanager
def _traffic(program: int):
    """Classify without a pause on the first processor, in a thread: the system call holds no lock of Python's."""
    over, packet = threading.Event(), bytes(64)

    def classify() -> None:
        os.sched_setaffinity(0, {CPUS[0]})
        while not over.is_set():
            bpf.test_run(program, packet, b"", targets.COUNT)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(classify)
        try:
            yield
        finally:
            over.set()
        running.result()
