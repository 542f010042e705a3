# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both kinds of hooks: outdated revisions, other kernels, the saved state, fail_closed, and duplicates."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import STATE_FILE
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import (
    Conflict,
    InvalidInput,
    Unsupported,
    VerificationFailed,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.program.blob import name_from_program, program_name
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.attachments import TCX_ATTEMPTS, TCX_MAX
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.hooks import (
    TCX,
    HookProgram,
    Order,
)
from ansible_collections.netedge.tproxy.tests.support.fakes.kernel import Program
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import Machine
from ansible_collections.netedge.tproxy.tests.support.fakes.system import FakeBpf
from ansible_collections.netedge.tproxy.tests.support.saved_machines import SERVICE, saved, watched
from ansible_collections.netedge.tproxy.tests.support.scenarios import (
    ALL,
    BOTH,
    CLOSED,
    SAVED,
    WEB,
    attaching,
    befalling,
    detaching,
    play,
    prepared,
    readable,
    restoring,
    ruling,
    saving,
)

LAN0 = (3, "ingress")


def foreign(machine: Machine, name: str = "cilium") -> Program:
    """Add a foreign TCX program behind all others of lan0."""
    machine.made += 1
    made = Program(machine.made, bytes(8), name, [])
    machine.set_tcx(*LAN0, [*machine.tcx.get(LAN0, []), made])
    return made


def names(machine: Machine) -> list:
    """Return the TCX programs of lan0, "ours" for ours."""
    return ["ours" if each.name.startswith("tp_") else each.name for each in machine.tcx.get(LAN0, [])]


def hooks(machine: Machine) -> dict:
    return {entry["interface"]: entry["hook"] for entry in readable(machine)["attachments"]}


# ---- names and order --------------------------------------------------------------------------


def test_the_kernels_name_of_a_program_tells_its_identity():
    identity = "0123456789abcdef" * 4
    for function in ("tproxy_splicer", "count_packets"):
        name = program_name(function, identity)
        assert len(name) == 15
        assert name_from_program(function, name) == f"{function}:0123456789ab"
    assert name_from_program("tproxy_splicer", program_name("count_packets", identity)) is None
    for other in ("tp_", "tp_0123", "tproxy_splicer", "tp_0123456789ag", "cil_from_netdev"):
        assert name_from_program("tproxy_splicer", other) is None


@pytest.mark.parametrize(
    ("order", "place"),
    [
        (Order(), 3),
        (Order(before=("b",)), 1),
        (Order(before=("3",)), 2),
        (Order(before=("gone", "c", "b")), 1),
        (Order(after=("a",)), 1),
        (Order(after=("c", "a")), 3),
        (Order(before=("gone",)), 3),
    ],
)
def test_a_new_program_gets_its_place(order, place):
    chain = [HookProgram(TCX, name, number, None) for number, name in enumerate("abc", 1)]
    assert order.place_in(chain) == place


# ---- another writer ---------------------------------------------------------------------------


def disturb(machine: Machine, monkeypatch, times: int) -> list:
    """Let another program change the list of lan0 after each of the next looks at it; return the changes."""
    look, changes = FakeBpf.tcx_programs, []

    def seen(self, ifindex, direction):
        found = look(self, ifindex, direction)
        if (ifindex, direction) == LAN0 and len(changes) < times:
            changes.append(machine.set_tcx(*LAN0, machine.tcx.get(LAN0, [])))
        return found

    monkeypatch.setattr(FakeBpf, "tcx_programs", seen)
    return changes


@pytest.mark.parametrize("run", [attaching("lan0", "version 2"), detaching("lan0"), attaching("lan0", hook="clsact")])
def test_an_outdated_revision_is_planned_again(monkeypatch, run):
    machine, calm = prepared(*BOTH, has_tcx=True), prepared(*BOTH, has_tcx=True)
    changes = disturb(machine, monkeypatch, 25)
    play(machine, run)
    monkeypatch.undo()
    play(calm, run)
    assert changes
    assert readable(machine) == readable(calm)


def test_a_writer_that_never_ends_is_named_and_nothing_changes(monkeypatch):
    machine = prepared(*BOTH, has_tcx=True)
    before = machine.in_force()
    disturb(machine, monkeypatch, 10**6)
    with pytest.raises(Conflict, match=f"{TCX_ATTEMPTS} attempts"):
        play(machine, attaching("lan0", "version 2"))
    monkeypatch.undo()
    assert machine.in_force() == before


# ---- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [True, False])
def test_tcx_is_refused_where_the_kernel_has_none(check):
    machine = Machine()
    before = machine.everything()
    with pytest.raises(Unsupported, match=r"has no TCX, which came with Linux 6\.6"):
        play(machine, attaching("lan0", hook="tcx"), check)
    with pytest.raises(InvalidInput, match="hook is clsact"):
        play(machine, attaching("lan0", hook="clsact", after="cilium"), check)
    assert machine.everything() == before


@pytest.mark.parametrize("check", [True, False])
def test_a_full_list_is_refused_before_anything_changes(check):
    machine = Machine(has_tcx=True)
    for _each in range(TCX_MAX):
        foreign(machine)
    before = machine.everything()
    with pytest.raises(Conflict, match=f"has {TCX_MAX} TCX programs"):
        play(machine, attaching("lan0"), check)
    assert machine.everything() == before


# ---- foreign programs -------------------------------------------------------------------------


def test_a_replacement_and_its_undoing_keep_the_place():
    machine = Machine(has_tcx=True)
    foreign(machine, "first")
    foreign(machine, "last")
    play(machine, attaching("lan0", before="last"))
    assert names(machine) == ["first", "ours", "last"]
    for run in (attaching("lan0", "version 2"), attaching("lan0", hook="clsact"), attaching("lan0", hook="tcx")):
        play(machine, run)
    assert names(machine) == ["first", "last", "ours"]
    play(machine, detaching("lan0"))
    assert names(machine) == ["first", "last"]


def test_after_a_loss_it_stands_before_the_programs_that_it_stood_before():
    machine = prepared(*SAVED, has_tcx=True)
    foreign(machine, "cilium")
    play(machine, saving(failure="fail_closed"))
    assert [entry.behind for entry in saved(machine).attachments] == [("cilium",), ()]
    machine.set_tcx(*LAN0, [each for each in machine.tcx[LAN0] if each.name == "cilium"])
    assert play(machine, restoring())["changed"]
    assert names(machine) == ["ours", "cilium"]
    assert not play(machine, restoring())["changed"]


# ---- saved state ------------------------------------------------------------------------------


def test_a_saved_state_remembers_the_kind():
    machine = prepared(attaching("lan0", policy=CLOSED, hook="clsact"), BOTH[1], saving(), has_tcx=True)
    assert {entry.interface: entry.hook for entry in saved(machine).attachments} == {"lan0": "clsact", "lan1": "tcx"}
    before = readable(machine)
    machine.lose_filters()
    assert play(machine, restoring())["changed"]
    assert readable(machine) == before


def test_a_kernel_without_tcx_gets_a_filter():
    machine = prepared(*ALL, saving(), befalling("reboot"), has_tcx=True)
    machine.has_tcx = False
    play(machine, restoring())
    assert hooks(machine) == {"lan0": "clsact", "lan1": "clsact"}
    assert not play(machine, restoring())["changed"]


@pytest.mark.parametrize("has_tcx", [True, False])
def test_an_interface_is_closed_on_its_hook_and_opened_by_the_next_run(has_tcx):
    machine = prepared(*SAVED, befalling("reboot"), has_tcx=has_tcx)
    kept = machine.disk[STATE_FILE]
    machine.disk[STATE_FILE] = "damage"
    with pytest.raises(VerificationFailed, match="lan0 lets nothing in but SSH"):
        play(machine, restoring())
    kind = "tcx" if has_tcx else "clsact"
    assert {entry["hook"]: entry["drift"] for entry in readable(machine)["attachments"]} == {kind: ["interface_closed"]}
    machine.disk[STATE_FILE] = kept
    play(machine, restoring())
    assert hooks(machine) == {"lan0": kind, "lan1": kind}
    assert [entry["drift"] for entry in readable(machine)["attachments"]] == [[], []]


# ---- lost pins and lost programs --------------------------------------------------------------


@pytest.mark.parametrize("has_tcx", [True, False])
@pytest.mark.parametrize("run", [restoring(), attaching("lan0", policy=CLOSED)], ids=["restore", "attach"])
def test_living_maps_are_pinned_again_with_all_rules(has_tcx, run):
    machine = prepared(*SAVED, ruling(SERVICE), has_tcx=has_tcx)
    before = [rule["owner"] for rule in readable(machine)["rules"]]
    machine.files = {}
    assert play(machine, run)["changed"]
    assert [rule["owner"] for rule in readable(machine)["rules"]] == before
    assert not play(machine, run)["changed"]
    assert readable(machine)["attachments"][0]["drift"] == []


def test_maps_of_another_pin_folder_are_left_alone():
    machine = prepared(attaching("lan0", policy=CLOSED), ruling(WEB), has_tcx=True)
    play(machine, attaching("lan1", policy=CLOSED, pin_dir="/sys/fs/bpf/other"))
    images = {path: thing.id for path, thing in machine.files.items() if path.endswith("/image")}
    assert len(set(images.values())) == 2


def test_a_watcher_sees_that_a_tcx_program_went_although_the_kernel_says_nothing():
    machine = prepared(*SAVED, has_tcx=True)
    before = readable(machine)
    machine.silent = [lambda: machine.set_tcx(*LAN0, []), lambda: None]
    watched(machine, *machine.silent)
    assert readable(machine) == before


# ---- duplicates -------------------------------------------------------------------------------


def test_a_program_that_stands_on_both_hooks_is_told_of_and_repaired():
    machine = prepared(attaching("lan0", policy=CLOSED), BOTH[1], has_tcx=True)
    program = machine.tcx[LAN0][0]
    machine.clsact.add(3)
    machine.filters[LAN0] = {(10, 1): (readable(machine)["attachments"][0]["name"], program)}
    assert readable(machine)["attachments"][0]["drift"] == ["attached_twice"]
    assert play(machine, attaching("lan0"))["changed"]
    assert (machine.filters[LAN0], len(machine.tcx[LAN0])) == ({}, 1)
    assert readable(machine)["attachments"][0]["drift"] == []
