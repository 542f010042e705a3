# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bpffs that other users may write to, as `mount -t bpf` gives it: pins, folders and lock stay out of their reach.

Another user is a child process of that user. The bpffs is that of this mount namespace.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from contextlib import contextmanager, suppress

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import RUN_DIR
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import Conflict, VerificationFailed
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.info import LOOK
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.hooks import is_fail_closed, programs_on
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpffs
from ansible_collections.netedge.tproxy.tests.kernel.operations.damage import has_tcx
from ansible_collections.netedge.tproxy.tests.kernel.operations.test_restore import Kept
from ansible_collections.netedge.tproxy.tests.support.children import FORK, Child
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.pin_folder import PinFolder
from ansible_collections.netedge.tproxy.tests.support.router import PATIENCE

MOUNT, NOBODY = bpffs.DEFAULT_MOUNT, 65534
OPEN_STICKY, OPEN, PRIVATE = 0o1777, 0o777, 0o700
WEB = {"destination": "192.0.2.0/24", "protocol": "tcp", "ports": "443", "action": "pass"}


def as_nobody(operation):
    """Return the result of `operation` in a process of another user, or the name of its error."""

    def become_and_run():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        try:
            return operation()
        except OSError as refusal:
            return type(refusal).__name__

    return Child(become_and_run).answer()


@contextmanager
def mode_of_mount(mode: int):
    before = stat.S_IMODE(os.stat(MOUNT).st_mode)
    os.chmod(MOUNT, mode)
    try:
        yield
    finally:
        os.chmod(MOUNT, before)


@pytest.fixture
def shared(bare_router):
    """Return a router whose pin folder lies in a mount point of mode 1777, and was not made yet."""
    bare_router.netns.veth()
    probe = PinFolder()
    bare_router.pin_dir = probe.path
    probe.remove()
    with mode_of_mount(OPEN_STICKY):
        yield bare_router
        with suppress(FileNotFoundError, NotADirectoryError):
            PinFolder.adopt(bare_router.pin_dir).remove()
        with suppress(FileNotFoundError):
            os.unlink(bare_router.pin_dir)


def operations(router):
    """Return every run that uses the pin folder, in both modes."""
    runs = [
        lambda check: router.attach(check=check),
        lambda check: router.rules(WEB, check=check),
        lambda check: router.record(check=check, interfaces=["lan0"]),
        lambda check: router.route(check=check),
        lambda check: router.attach(check=check, state="absent"),
        lambda _check: router.verdict(
            interface="lan0", source="10.1.0.2", destination="192.0.2.1", protocol="tcp", port=443
        ),
        lambda _check: LOOK.execute(options("tproxy_info", pin_dir=router.pin_dir), router.system(), False),
    ]
    return [lambda run=run, check=check: run(check) for run in runs for check in (True, False)]


def refused_everywhere(router, words: str) -> None:
    """Assert that each run refuses with these words, that doctor says the same, and that nothing was pinned."""
    before = router.pinned()
    for run in operations(router):
        with pytest.raises(Conflict, match=words):
            run()
    assert [each["code"] for each in router.info()["findings"] if each["severity"] == "error"] == ["pin_folder_foreign"]
    assert router.pinned() == before
    assert router.netns.judge("tc filter show dev lan0 ingress") == []


# ---- the folder ------------------------------------------------------------------------


def test_a_sticky_mount_point_with_a_folder_of_root_is_safe(shared):
    shared.attach()
    shared.rules(WEB)
    found = os.stat(shared.pin_dir)
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, PRIVATE)
    assert as_nobody(lambda: os.rename(shared.pin_dir, f"{shared.pin_dir}_stolen")) == "PermissionError"
    assert as_nobody(lambda: os.listdir(shared.pin_dir)) == "PermissionError"
    assert [each["code"] for each in shared.info()["findings"] if each["severity"] == "error"] == []
    assert not shared.rules(WEB)["changed"]


def test_a_folder_that_another_user_made_first_is_refused(shared):
    assert as_nobody(lambda: os.mkdir(shared.pin_dir)) is None
    refused_everywhere(
        shared, f"expected {shared.pin_dir} to belong to root, got uid {NOBODY}.*`rm -r {shared.pin_dir}`"
    )
    assert as_nobody(lambda: os.rename(shared.pin_dir, f"{shared.pin_dir}_away")) is None
    assert shared.attach()["changed"]
    os.rmdir(f"{shared.pin_dir}_away")


@pytest.mark.parametrize("hook", ["tcx", "clsact"])
def test_a_boot_closes_the_interfaces_although_another_user_has_the_pin_folder(shared, tmp_path, hook):
    if hook == "tcx" and not has_tcx():
        pytest.skip("no TCX before Linux 6.6")
    shared.hook, kept = hook, Kept(shared, tmp_path)
    shared.attach()
    kept.save(failure="fail_closed")
    shared.attach(state="absent")
    as_nobody(lambda: os.mkdir(shared.pin_dir))
    with pytest.raises(VerificationFailed, match="lan0 lets nothing in but SSH"):
        kept.restore()
    system = shared.system()
    with system.netlink() as netlink:
        on_hook = programs_on(system.bpf, netlink, socket.if_nametoindex("lan0"), "ingress")
    assert [(is_fail_closed(entry), entry.hook_kind) for entry in on_hook] == [(True, hook)]
    assert os.listdir(shared.pin_dir) == []


