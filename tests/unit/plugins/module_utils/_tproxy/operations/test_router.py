# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tproxy_router: gathered fed to replaced, what a run without a change does, and confirmation around all of it."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import layout
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.checks.findings import finding
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli import router
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.router import (
    MANAGE_ROUTER,
    manage_router,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import EXECUTABLE, STATE_FILE
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import (
    Conflict,
    InvalidInput,
    Refused,
    VerificationFailed,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.confirm import CONFIRM_CHANGE
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.info import inspect
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.operation import Result
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import Machine
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.scenarios import (
    ALL,
    CLOSED,
    MAIL,
    OPEN,
    OPEN_SAVED,
    SAVED,
    SIZES,
    WEB,
    attaching,
    lasting,
    play,
    prepared,
    recording,
    routing,
    rule,
    ruling,
    steering,
)

METRICS = "/var/metrics"  # the folder of node_exporter

ROUTER_RULE = rule("100.64.0.9", owner="ziti:a")
NEIGHBOURS = {"destination": "224.0.0.0/24", "protocol": ["ospf", "253"], "action": "pass"}
PARTS = ("interfaces", "rules", "routes")
STATES = {
    "an own address of lo": (*ALL, recording("lo", addresses=["192.0.2.1"])),
    "nothing": (),
    "all parts": ALL,
    "no addresses": (attaching("lan0", policy=OPEN), ruling(WEB)),
    "addresses by hand": (attaching("lan0"), recording("lan0", addresses=["10.1.0.9", "10.1.0.1"])),
    "another mark and table": (attaching("lan0", priority=20), routing("lan0", mark="0x2/0x2", table=7)),
    "a mark without a route": (attaching("lan0"), routing("lan0", mark="0x2/0x2"), routing("lan0", state="absent")),
    "rules for other protocols": (*ALL, ruling(NEIGHBOURS)),
    "a route alone": (routing("lan1"), ruling(WEB, MAIL, owner="site")),
    "a router that lasts": (lasting(WEB, MAIL, helper={"group": "ziti"}, failure="fail_closed"),),
    "tables of other sizes": (*ALL, steering(flow_tables=SIZES)),
    "rules of an OpenZiti router": (*ALL, ruling(ROUTER_RULE)),
}
# The state file alone: the module adds the units that restore it.
INCOMPLETE = {"a saved state": SAVED, "a state that opens": OPEN_SAVED}


def each_of(states: dict):
    """Return the mark that runs a test for each of these states."""
    return pytest.mark.parametrize("runs", states.values(), ids=[name.replace(" ", "-") for name in states])


def gathered(machine: Machine) -> dict:
    """Return the state of a machine as options of tproxy_router."""
    machine.start_over()
    return play(machine, steering(state="gathered"))["gathered"]


def replacing(found: dict) -> tuple:
    """Return a run that makes a gathered state."""
    return steering(*found["rules"], state="replaced", **{name: found[name] for name in found if name != "rules"})


@each_of(STATES)
def test_gathered_fed_to_replaced_changes_nothing(runs):
    machine = prepared(*runs)
    found = gathered(machine)
    before = machine.everything()
    answer = play(machine, replacing(found))
    assert not answer["changed"], answer["diff"]
    assert machine.everything() == before


@each_of({**STATES, **INCOMPLETE})
def test_gathered_fed_to_replaced_makes_the_same_on_a_new_router(runs):
    machine = prepared(*runs)
    found = gathered(machine)
    other = Machine()
    play(other, replacing(found))
    assert gathered(other) == found
    again = play(other, replacing(found))
    assert not again["changed"], again["diff"]


def test_a_size_moves_every_program_and_returns_to_the_default_with_the_state():
    machine = prepared(*ALL)
    play(machine, attaching("lan1"))
    answer = play(machine, steering(interfaces=(), rules=None, flow_tables={"forwarded": 8192}))
    assert answer["changed_parts"] == ["flow tables", "filters"]
    assert ("table forwarded: 65536 flows\n" in answer["diff"]["before"], answer["interfaces"]) == (
        True,
        ["lan0", "lan1"],
    )
    found = gathered(machine)
    assert found["flow_tables"] == {"own": 65536, "forwarded": 8192, "outside": 65536}
    assert [each["drift"] for each in play(machine, (inspect, options("tproxy_info")))["attachments"]] == [[], []]
    found.pop("flow_tables")
    assert play(machine, replacing(found))["changed"]
    assert gathered(machine)["flow_tables"] == dict.fromkeys(("own", "forwarded", "outside"), 65536)


@pytest.mark.parametrize("size", [0, -1, 4095, (1 << 22) + 1])
def test_a_size_that_no_table_can_have_is_refused(size):
    with pytest.raises(InvalidInput) as refused:
        play(Machine(), steering(interfaces=("lan0",), flow_tables={"own": size}))
    assert refused.value.faults == [f"flow_tables.own: expected 4096 to 4194304 flows, got {size}"]


def test_replaced_removes_what_it_does_not_list():
    machine = prepared(*ALL, ruling(ROUTER_RULE))
    play(machine, steering(MAIL, state="replaced", interfaces=("lan1",)))
    found = gathered(machine)
    assert [each["name"] for each in found["interfaces"]] == ["lan1"]
    assert [each["interfaces"] for each in found["routes"]] == [["lan1"]]
    assert [each["destination"] for each in found["rules"]] == ["198.51.100.7/32"]
    assert play(machine, ruling(ROUTER_RULE))["changed"] is False, "a rule of an OpenZiti router stays"


def test_replaced_needs_interfaces_and_rules():
    with pytest.raises(InvalidInput) as refused:
        play(Machine(), (manage_router, options("tproxy_router", state="replaced", cli=False)))
    assert [fault.partition(":")[0] for fault in refused.value.faults] == ["interfaces", "rules", "cli"]


def test_all_faults_come_together_and_name_their_part():
    bad = {"name": "lan0", "priority": 0, "addresses": ["10.1.0.300"], "policy": {"default_action": "drop"}}
    bad["policy"]["management"] = [{"source": "10.0.0.0/33", "port": "http"}]
    rules = [WEB, {**MAIL, "name": "voice", "ports": "5060-22"}, {**WEB, "protocol": None}]
    with pytest.raises(InvalidInput) as refused:
        play(
            Machine(),
            steering(*rules, interfaces=(bad,), routes=[{"interfaces": ["lan0"], "table": 254, "mark": "0/0"}]),
        )
    words = "\n".join(refused.value.faults)
    for expected in (
        "interface 'lan0': priority: 0 is out of range",
        "interface 'lan0': addresses: '10.1.0.300'",
        "interface 'lan0': policy.management[0].source: ",
        "interface 'lan0': policy.management[0].port: 'http'",
        "rule 'voice' (number 2): ports: 5060-22 runs backwards",
        "rule number 3: protocol: missing",
        "route number 1: table: 254 is reserved",
        "route number 1: mark: ",
    ):
        assert expected in words


@pytest.mark.parametrize("check", [True, False])
def test_an_interface_that_is_not_there_is_refused_with_those_that_are(check):
    machine = Machine()
    before = machine.everything()
    with pytest.raises(InvalidInput) as refused:
        play(machine, lasting(WEB, interfaces=("lan7", "lan0")), check=check)
    assert "interface 'lan7': there is none on this machine; it has lan0, lan1, lo" in str(refused.value)
    assert machine.everything() == before


def test_a_rule_for_an_interface_that_is_not_there_is_warned_of():
    answer = play(Machine(), lasting({**WEB, "name": "voice", "interfaces": ["lan7"]}))
    assert [each for each in answer["warnings"] if each.startswith("rule 'voice': there is no interface lan7")]


def test_without_a_saved_state_a_warning_names_the_next_boot():
    assert any("the next boot opens the router" in each for each in play(Machine(), steering(WEB))["warnings"])
    assert not play(Machine(), lasting(WEB))["warnings"]


@pytest.mark.parametrize("check", [True, False])
def test_a_foreign_file_in_the_place_of_the_command_is_refused_before_any_change(check):
    machine = Machine()
    machine.disk[EXECUTABLE] = b"#!/bin/sh\n"
    before = machine.everything()
    with pytest.raises(Conflict):
        play(machine, lasting(WEB), check=check)
    assert machine.everything() == before


def test_a_lock_out_is_refused():
    machine = prepared(lasting(WEB))
    machine.fate = layout.REASON_DEFAULT, layout.VERDICT_DROP
    machine.start_over()
    with pytest.raises(Refused, match="cuts_management"):
        play(machine, lasting(WEB, interfaces=({"name": "lan0", "policy": {**CLOSED, "allow_echo": True}},)))


def test_the_diff_has_what_changes_and_nothing_else():
    many = [rule(f"10.{number}.0.0/16") for number in range(50)]
    machine = prepared(lasting(*many))
    diff = play(machine, lasting(*many, MAIL))["diff"]
    assert diff["before"] == ""
    assert len(diff["after"].splitlines()) == 2, "one rule, and the state file"


# ---- a run without a change ----------------------------------------------------------------------------------------


def test_a_run_without_a_change_reads_once_and_starts_nothing():
    machine = prepared(lasting(WEB, helper={"group": "ziti"}))
    timed = lasting(WEB, helper={"group": "ziti"}, confirm_timeout=60)
    alone = count(machine, lasting(WEB, helper={"group": "ziti"}), check=True)
    steps = count(machine, timed)
    assert not machine.guards, "no change began"
    assert not set(machine.changes.values()), "nothing was written and no process started"
    assert steps <= alone + 5, "the state was read once: a few steps look for a pending change"


def count(machine: Machine, run: tuple, check: bool = False) -> int:
    """Execute a run by its pipeline; return the number of its steps."""
    machine.start_over()
    answer = MANAGE_ROUTER.execute(run[1], machine.system(), check)
    assert not answer.changed
    return machine.steps


def test_a_run_that_changes_files_only_begins_no_change():
    machine = prepared(lasting(WEB))
    answer = MANAGE_ROUTER.execute(
        lasting(WEB, helper={"group": "ziti"}, confirm_timeout=60)[1], machine.system(), False
    )
    assert answer.changed
    assert not machine.guards
    assert answer.data["confirm"] is None
    assert "tproxy-splicer-helper.socket" in machine.units


# ---- confirmation ----------------------------------------------------------------------------------------------------


def test_files_and_saved_state_follow_after_the_confirmation():
    machine = Machine()
    run = lasting(WEB, confirm_timeout=60)[1]
    first = MANAGE_ROUTER.execute(run, machine.system(), False)
    assert first.pending and first.data["confirm"]["state"] == "pending" and first.data["deferred"]
    assert STATE_FILE not in machine.disk and EXECUTABLE not in machine.disk and not machine.units
    token = first.data["confirm"]["token"]
    CONFIRM_CHANGE.execute(options("tproxy_confirm", token=token), machine.system(), False)
    rest = MANAGE_ROUTER.execute({**run, "confirm_timeout": 0}, machine.system(), False)
    assert rest.changed and not rest.data["deferred"]
    assert STATE_FILE in machine.disk and EXECUTABLE in machine.disk
    assert "tproxy-splicer-watch.service" in machine.units
    assert not MANAGE_ROUTER.execute(run, machine.system(), False).changed


def test_a_roll_back_leaves_neither_state_nor_files():
    machine = prepared(lasting(WEB))
    before = machine.in_force(), dict(machine.disk)
    first = MANAGE_ROUTER.execute(lasting(MAIL, purge=True, confirm_timeout=60)[1], machine.system(), False)
    assert first.pending
    given = options("tproxy_confirm", state="rolled_back", token=first.data["confirm"]["token"])
    CONFIRM_CHANGE.execute(given, machine.system(), False)
    kept = {path: text for path, text in machine.disk.items() if not path.startswith("/run/")}
    assert (machine.in_force()["routes"], kept) == (before[0]["routes"], before[1])
    assert not MANAGE_ROUTER.execute(lasting(WEB)[1], machine.system(), False).changed


def test_an_error_in_the_new_state_takes_the_change_back(monkeypatch):
    machine = prepared(lasting(WEB))
    before = machine.everything()
    wrong = finding("error", "other_program", "the filter on lan0 runs another program", "look at it", "lan0")
    monkeypatch.setattr(router, "inspect", lambda *_given: Result(False, {"findings": [wrong]}))
    with pytest.raises(VerificationFailed, match="the filter on lan0 runs another program: look at it"):
        play(machine, lasting(MAIL, purge=True))
    after = machine.everything()
    assert (after["disk"], after["filters"].keys()) == (before["disk"], before["filters"].keys())
    monkeypatch.undo()
    assert not play(machine, lasting(WEB))["changed"]


@pytest.mark.parametrize("check", [False, True])
def test_a_group_that_the_machine_lacks_is_refused_before_any_change(check):
    machine = prepared(lasting(MAIL))
    machine.processes.no_groups.add("ziti-router")
    before = machine.everything()
    with pytest.raises(InvalidInput, match="this machine has no group 'ziti-router'; install the package"):
        play(machine, lasting(WEB, helper={"group": "ziti-router"}), check=check)
    assert machine.everything() == before


@pytest.mark.parametrize("check", [False, True])
def test_a_folder_of_metrics_that_the_machine_lacks_is_refused_before_any_change(check):
    machine = prepared(lasting(MAIL))
    before = machine.everything()
    with pytest.raises(InvalidInput, match=r"metrics\.dir: this machine has no folder '/var/metrics'; install"):
        play(machine, lasting(WEB, metrics={"dir": METRICS}), check=check)
    assert machine.everything() == before


def metered(*runs: tuple) -> Machine:
    """Return a machine that has the folder of node_exporter, after runs."""
    machine = prepared()
    machine.disk.update({METRICS: b"", f"{METRICS}-new": b""})
    for run in runs:
        play(machine, run)
    return machine


def test_metrics_have_a_timer_that_gathered_returns_and_a_second_run_leaves_alone():
    given = {"dir": METRICS, "interval": 60, "rules": True}
    machine = metered(lasting(WEB, metrics=given))
    machine.disk[f"{METRICS}/tproxy_splicer.prom"] = b"written by the timer"
    assert "tproxy-splicer-metrics.timer" in machine.units
    assert not play(machine, lasting(WEB, metrics=given))["changed"]
    assert not play(machine, lasting(WEB))["changed"]
    assert play(machine, steering(state="gathered"))["gathered"]["metrics"] == given


@pytest.mark.parametrize("after", [{"dir": f"{METRICS}-new"}, {"dir": ""}], ids=["another folder", "none"])
def test_a_folder_without_a_timer_keeps_no_old_metrics(after):
    machine = metered(lasting(WEB, metrics={"dir": METRICS}))
    machine.disk[f"{METRICS}/tproxy_splicer.prom"] = b"written by the timer"
    assert play(machine, lasting(WEB, metrics=after), check=True)["changed_parts"] == ["units"]
    assert play(machine, lasting(WEB, metrics=after))["changed"]
    assert f"{METRICS}/tproxy_splicer.prom" not in machine.disk
    assert ("tproxy-splicer-metrics.timer" in machine.units) == bool(after["dir"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"dir": "metrics"}, r"metrics\.dir: expected an absolute path"),
        ({"dir": "/a b"}, r"metrics\.dir: expected an absolute path"),
        ({"dir": "/a%n"}, r"metrics\.dir: expected an absolute path"),
        ({"dir": METRICS, "interval": 1}, r"metrics\.interval: expected 5 to 3600 seconds, got 1"),
    ],
)
def test_options_of_metrics_that_a_unit_cannot_have_are_refused(given, words):
    with pytest.raises(InvalidInput, match=words):
        play(metered(), lasting(WEB, metrics={"interval": 30, **given}))


