# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure a packet's cost in the whole receive path, live: this program, the original and the kernel's own firewalls.

Each peer has a stage of its own, so that all are set up before the first packet and run by turns.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache

import kernel
from measure import Samples, interleave, quartiles
from original import note_for, places_for
from peers import Peer, peers_of
from programs import UNCACHED, compile_all
from report import Report
from rows import LIVE, Row
from stage import Stage

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import Unsupported

OURS = "ours, TCX"
SPLICER = ("tproxy_splicer.c", "tproxy_splicer")
PROGRAMS = (
    ("bench/classify.c", "floor_empty"),
    ("bench/classify.c", "floor_drop"),
    ("bench/program.c", "original_splicer"),
    SPLICER,
    ("tproxy_tracker.c", "tproxy_tracker"),
    ("bench/replay.c", "replay_46"),
    ("bench/replay.c", "replay_52"),
    ("bench/replay.c", "replay_66"),
    ("bench/replay.c", "replay_72"),
    ("bench/replay.c", "let_in"),
)
RUN_NS = 10_000_000
COLUMNS = ["rules", "peer", "each", "min", "over base", "quartiles", "min", "program", "1000/s", "of ours"]
FAMILIES = (4, 6)


def run(report: Report, sizes: Sequence, rounds: int, short: bool) -> int:
    """Measure and print a table for each row and family; return how many packets went astray."""
    astray = 0
    for row in LIVE:
        for family in row.quick if short else FAMILIES:
            try:
                astray += _table(report, row, family, sizes[:1] if row.egress else sizes, rounds, short)
            except Unsupported as fault:
                report.note(f"LIVE: left out, {fault}")
                return astray
    return astray


def _table(report: Report, row: Row, family: int, sizes: Sequence, rounds: int, short: bool) -> int:
    """Measure and print one row of packets; return how many went astray."""
    lines, notes, astray = [], [], 0
    for size in sizes:
        with stages_of(row, family, size, peers_of(row, family, short), notes) as stages:
            for stage in stages:
                stage.play(row.unit)
            samples = interleave({stage.peer.name: stage.play for stage in stages}, rounds, row.unit, RUN_NS)
            alone = _alone(stages, min(rounds, 5))
            found, lost = _lines(stages, samples, alone, notes)
        lines += [[f"{size:,}", *line] for line in found]
        astray += lost
    report.table(
        f"LIVE {row.name}, IPv{family}: ns of CPU time per {row.counted}, whole way",
        COLUMNS,
        lines,
        rounds,
        (
            f"base: {row.base}; each, over base, program, of ours: medians; min: minima; else quartiles of rounds",
            "program: the kernel's own run statistics (bpf_stats_enabled) of the peer's program alone",
            f"1000/s: thousands in a second of one processor; of ours: the whole, as a multiple of that of {OURS!r}",
            *([note_for(sizes)] if "original" in [line[1] for line in lines] else []),
            *dict.fromkeys(notes),
        ),
    )
    return astray


@lru_cache(maxsize=2)
def blobs_for(places: int) -> dict:
    """Return {name: Blob} of all programs that take part."""
    return {**compile_all(PROGRAMS, places), UNCACHED: compile_all([SPLICER], edit=UNCACHED)["tproxy_splicer"]}


@contextmanager
def stages_of(row: Row, family: int, size: int, peers: Sequence[Peer], notes: list, cpus: int = 1) -> Iterator[list]:
    """Set up a stage of every peer that this machine can; add to the notes. Raises Unsupported."""
    blobs = blobs_for(places_for(size))
    with ExitStack() as closing:
        stages = []
        for peer in peers:
            if size > peer.rules_max:
                notes.append(f"without {peer.name} at {size:,} rules: it would take this bench minutes")
                continue
            try:
                stages.append(Stage(peer, row, family, size, blobs, cpus))
            except (RuntimeError, FileNotFoundError) as fault:
                if peer.name == row.base:
                    raise Unsupported(f"there is no stage to be had: {fault}") from fault
                notes.append(f"without {peer.name}: {str(fault).splitlines()[0]}")
                continue
            closing.callback(stages[-1].close)
        yield stages


def _lines(stages: list, samples: Samples, alone: dict, notes: list) -> tuple:
    """Return (lines of the table, packets that went astray); who lost a packet has no line."""
    lines, astray, base = [], 0, stages[0].row.base
    for stage in stages:
        name, lost = stage.peer.name, stage.astray()
        if lost:
            notes.append(f"{name}: {lost} PACKETS WENT ASTRAY, hence no line")
            astray += lost
            continue
        over = samples.summary(name, base)
        spread = between(samples.over(name, base), "{:.0f}")
        ratios = samples.times_of(name, OURS)
        ratio = f"{quartiles(ratios)[1]:.2f} ({between(ratios, '{:.2f}')})"
        each = samples.summary(name)
        parts = [over.median, spread, over.minimum, alone.get(name, "-"), 1e6 / each.median]
        lines.append([name, *each, *parts, ratio])
    return lines, astray


def between(numbers: list, form: str) -> str:
    """Return the quartiles of numbers as text."""
    low, _middle, high = quartiles(numbers)
    return f"{form.format(low)}..{form.format(high)}"


def _alone(stages: list, rounds: int) -> dict:
    """Return {peer: ns that its program runs per packet}, by the kernel's statistics."""
    times = {stage.peer.name: [] for stage in stages if stage.program is not None}
    statistics_on = kernel.enable_statistics()
    try:
        for _round in range(rounds):
            for stage in stages:
                if stage.peer.name in times:
                    times[stage.peer.name].append(_run_time(stage))
    finally:
        os.close(statistics_on)
    return {name: statistics.median(found) for name, found in times.items()}


def _run_time(stage: Stage) -> float:
    before = kernel.run_statistics(stage.program)
    stage.play(8 * stage.row.unit)
    after = kernel.run_statistics(stage.program)
    return (after[0] - before[0]) / (after[1] - before[1])
