# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore: cases beyond the table of scenarios."""

from __future__ import annotations

import os
from contextlib import contextmanager

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import ADDRESSES
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.commands import COMMANDS
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import PIN_DIR, STATE_FILE
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import KernelRefused, VerificationFailed
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.lock import record_path
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.restore import restore
from ansible_collections.netedge.tproxy.tests.support.fakes.kernel import map_loads
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import FakeNetlink, Machine
from ansible_collections.netedge.tproxy.tests.support.saved_machines import SERVICE, machine_after, seen, snapshot
from ansible_collections.netedge.tproxy.tests.support.scenarios import (
    ALL,
    BOTH,
    MAIL,
    OPEN,
    SAVED,
    WEB,
    attaching,
    play,
    readable,
    recording,
    restoring,
    routing,
    rule,
    ruling,
    saving,
)

# ---- exactly as it was ----


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
    restore(state, machine.system(), FakeNetlink(machine), exact=True)
    assert seen(machine) == was
    assert snapshot(machine) == state
    assert not restore(state, machine.system(), FakeNetlink(machine), exact=True).changed


def test_an_exact_return_to_a_bare_machine_leaves_no_pin():
    machine = Machine()
    state = snapshot(machine)
    for run in ALL:
        play(machine, run)
    restore(state, machine.system(), FakeNetlink(machine), exact=True)
    assert not machine.files


def test_rules_of_services_are_neither_saved_nor_touched():
    machine = machine_after(*ALL, ruling(SERVICE), saving())
    assert "ziti:service" not in machine.disk[STATE_FILE]
    play(machine, ruling(WEB, MAIL, state="absent"))
    play(machine, restoring())
    owners = {one["owner"] for one in readable(machine)["rules"]}
    assert owners == {"ansible", "ziti:service"}


# ---- interfaces that are not there ----


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


def test_more_addresses_than_can_be_recorded_hinder_nothing_and_those_of_old_go_first():
    machine = machine_after(*SAVED)
    machine.unplug("lan0")
    many = tuple(f"10.0.9.{host}" for host in range(ADDRESSES))
    machine.plug("lan0", 99, (*many, "10.1.0.1"))
    play(machine, restoring())
    entry = next(entry for entry in readable(machine)["attachments"] if entry["interface"] == "lan0")
    assert len(entry["addresses"]) == ADDRESSES
    assert set(entry["addresses"]) <= {*many, "10.1.0.1"}
    assert "10.1.0.1" in entry["addresses"]
    assert not play(machine, restoring())["changed"]


def test_own_addresses_of_lo_come_back_and_go_with_their_removal():
    machine = machine_after(*SAVED, recording("lo", addresses=["192.0.2.1"]), saving())
    before = snapshot(machine).recorded
    machine.reboot()
    play(machine, restoring())
    assert [entry.name for entry in snapshot(machine).recorded] == ["lo"]
    assert snapshot(machine).recorded == before
    play(machine, recording("lo", state="absent"))
    play(machine, saving())
    machine.reboot()
    play(machine, restoring())
    assert snapshot(machine).recorded == ()


def test_addresses_given_by_hand_stay():
    machine = machine_after(*SAVED, recording("lan0", addresses=["10.1.0.9"]), saving())
    machine.reboot()
    play(machine, restoring())
    entry = next(one for one in readable(machine)["attachments"] if one["interface"] == "lan0")
    assert entry["addresses"] == ["10.1.0.9"]


# ---- what is no saved state ----


def closed(machine: Machine) -> list:
    """Return the ifindexes of the interfaces that are closed."""
    return [
        ifindex
        for (ifindex, _way), slots in machine.filters.items()
        for name, _program in slots.values()
        if name == "tproxy_splicer:000000000000"
    ]


CUTS = pytest.mark.parametrize("end", [0, 100, -2])


@CUTS
def test_a_file_that_is_cut_is_refused_whole_and_fail_open_changes_nothing(end):
    machine = machine_after(*ALL, saving(failure="fail_open"))
    machine.disk[STATE_FILE] = machine.disk[STATE_FILE][:end]
    machine.reboot()
    before = machine.everything()
    with pytest.raises(
        VerificationFailed, match=r"state.json was not put back: .*; fail_open: interfaces .* stay open"
    ):
        play(machine, restoring())
    assert machine.everything() == before


@CUTS
def test_with_fail_closed_it_closes_the_interfaces_that_had_the_program(end):
    machine = machine_after(*BOTH[:1], saving(failure="fail_closed"))
    machine.disk[STATE_FILE] = machine.disk[STATE_FILE][:end]
    machine.reboot()
    with pytest.raises(VerificationFailed, match="fail_closed: lan0 lets nothing in but SSH"):
        play(machine, restoring())
    assert closed(machine) == [3]
    assert not machine.rules
    play(machine, attaching("lan0"))
    assert not closed(machine)


def test_without_a_list_of_them_it_closes_every_interface_but_loopback():
    machine = machine_after(*SAVED)
    machine.disk = dict.fromkeys(machine.disk, "damage")
    machine.reboot()
    with pytest.raises(VerificationFailed, match=r"fail_closed: lan0 .*, lan1 "):
        play(machine, restoring())
    assert closed(machine) == [3, 4]


def test_what_runs_is_not_closed_by_a_damaged_file():
    machine = machine_after(*SAVED)
    machine.disk[STATE_FILE] = "damage"
    before = machine.in_force()
    with pytest.raises(VerificationFailed, match="lan0 has its program, lan1 has its program"):
        play(machine, restoring())
    assert machine.in_force() == before


def test_a_program_that_the_kernel_refuses_closes_too(monkeypatch):
    machine = machine_after(*SAVED)
    machine.reboot()
    system = machine.system()
    load = system.bpf.load_program

    def verify(instructions, name, function):
        if map_loads(instructions):
            raise KernelRefused(13, "load program", function)
        return load(instructions, name, function)

    monkeypatch.setattr(system.bpf, "load_program", verify, raising=False)
    operation, given = restoring()
    with pytest.raises(VerificationFailed, match="refused to load program"):
        operation(given, system, False)
    assert closed(machine) == [3, 4]


def test_to_restore_without_a_file_is_refused():
    with pytest.raises(VerificationFailed, match="there is no /var/lib/tproxy_splicer/state"):
        play(Machine(), restoring())


def test_the_command_reads_the_file_when_no_run_is_between_its_change_and_saving_it(monkeypatch):
    machine = machine_after(*SAVED)
    system, held = machine.system(), []
    read = system.files.read

    @contextmanager
    def lock(folder):
        held.append(folder)
        yield
        held.remove(folder)

    def held_while(path):
        if path == record_path(PIN_DIR):
            return None
        assert held == [os.path.dirname(STATE_FILE)]
        return read(path)

    monkeypatch.setattr(system.files, "lock", lock, raising=False)
    monkeypatch.setattr(system.files, "read", held_while, raising=False)
    operation, _printer = COMMANDS["restore"].load()
    assert not operation.execute({**restoring()[1], "pin_dir": PIN_DIR}, system, False).changed
    assert not held
