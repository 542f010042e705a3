# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processor time of runs that change nothing, as multiples of that of `ansible -m ping`.

Ansible keeps the file that it sends for each task. That file runs here by itself, as on a router: the time of its
process is that of the router, its size is what Ansible sends. The rest of the time of `ansible` is the controller's.
Each number of rules has an interface and a pin folder of its own, so that all runs alternate.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import rules as rulesets
from report import Report

CHECKOUT = Path(__file__).resolve().parents[2]
CLI = CHECKOUT / ".work/dist/tproxy-splicer"
PYTHON = os.environ.get("SYSTEM_PYTHON", "/usr/bin/python3")
KEPT = ("destination", "protocol", "ports", "tproxy_port")
PING = "ansible -m ping"


class Task(NamedTuple):
    """A module with its options, as `ansible` gets them."""

    module: str
    options: dict


class Cost(NamedTuple):
    """Processor time in ms: of the process on the router, and of `ansible` on the controller."""

    router: float
    controller: float = 0.0


def main() -> int:
    """Prepare the routers, measure and print."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        tasks, commands = {PING: Task("ansible.builtin.ping", {})}, {}
        for place, size in enumerate(options.rules):
            tasks.update(_prepare(Path(folder), place, size))
            commands.update(_commands(place, size))
        payloads = {name: _payload(Path(folder), name, task) for name, task in tasks.items()}
        costs: dict[str, list[Cost]] = {name: [] for name in (*tasks, *commands)}
        for _round in range(options.rounds):
            for name, task in tasks.items():
                router = _time([PYTHON, str(payloads[name])])
                whole = _time(_ansible(Path(folder), task))
                costs[name].append(Cost(router, max(whole - router, 0.0)))
            for name, command in commands.items():
                costs[name].append(Cost(_time(command)))
        sent = {name: path.stat().st_size for name, path in payloads.items()}
    _print(costs, sent, options.rounds)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("tests/bench/control", description="Measure runs that change nothing.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rules", type=int, nargs="*", default=[10, 10_000], help="numbers of rules")
    return parser.parse_args()


def _pin_dir(place: int) -> str:
    return f"/sys/fs/bpf/bench{place}"


def _prepare(folder: Path, place: int, size: int) -> dict[str, Task]:
    """Bring one router into its state; return the tasks that find nothing to change."""
    interface, items = f"bench{place}", [_item(each) for each in rulesets.mixed_rules(size)]
    subprocess.run(["ip", "link", "add", interface, "type", "veth", "peer", f"peer{place}"], check=True)
    subprocess.run(["ip", "link", "set", interface, "up"], check=True)
    common = {"pin_dir": _pin_dir(place), "purge": True, "rules": items}
    route = {"interfaces": [interface], "table": 1080 + place, "priority": 1080 + place}
    blob = CHECKOUT / "roles/tproxy_splicer/files/tproxy_splicer.json"
    router = {"interfaces": [{"name": interface}], "routes": [route], "blob": str(blob), "persist": False, "cli": False}
    tasks = {
        f"tproxy_router, {size:,} rules": Task("netedge.tproxy.tproxy_router", {**common, **router}),
        f"tproxy_rule, {size:,} rules": Task("netedge.tproxy.tproxy_rule", common),
        f"tproxy_info, {size:,} rules": Task("netedge.tproxy.tproxy_info", {"pin_dir": _pin_dir(place)}),
    }
    for task in tasks.values():
        subprocess.run(_ansible(folder, task), check=True, stdout=subprocess.DEVNULL)
    return tasks


def _item(rule: rulesets.Rule) -> dict:
    params = rule.to_params()
    return {name: params[name] for name in KEPT}


def _ansible(folder: Path, task: Task) -> list[str]:
    """Return the command of a task. Its options come from a file: a word of a command has 128 KiB at most."""
    file = folder / f"{abs(hash(json.dumps(task)))}.json"
    file.write_text(json.dumps({f"given_{name}": value for name, value in task.options.items()}), encoding="utf-8")
    given = json.dumps({name: f"{{{{ given_{name} }}}}" for name in task.options})
    place = ["-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={PYTHON}", "-e", f"@{file}"]
    return ["ansible", "localhost", *place, "-m", task.module, *(["-a", given] if task.options else [])]


def _payload(folder: Path, name: str, task: Task) -> Path:
    """Return the file that Ansible sends for a task."""
    remote = folder / "remote" / name.replace(" ", "_")
    kept: Mapping[str, str] = {**os.environ, "ANSIBLE_KEEP_REMOTE_FILES": "1", "ANSIBLE_PIPELINING": "0"}
    subprocess.run(
        [*_ansible(folder, task), "-e", f"ansible_remote_tmp={remote}"], check=True, env=kept, stdout=subprocess.DEVNULL
    )
    (payload,) = remote.rglob("AnsiballZ_*.py")
    return payload


def _time(command: list[str]) -> float:
    """Run a command; return the processor time of it and of all its processes in ms."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and command[1] != "doctor":
        sys.exit(f"{' '.join(command)[:200]} ended with {process.returncode}")
    return 1000 * (usage.ru_utime + usage.ru_stime)


def _commands(place: int, size: int) -> dict[str, list[str]]:
    words = {"show rules": ["show", "rules"], "doctor": ["doctor"], "metrics": ["metrics"]}
    return {f"{name}, {size:,} rules": [str(CLI), *each, "--pin-dir", _pin_dir(place)] for name, each in words.items()}


def _print(costs: Mapping[str, list[Cost]], sent: Mapping[str, int], rounds: int) -> None:
    """Print the least time of each run: what the neighbours on the processor do only ever adds."""
    router = {name: min(each.router for each in found) for name, found in costs.items()}
    controller = {name: min(each.controller for each in costs[name]) for name in sent}
    rows = []
    for name in costs:
        row = [name, round(router[name]), f"{router[name] / router[PING]:.2f}"]
        if name in sent:
            row += [round(controller[name]), f"{controller[name] / controller[PING]:.2f}", sent[name] // 1024]
        rows.append(row + [""] * (6 - len(row)))
    Report().table(
        "CONTROL: runs that change nothing",
        ["run", "router ms", "in pings", "controller ms", "in pings", "sent KiB"],
        rows,
        rounds,
        ("ms: least processor time of all rounds; in pings: divided by that of `ansible -m ping`",),
    )


if __name__ == "__main__":
    sys.exit(main())
