# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole runs of tproxy_rule with large rule sets: processor time and peak memory of the process on the router.

With another checkout of the collection, its runs alternate with ours, so that both meet the same load. Each round
begins without rules.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import rules as rulesets
from measure import quartiles
from report import Report

MODULE = "ansible_collections.netedge.tproxy.plugins.modules.tproxy_rule"
# The peak that rusage tells has that of the process before exec(2), too.
MEASURED = f"""
import atexit, runpy, sys, time
def tell():
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(time.process_time(), int(peak) / 1024, file=sys.stderr)
atexit.register(tell)
runpy.run_module({MODULE!r}, run_name="__main__", alter_sys=True)
"""
CHECKOUT = Path(__file__).resolve().parents[2]
STEPS = ("apply", "again", "check", "change one", "remove one", "purge")


class Cost(NamedTuple):
    """Of one run: processor time in s, and the highest resident memory in MiB."""

    seconds: float
    mebibytes: float


def run(report: Report, sizes: Iterable[int], rounds: int, against: str | None) -> int:
    """Measure and print; return how many runs failed."""
    checkouts = [str(CHECKOUT), *([os.path.abspath(against)] if against else [])]
    rows, failed = [], 0
    with tempfile.TemporaryDirectory() as folder:
        trees = [tree_of(Path(folder, str(number)), checkout) for number, checkout in enumerate(checkouts)]
        for size in sizes:
            tasks = tasks_of(Path(folder), size)
            costs: dict[tuple[str, int], list[Cost]] = {}
            for _round in range(rounds):
                for number, tree in enumerate(trees):
                    for step in STEPS:
                        cost = cost_of(start(tree, tasks[step]))
                        failed += cost is None
                        costs.setdefault((step, number), []).extend([cost] if cost else [])
            rows += [[f"{size:,}", step, *_cells(costs[step, 0], costs.get((step, 1)))] for step in STEPS]
    heads = ["rules", "run", "s", "peak MiB"]
    heads += ["other s", "other MiB", "time, of other's", "least", "most"] if against else []
    report.table(
        "RULES: processor time and peak memory of tproxy_rule",
        heads,
        rows,
        rounds,
        (
            "s: user and system time of the whole process, median; peak MiB: the highest of all rounds",
            f"runs of both checkouts alternate; {failed or 'no'} runs failed",
        ),
    )
    return failed


def _cells(ours: list[Cost], others: list[Cost] | None) -> list:
    _low, seconds, _high = quartiles([cost.seconds for cost in ours])
    cells = [round(seconds, 2), round(max(cost.mebibytes for cost in ours))]
    if others:
        ratios = [our.seconds / other.seconds for our, other in zip(ours, others)]
        other = quartiles([cost.seconds for cost in others])[1]
        cells += [round(other, 2), round(max(cost.mebibytes for cost in others))]
        cells += [round(quartiles(ratios)[1], 3), round(min(ratios), 3), round(max(ratios), 3)]
    return cells


def tree_of(folder: Path, checkout: str) -> str:
    """Return a folder from which Python imports the collection of a checkout."""
    (folder / "ansible_collections/netedge").mkdir(parents=True)
    (folder / "ansible_collections/netedge/tproxy").symlink_to(checkout)
    return str(folder)


def tasks_of(folder: Path, size: int) -> dict[str, str]:
    """Return {step: file with the arguments of the module}."""
    items = [_item(number, rule.to_params()) for number, rule in enumerate(rulesets.mixed_rules(size))]
    changed = [{**items[0], "tproxy_port": 15002}, *items[1:]]
    arguments = {
        "apply": {"rules": items, "purge": True},
        "again": {"rules": items, "purge": True},
        "check": {"rules": changed, "purge": True, "_ansible_check_mode": True},
        "change one": {"rules": changed, "purge": True},
        "remove one": {**{name: value for name, value in items[1].items() if name != "name"}, "state": "absent"},
        "purge": {"rules": [], "purge": True},
    }
    files = {}
    for step, given in arguments.items():
        file = folder / f"{step.replace(' ', '_')}_{size}.json"
        file.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": given}))
        files[step] = str(file)
    return files


def _item(number: int, params: dict) -> dict:
    kept = ("destination", "protocol", "ports", "tproxy_port")
    return {**{name: params[name] for name in kept}, "name": f"rule {number}"}


def start(tree: str, arguments: str) -> subprocess.Popen:
    """Start the module in a process of its own."""
    libraries = Path(os.environ["VENV"]).glob("lib/python3*/site-packages")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tree, *map(str, libraries)])}
    return subprocess.Popen(
        [sys.executable, "-c", MEASURED, arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def cost_of(process: subprocess.Popen) -> Cost | None:
    """Wait for the end of a run; return its cost, None if it failed."""
    _nothing, said = process.communicate()
    if process.returncode:
        print(said, file=sys.stderr)
        return None
    return Cost(*map(float, said.split()[-2:]))
