# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what a packet costs on one processor while another one plays packets too, against that processor alone.

Each processor plays packets of its own sessions, so what they share is the peer's and the kernel's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from bench_live import RUN_NS, between, stages_of
from measure import CPUS, interleave, quartiles
from peers import Peer, peers_of
from report import Report
from rows import CORES, Row
from stage import Stage

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import Unsupported

LEFT_OUT = ("empty program", "ours, no cache", "ours, named listener", "iptables-nft")


class Neighbour:
    """A thread on the first processor that plays packets while it is asked to. A context manager."""

    def __init__(self) -> None:
        self._stage: Stage | None = None
        self._changed = threading.Condition()
        self._playing = False
        self._ends = False
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Neighbour:
        self._thread.start()
        return self

    def __exit__(self, _kind: type | None, _fault: BaseException | None, _trace: TracebackType | None) -> None:
        with self._changed:
            self._ends = True
            self._changed.notify_all()
        self._thread.join()

    def beside(self, stage: Stage) -> Callable[[int], None]:
        """Return a function that plays packets of a stage on this processor while the neighbour plays others."""

        def play(count: int) -> None:
            self._set(stage)
            try:
                stage.play(count)
            finally:
                self._set(None)

        return play

    def _set(self, stage: Stage | None) -> None:
        """Wait until the neighbour has begun to play, or has ended."""
        with self._changed:
            self._stage = stage
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._playing == (stage is not None))

    def _run(self) -> None:
        os.sched_setaffinity(0, {CPUS[0]})
        while True:
            with self._changed:
                self._playing = self._stage is not None
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._stage is not None or self._ends)
                stage = self._stage
            if stage is None:
                return
            stage.play(stage.row.unit, 1)


def run(report: Report, sizes: Sequence, rounds: int, short: bool) -> int:
    """Measure and print a table for each row and family; return how many packets went astray."""
    if len(CPUS) < 2:
        report.note("CORES: left out, this machine has one processor")
        return 0
    astray = 0
    try:
        for row in CORES[:1] if short else CORES:
            for family in (4,) if short else (4, 6):
                astray += _table(report, row, family, sizes, rounds)
    except Unsupported as fault:
        report.note(f"CORES: left out, {fault}")
    return astray


def _table(report: Report, row: Row, family: int, sizes: Sequence, rounds: int) -> int:
    """Measure and print one row of packets; return how many went astray."""
    lines, notes, astray = [], [], 0
    for size in sizes:
        with stages_of(row, family, size, _peers(row, family), notes, cpus=2) as stages, Neighbour() as neighbour:
            variants = {}
            for stage in stages:
                for cpu in range(2):
                    stage.play(row.unit, cpu)
                variants[stage.peer.name, 1] = stage.play
                variants[stage.peer.name, 2] = neighbour.beside(stage)
            samples = interleave(variants, rounds, row.unit, RUN_NS)
            astray += sum(stage.astray() for stage in stages)
        for stage in stages:
            name = stage.peer.name
            ratios = samples.times_of((name, 2), (name, 1))
            ratio = [f"{quartiles(ratios)[1]:.2f}", between(ratios, "{:.2f}")]
            line = [f"{size:,}", name, *samples.summary((name, 1)), *samples.summary((name, 2)), *ratio]
            lines.append([*line, samples.summary((name, 2), (row.base, 2)).median])
    report.table(
        f"CORES {row.name}, IPv{family}: ns of CPU time per packet on one processor",
        ["rules", "peer", "alone", "min", "two at once", "min", "ratio", "quartiles", "over base"],
        lines,
        rounds,
        (
            f"two at once: another processor plays packets of other sessions meanwhile; over {row.base!r}, too",
            "two processors can be threads of one core, which cost each other time whatever they do: see the base",
            *([f"{astray} PACKETS WENT ASTRAY"] if astray else []),
            *dict.fromkeys(notes),
        ),
    )
    return astray


def _peers(row: Row, family: int) -> list[Peer]:
    return [peer for peer in peers_of(row, family) if not peer.name.startswith(LEFT_OUT)]
