# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where on the hook our program stands: one place for each interface, whichever priority a run names."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import InvalidInput
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.info import inspect
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import Machine
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.scenarios import (
    BOTH,
    FOREIGN,
    MAIL,
    OTHER,
    WEB,
    attaching,
    detaching,
    play,
    prepared,
    ruling,
)


def attachments(machine: Machine) -> dict:
    """Return {interface: drift}."""
    answer = play(machine, (inspect, options("tproxy_info")))
    return {entry["interface"]: entry["drift"] for entry in answer["attachments"]}


def places(machine: Machine, ifindex: int = 3) -> list:
    return list(machine.filters.get((ifindex, "ingress"), {}))


def test_at_another_priority_the_program_moves():
    machine = prepared(*BOTH)
    move = attaching("lan0", priority=20, handle=2)
    predicted, done = play(machine, move, True), play(machine, move)
    assert (predicted["changed"], predicted["diff"]) == (done["changed"], done["diff"])
    assert [(side["priority"], side["handle"]) for side in done["diff"].values()] == [(10, 1), (20, 2)]
    assert places(machine) == [(20, 2)]
    assert not play(machine, move)["changed"]
    assert attachments(machine) == {"lan0": [], "lan1": []}


def test_a_program_leaves_its_interface_from_whatever_priority():
    machine = prepared(*BOTH)
    assert play(machine, detaching("lan0", priority=20))["changed"]
    assert (places(machine), places(machine, 4)) == ([], [(10, 1)])
    assert attachments(machine) == {"lan1": []}
    assert not play(machine, detaching("lan0", priority=20))["changed"]


def test_somebodys_own_program_leaves_only_the_priority_that_was_said():
    machine = prepared(FOREIGN)
    assert not play(machine, detaching("lan0", function=OTHER, priority=30))["changed"]
    assert places(machine) == [(20, 1)]


def test_the_difference_tells_of_the_rules_that_go_with_the_last_filter():
    machine = prepared(*BOTH, ruling(WEB, {**MAIL, "owner": "somebody"}))
    assert "rules" not in play(machine, detaching("lan0"))["diff"]["before"]
    predicted, done = (play(machine, detaching("lan1"), check)["diff"] for check in (True, False))
    assert predicted == done
    assert [line.rpartition(" (")[2] for line in done["before"]["rules"]] == ["owner ansible)", "owner somebody)"]


@pytest.mark.parametrize("check", [True, False])
def test_the_tracker_cannot_be_attached_or_detached_by_its_name(check):
    machine = prepared(*BOTH)
    for run in (attaching("lan0", function="tproxy_tracker"), detaching("lan0", function="tproxy_tracker")):
        with pytest.raises(InvalidInput, match="tproxy_tracker comes and goes with tproxy_splicer; set track"):
            play(machine, run, check)
    assert attachments(machine) == {"lan0": [], "lan1": []}