def test_absent_leaves_nothing():
    bare = Machine().everything()
    machine = prepared(*SAVED, lasting(WEB, helper={"group": "ziti"}, state="merged"), steering(state="absent"))
    machine.start_over()
    assert machine.everything() == bare
    assert not play(machine, steering(state="absent"))["changed"]


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("before", "event", "run", "lost"),
    [
        ((), None, lasting(WEB), True),
        ((lasting(WEB), ruling(ROUTER_RULE)), None, lasting(MAIL), False),
        ((lasting(WEB), ruling(ROUTER_RULE)), None, lasting(WEB), False),
        ((lasting(WEB), ruling(ROUTER_RULE)), "lose_filters", lasting(WEB), False),
        ((lasting(WEB), ruling(ROUTER_RULE)), None, lasting(MAIL, state="replaced"), False),
        ((lasting(WEB), ruling(ROUTER_RULE)), None, lasting(owner="ziti:a", purge=True), True),
        ((lasting(WEB), ruling(ROUTER_RULE)), None, steering(state="absent"), True),
        ((lasting(WEB),), None, steering(state="absent"), False),
        ((lasting(WEB), steering(state="absent")), None, lasting(WEB), True),
    ],
    ids=["new", "other rules", "no change", "lost filters", "replaced", "purged", "absent", "none there", "anew"],
)
def test_it_tells_whether_rules_of_openziti_routers_are_gone(check, before, event, run, lost):
    machine = prepared(*before)
    if event:
        getattr(machine, event)()
    assert play(machine, run, check)["lost_router_rules"] is lost
