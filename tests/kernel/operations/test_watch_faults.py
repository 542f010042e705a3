# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watcher beside a disk that is full or read-only, and a file that cannot be read: by real file systems."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import STATE_FILE, UNSAVED
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.rules import APPLY_RULES
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.persistence.state_file import (
    REFUSED_STATE,
    closed_path,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import files
from ansible_collections.netedge.tproxy.tests.kernel.operations.test_interfaces_that_come import watched
from ansible_collections.netedge.tproxy.tests.kernel.operations.test_restore import RULE, Kept
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.router import LAN, eventually

FOLDER = os.path.dirname(STATE_FILE)
FILLER = f"{FOLDER}/filler"


@pytest.fixture
def kept(router, tmp_path):
    """Return a router with its state saved where runs save it, in the tmpfs of in_private_ns."""
    router.route()
    router.rules(RULE)
    router.attach(policy={"default_action": "drop"}, hook="clsact")  # lose_filter() deletes the qdisc
    kept = Kept(router, tmp_path)
    kept.path = STATE_FILE
    kept.save()
    yield kept
    router.netns.run(f"mount -o remount,rw,size=64m {FOLDER}")
    for path in (STATE_FILE, closed_path(STATE_FILE), UNSAVED, REFUSED_STATE, FILLER):
        if os.path.exists(path):
            os.unlink(path)


def fill(router) -> None:
    """Leave no room."""
    size = os.path.getsize(STATE_FILE) + 65536
    router.netns.run(f"mount -o remount,size={size} {FOLDER}")
    with open(FILLER, "wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))


def forbid_writes(router) -> None:
    """Let the disk be read-only, as after an error of its file system."""
    router.netns.run(f"mount -o remount,ro {FOLDER}")


def allow_writes(router) -> None:
    """Give the disk room, and let it be written."""
    router.netns.run(f"mount -o remount,rw,size=64m {FOLDER}")


def change(router) -> tuple:
    """Add a rule as a front end does; return the warnings."""
    given = options("tproxy_rule", rules=[RULE, {**RULE, "ports": "8443"}], pin_dir=router.pin_dir)
    return APPLY_RULES.execute(given, router.system(), False).warnings


def has_filter(router) -> bool:
    return [entry["drift"] for entry in router.info()["attachments"]] == [[]]


def lose_filter(router) -> None:
    router.netns.run(f"tc qdisc del dev {LAN} clsact")


@pytest.mark.parametrize("fault", [fill, forbid_writes])
def test_the_watcher_repairs_beside_a_disk_that_refuses_and_saves_when_it_can(kept, fault):
    router = kept.router
    with watched(kept) as said:
        fault(router)
        assert "The change is in force" in change(router)[0]
        for _once_more in range(2):
            lose_filter(router)
            eventually(lambda: has_filter(router))
        assert len(router.info()["rules"]) == 2
        allow_writes(router)
        lose_filter(router)
        eventually(lambda: not os.path.exists(UNSAVED))
        eventually(lambda: has_filter(router))
    assert router.info()["drift"] == []
    assert len([line for line in said if "until it can be saved" in line]) == 1
    assert len([line for line in said if "is saved now" in line]) == 1
    assert len([line for line in said if line.startswith(f"{LAN}: filter")]) == 3


class KillsAtWrite:
    """The files of this machine. The process is killed as it begins to write the state file."""

    def __getattr__(self, name: str):
        return getattr(files, name)

    @staticmethod
    def write(path: str, text: str) -> None:
        if path == STATE_FILE:
            os.kill(os.getpid(), signal.SIGKILL)
        files.write(path, text)


def change_and_die(router) -> None:
    """Add a rule by a process that is killed before it has saved."""
    given = options("tproxy_rule", rules=[RULE, {**RULE, "ports": "8443"}], pin_dir=router.pin_dir)
    child = os.fork()
    if not child:
        APPLY_RULES.execute(given, replace(router.system(), files=KillsAtWrite()), False)
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert os.path.exists(UNSAVED)


def test_the_watcher_saves_what_a_killed_run_had_not_and_goes_on(kept):
    router = kept.router
    before = os.stat(STATE_FILE).st_mtime_ns
    change_and_die(router)  # before the watcher has threads and locks, which a fork would copy
    with watched(kept) as said:
        for _once_more in range(2):
            lose_filter(router)
            eventually(lambda: has_filter(router))
        eventually(lambda: not os.path.exists(UNSAVED))
    assert os.stat(STATE_FILE).st_mtime_ns != before
    assert (len(router.info()["rules"]), router.info()["drift"]) == (2, [])
    assert len([line for line in said if "which a run had not saved" in line]) == 1


def test_the_watcher_repairs_while_the_file_cannot_be_read(kept):
    router = kept.router
    with watched(kept) as said:
        lose_filter(router)
        eventually(lambda: has_filter(router))
        os.truncate(STATE_FILE, 100)
        for _once_more in range(2):
            lose_filter(router)
            eventually(lambda: has_filter(router))
    assert len([line for line in said if "restored from the state that it had before" in line]) == 1
    assert router.info()["drift"] == ["state_damaged"]
