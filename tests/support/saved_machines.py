# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines with a saved state, for the tests of save, restore and watch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import PIN_DIR, STATE_FILE
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.saved_state import decode_state
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.execute import execute
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.watch import watch
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.current_state import (
    CurrentState,
    observe_state,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.operation import Operation
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.pins import splicer_pins
from ansible_collections.netedge.tproxy.tests.support.fakes.kernel import Killed
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import FakeNetlink, Machine
from ansible_collections.netedge.tproxy.tests.support.scenarios import (
    play,
    readable,
    rule,
)

SERVICE = rule("203.0.113.9", owner="ziti:service")


def machine_after(*runs: tuple) -> Machine:
    machine = Machine()
    for run in runs:
        play(machine, run)
    return machine


def snapshot(machine: Machine):
    """Return the state in force."""
    system = machine.system()
    with splicer_pins(system.bpf, system.bpffs, PIN_DIR) as pins:
        return observe_state(CurrentState(system, lambda: FakeNetlink(machine), pins), PIN_DIR)


def saved(machine: Machine):
    return decode_state(machine.disk[STATE_FILE])


def seen(machine: Machine) -> tuple:
    """Return all that is in force but the number of times that the rules were set."""
    return readable(machine), machine.clsact.copy(), set(machine.rules), set(machine.local_defaults)


def kept(machine: Machine, run: tuple) -> dict:
    """Run an operation as a front end does; return its answer."""
    operation, given = run
    return Operation("test", operation, execute).execute(given, machine.system(), False).as_dict()


def watched(machine: Machine, *events: Callable[[], object], path: str = STATE_FILE) -> list[str]:
    """Return the lines of a watcher that meets these events. Behind the last one it would wait without end."""
    machine.to_come, said = list(events), []
    with suppress(Killed):
        for line in watch({"path": path, "pin_dir": PIN_DIR}, machine.system(), False):
            said.append(line)
    return said
