# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The record of refused calls, by router. A router never repeats a call, and logs no reason.

The record of a router is about one process: it ends with the process, so a restart of the router clears it.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from ..constants import RUN_DIR
from ..errors import TproxyError
from ..system.system import Process, System
from .routers import Refused

RECORD = f"{RUN_DIR}/refused_calls.json"
ROUTERS_MAX = 32  # of the record; a caller may start any number of processes
LINE_LENGTH = 300

Record = dict[str, Any]  # a refused router, as JSON


def record_refusal(system: System, router: Process | None, line: str) -> None:
    """Count a refused call of a router. Calls without a known router are not counted, and no failure stops a call."""
    if router is None:
        return
    with contextlib.suppress(OSError, TproxyError):  # without root's rights the folder can be neither read nor written
        living = _living(system)
        before = next((entry["calls"] for entry in living if entry["pid"] == router.pid), 0)
        entry = {**router._asdict(), "calls": before + 1, "last": line[:LINE_LENGTH]}
        known = [entry for entry in living if entry["pid"] != router.pid][1 - ROUTERS_MAX :]
        system.files.write(RECORD, json.dumps([*known, entry]))


def refused_calls(system: System) -> list[Refused]:
    """Return the refused calls of the routers that still run."""
    return [
        Refused(f"{entry['name']} ({entry['pid']})", entry["unit"], entry["calls"], entry["last"])
        for entry in _living(system)
    ]


def _living(system: System) -> list[Record]:
    """Return the entries of the processes that still run."""
    try:
        entries: list[Record] = json.loads(system.files.read(RECORD) or "[]")
        return [entry for entry in entries if system.background.started(entry["pid"]) == entry["start"]]
    except (ValueError, KeyError, TypeError):  # the file was edited by hand
        return []
