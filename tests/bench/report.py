# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print tables of at most 100 columns, each with the machine of the measurement, and the same as JSON."""

from __future__ import annotations

import json
import os
import platform
import textwrap
from pathlib import Path

WIDTH = 100
VULNERABILITIES = Path("/sys/devices/system/cpu/vulnerabilities")


class Report:
    """Prints tables as they come and keeps them for write()."""

    def __init__(self):
        self.tables = []

    def table(self, title: str, columns: list, rows: list, rounds: int, notes: tuple = ()) -> None:
        """Print a table. A row is a list of texts and numbers; `notes` are sentences."""
        surroundings = {**environment(), "rounds": rounds}
        self.tables.append(
            {"title": title, "environment": surroundings, "columns": columns, "rows": rows, "notes": list(notes)}
        )
        print(f"\n{title}")
        for line in _facts(surroundings) + [line for note in notes for line in _wrapped(note)]:
            print(line)
        print()
        for line in _lines(columns, rows):
            print(line)
        print(flush=True)

    def note(self, text: str) -> None:
        """Print a sentence that belongs to no table."""
        self.tables.append({"note": text})
        print(textwrap.fill(text, WIDTH), flush=True)

    def write(self, path: str) -> None:
        """Write everything printed as JSON."""
        Path(path).write_text(json.dumps(self.tables, indent=1) + "\n", encoding="utf-8")


def environment() -> dict:
    """Return the properties of the machine on which the figures depend."""
    return {
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu(),
        "mitigations": _mitigations(),
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def _cpu() -> str:
    facts = {}
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _colon, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    kind = "".join(f" {key} {facts[key]}" for key in ("cpu family", "model") if key in facts)
    return f"{facts.get('model name', platform.machine())}{kind}, {os.cpu_count()} processors"


def _mitigations() -> str:
    """Return the kernel's mitigations of processor faults in one line."""
    states = {path.name: path.read_text(encoding="utf-8").strip() for path in sorted(VULNERABILITIES.glob("*"))}
    return "; ".join(f"{name}: {state}" for name, state in states.items() if state != "Not affected") or "none"


def _facts(surroundings: dict) -> list:
    kernel, cpu, mitigations, load, rounds = surroundings.values()
    return [*_wrapped(f"{kernel}; {cpu}; load {load}; rounds {rounds}"), *_wrapped(f"mitigations: {mitigations}")]


def _wrapped(text: str) -> list:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _lines(columns: list, rows: list) -> list:
    texts = [list(columns)] + [[_text(cell) for cell in row] for row in rows]
    widths = [max(len(row[at]) for row in texts) for at in range(len(columns))]
    # Words to the left, numbers to the right.
    words = [isinstance(cell, str) for cell in rows[0]] if rows else [True] * len(columns)
    sides = [str.ljust if word else str.rjust for word in words]
    return ["  ".join(side(cell, width) for side, cell, width in zip(sides, row, widths)).rstrip() for row in texts]


def _text(cell) -> str:
    if isinstance(cell, float):
        return f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.1f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
