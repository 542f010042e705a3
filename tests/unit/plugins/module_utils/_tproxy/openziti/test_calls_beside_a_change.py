# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls of OpenZiti routers beside a pending change, and beside a run that compiles, on the fake machine.

A call is made as root without a helper, or by the helper. Both must leave the same rules in every end of the change.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Callable

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import PIN_DIR
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule import is_routers
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.divert import collect, divert
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.diverter_args import parse
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.helper import Helper
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations import rules as rule_operations
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.confirm import confirm_change
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.execute import execute
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.info import inspect
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.restore import restore_saved_state
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources import rule_table, transaction
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.lock import latest_change
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.operation import Operation
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.pins import splicer_pins
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.rules import PREVIOUS
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset import compile as compile_module
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import Machine
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.saved_machines import watched
from ansible_collections.netedge.tproxy.tests.support.scenarios import (
    BOTH,
    WEB,
    attaching,
    detaching,
    play,
    readable,
    rule,
    ruling,
)

SECONDS, LATER = 60, 61 * 10**9
OTHER = rule("198.51.100.0/24")


class Calls:
    """A router's calls, by the helper or without it."""

    def __init__(self, machine: Machine, is_helped: bool):
        self.machine, self._helper = machine, Helper(PIN_DIR, machine.system()) if is_helped else None

    def __call__(self, operation: str, number: int) -> None:
        """Insert or delete the rule of a service."""
        flow = ["-c", f"172.16.{number}.0", "-m", "24", "-p", "tcp", "-l", "80", "-h", "80", "-s", f"s{number}"]
        words = [operation, *flow, *(["-t", str(30000 + number)] if operation == "-I" else [])]
        self.machine.listeners.add(("tcp", 30000 + number))
        if self._helper is None:
            divert({"request": parse(words), "pin_dir": PIN_DIR}, self.machine.system(), False)
        else:
            assert self._helper.answer("\0".join(words).encode(), 0)[:2] == (0, "")

    def collect(self) -> None:
        """Remove the rules without a listener."""
        if self._helper is None:
            collect({"pin_dir": PIN_DIR}, self.machine.system(), False)
        else:
            self._helper.collect()


@pytest.fixture(params=[False, True], ids=["without a helper", "with the helper"])
def calls(request):
    """Return the caller of a machine that has one rule of a playbook and the services 1 and 2."""
    machine = Machine()
    for run in (*BOTH, ruling(WEB)):
        play(machine, run)
    calls = Calls(machine, request.param)
    for number in (1, 2):
        calls("-I", number)
    return calls


def waiting(run: tuple) -> tuple:
    """Return a run that must be confirmed within a minute."""
    operation, given = run
    return Operation("test", operation, execute, confirmable=True).execute, {**given, "confirm_timeout": SECONDS}


def saying(state: str) -> tuple:
    """Return a run of tproxy_confirm."""
    return confirm_change, options("tproxy_confirm", state=state)


def services(machine: Machine) -> set:
    """Return the owners of the services in force."""
    return {one["owner"] for one in readable(machine)["rules"] if is_routers(one["owner"])}


def playbooks(machine: Machine) -> set:
    """Return the destinations of the other rules in force."""
    return {one["destination"] for one in readable(machine)["rules"] if not is_routers(one["owner"])}


def after_the_deadline(machine: Machine) -> set:
    """Return the owners of the services to which the confirm deadline returns."""
    system = machine.system()
    with splicer_pins(system.bpf, system.bpffs, PIN_DIR) as pins:
        snapshot = rule_table.rule_table(system, pins).load(PREVIOUS)
    return {one.owner for one in snapshot.rules.values() if is_routers(one.owner)}


def call_all_kinds(calls: Calls) -> None:
    """Make a call of each kind: services 3 and 4 come, service 1 goes, service 2 has lost its listener."""
    calls("-I", 3)
    calls("-D", 1)
    calls.machine.listeners.discard(("tcp", 30002))
    calls.collect()
    calls("-I", 4)


ENDS: dict = {
    "confirmed": lambda machine: play(machine, saying("confirmed")),
    "rolled back by the operator": lambda machine: play(machine, saying("rolled_back")),
    "rolled back by the watchdog": lambda machine: expire(machine) or machine.guards.pop()(),
    "rolled back by a run": lambda machine: expire(machine) or play(machine, again()),
    "rolled back by the watcher": lambda machine: expire(machine) or watched_once(machine),
    "rolled back by a restore": lambda machine: expire(machine) or restored(machine),
}
CHANGES = {
    "rules": ruling(OTHER, purge=True),
    "a policy": attaching("lan0", policy={"default_action": "pass"}),
    "an interface less": detaching("lan0"),
}


def expire(machine: Machine) -> None:
    """Let the deadline pass."""
    machine.start_over()
    machine.clock += LATER


def again() -> tuple:
    """Return a run that changes nothing."""
    return waiting(ruling(WEB))


def restored(machine: Machine) -> None:
    """Run `tproxy-splicer restore`, as a boot or a new interface does; nothing is saved on this machine."""
    with pytest.raises(Exception, match="there is no"):
        restore_saved_state({"path": "/none", "interface": None, "pin_dir": PIN_DIR}, machine.system(), False)


