# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Saving and putting back: what a table of scenarios cannot tell."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._errors import (
    InvalidInput,
    LayoutMismatch,
    VerificationFailed,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._restore_state import put
from ansible_collections.netedge.tproxy.plugins.module_utils._save_state import UNSAVED, run_and_save
from ansible_collections.netedge.tproxy.plugins.module_utils._snapshot import take
from ansible_collections.netedge.tproxy.plugins.module_utils._splicer import PIN_DIR, STATE_FILE
from ansible_collections.netedge.tproxy.plugins.module_utils._state import decode_state
from ansible_collections.netedge.tproxy.tests.unit.fake_machine import FakeNetlink, Machine
from ansible_collections.netedge.tproxy.tests.unit.scenarios import (
    ALL,
    BOTH,
    MAIL,
    OPEN,
    SAVED,
    WEB,
    attaching,
    detaching,
    play,
    readable,
    recording,
    restoring,
    routing,
    rule,
    ruling,
    saving,
)

SERVICE = rule("203.0.113.9", owner="ziti:service")


def machine_after(*runs: tuple) -> Machine:
    machine = Machine()
    for run in runs:
        play(machine, run)
    return machine


def snapshot(machine: Machine):
    return take(machine.doors(), FakeNetlink(machine), PIN_DIR)


def saved(machine: Machine):
    return decode_state(machine.disk[STATE_FILE])


def seen(machine: Machine) -> tuple:
    """Return all that is in force but the number of times that the rules were set."""
    return readable(machine), machine.clsact.copy(), set(machine.rules), set(machine.local_defaults)


def kept(machine: Machine, run: tuple) -> dict:
    """Run a story as the shell does."""
    story, given = run
    return run_and_save(story, given, machine.doors(), False)


# ---- exactly as it was --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [(), (ruling(WEB),), BOTH[:1], ALL], ids=["bare", "rules", "one", "all"])
@pytest.mark.parametrize(
    "change",
    [
        (attaching("lan1", policy=OPEN),),
        (attaching("lan0", "version 2", policy=OPEN), ruling(MAIL, purge=True)),
        (*ALL, routing("lan0", mark="0x2/0x2", table=7)),
        (recording("lan0", "lan1"), ruling(rule("198.18.0.0/15"))),
    ],
    ids=["attach", "program and rules", "all and a mark", "addresses and rules"],
)
def test_an_exact_return_leaves_nothing_of_the_change(before, change):
    machine = machine_after(*before)
    state, was = snapshot(machine), seen(machine)
    for run in change:
        play(machine, run)
    put(state, machine.doors(), FakeNetlink(machine), exact=True)
    assert seen(machine) == was
    assert snapshot(machine) == state
    assert not put(state, machine.doors(), FakeNetlink(machine), exact=True)["changed"]


def test_an_exact_return_to_a_bare_machine_leaves_no_pin():
    machine = Machine()
    state = snapshot(machine)
    for run in ALL:
        play(machine, run)
    put(state, machine.doors(), FakeNetlink(machine), exact=True)
    assert not machine.files


def test_rules_of_services_are_neither_saved_nor_touched():
    machine = machine_after(*ALL, ruling(SERVICE), saving())
    assert "ziti:service" not in machine.disk[STATE_FILE]
    play(machine, ruling(WEB, MAIL, state="absent"))
    play(machine, restoring())
    owners = {one["owner"] for one in readable(machine)["rules"]}
    assert owners == {"ansible", "ziti:service"}


# ---- interfaces that are not there --------------------------------------------------------------------------------


def test_an_absent_interface_is_skipped_and_named_but_its_rules_and_routes_are_put_back():
    machine = machine_after(*SAVED, ruling(rule("198.18.0.0/15", interfaces=["lan0"])), saving())
    machine.reboot()
    machine.unplug("lan0")
    answer = play(machine, restoring())
    assert answer["absent"] == ["lan0"]
    seen = readable(machine)
    assert [entry["interface"] for entry in seen["attachments"]] == ["lan1"]
    assert len(seen["rules"]) == 3
    assert any("iif lan0" in line for line in seen["routes"])


def test_addresses_that_followed_the_kernel_follow_it_again():
    machine = machine_after(*SAVED)
    machine.unplug("lan0")
    machine.plug("lan0", 9, ("10.1.0.77",))
    play(machine, restoring("lan0"))
    entry = next(one for one in readable(machine)["attachments"] if one["interface"] == "lan0")
    assert entry["addresses"] == ["10.1.0.77"]


