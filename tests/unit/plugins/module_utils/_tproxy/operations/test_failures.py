# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A failure at any step of a run leaves the old state in force.

After a refusal the operation undoes its changes; after a kill it cannot. In both cases a second run completes them.
The tests try some steps of each run, and `make failures` all of them.
"""

from __future__ import annotations

import sys

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import LAYOUT
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import PIN_DIR
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import TproxyError
from ansible_collections.netedge.tproxy.tests.support.fakes.kernel import Killed
from ansible_collections.netedge.tproxy.tests.support.scenarios import SCENARIOS, play, readable
from ansible_collections.netedge.tproxy.tests.support.steps import tried

EACH = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name.replace(" ", "-"))
TIDYING_UP = {"unpin", "remove_folder"}


def outcome(scenario):
    """Return (state in force, values read) before the run and after it, the number of its steps, its changes."""
    machine = scenario.machine()
    before = machine.in_force(), readable(machine)
    machine.start_over()
    play(machine, scenario.run)
    steps, changes = machine.steps, machine.changes
    return before, (machine.in_force(), readable(machine)), steps, changes


def pinned(machine) -> set:
    """Return the paths of all pins; the marker of a deleted qdisc is no loss."""
    stale = {ifindex for ifindex in range(1, 10) if ifindex not in machine.clsact}
    return set(machine.files) - {f"{PIN_DIR}/v{LAYOUT}/clsact_{ifindex}" for ifindex in stale}


@EACH
def test_a_refusal_at_any_step_changes_nothing(scenario):
    before, after, steps, _changes = outcome(scenario)
    files = pinned(scenario.machine())
    for number, machine in zip(tried(range(1, steps + 1), scenario.name), scenario.machines()):
        machine.start_over(refuse_at=number)
        with pytest.raises(TproxyError):
            play(machine, scenario.run)
        what = f"step {number} of {steps}: {machine.refused} after {machine.changes}"
        assert not machine.lock
        name, changes = machine.refused
        # all may be done already when it is read back, or when what is left over is removed
        late = not changes or name in TIDYING_UP
        found = machine.in_force(), readable(machine)
        assert found == before or (found == after and late), what
        assert late or pinned(machine) == files, what
        play(machine, scenario.run)
        assert machine.in_force() == after[0], what


def assert_whole(found: dict, states: tuple) -> None:
    """Assert that each filter runs an old or a new program, on an old or a new rule set, with a policy."""
    for hook, (name, tag, maps) in found["filters"].items():
        known = [state["filters"][hook] for state in states if hook in state["filters"]]
        assert (name, tag) in [(one[0], one[1]) for one in known]
        if "image" in maps:
            everywhere = [one for state in states for one in state["filters"].values()]  # a filter may be about to go
            assert maps["image"] in [one[2]["image"] for one in everywhere if "image" in one[2]]
            assert hook[0].to_bytes(4, sys.byteorder) in [raw[:4] for raw in maps["policy"].values()]


@EACH
def test_a_run_killed_at_any_change_is_completed_by_the_next(scenario):
    before, after, _steps, changes = outcome(scenario)
    for number, machine in zip(tried(changes, scenario.name), scenario.machines()):
        machine.start_over(kill_at=number)
        with pytest.raises(Killed):
            play(machine, scenario.run)
        what = f"step {number}, after {machine.changes}"
        assert_whole(machine.in_force(), (before[0], after[0]))
        machine.start_over()
        play(machine, scenario.run)
        assert (machine.in_force(), readable(machine)) == after, what
