# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a pending change: its owner, boot and pin folder."""

from __future__ import annotations

import errno

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import PIN_DIR
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import (
    KernelRefused,
    Unconfirmed,
    Unsupported,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.execute import execute
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.lock import latest_change, record_path
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.operation import Operation
from ansible_collections.netedge.tproxy.tests.support.scenarios import BOTH, WEB, Scenario, play, ruling


@pytest.fixture
def machine():
    """Return a machine on which a change waits."""
    operation, given = ruling({**WEB, "tproxy_port": "9443"})
    change = Operation("test", operation, execute, confirmable=True)
    scenario = Scenario("rules", (*BOTH, ruling(WEB)), (change.execute, given))
    found = scenario.machine()
    play(found, (scenario.run[0], {**given, "confirm_timeout": 60}))
    return found


def test_a_change_of_another_boot_is_void(machine):
    path = record_path(PIN_DIR)
    machine.disk[path] = machine.disk[path].replace('"boot"', '"the boot before"')
    assert latest_change(machine.system(), PIN_DIR) is None


def test_who_waits_and_how_long_is_said(machine):
    machine.clock += 20 * 10**9
    with pytest.raises(Unconfirmed, match=r"a change by alice from 192\.0\.2\.9 waits for confirmation, for 40 s more"):
        play(machine, ruling(WEB))


def test_a_user_without_rights_is_told_to_become_root(machine, monkeypatch):
    def refuse(path):
        raise KernelRefused(errno.EACCES, "read", path)

    system = machine.system()
    monkeypatch.setattr(system.files, "read", refuse)
    with pytest.raises(KernelRefused, match="EACCES"):
        latest_change(system, PIN_DIR)
    machine.sysctl.has_capability = lambda _number: False
    with pytest.raises(Unsupported, match="run it as root"):
        latest_change(system, PIN_DIR)


def test_each_pin_folder_has_a_record_of_its_own():
    folders = ("/sys/fs/bpf/a/b", "/sys/fs/bpf/a-b", "/sys/fs/bpf/a/-b", "/sys/fs/bpf/a-/b", "/sys/fs/bpf/a\\x2db")
    assert len({record_path(folder) for folder in folders}) == len(folders)
    assert record_path("/sys/fs/bpf/a/") == record_path("/sys/fs/bpf/a")
