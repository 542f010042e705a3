# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure a packet's cost in the whole receive path, live: this program, the original and the kernel's own firewalls.

Each peer has a stage of its own, so that all are set up before the first frame and run by turns.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import kernel
import rules as rulesets
import targets
from measure import Samples, interleave
from original import note_for, places_for
from peers import EMPTY, NOTHING, PEERS
from programs import compile_all
from report import Report
from stage import UNIT, Stage

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import Unsupported

PROGRAMS = (
    ("bench/classify.c", "floor_empty"),
    ("bench/program.c", "original_splicer"),
    ("tproxy_splicer.c", "tproxy_splicer"),
    ("bench/generate.c", "generate"),
    ("bench/generate.c", "let_in"),
)
RUN_NS = 40_000_000


def run(report: Report, sizes: Sequence, rounds: int) -> int:
    """Measure and print; return how many packets went astray."""
    rows, notes, astray = [], [], 0
    try:
        for size in sizes:
            found, faults = _one_size(size, rounds, notes)
            rows += [[f"{size:,}", *row] for row in found]
            astray += faults
    except Unsupported as fault:
        report.note(f"LIVE: left out, {fault}")
        return 0
    report.table(
        "LIVE: ns per packet of the whole receive path, UDP to host rules (median, minimum)",
        ["rules", "peer", "packet", "min", "over nothing", "min", "program alone"],
        rows,
        rounds,
        (
            "every row delivered each packet to the socket it is for; variants by turns, a namespace each",
            "nothing, empty program: the same packets to a wildcard socket; all others: spliced to the proxy's",
            "program alone: the kernel's own run statistics (bpf_stats_enabled), less those of the empty program",
            note_for(sizes),
            *dict.fromkeys(notes),
        ),
    )
    return astray


def _one_size(size: int, rounds: int, notes: list) -> tuple:
    """Return (rows, packets that went astray) of one rule set; add to the notes."""
    blobs = compile_all(PROGRAMS, places_for(size))
    slotted = rulesets.slotted(rulesets.host_rules(size))
    with ExitStack() as closing:
        stages = stages_of(PEERS, len(slotted), lambda peer: Stage(peer, blobs, slotted), notes)
        for stage in stages:
            closing.callback(stage.close)
            stage.begin()
        samples = interleave({stage.peer.name: stage.play for stage in stages}, rounds, UNIT, RUN_NS)
        alone = _alone(stages, min(rounds, 5))
        return _rows(stages, samples, alone, notes)


def stages_of(peers: Sequence, rules: int, make: Callable, notes: list) -> list:
    """Set up a stage of every peer that this machine can; add to the notes. Raises Unsupported."""
    stages = []
    for peer in peers:
        if rules > peer.rules_max:
            notes.append(f"without {peer.name} at {rules:,} rules: it would take this bench minutes")
            continue
        try:
            stages.append(make(peer))
        except (RuntimeError, FileNotFoundError) as fault:
            if not peer.splices:
                raise Unsupported(f"there is no stage to be had: {fault}") from fault
            notes.append(f"without {peer.name}: {str(fault).splitlines()[0]}")
    return stages


def _rows(stages: list, samples: Samples, alone: dict, notes: list) -> tuple:
    """Return (rows, packets that went astray); who lost a packet has no row."""
    rows, astray = [], 0
    for stage in stages:
        name, lost = stage.peer.name, stage.astray()
        if lost:
            notes.append(f"{name}: {lost} PACKETS WENT ASTRAY, hence no row")
            astray += abs(lost)
            continue
        rows.append([name, *samples.summary(name), *samples.summary(name, NOTHING), alone.get(name, "-")])
    return rows, astray


def _alone(stages: list, rounds: int) -> dict:
    """Return {peer: ns that its program runs per packet} over the empty program, by the kernel's statistics."""
    times = {stage.peer.name: [] for stage in stages if stage.program is not None}
    statistics_on = kernel.enable_statistics()
    try:
        for _round in range(rounds):
            for stage in stages:
                if stage.program is not None:
                    times[stage.peer.name].append(_run_time(stage))
    finally:
        os.close(statistics_on)
    floor = statistics.median(times[EMPTY])
    return {name: statistics.median(found) - floor for name, found in times.items()}


def _run_time(stage: Stage) -> float:
    before = kernel.run_statistics(stage.program)
    stage.play(targets.COUNT)
    after = kernel.run_statistics(stage.program)
    return (after[0] - before[0]) / (after[1] - before[1])
