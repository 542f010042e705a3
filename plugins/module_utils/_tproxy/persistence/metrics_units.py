# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The units that write metrics for the textfile collector of node_exporter, and their options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..constants import EXECUTABLE, METRICS_FILE, METRICS_INTERVAL, METRICS_TIMER, UNIT_FOLDER
from ..system.system import System
from .units import LATE_TMP, SANDBOX

METRICS_UNIT = "tproxy-splicer-metrics.service"

# CAP_DAC_OVERRIDE: the folder belongs to the user of node_exporter. CAP_SYS_PTRACE: findings about listeners need the
# descriptors of processes of other users (proc_pid_fd(5)).
SERVICE = f"""\
# Writes all counters and findings to the folder of node_exporter's textfile collector. A timer starts it.
[Unit]
Description=Transparent proxy splicer: write metrics
ConditionPathIsDirectory={{folder}}

[Service]
Type=oneshot
ExecStart={EXECUTABLE} metrics --output {{folder}}/{METRICS_FILE}{{rules}}
{SANDBOX}{LATE_TMP}CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_SYS_PTRACE
ReadWritePaths={{folder}}
RestrictAddressFamilies=AF_INET
"""

RULES = " --rules"
TIMER = """\
[Unit]
Description=Transparent proxy splicer: write metrics every {interval} s

[Timer]
OnActiveSec=1s
OnUnitInactiveSec={interval}s
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


class MetricsUnits(NamedTuple):
    """The options of the units: the folder of the file, and seconds between two writes. Without a folder: no units.

    `rules`: with the counters of each rule.
    """

    folder: str = ""
    interval: int = METRICS_INTERVAL
    rules: bool = False

    @property
    def file(self) -> str:
        """Return the path of the metrics."""
        return f"{self.folder}/{METRICS_FILE}"

    def texts(self) -> Mapping[str, str | None]:
        """Return {name: text} of the units, None for a unit that is removed."""
        if not self.folder:
            return dict.fromkeys((METRICS_UNIT, METRICS_TIMER))
        service = SERVICE.format(folder=self.folder, rules=RULES if self.rules else "")
        timer = TIMER.format(interval=self.interval)
        return {METRICS_UNIT: service, METRICS_TIMER: timer}


def metrics_units(options: Mapping[str, Any]) -> MetricsUnits:
    """Return the units for the option `metrics` of tproxy_router."""
    return MetricsUnits(
        (options.get("dir") or "").rstrip("/"), options.get("interval", METRICS_INTERVAL), bool(options.get("rules"))
    )


def installed_metrics(system: System) -> MetricsUnits:
    """Return the options of the installed units."""
    units = (system.files.read_bytes(f"{UNIT_FOLDER}/{name}") or b"" for name in (METRICS_UNIT, METRICS_TIMER))
    service, timer = (text.decode(errors="replace") for text in units)
    folder = re.search(rf"(?m)^ExecStart=.* --output (/.*)/{re.escape(METRICS_FILE)}({RULES})?$", service)
    interval = re.search(r"(?m)^OnUnitInactiveSec=(\d+)s$", timer)
    return MetricsUnits(folder[1], int(interval[1]), bool(folder[2])) if folder and interval else MetricsUnits()
