# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watcher's own actions."""

from __future__ import annotations

import errno
from collections import Counter

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import PIN_DIR, STATE_FILE, UNSAVED
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import KernelRefused, NotMounted
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.confirm import confirm_change
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.execute import execute
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.state import save_state
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.persistence import watch as watch_module
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.persistence.socket_lookups import SocketLookups
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.persistence.state_file import REFUSED_STATE
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.persistence.watch import UNCONFIRMED, watch
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources import restore
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.operation import Operation
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.rules import RuleReader
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import Machine
from ansible_collections.netedge.tproxy.tests.support.fakes.system import FakeBpffs
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.saved_machines import kept, machine_after, saved, watched
from ansible_collections.netedge.tproxy.tests.support.scenarios import (
    OPEN,
    SAVED,
    WEB,
    attaching,
    detaching,
    play,
    readable,
    rule,
    ruling,
)


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


@pytest.mark.parametrize("change", [detaching("lan0"), attaching("lan0", policy=OPEN), ruling(WEB, state="absent")])
def test_a_watcher_saves_the_change_of_a_run_that_was_killed_before_it_had_saved(change):
    machine = machine_after(*SAVED)
    play(machine, change)
    machine.disk[UNSAVED] = "a run was killed"
    before = in_force(machine)
    said = watched(machine, lambda: None, machine.lose_filters)
    assert [line for line in said if "which a run had not saved" in line] == said[:1]
    assert any("filter tproxy_splicer:" in line for line in said)
    assert in_force(machine) == before
    assert {entry.interface for entry in saved(machine).attachments} == {each["interface"] for each in before[0]}
    assert not {UNSAVED, REFUSED_STATE} & set(machine.disk)
    assert "state_stale" not in readable(machine)["drift"]


def test_what_the_kernel_lost_since_the_kill_is_put_back():
    machine = machine_after(*SAVED)
    play(machine, attaching("lan0", policy=OPEN))
    machine.disk[UNSAVED] = "a run was killed"
    before = in_force(machine)
    machine.lose_filters()
    watched(machine, lambda: None)
    assert in_force(machine) == before


def test_a_watcher_goes_on_although_it_can_save_the_change_of_a_killed_run_nowhere():
    machine = machine_after(*SAVED)
    play(machine, attaching("lan0", policy=OPEN))
    machine.disk[UNSAVED] = "a run was killed"
    machine.full = "/"
    before = in_force(machine)

    def has_room():
        machine.full = ""

    said = watched(machine, machine.lose_filters, machine.lose_filters, has_room, lambda: None)
    assert len([line for line in said if "which cannot be saved" in line]) == 1
    assert sum("filter tproxy_splicer:" in line for line in said) == 4
    assert UNSAVED not in machine.disk
    assert in_force(machine) == before


def test_without_maps_the_file_of_before_the_kill_is_restored():
    machine = machine_after(*SAVED)
    before = in_force(machine)
    machine.disk[UNSAVED] = "a run was killed"
    machine.reboot()
    machine.disk[UNSAVED] = "a run was killed"
    watched(machine, lambda: None)
    assert in_force(machine) == before
    assert UNSAVED not in machine.disk


def test_a_watcher_outlives_a_refusal_and_says_it_once():
    machine = machine_after(*SAVED)
    machine.disk[STATE_FILE] = "damage"
    said = watched(machine, lambda: None, lambda: None)
    assert len(said) == 1
    assert said[0].startswith(f"not put back: {STATE_FILE} was not put back")


def test_a_watcher_leaves_a_change_alone_that_waits_for_its_confirmation():
    machine = machine_after(*SAVED)
    operation, given = attaching("lan0", policy=OPEN)
    change = Operation("test", operation, execute, confirmable=True)
    play(machine, (change.execute, {**given, "confirm_timeout": 60}))
    waits = readable(machine)

    def confirm():
        assert readable(machine) == waits
        kept(machine, (confirm_change, options("tproxy_confirm", state="confirmed")))
        machine.lose_filters()

    said = watched(machine, confirm)
    assert said[0] == UNCONFIRMED
    assert any(line.startswith("lan1: filter") for line in said)
    assert readable(machine) == waits


