# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rule is it? Our classifier beside the original's, one exact hash look-up, and the floors below them all."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import rules as rulesets
import targets
from measure import interleave
from original import fill_original, note_for, places_for
from ours import fill_image
from programs import Bench, compile_all
from report import Report

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf

CHECKED = 2000
WALKERS = ("classify_nothing", "classify_ours", "classify_hash", "classify_original")
FLOORS = {
    "floor_empty": "empty program (and the test run's own loop)",
    "floor_parse": "the product's parser alone",
    "floor_hash": "the same and one hash look-up (8 byte key)",
}
EXACT_KEY = struct.Struct("=4s2sBx")


def run(report: Report, sizes: Sequence, rounds: int) -> int:
    """Measure and print; return how many answers were wrong."""
    _floors(report, rounds)
    rows, wrong, blobs = [], 0, {}
    for size in sizes:
        places = places_for(size)
        if places not in blobs:
            blobs[places] = compile_all([("bench/classify.c", name) for name in WALKERS], places)
        with Bench() as bench:
            found, faults = _one_size(bench, blobs[places], rulesets.slotted(rulesets.mixed_rules(size)), rounds)
        rows += [[f"{size:,}", *row] for row in found]
        wrong += faults
    columns = ["rules", "flows", "ours", "min", "hash", "min", "original", "min", "original/ours", "quartiles"]
    report.table(
        "CLASSIFIER: ns per packet over a program that looks nothing up (median, minimum)",
        columns,
        rows,
        rounds,
        (
            f"table of {targets.COUNT:,} random flows, variants by turns; {_verdict(wrong, len(rows))}",
            "ours: the product's find_rule(), which finds the action too; hash: one look-up of the exact flow",
            note_for(sizes),
        ),
    )
    return wrong


def _verdict(wrong: int, rows: int) -> str:
    if wrong:
        return f"{wrong} ANSWERS WERE WRONG"
    return f"each answered {CHECKED:,} flows per row, {rows} rows, as the Python rule index does"


def _floors(report: Report, rounds: int) -> None:
    """Measure the cost that every program on the hook has, with one packet that is repeated."""
    blobs = compile_all([("bench/classify.c", name) for name in FLOORS])
    with Bench() as bench:
        bench.add_map("exact")
        flows = rulesets.traffic(rulesets.mixed_rules(10), "hit", 1)
        packet = targets.frame(flows[0])
        runs = {name: bench.runner(blob, packet) for name, blob in blobs.items()}
        samples = interleave(runs, rounds, targets.COUNT)
    rows = []
    for name, words in FLOORS.items():
        summary = samples.summary(name, "" if name == "floor_empty" else "floor_empty")
        rows.append([words, *summary])
    title = "FLOORS: ns per packet, one packet repeated; all but the first over the empty program"
    report.table(title, ["program", "median", "min"], rows, rounds)


def _one_size(bench: Bench, blobs: dict, slotted: list, rounds: int) -> tuple:
    """Return (rows, wrong answers) of one rule set."""
    fill_image(bench, slotted)
    fill_original(bench, slotted, answer_is_slot=True)
    for name in ("targets", "progress", "exact"):
        bench.add_map(name)
    table, packet = bench.mapped_memory("targets"), bytes(64)
    runs = {name: bench.runner(blob, packet) for name, blob in blobs.items()}
    judge, rows, wrong = rulesets.Judge(slotted), [], 0
    for kind in rulesets.KINDS:
        flows = rulesets.traffic([rule for rule, _slot in slotted], kind, targets.COUNT)
        table[:] = targets.table(flows)
        want = judge.slots(flows[:CHECKED])
        _remember_exactly(bench, flows)
        runs["classify_hash"] = bench.runner(blobs["classify_hash"], packet)
        for name in ("classify_ours", "classify_original"):
            wrong += _wrong_answers(runs[name], bench, table, want)
        rows.append([kind, *_row(interleave(runs, rounds, targets.COUNT))])
    return rows, wrong


def _remember_exactly(bench: Bench, flows: list) -> None:
    """Make the hash anew, of every flow in the table."""
    descriptor = bench.add_map("exact")
    for flow in flows:
        address = (flow.destination & 0xFFFFFFFF).to_bytes(4, "big")
        key = EXACT_KEY.pack(address, flow.port.to_bytes(2, "big"), targets.PROTOCOLS[flow.protocol])
        bpf.update(descriptor, key, struct.pack("=I", 1), "exact")


def _wrong_answers(run_program, bench: Bench, table, want: list) -> int:
    """Let a program answer the whole table once, from its first flow on."""
    bpf.update(bench.maps["progress"], struct.pack("=I", 0), bytes(16), "progress")
    run_program(targets.COUNT)
    return sum(answer != right for answer, right in zip(targets.answers(table[:]), want))


def _row(samples) -> list:
    cells = []
    for name in ("classify_ours", "classify_hash", "classify_original"):
        cells += samples.summary(name, "classify_nothing")
    low, middle, high = samples.ratio("classify_original", "classify_ours", "classify_nothing")
    return [*cells, middle, f"{low:.1f}..{high:.1f}"]
