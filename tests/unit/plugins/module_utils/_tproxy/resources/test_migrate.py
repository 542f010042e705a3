# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An older release is taken over whole, wherever a run fails or is killed. test_upgrade.py has traffic.

The tests try some steps of each run, and `make failures` all of them.
"""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import LAYOUT
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import PIN_DIR
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import TproxyError
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.older_release import (
    OLDER_LAYOUTS,
    VALUE_BYTES,
)
from ansible_collections.netedge.tproxy.tests.support.fakes.kernel import Killed
from ansible_collections.netedge.tproxy.tests.support.scenarios import (
    ALL,
    CLOSED,
    OPEN,
    Scenario,
    attaching,
    detaching,
    play,
    readable,
)
from ansible_collections.netedge.tproxy.tests.support.steps import tried

OURS, OLDER = f"{PIN_DIR}/v{LAYOUT}", f"{PIN_DIR}/v{max(OLDER_LAYOUTS)}"


def grow_old(machine) -> None:
    """Turn the pins of this release into the pins of the older one."""
    del machine.files[f"{OURS}/displaced"]
    for name, size in VALUE_BYTES.items():
        table = machine.files[f"{OURS}/{name}"]
        table.shape = (*table.shape[:2], size, *table.shape[3:])
        table.entries = {key: value[:size] for key, value in table.entries.items()}
    for path in [path for path in machine.files if path == OURS or path.startswith(f"{OURS}/")]:
        machine.files[path.replace(OURS, OLDER, 1)] = machine.files.pop(path)


def befall_age() -> tuple:
    return (lambda _options, system, _check: grow_old(system.bpf.kernel)), {}


ATTACH, DETACH = attaching("lan0", "version 2", policy=CLOSED), detaching("lan0")
FINISH = (attaching("lan0", "version 2"), attaching("lan1", "version 2"))


def finished(machine) -> dict:
    """Return the answer of tproxy_info after the complete upgrade."""
    machine.start_over()
    for run in FINISH:
        play(machine, run)
    assert not any(path.startswith(OLDER) for path in machine.files)
    return readable(machine)


@pytest.mark.parametrize(
    ("fault", "run"),
    [("refuse_at", ATTACH), ("kill_at", ATTACH), ("kill_at", DETACH)],
    ids=["refused", "killed", "removal-killed"],
)
def test_what_stops_at_any_change_is_completed_by_the_next_run(fault, run):
    scenario = Scenario("", (*ALL, befall_age()), run)
    one = scenario.machine()
    assert f"{OLDER}/policy" in one.files
    play(one, run)
    changes, wanted = one.changes, finished(one)
    assert len(changes) > 10
    for number, machine in zip(tried(changes, fault + repr(run is DETACH)), scenario.machines()):
        machine.start_over(**{fault: number})
        with pytest.raises((TproxyError, Killed)):
            play(machine, run)
        assert run is DETACH or set(machine.filters) == {(3, "ingress"), (4, "ingress")}
        machine.start_over()
        play(machine, run)
        assert finished(machine) == wanted, f"step {number}: {changes[number]}"


def test_nothing_is_lost_by_a_finished_upgrade():
    machine = Scenario("", ALL, ()).machine()
    before = readable(machine)
    grow_old(machine)
    after = finished(machine)
    for attachment in (*before["attachments"], *after["attachments"]):
        attachment.pop("name"), attachment.pop("tag")
    assert after == before
    assert [entry["policy"]["default_action"] for entry in after["attachments"]] == [
        CLOSED["default_action"],
        OPEN["default_action"],
    ]