def test_a_link_of_another_user_is_refused_wherever_it_leads(shared):
    for target in (PinFolder().path, "/tmp", f"{MOUNT}/nowhere"):
        assert as_nobody(lambda target=target: os.symlink(target, shared.pin_dir)) is None
        refused_everywhere(shared, f"expected {shared.pin_dir} to belong to root")
        os.unlink(shared.pin_dir)
        if target.startswith(f"{MOUNT}/tproxy_test"):
            os.rmdir(target)


def test_a_folder_of_root_in_a_folder_of_another_user_is_refused(shared):
    above = shared.pin_dir
    assert as_nobody(lambda: os.mkdir(above)) is None
    shared.pin_dir = f"{above}/pins"
    os.mkdir(shared.pin_dir, PRIVATE)
    refused_everywhere(shared, f"expected {above} to belong to root")
    os.rmdir(shared.pin_dir)
    shared.pin_dir = above


def test_a_mount_point_without_the_sticky_bit_is_refused_while_others_may_write(shared):
    os.mkdir(shared.pin_dir, PRIVATE)
    with mode_of_mount(OPEN):
        refused_everywhere(
            shared, f"expected {MOUNT} to be writable by root alone, got mode 0777.*`chmod go-w {MOUNT}`"
        )
        assert as_nobody(lambda: os.rename(shared.pin_dir, f"{shared.pin_dir}_stolen")) is None  # hence the refusal
        os.rename(f"{shared.pin_dir}_stolen", shared.pin_dir)
    with mode_of_mount(0o755):
        assert shared.attach()["changed"]


@pytest.mark.parametrize("mode", [OPEN, OPEN_STICKY, 0o770])
def test_a_pin_folder_that_others_may_write_to_is_refused(shared, mode):
    os.mkdir(shared.pin_dir)
    os.chmod(shared.pin_dir, mode)
    refused_everywhere(shared, f"expected {shared.pin_dir} to be writable by root alone, got mode {mode:04o}")
    os.chmod(shared.pin_dir, PRIVATE)
    assert shared.attach()["changed"]


def test_a_folder_that_is_made_between_the_look_and_the_first_pin_is_refused(shared):
    bpffs.refuse_foreign(shared.pin_dir)
    assert as_nobody(lambda: os.mkdir(shared.pin_dir)) is None
    with pytest.raises(Conflict, match=f"expected {shared.pin_dir} to belong to root"):
        bpffs.make_folder(f"{shared.pin_dir}/v9")


# ---- the lock --------------------------------------------------------------------------


class Holder:
    """A process that holds flock(2) on a folder, and the user that it runs as."""

    def __init__(self, path: str, user: int):
        self._let_go, reached = FORK.Event(), FORK.Event()

        def hold():
            os.setuid(user)
            descriptor = os.open(path, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            reached.set()
            self._let_go.wait()

        self.process = Child(hold)
        assert reached.wait(PATIENCE)

    def let_go(self):
        self._let_go.set()
        self.process.answer()


def test_another_user_holds_up_no_run(shared):
    shared.attach()
    holder = Holder(MOUNT, NOBODY)
    run = Child(lambda: shared.rules(WEB)["changed"])
    assert run.has_answered_within(PATIENCE)
    assert run.answer()
    holder.let_go()
    for name in os.listdir(RUN_DIR):
        assert as_nobody(lambda name=name: os.open(f"{RUN_DIR}/{name}", os.O_RDONLY)) == "PermissionError"


def test_a_run_of_release_0_1_is_waited_for_where_only_root_can_lock_the_mount_point(shared):
    with mode_of_mount(PRIVATE):
        older = Holder(MOUNT, 0)
        run = Child(lambda: shared.rules(WEB)["changed"])
        assert not run.has_answered_within(0.3)
        older.let_go()
        assert run.answer()


def test_the_lock_makes_its_folder_after_a_boot_and_closes_an_open_one(shared, tmp_path):
    os.mkdir(shared.pin_dir, PRIVATE)
    folder = tmp_path / "run" / "locks"
    with bpffs.lock(shared.pin_dir, str(folder), 0.1):
        pass
    (name,) = os.listdir(folder)
    os.chmod(folder, OPEN_STICKY)
    os.chown(folder / name, NOBODY, NOBODY)
    with bpffs.lock(shared.pin_dir, str(folder), 0.1):
        pass
    assert stat.S_IMODE(os.stat(folder).st_mode) == PRIVATE
    assert os.listdir(folder) == [name]
    assert os.stat(folder / name).st_uid == 0


def test_a_lock_that_was_removed_is_no_lock(shared, tmp_path):
    """The one that waits for a removed file must not run beside the one that holds its successor."""
    os.mkdir(shared.pin_dir, PRIVATE)
    with bpffs.lock(shared.pin_dir, str(tmp_path), 0.1):
        (name,) = os.listdir(tmp_path)
        waits = Child(lambda: held_with_successor(shared.pin_dir, str(tmp_path)))
        assert not waits.has_answered_within(0.3)
        os.unlink(tmp_path / name)
    assert waits.answer()


def held_with_successor(pin_dir: str, folder: str) -> bool:
    """Take the lock, and return whether it is on the file that is there now."""
    with bpffs.lock(pin_dir, folder, PATIENCE):
        (name,) = os.listdir(folder)
        descriptor = os.open(f"{folder}/{name}", os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
