# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure time: run variants in turn and summarise the samples.

1. A B C, A B C: a slow phase of the machine slows every variant.
2. The clock is the thread's own CPU time, so a neighbour on the processor costs nothing here. What remains
   (a shared cache, another guest of the same host) only ever adds: the minimum is the better witness of two.
3. Times are of BPF_PROG_TEST_RUN's loop: ns per packet. An equal program without the part of interest is subtracted
   round by round.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping
from typing import Callable, NamedTuple

RUN_NS = 20_000_000
CPUS = sorted(os.sched_getaffinity(0))


class Summary(NamedTuple):
    """Of one variant, in ns."""

    median: float
    minimum: float


class Samples:
    """{variant: [ns per packet, one for each round]}."""

    def __init__(self, times: Mapping):
        self.times = times

    def summary(self, variant: str, base: str = "") -> Summary:
        """Return the time of a variant above the base."""
        if not base:
            return Summary(statistics.median(self.times[variant]), min(self.times[variant]))
        return Summary(statistics.median(self.over(variant, base)), min(self.times[variant]) - min(self.times[base]))

    def over(self, variant: str, base: str) -> list:
        """Return the differences, round by round."""
        return [one - floor for one, floor in zip(self.times[variant], self.times[base])]

    def ratio(self, slow: str, fast: str, base: str) -> tuple:
        """Return (lower quartile, median, upper quartile) of slow to fast, both over the base."""
        # A difference below a nanosecond is noise, and no divisor.
        pairs = zip(self.over(slow, base), self.over(fast, base))
        return quartiles([slower / max(faster, 1.0) for slower, faster in pairs])

    def times_of(self, variant: str, other: str) -> list:
        """Return the ratios to another variant, round by round."""
        return [one / two for one, two in zip(self.times[variant], self.times[other])]


def quartiles(numbers: list) -> tuple:
    """Return (lower quartile, median, upper quartile)."""
    if len(numbers) < 2:
        return (numbers[0],) * 3
    return tuple(statistics.quantiles(numbers, n=4, method="inclusive"))


def settle_on_one_cpu() -> None:
    """Stay on the last processor: the first one serves most interrupts."""
    os.sched_setaffinity(0, {CPUS[-1]})


def interleave(variants: Mapping[str, Callable[[int], None]], rounds: int, unit: int, run_ns: int = RUN_NS) -> Samples:
    """Run every variant once a round; each is called with how many packets to run, a multiple of `unit`.

    Before each run goes one of `unit` packets without the clock: the code that ran before must not matter.
    """
    counts = {name: _count(run, unit, run_ns) for name, run in variants.items()}
    times = {name: [] for name in variants}
    for _round in range(rounds):
        for name, run in variants.items():
            run(unit)
            times[name].append(_time(run, counts[name]))
    return Samples(times)


def _count(run: Callable[[int], None], unit: int, run_ns: int) -> int:
    """Return how many packets make a run of about `run_ns`; the first run warms up."""
    run(unit)
    return unit * max(1, min(64, round(run_ns / (unit * _time(run, unit)))))


def _time(run: Callable[[int], None], count: int) -> float:
    start = time.thread_time_ns()
    run(count)
    return (time.thread_time_ns() - start) / count
