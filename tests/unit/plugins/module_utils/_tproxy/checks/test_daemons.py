# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts about units, watcher and helper, and real locks and sockets below them."""

from __future__ import annotations

import socket
import subprocess
import sys

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.checks.collect import SYSTEMD, daemons
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.checks.facts import Daemons
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import (
    HELPER_SOCKET,
    STATE_FILE,
    WATCHER_LOCK,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.info import inspect
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import files, procfs
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import Machine
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.saved_machines import machine_after, watched
from ansible_collections.netedge.tproxy.tests.support.scenarios import SAVED, attaching, play

ENABLED = (
    "sysinit.target.wants/tproxy-splicer.service",
    "multi-user.target.wants/tproxy-splicer-watch.service",
    "sockets.target.wants/tproxy-splicer-helper.socket",
)


def codes(machine: Machine) -> set:
    return {finding["code"] for finding in play(machine, (inspect, options("tproxy_info")))["findings"]}


def enable(machine: Machine) -> None:
    machine.disk.update(dict.fromkeys([SYSTEMD, *(f"/etc/systemd/system/{name}" for name in ENABLED)], ""))


def test_a_machine_without_units_expects_no_process():
    assert daemons(Machine().system()) == Daemons(saved=False)


def test_units_that_are_enabled_are_expected():
    machine = machine_after(*SAVED)
    enable(machine)
    machine.processes.sockets.add(HELPER_SOCKET)
    machine.shown.append(WATCHER_LOCK)
    assert daemons(machine.system()) == Daemons(True, True, True, True)


def test_missing_processes_and_a_state_that_is_not_saved_are_findings():
    machine = machine_after(attaching("lan0"))
    enable(machine)
    assert codes(machine) >= {"not_persistent", "helper_missing"}
    machine.disk[STATE_FILE] = "saved"
    assert codes(machine) >= {"watcher_missing", "helper_missing"}


def test_a_watcher_shows_that_it_runs():
    machine = machine_after(*SAVED)
    enable(machine)
    seen = []
    watched(machine, lambda: seen.append(daemons(machine.system()).watcher))
    assert [*seen, daemons(machine.system()).watcher] == [True, False]


HOLD = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_SH)
print("held", flush=True)
sys.stdin.read()
"""


def test_the_lock_of_a_process_ends_with_it(tmp_path):
    path = str(tmp_path / "folder" / "watcher")
    assert not files.is_shown(path)
    with files.show_running(path):
        assert files.is_shown(path)
    assert not files.is_shown(path)
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        assert files.is_shown(path)
        with files.show_running(path):
            holder.kill()
            holder.wait()
            assert files.is_shown(path)
    assert not files.is_shown(path)


def test_a_process_runs_without_a_lock_where_none_can_be_made():
    with files.show_running("/proc/none/watcher"):
        assert not files.is_shown("/proc/none/watcher")


def test_a_listening_socket_is_seen_and_a_file_that_a_dead_process_left_is_not(tmp_path):
    path = str(tmp_path / "a socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        assert not procfs.listens(path)
        listening.listen()
        assert procfs.listens(path)
    assert not procfs.listens(path)
