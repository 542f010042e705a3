# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures the data plane; see `run`. The exit status says whether every answer was right, never how fast it came."""

from __future__ import annotations

import argparse
import sys
from typing import NamedTuple

import bench_classify
import bench_cores
import bench_images
import bench_live
import bench_lookup
import bench_program
import bench_rules
import bench_update
from measure import settle_on_one_cpu
from report import Report

SECTIONS = ("classify", "images", "program", "live", "cores", "lookup", "update", "rules")


class Extent(NamedTuple):
    """How much is measured: numbers of rules, rounds, seconds of exchanges under traffic."""

    classify: tuple
    images: tuple
    program: tuple
    live: tuple
    cores: tuple
    lookup: tuple
    update: tuple
    rules: tuple
    rounds: int
    seconds: float


FULL = Extent(
    (1, 10, 100, 1000, 10_000, 100_000),
    (10, 1000, 10_000),
    (10, 1000, 10_000),
    (1, 10, 1000, 10_000),
    (10, 10_000),
    (10, 1000, 10_000),
    (1, 10, 100, 1000, 10_000, 100_000),
    (1000, 10_000, 131_071),
    15,
    5,
)
QUICK = Extent((1, 100), (10, 100), (100,), (100,), (100,), (100,), (1, 100, 1000), (1000,), 3, 1)


def main() -> int:
    """Run the sections asked for."""
    options = _options()
    extent, report, wrong = QUICK if options.quick else FULL, Report(), 0
    settle_on_one_cpu()
    for section in options.sections or SECTIONS:
        wrong += _run(section, extent, report, options.against)
        if options.json:
            report.write(options.json)
    if wrong:
        print(f"{wrong} packets were not judged as they should be", file=sys.stderr)
    return 1 if wrong else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("tests/bench/run", description="Measure the data plane in this machine's kernel.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(SECTIONS)} (all of them)")
    parser.add_argument("--quick", action="store_true", help="few rules, few rounds: about 20 s")
    parser.add_argument("--against", metavar="CHECKOUT", help="compare the runs of `rules` with another checkout")
    parser.add_argument("--json", metavar="FILE", help="write the same figures to a file")
    options = parser.parse_args()
    foreign = [section for section in options.sections if section not in SECTIONS]
    if foreign:
        parser.error(f"no section {foreign[0]!r}: choose from {', '.join(SECTIONS)}")
    return options


def _run(section: str, extent: Extent, report: Report, against: str | None) -> int:
    """Run a section; return how many packets were judged wrong."""
    if section == "classify":
        return bench_classify.run(report, extent.classify, extent.rounds)
    if section == "images":
        return bench_images.run(report, extent.images, 4 * extent.rounds)
    if section == "live":
        return bench_live.run(report, extent.live, extent.rounds, extent is QUICK)
    if section == "cores":
        return bench_cores.run(report, extent.cores, extent.rounds, extent is QUICK)
    if section == "lookup":
        return bench_lookup.run(report, extent.lookup, extent.rounds)
    if section == "update":
        return bench_update.run(report, extent.update, extent.seconds)
    if section == "rules":
        return bench_rules.run(report, extent.rules, min(extent.rounds, 5), against)
    return bench_program.run(report, extent.program, extent.rounds)


if __name__ == "__main__":
    sys.exit(main())
