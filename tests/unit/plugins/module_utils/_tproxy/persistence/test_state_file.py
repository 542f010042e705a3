# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Save: cases beyond the table of scenarios. Of a save, the tests try some steps, and `make failures` all of them."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import PIN_DIR, STATE_FILE, UNSAVED
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import LayoutMismatch
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.execute import execute
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.operation import Operation
from ansible_collections.netedge.tproxy.tests.support.fakes.kernel import Killed
from ansible_collections.netedge.tproxy.tests.support.saved_machines import (
    kept,
    machine_after,
    saved,
    snapshot,
    watched,
)
from ansible_collections.netedge.tproxy.tests.support.scenarios import (
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
    routing,
    ruling,
    saving,
)
from ansible_collections.netedge.tproxy.tests.support.steps import tried


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


@pytest.mark.parametrize("folder", [f"{PIN_DIR}/", PIN_DIR.replace("/bpf/", "/bpf//x/../")])
def test_a_pin_folder_is_the_same_however_it_is_written(folder):
    machine = machine_after(*SAVED)
    kept(machine, ruling(WEB, purge=True, pin_dir=folder))
    assert len(saved(machine).rules) == 1


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
    operation, given = detaching("lan0")
    system = machine.system()
    write = system.files.write

    def full(path, text):
        if path.startswith("/var"):
            machine.refuse_at = machine.steps + 1
        write(path, text)

    monkeypatch.setattr(system.files, "write", full, raising=False)
    result = Operation("test", operation, execute).execute(given, system, False)
    assert "The change is in force" in result.warnings[0]
    assert machine.disk[STATE_FILE] == before
    assert UNSAVED in machine.disk
    machine.start_over()
    kept(machine, recording("lan1"))
    assert UNSAVED not in machine.disk
    assert [entry.interface for entry in saved(machine).attachments] == ["lan1"]


def test_a_program_without_a_blob_cannot_be_saved():
    machine = machine_after(*BOTH)
    meta = machine.files[f"{snapshot(machine).pin_dir}/v3/meta"]
    meta.entries = {key: value[:-1] + b"x" for key, value in meta.entries.items()}
    meta.entries = {key: value.replace(b'"digest"', b'"digset"') for key, value in meta.entries.items()}
    with pytest.raises(LayoutMismatch, match="no blob is kept"):
        play(machine, saving())
    assert not machine.disk


@pytest.mark.parametrize("run", [ruling(MAIL, purge=True), detaching("lan0")], ids=["rules", "filter"])
def test_where_a_run_is_killed_while_it_saves_no_watcher_mixes_what_was_with_what_is(run):
    probe = machine_after(*SAVED)
    probe.start_over()
    kept(probe, run)
    noted = next(step for step, name in probe.changes.items() if name == "write")
    for number in tried(range(noted + 1, probe.steps + 1), "a save"):
        machine = machine_after(*SAVED)
        machine.start_over(kill_at=number)
        with pytest.raises(Killed):
            kept(machine, run)
        machine.start_over()
        left = readable(machine)
        watched(machine, lambda: None)
        assert readable(machine) == {**left, "drift": []}, number
        kept(machine, ruling(WEB))
        assert UNSAVED not in machine.disk
