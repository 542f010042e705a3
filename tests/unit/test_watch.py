# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the watcher does of its own accord."""

from __future__ import annotations

import functools

from ansible_collections.netedge.tproxy.plugins.module_utils._confirm_change import confirm_change
from ansible_collections.netedge.tproxy.plugins.module_utils._run_change import run_change
from ansible_collections.netedge.tproxy.plugins.module_utils._save_state import UNSAVED
from ansible_collections.netedge.tproxy.plugins.module_utils._splicer import STATE_FILE
from ansible_collections.netedge.tproxy.plugins.module_utils._watch import UNCONFIRMED, watch
from ansible_collections.netedge.tproxy.tests.unit.fake_machine import Machine
from ansible_collections.netedge.tproxy.tests.unit.saved_machines import kept, machine_after
from ansible_collections.netedge.tproxy.tests.unit.scenarios import (
    OPEN,
    SAVED,
    attaching,
    detaching,
    play,
    readable,
)
from ansible_collections.netedge.tproxy.tests.unit.story_options import options


def watched(machine: Machine, *events) -> list:
    """Return what a watcher says of these events."""
    machine.to_come = list(events)
    return list(watch({"path": STATE_FILE}, machine.doors(), False))


def test_a_watcher_puts_back_what_went():
    machine = machine_after(*SAVED)
    before = readable(machine)
    said = watched(machine, machine.lose_filters)
    assert sum("filter tproxy_splicer:" in line for line in said) == 2
    assert readable(machine) == before


def test_a_watcher_puts_back_an_interface_that_was_made_anew():
    machine = machine_after(*SAVED)
    said = watched(machine, machine.replug)
    assert any(line.startswith("lan0: filter") for line in said)
    assert {entry["interface"]: entry["drift"] for entry in readable(machine)["attachments"]} == {
        "lan0": [],
        "lan1": [],
    }


def test_a_watcher_says_and_does_nothing_when_nothing_went():
    machine = machine_after(*SAVED)
    before = machine.everything()
    assert watched(machine, lambda: None, lambda: None) == []
    assert machine.everything() == before


def test_a_watcher_does_not_go_by_a_file_that_could_not_be_written():
    machine = machine_after(*SAVED)
    machine.disk[UNSAVED] = "disk full"
    play(machine, detaching("lan0"))
    said = watched(machine, lambda: None, lambda: None)
    assert [line for line in said if "older than what is in force" in line] == said[:1] == said
    assert [entry["interface"] for entry in readable(machine)["attachments"]] == ["lan1"]


def test_a_watcher_outlives_a_refusal_and_says_it_once():
    machine = machine_after(*SAVED)
    machine.disk[STATE_FILE] = "damage"
    said = watched(machine, lambda: None, lambda: None)
    assert len(said) == 1
    assert said[0].startswith(f"not put back: {STATE_FILE} was not put back")


def test_a_watcher_leaves_a_change_alone_that_waits_for_its_confirmation():
    machine = machine_after(*SAVED)
    story, given = attaching("lan0", policy=OPEN)
    play(machine, (functools.partial(run_change, story), {**given, "confirm_timeout": 60}))
    waits = readable(machine)

    def confirm():
        assert readable(machine) == waits
        kept(machine, (confirm_change, options("tproxy_confirm", state="confirmed")))
        machine.lose_filters()

    said = watched(machine, confirm)
    assert said[0] == UNCONFIRMED
    assert any(line.startswith("lan1: filter") for line in said)
    assert readable(machine) == waits
