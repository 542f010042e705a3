# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of the playbooks on many lab routers: what they cost, with distance, dead routers and a bad change.

The routers share the processors of this machine with the controller, so wall times are upper bounds. The processor
time of a router is that of its cgroup. That of the controller is of Ansible and its children, without the ssh processes
that stay connected. Bytes are those of the management link, with all headers.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from report import Report

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = CHECKOUT / "tests/lab/lab"
NAME = os.environ.get("LAB_NAME", "fleet")
COLUMNS = [
    "run",
    "RTT ms",
    "wall s",
    "controller CPU s/router",
    "router CPU s",
    "KB sent/router",
    "KB received/router",
    "result",
]
DEAD_SHARE = 0.05
CUT_AFTER = 5  # seconds of a run until a router loses its link


class Counters(NamedTuple):
    """Sums at one moment: seconds of processor time of all routers, bytes to and from them."""

    cpu: float
    sent: int
    received: int


class Fleet:
    """The lab, and what runs in it."""

    def __init__(self, folder: Path, routers: int, forks: int):
        self.folder, self.count, self.forks = folder, routers, forks
        self.names = [f"r{number}" for number in range(1, routers + 1)]
        lab("up", "--routers", str(routers))
        self.inventory = Path(lab("inventory").strip())
        self._ssh_config = self.inventory.with_name("ssh_config")
        self._near = self._ssh_config.read_text(encoding="utf-8")
        self._cgroups = Path(
            subprocess.run(
                ["findmnt", "-nro", "TARGET", "-t", "cgroup2"], capture_output=True, text=True, check=True
            ).stdout.splitlines()[0]
        )
        self.vars: dict = {
            "tproxy_splicer_interfaces": ["lan0"],
            "tproxy_splicer_packages": False,
            "tproxy_splicer_purge": True,
            "tproxy_splicer_reach_timeout": 10,
            "tproxy_splicer_probe_retries": 0,
        }

    def set_distance(self, milliseconds: int) -> None:
        """Delay what ssh sends and receives. The next connections are distant."""
        text = self._near
        if milliseconds:
            text = text.replace("ProxyUseFdpass yes", "ProxyUseFdpass no").replace("%h %p", f"%h %p {milliseconds}")
        self._ssh_config.write_text(text, encoding="utf-8")
        self.close_connections()

    def close_connections(self) -> None:
        """End the connections that ssh keeps open."""
        for socket in Path(os.environ["ANSIBLE_SSH_CONTROL_PATH_DIR"]).glob(f"{NAME}-*"):
            subprocess.run(
                ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "any"], capture_output=True, check=False
            )

    def counters(self) -> Counters:
        """Return the sums of this moment. A router that is off has no cgroup and no link."""
        cpu = 0.0
        for name in self.names:
            path = self._cgroups / f"{NAME}-{name}" / "cpu.stat"
            if path.exists():
                cpu += int(path.read_text(encoding="utf-8").split()[1]) / 1e6
        shown = subprocess.run(
            ["ip", "-n", f"{NAME}-ctl", "-j", "-s", "link"], capture_output=True, text=True, check=True
        )
        links = [link for link in json.loads(shown.stdout) if link["ifname"].startswith("m-r")]
        sent = sum(link["stats64"]["tx"]["bytes"] for link in links)
        return Counters(cpu, sent, sum(link["stats64"]["rx"]["bytes"] for link in links))

    def play(self, playbook: str, rules: int, **more: object) -> tuple[int, str]:
        """Run a playbook with a number of rules. Return the exit status and the output."""
        wanted = [
            {"destination": f"172.16.{number}.0/28", "protocol": "tcp", "ports": "30000-40000", "tproxy_port": 33401}
            for number in range(rules)
        ]
        values = self.folder / "vars.json"
        values.write_text(json.dumps({**self.vars, "tproxy_splicer_rules": wanted, **more}), encoding="utf-8")
        command = ["ansible-playbook", f"netedge.tproxy.{playbook}", "-i", self.inventory, "-f", str(self.forks)]
        settings = {
            **os.environ,
            "ANSIBLE_STDOUT_CALLBACK": "netedge.tproxy.fleet",
            "TPROXY_DETAILS_DIR": str(CHECKOUT / ".work/log/fleet"),
        }
        done = subprocess.run([*command, "-e", f"@{values}"], env=settings, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def states(self, names: list[str]) -> dict[str, str]:
        """Return the number of rules in force on each router, or why there is none."""
        found = {}
        for name in names:
            done = subprocess.run(
                [LAB, "exec", name, "tproxy-splicer", "show", "rules", "--json"],
                capture_output=True,
                text=True,
                check=False,
            )
            try:
                found[name] = f"{len(json.loads(done.stdout)['rules'])} rules"
            except ValueError:
                found[name] = "no state"
        return found


def lab(*words: str) -> str:
    """Run a command of the lab. Return what it prints."""
    return subprocess.run([LAB, *words], stdout=subprocess.PIPE, text=True, check=True).stdout


def measure(fleet: Fleet, name: str, rtt: int, run: Callable[[], str]) -> list:
    """Return a row of the table; `run` returns its result."""
    before, used, began = fleet.counters(), _own_children(), time.monotonic()
    result = run()
    wall, after = time.monotonic() - began, fleet.counters()
    controller = (_own_children() - used) / fleet.count
    row = [
        name,
        rtt,
        f"{wall:.1f}",
        f"{controller:.2f}",
        f"{(after.cpu - before.cpu) / fleet.count:.2f}",
        round((after.sent - before.sent) / fleet.count / 1000),
        round((after.received - before.received) / fleet.count / 1000),
        result,
    ]
    print(*row, sep=" | ", flush=True)
    return row


def _own_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def expect(fleet: Fleet, status: int, playbook: str, rules: int, **more: object) -> str:
    """Run a playbook that must end with a status. Return the numbers of its recap."""
    found, output = fleet.play(playbook, rules, **more)
    if found != status:
        raise SystemExit(f"{playbook} ended with {found}, expected {status}:\n{output[-4000:]}")
    if len(output.splitlines()) > 60:
        raise SystemExit(f"{playbook} printed {len(output.splitlines())} lines, expected at most 60:\n{output}")
    sums = [line.strip() for line in output.splitlines() if " without a fault, " in line]
    return f"{sums[0] if playbook != 'rollout' else _lists(output)}; {len(output.splitlines())} lines"


def _lists(output: str) -> str:
    """Return the sizes of the lists of a roll-out."""
    found = []
    for word in ("new state, verified", "failed, back in the old state", "failed, look at it", "untouched"):
        names = next(line for line in output.splitlines() if line.strip().startswith(f"{word}: ")).split(": ")[1]
        found.append(f"{0 if names == 'none' else len(names.split())} {word.partition(',')[0]}")
    return ", ".join(found)


def usual(fleet: Fleet, rtt: int, rounds: int) -> list[list]:
    """Return the rows of runs on good routers."""
    fleet.set_distance(rtt)
    rows = [measure(fleet, "deploy", rtt, lambda: expect(fleet, 0, "deploy", 10))]
    for _round in range(rounds):
        rows.append(measure(fleet, "no-op", rtt, lambda: expect(fleet, 0, "deploy", 10)))
    rows.append(measure(fleet, "one rule", rtt, lambda: expect(fleet, 0, "deploy", 11)))
    expect(fleet, 0, "remove", 0, tproxy_splicer_confirm_removal=fleet.count)
    return rows


def with_dead_routers(fleet: Fleet, rtt: int) -> tuple[list[list], dict[str, str]]:
    """Return the rows of a run with a router that is off and one that loses its link, and the states after it."""
    number = max(1, math.ceil(fleet.count * DEAD_SHARE / 2))
    off, cut = fleet.names[-number:], fleet.names[-2 * number : -number]
    for name in off:
        lab("stop", name)
    timer = threading.Timer(CUT_AFTER, lambda: [_link(name, "down") for name in cut])
    fleet.close_connections()
    timer.start()
    title = f"one rule, {number} off, {number} cut after {CUT_AFTER} s"
    rows = [measure(fleet, title, rtt, lambda: _any_end(fleet, "deploy", 11))]
    timer.join()
    for name in cut:
        _link(name, "up")
    for name in off:
        lab("start", name)
        lab("wait", name)
    back = {f"{name} ({'off' if name in off else 'cut'})": state for name, state in fleet.states(off + cut).items()}
    fleet.close_connections()
    rows.append(measure(fleet, "the same, all back", rtt, lambda: expect(fleet, 0, "deploy", 11)))
    return rows, back


def _any_end(fleet: Fleet, playbook: str, rules: int) -> str:
    output = fleet.play(playbook, rules)[1]
    return next(line.strip() for line in output.splitlines() if " without a fault, " in line)


def _link(name: str, state: str) -> None:
    subprocess.run(["ip", "-n", f"{NAME}-ctl", "link", "set", f"m-{name}", state], check=True)


def rolled_out(fleet: Fleet, rtt: int) -> list[list]:
    """Return the rows of roll-outs: good, with a bad router in the second batch, and repaired."""
    batches = {"tproxy_splicer_batches": [1, "25%", "100%"]}
    bad = {"name": "a bad change", "command": "test {{ inventory_hostname }} != r3"}
    good = {**bad, "command": "true"}
    return [
        measure(
            fleet, "roll-out", rtt, lambda: expect(fleet, 0, "rollout", 12, tproxy_splicer_probes=[good], **batches)
        ),
        measure(
            fleet,
            "roll-out, r3 bad in batch 2",
            rtt,
            lambda: expect(fleet, 2, "rollout", 13, tproxy_splicer_probes=[bad], **batches),
        ),
        measure(
            fleet,
            "roll-out, repaired",
            rtt,
            lambda: expect(fleet, 0, "rollout", 13, tproxy_splicer_probes=[good], **batches),
        ),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--routers", type=int, default=24)
    parser.add_argument("--rtt", type=int, action="append", help="milliseconds; again for each (0, 50 and 600)")
    parser.add_argument("--rounds", type=int, default=1, help="runs without a change at each distance")
    parser.add_argument("--forks", type=int, default=24)
    parser.add_argument("--json", help="write the tables to this file")
    options = parser.parse_args()
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        try:
            fleet = Fleet(Path(folder), options.routers, options.forks)
            rows = [row for rtt in options.rtt or [0, 50, 600] for row in usual(fleet, rtt, options.rounds)]
            fleet.set_distance(0)
            expect(fleet, 0, "deploy", 10)
            dead, back = with_dead_routers(fleet, 0)
            rows += dead + rolled_out(fleet, 0)
        finally:
            lab("down")
    notes = (f"{options.routers} routers, {options.forks} forks, 10 rules.", f"After their return: {back}.")
    report.table("A fleet of lab routers", COLUMNS, rows, options.rounds, notes)
    if options.json:
        report.write(options.json)


if __name__ == "__main__":
    main()
