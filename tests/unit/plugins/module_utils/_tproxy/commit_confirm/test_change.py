# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change that waits for confirmation: a process may die at any step, the change stays whole or is undone whole.

The tests try some steps of each run, and `make failures` all of them. The clock is the fake machine's. The maps are
read past the deadline as bpf/tproxy_splicer.c reads them.
"""

from __future__ import annotations

import functools
from contextlib import suppress

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import structs as codec
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import INTERFACES
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import PIN_DIR
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import TproxyError, Unconfirmed
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.policy import UNFILTERED
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.confirm import confirm_change
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.execute import execute
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.info import inspect
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.interfaces import decode_policy
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.lock import PENDING, latest_change
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.operation import Operation
from ansible_collections.netedge.tproxy.tests.support.fakes.kernel import Killed
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.saved_machines import snapshot
from ansible_collections.netedge.tproxy.tests.support.scenarios import (
    BOTH,
    CLOSED,
    MAIL,
    MANY_ROOTS,
    OPEN,
    WEB,
    Scenario,
    attaching,
    detaching,
    play,
    prepared,
    readable,
    recording,
    result_of,
    ruling,
)
from ansible_collections.netedge.tproxy.tests.support.steps import tried

SECONDS, LATER = 60, 61 * 10**9


def waiting(run: tuple) -> tuple:
    """Return a run that must be confirmed within a minute."""
    operation, given = run
    return Operation("test", operation, execute, confirmable=True).execute, {**given, "confirm_timeout": SECONDS}


def saying(state: str, **given) -> tuple:
    """Return a run of tproxy_confirm."""
    return confirm_change, options("tproxy_confirm", state=state, **given)


BY_THE_SWITCH = (
    Scenario("rules", (*BOTH, ruling(WEB)), waiting(ruling({**WEB, "tproxy_port": "9443"}, MAIL))),
    Scenario("first rules", BOTH, waiting(ruling(WEB))),
    Scenario("an image that outgrows its map", (*BOTH, ruling(WEB)), waiting(ruling(*MANY_ROOTS))),
    Scenario("a policy", (*BOTH, ruling(WEB)), waiting(attaching("lan0", policy=OPEN))),
    Scenario("a first attach", (), waiting(attaching("lan0", policy=CLOSED))),
    Scenario("a first attach to rules", (ruling(WEB),), waiting(attaching("lan0", policy=CLOSED))),
    Scenario("a second interface", (BOTH[0], ruling(WEB)), waiting(attaching("lan1", policy=CLOSED))),
    Scenario("a policy by TCX", (*BOTH, ruling(WEB)), waiting(attaching("lan0", policy=OPEN)), True),
    Scenario("a first attach by TCX", (), waiting(attaching("lan0", policy=CLOSED)), True),
)
ON_CLSACT = attaching("lan0", policy=CLOSED, hook="clsact")
BY_THE_GUARD = (
    Scenario("another program", (*BOTH, ruling(WEB)), waiting(attaching("lan0", "version 2"))),
    Scenario("one interface less", (*BOTH, ruling(WEB)), waiting(detaching("lan0"))),
    Scenario("the last one", (BOTH[0], ruling(WEB)), waiting(detaching("lan0"))),
    Scenario("another program by TCX", (*BOTH, ruling(WEB)), waiting(attaching("lan0", "version 2")), True),
    Scenario("the last one by TCX", (BOTH[0], ruling(WEB)), waiting(detaching("lan0")), True),
    Scenario("a move to TCX", (ON_CLSACT, BOTH[1], ruling(WEB)), waiting(attaching("lan0", "version 2")), True),
    Scenario("a move to clsact", (*BOTH, ruling(WEB)), waiting(attaching("lan0", hook="clsact")), True),
)
NAMED = {"ids": lambda scenario: scenario.name.replace(" ", "-")}
EACH = pytest.mark.parametrize("scenario", BY_THE_SWITCH + BY_THE_GUARD, **NAMED)
SWITCHED = pytest.mark.parametrize("scenario", BY_THE_SWITCH, **NAMED)


def met(machine) -> dict:
    """Return {hook: (program, policy, image)} that packets meet now; a filter that lets all pass counts as none."""
    found = {}
    for hook, slots in machine.filters.items():
        for place, (_name, program) in slots.items():
            policy, image = _chosen(machine, program.maps, hook[0])
            if policy != UNFILTERED:
                found[hook + place] = (program.tag, policy, image)
    for hook, chain in machine.tcx.items():
        for place, program in enumerate(chain):
            policy, image = _chosen(machine, program.maps, hook[0])
            if policy != UNFILTERED:
                found[(*hook, "tcx", place)] = (program.tag, policy, image)
    return found


def _chosen(machine, maps: dict, ifindex: int) -> tuple:
    size = codec.size_of("policy")
    entries = {int.from_bytes(key, "little"): raw for key, raw in maps["policy"].entries.items()}
    slot, (_index, policy) = next(
        (slot, decode_policy(raw))
        for slot, raw in sorted(entries.items())
        if slot < INTERFACES and decode_policy(raw)[0] == ifindex
    )
    if policy.deadline and machine.clock > policy.deadline:
        _index, policy = decode_policy(entries.get(slot + INTERFACES, bytes(size)))
    inner = maps["image"].entries.get(codec.key(policy.generation))
    plain = policy if policy == UNFILTERED else policy.__class__(**{**vars(policy), "deadline": 0, "generation": 0})
    return plain, inner and inner.digest()


def at_the_deadline(machine, guarded: bool = True) -> None:
    """Let the time pass, and the guards do their work."""
    machine.start_over()
    machine.clock += LATER
    while guarded and machine.guards:
        machine.guards.pop()()


def state(machine) -> str | None:
    """Return the outcome of the latest change."""
    found = latest_change(machine.system(), PIN_DIR)
    return found and found.outcome


def kept(machine) -> str | None:
    """Return the identity of the program that is pinned, and from which the next state is taken."""
    machine.start_over()
    program = play(machine, (inspect, options("tproxy_info")))["program"]
    return program and program["identity"]


@EACH
def test_in_time_it_is_in_force_and_after_it_what_was_before(scenario):
    machine = scenario.machine()
    before = readable(machine), kept(machine)
    assert play(machine, scenario.run)["confirm"]["state"] == PENDING
    assert readable(machine) != before[0]
    at_the_deadline(machine)
    assert state(machine) == "rolled_back"
    assert (readable(machine), kept(machine)) == before


@EACH
def test_confirmed_it_is_what_it_would_be_without_all_this(scenario):
    machine, plain = scenario.machine(), scenario.machine()
    operation, given = scenario.run
    play(plain, (operation, {**given, "confirm_timeout": 0}))
    play(machine, scenario.run)
    assert play(machine, saying("confirmed"))["changed"]
    at_the_deadline(machine)
    assert (readable(machine), state(machine)) == (readable(plain), "confirmed")
    assert met(machine) == met(plain)


@SWITCHED
def test_past_the_deadline_packets_meet_what_was_before_though_nobody_acts(scenario):
    machine = scenario.machine()
    before = met(machine)
    play(machine, scenario.run)
    assert met(machine) != before
    at_the_deadline(machine, guarded=False)
    assert met(machine) == before


@EACH
def test_check_mode_arms_nothing(scenario):
    machine = scenario.machine()
    before = machine.everything()
    assert play(machine, scenario.run, check=True)["changed"]
    assert not machine.guards
    assert machine.everything() == before


@EACH
def test_a_run_killed_at_any_change_comes_to_what_was_before(scenario):
    probe = scenario.machine()
    before = readable(probe)
    probe.start_over()
    play(probe, scenario.run)
    for number, machine in zip(tried(probe.changes, scenario.name), scenario.machines()):
        machine.start_over(kill_at=number)
        with pytest.raises(Killed):
            play(machine, scenario.run)
        at_the_deadline(machine)
        assert readable(machine) == before, f"step {number}, after {probe.changes}"


@SWITCHED
def test_a_run_killed_at_any_change_with_its_guard_leaves_the_switch_and_the_next_run_tidies_up(scenario):
    probe = scenario.machine()
    before = met(probe), readable(probe)
    probe.start_over()
    play(probe, scenario.run)
    for number, machine in zip(tried(probe.changes, scenario.name), scenario.machines()):
        machine.start_over(kill_at=number)
        with pytest.raises(Killed):
            play(machine, scenario.run)
        at_the_deadline(machine, guarded=False)
        assert met(machine) == before[0], f"step {number}, after {probe.changes}"
        play(machine, saying("rolled_back"))
        assert readable(machine) == before[1], f"step {number}, after {probe.changes}"


@EACH
def test_a_refusal_at_any_step_leaves_what_was_before_and_nothing_that_waits(scenario):
    probe = scenario.machine()
    before = readable(probe)
    probe.start_over()
    play(probe, scenario.run)
    for number, machine in zip(tried(probe.changes, scenario.name), scenario.machines()):
        machine.start_over(refuse_at=number)
        with suppress(TproxyError):  # what is only left over may be refused to be removed, too
            play(machine, scenario.run)
            at_the_deadline(machine)
        what = f"step {number}: {machine.refused}"
        assert state(machine) != PENDING, what
        assert readable(machine) == before, what


def confirmation(scenario) -> tuple:
    """Return (state before, state after, the steps of a confirmation that change something)."""
    probe = scenario.machine()
    before = readable(probe)
    play(probe, scenario.run)
    after = readable(probe)
    probe.start_over()
    play(probe, saying("confirmed"))
    return before, after, [*probe.changes]


@EACH
def test_a_confirmation_killed_at_any_change_confirms_all_or_nothing(scenario):
    before, after, steps = confirmation(scenario)
    for number, machine in zip(tried(steps, scenario.name), scenario.machines()):
        play(machine, scenario.run)
        machine.start_over(kill_at=number)
        with pytest.raises(Killed):
            play(machine, saying("confirmed"))
        at_the_deadline(machine)
        assert readable(machine) == (after if state(machine) == "confirmed" else before), number


@EACH
def test_a_confirmation_that_the_guard_overtakes_confirms_all_or_nothing(scenario):
    """The watchdog waits for the run that holds the lock, but not for its last two steps, record and wake."""
    before, after, steps = confirmation(scenario)
    for number, machine in zip(tried(steps[:-2], scenario.name), scenario.machines()):
        play(machine, scenario.run)
        machine.start_over(meanwhile=(number, functools.partial(overtake, machine)))
        with suppress(Unconfirmed):
            play(machine, saying("confirmed"))
        assert readable(machine) == (after if state(machine) == "confirmed" else before), number


def overtake(machine) -> None:
    machine.clock += LATER
    machine.guards.pop()()


@EACH
def test_a_roll_back_killed_at_any_change_is_finished_by_the_next(scenario):
    probe = scenario.machine()
    before = readable(probe)
    play(probe, scenario.run)
    probe.start_over()
    play(probe, saying("rolled_back"))
    for number, machine in zip(tried(probe.changes, scenario.name), scenario.machines()):
        play(machine, scenario.run)
        machine.start_over(kill_at=number)
        with pytest.raises(Killed):
            play(machine, saying("rolled_back"))
        machine.start_over()
        play(machine, saying("rolled_back"))
        assert readable(machine) == before, number


def test_a_full_disk_refuses_the_change_before_anything_changes():
    scenario = BY_THE_SWITCH[0]
    machine = scenario.machine()
    play(machine, scenario.run)
    written = next(number for number, name in machine.changes.items() if name == "write")
    machine = scenario.machine()
    before = machine.in_force()
    machine.start_over(refuse_at=written)
    with pytest.raises(TproxyError):
        play(machine, scenario.run)
    assert machine.in_force() == before
    assert state(machine) != PENDING
    assert machine.woken == [1]


def test_a_guard_that_cannot_be_armed_refuses_the_change():
    scenario = BY_THE_SWITCH[0]
    machine = scenario.machine()
    play(machine, scenario.run)
    spawned = next(number for number, name in machine.changes.items() if name == "spawn")
    machine = scenario.machine()
    before = machine.in_force()
    machine.start_over(refuse_at=spawned)
    with pytest.raises(TproxyError):
        play(machine, scenario.run)
    assert (machine.in_force(), state(machine)) == (before, None)


def test_what_a_confirmed_change_gave_up_is_said_to_whoever_saves():
    machine = BY_THE_GUARD[1].machine()
    result = result_of(machine, BY_THE_GUARD[1].run)
    assert result.pending and not result.released_interfaces
    assert result_of(machine, saying("confirmed")).released_interfaces == ("lan0",)


@pytest.mark.parametrize(
    "run",
    [
        recording("lo", state="absent"),
        recording("lo", addresses=["192.0.2.2"]),
        ruling(MAIL),
        attaching("lan0", policy=OPEN),
        detaching("lan0"),
    ],
    ids=["removed", "replaced", "a rule", "a policy", "a detach"],
)
@pytest.mark.parametrize("attached", [BOTH, ()], ids=["attached", "nothing attached"])
def test_a_roll_back_returns_to_the_own_addresses_of_lo(attached, run):
    machine = prepared(*attached, recording("lo", addresses=["192.0.2.1"]))
    before = snapshot(machine)
    token = play(machine, saying("begun", confirm_timeout=SECONDS))["confirm"]["token"]
    operation, given = run
    play(machine, (operation, {**given, "confirm_token": token}))
    assert snapshot(machine) != before
    play(machine, saying("rolled_back"))
    assert snapshot(machine) == before
    assert [entry.name for entry in before.recorded] == ["lo"]
