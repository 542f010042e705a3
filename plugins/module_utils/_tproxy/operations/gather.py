# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The operation that reads the whole state of one router as options of tproxy_router. It changes nothing."""

from __future__ import annotations

from ..checks.router_facts import helper_group
from ..constants import EXECUTABLE, FAIL_OPEN
from ..persistence.metrics_units import installed_metrics
from ..persistence.setup import saved_failure
from ..resources.operation import Answer, Operation, Options, Result
from ..resources.session import open_transaction
from ..system.open_checks import open_for_checks
from ..system.system import System
from .router import gathered


def gather(options: Options, system: System, _check: bool) -> Result:
    """Return the state in force as options of tproxy_router, which with state=replaced make the same state."""
    with open_transaction(system, options["pin_dir"], True, mount=False, ignore_damage=True) as transaction:
        transaction.pins.check()
        found = gathered(transaction.current)
    return Result(False, {"gathered": {**found, **_files(options, system)}})


def _files(options: Options, system: System) -> Answer:
    """Return the other options. Saved state and helper need the command line."""
    kept, group = saved_failure(system, options["pin_dir"]), helper_group(system)
    metrics = installed_metrics(system)
    return {
        "persist": kept is not None,
        "failure": kept or options.get("failure", FAIL_OPEN),
        "cli": kept is not None or bool(group) or bool(metrics.folder) or system.files.exists(EXECUTABLE),
        "helper": {"group": group},
        "metrics": {"dir": metrics.folder, "interval": metrics.interval, "rules": metrics.rules},
    }


GATHER = Operation("export", gather, opens=open_for_checks)
