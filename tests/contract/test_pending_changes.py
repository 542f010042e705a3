# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An edge router beside changes of playbooks that wait for confirmation: each call is in force, at each end."""

from __future__ import annotations

import json
import threading
import time

import pytest

from ansible_collections.netedge.tproxy.tests.contract.edge_router import Service, in_force
from ansible_collections.netedge.tproxy.tests.contract.test_contract import FARM, NAMES, PICKY, many, verdict
from ansible_collections.netedge.tproxy.tests.kernel.operations.confirming import DROP, PASS, Confirming
from ansible_collections.netedge.tproxy.tests.support.router import eventually

SHORT, CALLS = 15, 80
AS_HELPER = pytest.mark.parametrize("edge", ["helper"], indirect=True)


@pytest.fixture
def confirming(attached_router, edge):
    """Return a router with a rule of a playbook and a service, on which changes wait for their confirmation."""
    attached_router.rules(PASS)
    edge.add(FARM)
    confirming = Confirming(attached_router)
    yield confirming
    confirming.forget()


@pytest.mark.parametrize(("end", "outcome"), [("confirmed", "drop"), ("rolled_back", "pass")])
def test_calls_succeed_while_a_change_waits_and_stay_at_its_end(edge, attached_router, confirming, end, outcome):
    confirming.rules(DROP)
    edge.add(NAMES, PICKY)
    edge.remove(NAMES.id)
    assert in_force(attached_router) == edge.wanted()
    assert confirming.verdict() == "drop"
    confirming.say(end)
    assert in_force(attached_router) == edge.wanted()
    assert (confirming.verdict(), verdict(attached_router, "lan0")) == (outcome, "spliced")


def test_a_router_that_restarts_while_a_change_waits_has_all_its_services_after_the_roll_back(
    edge, attached_router, confirming
):
    confirming.rules(DROP)
    edge.stop()
    successor = edge.successor()
    successor.add(FARM, NAMES)
    confirming.say("rolled_back")
    assert in_force(attached_router) == successor.wanted()
    assert verdict(attached_router, "lan0") == "spliced"
    successor.crash()


def test_the_dead_man_switch_keeps_calls_and_the_next_call_rolls_back(edge, attached_router, confirming, command):
    edge.remove(FARM.id)
    confirming.rules(DROP, seconds=SHORT)
    edge.add(FARM)
    confirming.kill_guard()
    assert confirming.verdict() == "drop"
    assert doctor(command)["change_unguarded"] == "error"
    time.sleep(confirming.latest().seconds_left(attached_router.system()))
    eventually(lambda: confirming.verdict() == "pass")  # by the deadline in the policy
    # An idle helper may have rolled it back by now. Then the call is in the image that it put in force.
    assert verdict(attached_router, "lan0") == "spliced", "the call is in the previous image"
    edge.add(NAMES)
    assert confirming.outcome() == "rolled_back"
    assert in_force(attached_router) == edge.wanted()
    assert (confirming.verdict(), verdict(attached_router, "lan0")) == ("pass", "spliced")
    assert not any(code.startswith("change_") for code in doctor(command))


def doctor(command) -> dict:
    """Return {code: severity} of the findings of `tproxy-splicer doctor`."""
    done = command("tproxy-splicer", "doctor", "--json")
    found = {one["code"]: one["severity"] for one in json.loads(done.stdout)["findings"]}
    assert done.returncode == int("error" in found.values())
    return found


@AS_HELPER
def test_eighty_calls_beside_confirmed_and_rolled_back_changes_are_in_force(edge, attached_router, confirming):
    done, ends = threading.Event(), []

    def change_for_ever() -> None:
        while not done.is_set():
            rule = DROP if len(ends) % 2 else {**DROP, "ports": "8443"}
            confirming.rules(rule)
            ends.append(confirming.say("confirmed" if len(ends) % 3 else "rolled_back")["confirm"]["state"])

    changing = threading.Thread(target=change_for_ever)
    changing.start()
    try:
        for service in many(CALLS):
            edge.add(service)
        edge.remove(*[f"service{number}" for number in range(0, CALLS, 4)])
    finally:
        done.set()
        changing.join()
    assert len(edge.calls) >= CALLS
    assert {"confirmed", "rolled_back"} <= set(ends)
    assert in_force(attached_router) == edge.wanted()


@AS_HELPER
def test_a_request_that_is_too_long_gets_that_answer(edge, command, helper, attached_router):
    words = ("-I", *Service("x").flows()[0].words, "-t", "33401", "-s", "x" * 5000)
    done = edge._commands.divert(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("tproxy-splicer: the request is too long: expected at most 4096 bytes, got 50")
