# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus and node_exporter: of this machine, or as tools/debian_programs unpacks them."""

from __future__ import annotations

import json
import pathlib
import shutil
import time
import urllib.parse
import urllib.request
from contextlib import suppress

ROOT = pathlib.Path(__file__).resolve().parents[3]
BINARIES = ROOT / ".work" / "prometheus" / "usr" / "bin"
PROMTOOL, PROMETHEUS, NODE_EXPORTER = (
    shutil.which(name) or str(BINARIES / name) for name in ("promtool", "prometheus", "prometheus-node-exporter")
)
ALERTS, DASHBOARD = (ROOT / "docs" / "monitoring" / name for name in ("alerts.yml", "dashboard.json"))
EXPORTER, SERVER = "127.0.0.1:9100", "127.0.0.1:9090"
PATIENCE = 60  # seconds


def eventually(question, seen):
    """Ask until an answer is as wanted, and return it."""
    deadline, answer = time.monotonic() + PATIENCE, None
    while time.monotonic() < deadline:
        with suppress(OSError):
            answer = question()
            if seen(answer):
                return answer
        time.sleep(0.2)
    raise AssertionError(f"it never came to that; the last answer: {answer}")


def query(expression: str) -> list:
    """Return the result of an instant query to Prometheus: a list of (labels, value)."""
    words = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"http://{SERVER}/api/v1/query?{words}", timeout=5) as answer:
        found = json.load(answer)["data"]["result"]
    return [(each["metric"], float(each["value"][1])) for each in found]