@pytest.mark.parametrize("seconds", [60, 62])
def test_a_watcher_looks_for_a_change_of_rules_past_its_deadline(seconds):
    """The kernel announces nothing: neither the change nor its deadline. Its watchdog was killed."""
    machine = machine_after(*SAVED)
    before = readable(machine)

    def change():
        function, given = ruling(rule("10.7.0.0/16", 22))
        operation = Operation("test", function, execute, confirmable=True)
        play(machine, (operation.execute, {**given, "confirm_timeout": 60}))

    def deadline():
        machine.clock += seconds * 10**9

    def later():
        machine.clock += 4 * 10**9

    machine.silent = [change, deadline, later]
    said = watched(machine, *machine.silent)
    assert [line for line in said if line.startswith("rolled back: a change by ")] == said
    assert len(said) == 1
    assert readable(machine)["rules"] == before["rules"]


# ---- what a look costs ----------------------------------------------------------------------------------------------


def counted(monkeypatch, count: Counter, owner, name: str) -> None:
    """Count the calls of a function."""
    called = getattr(owner, name)

    def call(*arguments):
        count[name] += 1
        return called(*arguments)

    monkeypatch.setattr(owner, name, call)


def looks(monkeypatch, machine: Machine, event=lambda: None) -> Counter:
    """Return the files that a watcher reads at its third look, after an event. No event came before the second."""
    count, before = Counter(), Counter()
    counted(monkeypatch, count, restore, "decode_state")
    counted(monkeypatch, count, RuleReader, "load")

    def happen():
        event()
        before.update(count)

    watched(machine, lambda: None, happen)
    return count - before


def test_a_watcher_reads_neither_file_nor_rules_again_while_they_are_the_same(monkeypatch):
    machine = machine_after(*SAVED)
    assert looks(monkeypatch, machine) == Counter()
    assert looks(monkeypatch, machine, machine.lose_filters) == Counter()


def test_a_watcher_reads_a_file_again_that_was_written_anew(monkeypatch):
    machine = machine_after(*SAVED)
    found = looks(monkeypatch, machine, lambda: kept(machine, ruling(rule("203.0.113.0/24"))))
    assert found["decode_state"] == 1
    assert found["load"] > 0


def test_a_watcher_reads_rules_again_that_were_changed_edited_or_have_another_interface(monkeypatch):
    machine = machine_after(*SAVED, ruling(rule("203.0.113.0/24", interfaces=["later0"])))
    for event in (
        lambda: play(machine, ruling(WEB, state="absent")),
        lambda: edit_image(machine),
        machine.plug_later,
    ):
        before = [entry["destination"] for entry in readable(machine)["rules"]]
        assert looks(monkeypatch, machine, event)["load"] > 0
        monkeypatch.undo()
        assert [entry["destination"] for entry in readable(machine)["rules"]] == before
        assert not {"image_damaged", "image_stale"} & set(readable(machine)["drift"])


def edit_image(machine: Machine) -> None:
    """Change a word of the image in force by hand."""
    outer = next(thing for path, thing in machine.files.items() if path.endswith("/image"))
    machine_image = next(iter(outer.entries.values())).memory
    machine_image[3 * 1024] ^= 1


def test_after_a_look_a_watcher_rests_four_times_as_long(monkeypatch):
    machine = machine_after(*SAVED)
    restore_state = watch_module.restore_state

    def slow(*arguments):
        machine.clock += 10**8
        return restore_state(*arguments)

    monkeypatch.setattr(watch_module, "restore_state", slow)
    began = machine.clock
    watched(machine, lambda: None, lambda: None, lambda: None)
    assert machine.clock - began == 4 * 10**8 + 3 * (4 * 10**8 + 1)


# ---- a disk that refuses ---------------------------------------------------------------------------------------------


def refused(machine: Machine, run: tuple) -> list:
    """Run an operation while the disk of the state file refuses every write; return its warnings."""
    machine.full = "/var"
    operation, given = run
    found = Operation("test", operation, execute).execute(given, machine.system(), False).warnings
    return list(found)


