# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pins in bpffs: mounted on demand, refused when foreign, locked for one run at a time, gone at the end."""

from __future__ import annotations

import ctypes
import os

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import LAYOUT, MAPS, TYPE_ARRAY
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import RUN_DIR
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import (
    Busy,
    LayoutMismatch,
    NotMounted,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf, bpffs
from ansible_collections.netedge.tproxy.tests.support.children import FORK, Child
from ansible_collections.netedge.tproxy.tests.support.router import CLONE_NEWNET, LAN, libc

CLONE_NEWNS, MS_PRIVATE, MS_REC, MNT_DETACH = 0x20000, 1 << 18, 1 << 14, 2
WEB = {"destination": "192.0.2.0/24", "protocol": "tcp", "ports": "443", "action": "pass"}
MAIL = {**WEB, "ports": "25"}


def without_bpffs(operation):
    """Return the result of `operation` in a mount namespace without a bpffs."""

    def unmount_and_run():
        assert libc.unshare(CLONE_NEWNS) == 0
        assert libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None) == 0
        while bpffs.is_mounted(bpffs.DEFAULT_MOUNT):
            assert libc.umount2(bpffs.DEFAULT_MOUNT.encode(), MNT_DETACH) == 0
        return operation()

    return Child(unmount_and_run).answer()


def hooks(netns) -> list:
    """Return the filters of the interface, as tc prints them."""
    listed = netns.judge(f"tc filter show dev {LAN} ingress") + netns.judge(f"tc qdisc show dev {LAN}")
    return sorted(str(one.get("options", one["kind"])) for one in listed)


@pytest.fixture
def wired(bare_router):
    """Return a router with one interface that leads nowhere."""
    bare_router.netns.veth()
    bare_router.hook = "clsact"  # the tests look with tc
    return bare_router


# ---- mounting ---------------------------------------------------------------------------------


def test_a_bpffs_is_mounted_where_there_is_none(wired):
    def attach_there():
        return wired.attach()["changed"], os.path.ismount("/sys/fs/bpf"), bpffs.is_mounted("/sys/fs/bpf/x")

    assert without_bpffs(attach_there) == (True, True, True)


def test_check_mode_mounts_nothing(wired):
    def foretell():
        told = [wired.attach(check=True), wired.rules(WEB, check=True), wired.record(interfaces=[LAN], check=True)]
        return [one["changed"] for one in told], bpffs.is_mounted(wired.pin_dir), wired.info()["attachments"]

    assert without_bpffs(foretell) == ([True, True, True], False, [])


def test_elsewhere_a_bpffs_is_not_mounted_for_the_user(wired, tmp_path):
    wired.pin_dir = str(tmp_path / "pins")
    for operation in (wired.attach, lambda: wired.rules(WEB)):
        with pytest.raises(NotMounted, match=f"{wired.pin_dir} is in no bpffs: mount one there"):
            operation()
    assert not os.path.exists(wired.pin_dir)


# ---- what is pinned is looked at before it is used ---------------------------------------------------


@pytest.mark.parametrize("name", ["policy", "ifindex_ip_map", "hits", "reasons", "meta"])
def test_a_map_of_another_shape_is_refused_and_nothing_changed(wired, name):
    _slot, (_kind, key, value, entries, _flags) = MAPS[name]
    foreign = bpf.create_map((TYPE_ARRAY, key, value + 8, entries, 0), "stranger")
    folder = f"{wired.pin_dir}/v{LAYOUT}"
    os.makedirs(folder)
    bpf.pin(foreign, f"{folder}/{name}")
    os.close(foreign)
    before = wired.pinned(), hooks(wired.netns)
    for operation in (wired.attach, lambda: wired.rules(WEB), lambda: wired.record(interfaces=[LAN]), wired.info):
        with pytest.raises(LayoutMismatch, match=f"value size {value + 8} instead of {value}"):
            operation()
    assert (wired.pinned(), hooks(wired.netns)) == before


def test_a_map_that_was_removed_by_hand_is_made_anew(wired):
    wired.attach()
    before = wired.pinned()
    os.unlink(f"{wired.pin_dir}/v{LAYOUT}/reasons")
    assert [entry["drift"] for entry in wired.info()["attachments"]] == [["other_maps"]]
    assert wired.attach()["changed"]
    assert [entry["drift"] for entry in wired.info()["attachments"]] == [[]]
    assert set(wired.pinned()) == set(before)
    assert not wired.attach()["changed"]