def test_before_the_network_is_up_the_addresses_of_old_are_recorded():
    machine = machine_after(*SAVED)
    machine.reboot()
    machine.addresses = []
    play(machine, restoring())
    entry = next(one for one in readable(machine)["attachments"] if one["interface"] == "lan0")
    assert entry["addresses"] == ["10.1.0.1", "fe80::1"]


def test_addresses_given_by_hand_stay():
    machine = machine_after(*SAVED, recording("lan0", addresses=["10.1.0.9"]), saving())
    machine.reboot()
    play(machine, restoring())
    entry = next(one for one in readable(machine)["attachments"] if one["interface"] == "lan0")
    assert entry["addresses"] == ["10.1.0.9"]


# ---- what is no saved state ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [0, 100, -2])
def test_a_file_that_is_cut_is_refused_whole(end):
    machine = machine_after(*SAVED)
    machine.disk[STATE_FILE] = machine.disk[STATE_FILE][:end]
    machine.reboot()
    machine.start_over()
    with pytest.raises(VerificationFailed):
        play(machine, restoring())
    assert not machine.filters
    assert not machine.rules


def test_to_restore_without_a_file_is_refused():
    with pytest.raises(InvalidInput, match=f"there is no {STATE_FILE}"):
        play(Machine(), restoring())


def test_a_program_without_a_blob_cannot_be_saved():
    machine = machine_after(*BOTH)
    meta = machine.files[f"{snapshot(machine).pin_dir}/v2/meta"]
    meta.entries = {key: value[:-1] + b"x" for key, value in meta.entries.items()}
    meta.entries = {key: value.replace(b'"digest"', b'"digset"') for key, value in meta.entries.items()}
    with pytest.raises(LayoutMismatch, match="no blob is kept"):
        play(machine, saving())
    assert not machine.disk


# ---- kept up to date ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "run",
    [
        attaching("lan0", policy=OPEN),
        ruling(MAIL, purge=True),
        recording("lan0", addresses=["10.1.0.9"]),
        routing("lan1", mark="0x2/0x2"),
        detaching("lan0"),
        routing("lan0", state="absent"),
    ],
    ids=lambda run: run[0].__name__,
)
def test_a_run_that_changes_something_saves_it(run):
    machine = machine_after(*SAVED)
    kept(machine, run)
    assert saved(machine) == snapshot(machine).__class__(**{**vars(snapshot(machine)), "failure": "fail_closed"})
    machine.start_over()
    assert not play(machine, saving(failure="fail_closed"))["changed"]


def test_a_run_saves_nothing_where_nothing_is_kept():
    machine = machine_after(*ALL)
    kept(machine, ruling(MAIL, purge=True))
    assert not machine.disk


def test_a_run_that_changes_nothing_writes_nothing():
    machine = machine_after(*SAVED)
    machine.start_over()
    kept(machine, ruling(WEB, MAIL))
    assert "write" not in machine.changes.values()


def test_a_run_on_other_pins_leaves_the_file_alone():
    machine = machine_after(*SAVED)
    before = machine.disk[STATE_FILE]
    kept(machine, ruling(WEB, pin_dir="/sys/fs/bpf/other"))
    assert machine.disk[STATE_FILE] == before


def test_a_run_does_not_forget_what_went_behind_our_back():
    machine = machine_after(*SAVED)
    before = saved(machine)
    machine.lose_filters()
    machine.unplug("lan1")
    kept(machine, ruling(WEB, purge=True))
    assert (saved(machine).attachments, saved(machine).routes) == (before.attachments, before.routes)
    assert len(saved(machine).rules) == 1


def test_a_change_that_cannot_be_saved_stands_and_is_saved_later(monkeypatch):
    machine = machine_after(*SAVED)
    before = machine.disk[STATE_FILE]
    story, given = detaching("lan0")
    doors = machine.doors()
    write = doors.files.write

    def full(path, text):
        if path.startswith("/var"):
            machine.refuse_at = machine.steps + 1
        write(path, text)

    monkeypatch.setattr(doors.files, "write", full, raising=False)
    answer = run_and_save(story, given, doors, False)
    assert "What was asked is in force" in answer["warnings"][0]
    assert machine.disk[STATE_FILE] == before
    assert UNSAVED in machine.disk
    machine.start_over()
    kept(machine, recording("lan1"))
    assert UNSAVED not in machine.disk
    assert [entry.interface for entry in saved(machine).attachments] == ["lan1"]