def test_a_watcher_goes_on_from_the_state_that_the_disk_refused():
    machine = machine_after(*SAVED)
    old = machine.disk[STATE_FILE]
    assert "The change is in force" in refused(machine, attaching("lan0", policy=OPEN))[0]
    before = in_force(machine)
    said = watched(machine, machine.lose_filters, machine.lose_filters)
    assert sum("filter tproxy_splicer:" in line for line in said) == 4
    assert len([line for line in said if "until it can be saved" in line]) == 1
    assert in_force(machine) == before
    assert machine.disk[STATE_FILE] == old


def test_a_watcher_saves_what_the_disk_refused_as_soon_as_it_can():
    machine = machine_after(*SAVED)
    refused(machine, detaching("lan0"))
    before = in_force(machine)

    def has_room():
        machine.full = ""

    said = watched(machine, lambda: None, has_room)
    assert [line for line in said if "is saved now" in line] == said[1:]
    assert [entry.interface for entry in saved(machine).attachments] == ["lan1"]
    assert not {UNSAVED, REFUSED_STATE} & set(machine.disk)
    assert in_force(machine) == before


def test_what_the_kernel_lost_is_kept_through_two_refused_changes():
    machine = machine_after(*SAVED)
    refused(machine, attaching("lan0", policy=OPEN))
    machine.lose_filters()
    refused(machine, ruling(WEB, state="absent"))
    assert {line.split(":")[0] for line in watched(machine) if "filter" in line} == {"lan0", "lan1"}


def test_a_saved_state_that_was_removed_on_purpose_is_not_saved_again():
    machine = machine_after(*SAVED)
    refused(machine, attaching("lan0", policy=OPEN))
    machine.full = ""
    play(machine, (save_state, options("tproxy_state", state="absent")))
    said = watched(machine, lambda: None)
    assert [line for line in said if "is gone" in line] == said
    assert STATE_FILE not in machine.disk


@pytest.mark.parametrize("damage", ["damage", ""])
def test_a_watcher_goes_on_when_the_file_can_no_longer_be_read(damage):
    machine = machine_after(*SAVED)
    before = in_force(machine)

    def lose():
        machine.disk[STATE_FILE] = damage
        machine.lose_filters()

    said = watched(machine, lose, machine.lose_filters)
    assert sum("filter tproxy_splicer:" in line for line in said) == 4
    assert len([line for line in said if "restored from the state that it had before" in line]) == 1
    assert in_force(machine) == before


def test_after_a_change_beside_a_damaged_file_a_watcher_reverts_nothing():
    machine = machine_after(*SAVED)

    def change():
        machine.disk[STATE_FILE] = "damage"
        kept(machine, detaching("lan0"))

    said = watched(machine, change)
    assert any("which a run had not saved" in line for line in said)
    assert [entry["interface"] for entry in readable(machine)["attachments"]] == ["lan1"]
    assert [entry.interface for entry in saved(machine).attachments] == ["lan1"]


def test_a_watcher_keeps_the_listeners_of_a_state_that_is_saved_without_an_event(monkeypatch):
    machine, heard = machine_after(*SAVED), []
    monkeypatch.setattr(SocketLookups, "keep", lambda _lookups, rules: heard.append(rules))

    def save():
        kept(machine, ruling({**WEB, "fragments": "always"}))

    machine.silent = [save]
    watched(machine, save)
    before, after = ({rule.fragments for rule in rules if rule.action == "tproxy"} for rules in (heard[0], heard[-1]))
    assert ("always" in before, "always" in after) == (False, True)


def in_force(machine: Machine) -> tuple:
    """Return the attachments and rules, which do not tell whether a file can be read."""
    found = readable(machine)
    return found["attachments"], found["rules"], found["routes"]


# ---- a bpffs that is gone --------------------------------------------------------------------------------------------


def test_a_watcher_that_may_mount_no_bpffs_ends_so_that_the_next_start_mounts_one(monkeypatch):
    machine = machine_after(*SAVED)
    monkeypatch.setattr(FakeBpffs, "mount", refuse_to_mount)

    def unmount():
        machine.mounted = False

    machine.to_come, said = [unmount], []
    with pytest.raises(NotMounted, match="the next start of its unit mounts one"):
        said.extend(watch({"path": STATE_FILE, "pin_dir": PIN_DIR}, machine.system(), False))


def refuse_to_mount(_bpffs):
    raise KernelRefused(errno.EPERM, "mount a bpffs at", "/sys/fs/bpf")