def test_what_a_killed_run_has_half_built_is_built_anew(wired):
    aside = f"{wired.pin_dir}/v{LAYOUT}_new"
    os.makedirs(aside)
    foreign = bpf.create_map((TYPE_ARRAY, 4, 8, 1, 0), "stranger")
    bpf.pin(foreign, f"{aside}/policy")
    os.close(foreign)
    assert wired.attach()["changed"]
    assert not os.path.exists(aside)
    assert not wired.attach()["changed"]


# ---- one run at a time ----------------------------------------------------------------------------------


class Holder:
    """A process that holds the lock until it is told to let go, or killed."""

    def __init__(self, pin_dir: str):
        self.let_go, reached = FORK.Event(), FORK.Event()

        def hold():
            with bpffs.lock(pin_dir, RUN_DIR):
                reached.set()
                self.let_go.wait()

        self.process = Child(hold).process
        reached.wait()


def test_a_second_run_waits_for_the_first(wired):
    wired.rules(WEB)
    first = Holder(wired.pin_dir)
    second = Child(lambda: wired.rules(MAIL))
    assert not second.has_answered_within(0.3)
    assert [one["ports"] for one in wired.info()["rules"]] == ["443"]
    first.let_go.set()
    assert second.answer()["changed"]
    assert len(wired.info()["rules"]) == 2


def test_runs_at_the_same_time_all_succeed(wired):
    runs = [lambda port=port: wired.rules({**WEB, "ports": str(port)}) for port in range(8)]
    children = [Child(run) for run in (*runs, wired.attach, lambda: wired.record(interfaces=[LAN]))]
    assert all(child.answer()["changed"] for child in children)
    told = wired.info()
    assert (len(told["rules"]), told["generation"]) == (8, 8)
    assert [entry["drift"] for entry in told["attachments"]] == [[]]


def test_who_waits_too_long_is_told_whom_to_look_for(wired):
    first = Holder(wired.pin_dir)
    with pytest.raises(Busy, match=r"(/run/tproxy_splicer/bpffs-\S+\.lock) for over 0\.05 s; find it with `fuser \1`"):
        bpffs.lock(wired.pin_dir, RUN_DIR, 0.05).__enter__()
    first.let_go.set()


def test_a_killed_run_holds_nobody_up(wired):
    first = Holder(wired.pin_dir)
    first.process.kill()
    first.process.join()
    assert wired.rules(WEB)["changed"]


# ---- the end --------------------------------------------------------------------------------------------------


def test_nothing_is_left_at_the_end(wired):
    before = hooks(wired.netns)
    wired.attach()
    wired.record()
    wired.rules(WEB, MAIL)
    assert wired.attach(state="absent")["changed"]
    assert hooks(wired.netns) == before
    assert not os.path.exists(wired.pin_dir)
    assert not wired.attach(state="absent")["changed"]


def test_nothing_is_left_of_rules_alone(wired):
    wired.rules(WEB, MAIL)
    wired.rules(WEB, MAIL, state="absent")
    assert not os.path.exists(wired.pin_dir)


def test_maps_stay_for_as_long_as_anybody_uses_them(wired):
    wired.netns.veth("lan1", "lan1-peer")
    wired.attach()
    wired.attach("lan1")
    wired.rules(WEB)
    before = wired.pinned()
    assert wired.attach(state="absent")["changed"]
    gone = set(before) - set(wired.pinned())
    assert {os.path.basename(path).rstrip("0123456789") for path in gone} == {"clsact_"}
    assert [entry["interface"] for entry in wired.info()["attachments"]] == ["lan1"]
    assert len(wired.info()["rules"]) == 1
    wired.rules(WEB, state="absent")
    assert wired.attach("lan1", state="absent")["changed"]
    assert not os.path.exists(wired.pin_dir)


def test_another_namespace_sees_no_filter_but_the_same_pins(wired):
    wired.attach()

    def elsewhere():
        assert libc.unshare(CLONE_NEWNET) == 0
        told = wired.info()
        return told["attachments"], told["program"]["program_id"]

    assert Child(elsewhere).answer() == ([], wired.info()["program"]["program_id"])
