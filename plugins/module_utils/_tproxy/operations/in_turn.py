# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The turn of a module: a run waits for the end of another run's pending change.

The wait ends with the deadline of that change at the latest. Until then the change is confirmed or rolled back. A run
holds no lock while it waits, because the confirmation of the other run needs the locks.
"""

from __future__ import annotations

from ..errors import ChangePending
from ..resources.lock import CONFIRMED, Pending, latest_change, pending_change
from ..resources.operation import Operation, Options, Result, with_absolute_pin_dir
from ..system.system import System

PAUSE = 250 * 10**6
ROLL_BACK = 10 * 10**9  # ns after the deadline, in which the watchdog rolls back
SECOND = 10**9


def run_in_turn(operation: Operation, options: Options, system: System, check_mode: bool) -> Result:
    """Run an operation, after the pending change of another run. A warning tells of the wait.

    Raises ChangePending when yet another change is pending after the deadline of the first one.
    """
    first, began, outcome = None, system.background.monotonic_ns(), ""
    while True:
        try:
            result = operation.execute(options, system, check_mode)
        except ChangePending as refusal:
            pin_dir = with_absolute_pin_dir(options)["pin_dir"]
            other = pending_change(system, pin_dir)
            if first is not None and first.is_over(system):
                waited = _seconds_since(began, system)
                words = f"{refusal.message}. This run has waited {waited} s for a change by {first.who}"
                raise ChangePending(words) from refusal
            first = first or other
            if first is not None and other is not None:
                _wait_for_end(pin_dir, other, first.deadline + ROLL_BACK, system)
                outcome = outcome or _outcome_of(pin_dir, first, system)  # a change of this run replaces the record
        else:
            if first is None:
                return result
            waited = _seconds_since(began, system)
            return result.with_warnings([f"this run waited {waited} s for a change by {first.who}, which {outcome}"])


def _wait_for_end(pin_dir: str, change: Pending, limit: int, system: System) -> None:
    """Wait until a change is confirmed or rolled back, and not beyond a limit in ns of the monotonic clock."""
    clock = system.background
    while clock.monotonic_ns() < limit:
        found = pending_change(system, pin_dir)
        if found is None or found.token != change.token:
            return
        clock.sleep_until(clock.monotonic_ns() + PAUSE)


def _outcome_of(pin_dir: str, change: Pending, system: System) -> str:
    """Return the end of a change as the end of a sentence."""
    latest = latest_change(system, pin_dir)
    if latest is None or latest.token != change.token:
        return "has ended"
    return "was confirmed" if latest.outcome == CONFIRMED else "was rolled back"


def _seconds_since(began: int, system: System) -> int:
    return (system.background.monotonic_ns() - began) // SECOND
