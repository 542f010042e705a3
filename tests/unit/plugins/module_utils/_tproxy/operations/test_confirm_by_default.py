# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The changes that are confirmed although no task asks for it: those that can cut the operator off.

The fake machine has 10.1.0.1 on lan0. Its program is on lan0 and lan1.
"""

from __future__ import annotations

from collections import Counter

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.commit_confirm import change
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.addresses import RECORD_ADDRESSES
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.attach import ATTACH
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.rules import APPLY_RULES
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset import compile as compile_module
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset import verify as verify_module
from ansible_collections.netedge.tproxy.tests.support.scenarios import (
    BOTH,
    CLOSED,
    FOREIGN,
    OPEN,
    OTHER,
    attaching,
    detaching,
    play,
    prepared,
    readable,
    recording,
    rule,
    ruling,
)

OWN = "10.1.0.1"
PASS = rule(OWN, 22, action="pass")


def confirmed(machine, run: tuple, **more) -> bool:
    """Run with the options of the action plugin; return whether the change is pending."""
    function, given = run
    operation = next(each for each in (ATTACH, APPLY_RULES, RECORD_ADDRESSES) if each.function is function)
    given = {**given, "confirm_timeout": 60, "confirm_by_default": True, "confirm_token": "0123", **more}
    result = operation.execute(given, machine.system(), False)
    assert result.changed and result.pending == bool(result.data["confirm"])
    return result.pending


@pytest.mark.parametrize(
    "run",
    [attaching("lan0", policy=OPEN), attaching("lan0", "version 2"), attaching("lan0", priority=20)],
    ids=["policy", "program", "priority"],
)
def test_each_attach_is(run):
    assert confirmed(prepared(*BOTH), run)


def test_a_first_attach_is():
    assert confirmed(prepared(), attaching("lan0", policy=CLOSED))


@pytest.mark.parametrize("before", [BOTH, BOTH[:1]], ids=["one of two", "the last"])
def test_a_detach_is_not(before):
    assert not confirmed(prepared(*before), detaching("lan0"))


def test_the_program_of_another_is_not():
    machine = prepared(*BOTH, FOREIGN)
    function, given = attaching("lan0", "table 2", function=OTHER, priority=20)
    given = {**given, "confirm_timeout": 60, "confirm_by_default": True, "confirm_token": "of the action plugin"}
    assert function is ATTACH.function and ATTACH.execute(given, machine.system(), False).changed


@pytest.mark.parametrize(
    ("before", "run"),
    [
        ((), ruling(rule("10.0.0.0/8", 22, action="drop"))),
        ((), ruling(rule("0.0.0.0/0", 53, action="drop"))),
        ((), ruling(rule(OWN, 22))),
        ((recording(),), ruling(rule(OWN, 22))),
        ((ruling(PASS),), ruling(PASS, state="absent")),
        ((ruling(PASS),), ruling(purge=True)),
        ((ruling(PASS),), ruling({**PASS, "source": "192.0.2.0/24"}, purge=True)),
        ((ruling(PASS),), ruling({**PASS, "action": "drop"})),
    ],
    ids=["drop", "drop all", "splice", "splice recorded", "remove", "purge", "narrow", "turn"],
)
def test_a_rule_that_can_touch_packets_to_an_own_address_is(before, run):
    assert confirmed(prepared(*BOTH, *before), run, force=True)


@pytest.mark.parametrize(
    ("before", "run"),
    [
        ((), ruling(rule("192.0.2.0/24", 22, action="drop"))),
        ((), ruling(PASS)),
        ((), ruling(rule("10.1.0.0/16", 22))),
        ((recording(),), ruling(rule("10.1.0.0/16", 22))),
        ((ruling(rule(OWN, 22, action="drop")),), ruling(rule(OWN, 22, action="drop", name="other"))),
        ((ruling(rule(OWN, 22, action="drop")),), ruling(purge=True)),
        ((ruling(rule("192.0.2.0/24", 22, action="pass")),), ruling(purge=True)),
    ],
    ids=[
        "drop elsewhere",
        "pass",
        "splice subnet",
        "splice recorded subnet",
        "name",
        "drop removed",
        "pass removed elsewhere",
    ],
)
def test_a_rule_that_cannot_is_not(before, run):
    assert not confirmed(prepared(*BOTH, *before), run, force=True)


ON_LO = recording("lo", addresses=["192.0.2.1"])


@pytest.mark.parametrize(
    "run",
    [
        recording("lo", state="absent"),
        recording("lo", addresses=["192.0.2.2"]),
        recording("lan0", purge=True),
    ],
    ids=["absent", "replaced", "purged"],
)
def test_an_own_address_that_is_none_any_more_is(run):
    assert confirmed(prepared(*BOTH, ON_LO), run)


@pytest.mark.parametrize(
    "run",
    [
        recording("lo", addresses=["192.0.2.1", "192.0.2.2"]),
        recording("lan0", state="absent"),
        recording("lan0", addresses=["192.0.2.9"]),
    ],
    ids=["one more", "an interface still has it", "of an interface"],
)
def test_own_addresses_that_stay_are_not(run):
    assert not confirmed(prepared(*BOTH, recording("lan0"), ON_LO), run)


def test_a_rule_that_no_packet_meets_is_not_and_needs_no_warning():
    machine = prepared()
    function, given = ruling(rule(OWN, 22, action="drop"))
    given = {**given, "confirm_timeout": 60, "confirm_by_default": True}
    result = APPLY_RULES.execute(given, machine.system(), False)
    assert function is APPLY_RULES.function
    assert (result.changed, result.pending) == (True, False)
    assert [line for line in result.warnings if not line.endswith("[rule_not_in_force]")] == []


def test_a_change_without_the_token_of_an_action_plugin_names_the_way_to_keep_it():
    machine = prepared(*BOTH)
    function, given = attaching("lan0", policy=OPEN)
    result = ATTACH.execute({**given, "confirm_timeout": 60}, machine.system(), False)
    token = result.data["confirm"]["token"]
    assert function is ATTACH.function and result.pending
    assert f"run tproxy_confirm with token={token}" in result.warnings[-1]


# ---- what the prediction costs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("destination", ["10.9.0.0/16", OWN], ids=["not confirmed", "confirmed"])
def test_rules_are_compiled_and_verified_once(monkeypatch, destination):
    counts = Counter()

    def counted(module, name):
        function = getattr(module, name)

        def call(*arguments):
            counts[name] += 1
            return function(*arguments)

        monkeypatch.setattr(module, name, call)

    machine = prepared(*BOTH)
    counted(compile_module, "compile_image")
    counted(verify_module, "verify_image")
    assert confirmed(machine, ruling(rule(destination, 22)), force=True) == (destination == OWN)
    assert counts == {"compile_image": 1, "verify_image": 1}


def test_rules_that_changed_since_the_prediction_are_compiled_again(monkeypatch):
    """Between the prediction and the change, a call of a router changes the rules."""
    machine = prepared(*BOTH)
    begin = change.start

    def start_after_a_call(*arguments):
        play(machine, ruling(rule("10.8.0.0/16", 22, owner="ziti:1")))
        return begin(*arguments)

    monkeypatch.setattr(change, "start", start_after_a_call)
    assert confirmed(machine, ruling(rule(OWN, 22)), force=True)
    assert {entry["destination"] for entry in readable(machine)["rules"]} >= {f"{OWN}/32", "10.8.0.0/16"}