def watched_once(machine: Machine) -> None:
    """Run `tproxy-splicer watch` for one event."""
    lines = watched(machine, lambda: None, path="/none")
    assert lines[0].startswith("rolled back: a change by alice"), lines


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("end", ENDS)
def test_calls_succeed_while_a_change_waits_and_stay_at_each_end(calls, change, end):
    machine = calls.machine
    before = playbooks(machine)
    play(machine, waiting(CHANGES[change]))
    changed = playbooks(machine)
    call_all_kinds(calls)
    assert services(machine) == after_the_deadline(machine) == {"ziti:s3", "ziti:s4"}
    assert playbooks(machine) == changed, "a call changed rules of a playbook"
    ENDS[end](machine)
    assert services(machine) == {"ziti:s3", "ziti:s4"}
    assert playbooks(machine) == (changed if end == "confirmed" else before)


def test_a_call_rolls_back_a_change_whose_watchdog_died(calls):
    machine = calls.machine
    play(machine, waiting(CHANGES["rules"]))
    calls("-I", 3)
    expire(machine)
    machine.guards.clear()
    calls("-I", 4)
    assert latest_change(machine.system(), PIN_DIR).outcome == "rolled_back"
    assert services(machine) == {f"ziti:s{number}" for number in (1, 2, 3, 4)}
    assert playbooks(machine) == {WEB["destination"]}
    assert machine.journal == ["rolled back: a change by alice from 192.0.2.9 that was not confirmed within 60 s"]


def test_services_that_a_pending_change_removes_come_back(calls):
    machine = calls.machine
    play(machine, waiting(ruling(owner="ziti:s1", purge=True)))
    assert services(machine) == {"ziti:s2"}
    calls("-I", 3)
    play(machine, saying("rolled_back"))
    assert services(machine) == {"ziti:s1", "ziti:s2", "ziti:s3"}


def findings(machine: Machine) -> dict:
    """Return {code: severity} of the findings of tproxy_info."""
    machine.start_over()
    found = play(machine, (inspect, options("tproxy_info")))
    assert set(found["drift"]) <= {one["code"] for one in found["findings"]}
    return {one["code"]: one["severity"] for one in found["findings"] if one["code"].startswith("change_")}


def test_a_dead_watchdog_and_an_overdue_change_are_errors(calls):
    machine = calls.machine
    play(machine, waiting(CHANGES["rules"]))
    assert findings(machine) == {}
    machine.guards.clear()
    assert findings(machine) == {"change_unguarded": "error"}
    expire(machine)
    machine.clock += 10 * 10**9
    assert findings(machine) == {"change_overdue": "error"}
    calls("-I", 3)
    assert findings(machine) == {}


# ---- beside a run that compiles --------------------------------------------------------------------


class Compilations:
    """Calls that arrive during the compilations of a run: `during` has one list of calls for each of them."""

    def __init__(self, monkeypatch, machine: Machine, during: Iterator[list[Callable]]):
        self.count, self._machine, self._during, self._is_call = 0, machine, during, False
        monkeypatch.setattr(compile_module, "RuleImage", self._around(compile_module.RuleImage))

    def _around(self, compiled: Callable) -> Callable:
        def around(*arguments):
            done = compiled(*arguments)
            if not self._is_call:
                self.count += 1
                self._is_call = True
                for call in next(self._during, ()) if not self._machine.locked_files else ():
                    call()
                self._is_call = False
            return done

        return around


def test_a_call_during_a_compilation_is_in_the_image_of_the_run(calls, monkeypatch):
    machine = calls.machine
    during = [[lambda: calls("-I", 3), lambda: calls("-D", 1)], [lambda: calls("-I", 4)]]
    compilations = Compilations(monkeypatch, machine, iter(during))
    answer = play(machine, ruling(OTHER))
    assert compilations.count == 2, "the second image has free space, in which the later call was repeated"
    assert answer["added"] == 1
    assert services(machine) == {"ziti:s2", "ziti:s3", "ziti:s4"}
    assert playbooks(machine) == {WEB["destination"], OTHER["destination"]}
    assert readable(machine)["drift"] == []
    assert not play(machine, ruling(OTHER), check=True)["changed"]


def test_calls_without_end_cost_a_bounded_number_of_compilations(calls, monkeypatch):
    machine, numbers = calls.machine, itertools.count(11)
    compilations = Compilations(monkeypatch, machine, ([lambda: calls("-I", next(numbers))] for _each in numbers))
    monkeypatch.setattr(rule_table.RuleTable, "follow", lambda *_arguments: None)
    play(machine, ruling(OTHER))
    assert compilations.count == transaction.COMPILED_OUTSIDE + 2
    assert playbooks(machine) == {WEB["destination"], OTHER["destination"]}
    assert len(services(machine)) == 2 + transaction.COMPILED_OUTSIDE + 1


def test_maps_stay_for_a_service_that_comes_while_the_last_rule_of_a_playbook_goes(monkeypatch):
    machine = Machine()
    play(machine, ruling(WEB))
    calls, remains = Calls(machine, False), rule_operations._remains

    def late(rules, changed):
        monkeypatch.setattr(rule_operations, "_remains", remains)
        calls("-I", 3)
        return remains(rules, changed)

    monkeypatch.setattr(rule_operations, "_remains", late)
    play(machine, ruling(WEB, state="absent"))
    assert services(machine) == {"ziti:s3"}
