# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls of an OpenZiti router beside a run of tproxy_rule with as many rules as an image can hold.

The helper runs, and one call comes each tenth of a second: before the run, while it compiles and writes, and after it.
Each call must succeed, and at the end the image must have all rules of the run and of the calls. Then the image is
full, and one more call must be refused with the limit. No time is judged.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import bench_rules
import rules as rulesets
import storm

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import RULES
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import PIN_DIR
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.diverter_args import parse
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.attach import attach
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.pins import splicer_pins
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.rule_table import rule_table
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.open_all import open_system
from ansible_collections.netedge.tproxy.tests.support.options import options

PAUSE = 0.1  # s between two calls
ALONE = 20  # calls before the run, and after it


class Calls:
    """The calls of a router, one service each. When all services are there, the last call is repeated."""

    def __init__(self, services: int) -> None:
        self._words = list(storm.calls(services, 1))
        self.made = 0

    def next(self) -> storm.Cost:
        """Make a call after the pause."""
        time.sleep(PAUSE)
        words = self._words[min(self.made, len(self._words) - 1)]
        self.made += 1
        return storm.run(storm.DIVERTER, *words)

    def rest(self) -> Iterator[storm.Cost]:
        """Make the calls of the services that are not there yet."""
        while self.made < len(self._words):
            yield storm.run(storm.DIVERTER, *self._words[self.made])
            self.made += 1

    def rules(self) -> dict:
        """Return {identity: rule} of all services."""
        return {rule.identity: rule for words in self._words for rule in parse(words).rules}


def play(size: int, calls: Calls) -> dict:
    """Return the figures of the calls before, beside and after the run, and of the run."""
    before = [calls.next() for _number in range(ALONE)]
    with tempfile.TemporaryDirectory() as folder:
        tree = bench_rules.tree_of(Path(folder, "tree"), str(storm.CHECKOUT))
        tasks = bench_rules.tasks_of(Path(folder), size)
        process = bench_rules.start(tree, tasks["apply"])
        beside = []
        while process.poll() is None:
            beside.append(calls.next())
        cost = bench_rules.cost_of(process)
    if cost is None:
        sys.exit("the run failed")
    after = [calls.next() for _number in range(ALONE)]
    figures = {"before": before, "beside": beside, "after": after}
    return {
        "rules": size,
        "run_s": round(cost.seconds, 1),
        "run_mib": round(cost.mebibytes),
        "load": os.getloadavg(),
        **{name: storm.figures(costs) for name, costs in figures.items()},
    }


def compare(size: int, calls: Calls) -> None:
    """End the process if the image has other rules than those of the run and of the calls."""
    system = open_system()
    wanted = {rule.identity for rule in rulesets.mixed_rules(size)} | set(calls.rules())
    with splicer_pins(system.bpf, system.bpffs, PIN_DIR) as pins:
        have = set(rule_table(system, pins).load().rules)
    if have != wanted:
        sys.exit(f"{len(have)} rules are in force, expected {len(wanted)}; {len(have ^ wanted)} differ")


def refused(services: int) -> str:
    """Make one call too many; return the refusal, which must name the limit."""
    words = list(storm.calls(services + 1, 1))[-1]
    done = subprocess.run([storm.DIVERTER, *words], capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).strip()
    if not done.returncode or str(RULES) not in said:
        sys.exit(f"expected the refusal of rule {RULES + 1}, got status {done.returncode}: {said}")
    return said


def peak_of(process: int) -> int:
    """Return the highest resident memory of a process in MiB."""
    status = Path(f"/proc/{process}/status").read_text("ascii").splitlines()
    return int(next(line.split()[1] for line in status if line.startswith("VmHWM"))) // 1024


def main() -> None:
    """Run it with the sizes that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", type=int, default=RULES, help="of the run and of the calls together")
    parser.add_argument("--services", type=int, default=1000, help="of the calls")
    given = parser.parse_args()
    os.environ["TPROXY_SPLICER_HELPER"] = storm.SOCKET
    subprocess.run("ip link add lan0 type veth peer name far0 && ip link set lan0 up", shell=True, check=True)
    blob = storm.BLOB.read_text("utf-8")
    attach(options("tc_bpf_attach", interface="lan0", blob_content=blob), open_system(), False)
    helper, calls, size = storm.start_helper(), Calls(given.services), given.rules - given.services
    try:
        with storm.router(given.services + 1):
            answer = play(size, calls)
            answer["rest"] = storm.figures(list(calls.rest()) or [calls.next()])
            compare(size, calls)
            answer["helper_mib"] = peak_of(helper.pid)
            if given.rules == RULES:
                answer["refusal"] = refused(given.services)
    finally:
        helper.terminate()
        helper.wait()
    print(json.dumps(answer, indent=2))


if __name__ == "__main__":
    main()
