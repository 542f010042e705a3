# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reserved ports: as bytes, and for a process that cannot see the SSH daemons."""

from __future__ import annotations

import os
import socket

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.structs import size_of
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import PIN_DIR
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.pins import splicer_pins
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.reserved_ports import (
    AGAIN_NS,
    ReservedPortsWatch,
    decode_ports,
    encode_ports,
    follow_reserved_ports,
    reserved_ports,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import procfs
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.system import ListeningSocket
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import Machine
from ansible_collections.netedge.tproxy.tests.support.fakes.surroundings import FakeSockets
from ansible_collections.netedge.tproxy.tests.support.scenarios import BOTH, play

MANAGED = {("tcp", 22)}  # of the policy CLOSED
SSH = {("tcp", 2022)}


@pytest.mark.parametrize("ports", [(), (("tcp", 0),), (("tcp", 65535), ("udp", 1)), (("tcp", 22), ("udp", 22))])
def test_bytes_give_the_ports_back(ports):
    raw = encode_ports(ports)
    assert (len(raw), decode_ports(raw)) == (size_of("reserved_ports"), set(ports))


def test_the_bit_of_a_port():
    raw = encode_ports({("tcp", 22), ("udp", 9)})
    assert (raw[2], raw[8192 + 1], sum(raw)) == (1 << 6, 1 << 1, 66)


@pytest.fixture
def machine(monkeypatch):
    """Return a machine with the program on two interfaces. The sockets of `machine.listening` listen, none yet."""
    made = Machine()
    for run in BOTH:
        play(made, run)
    made.listening = []
    monkeypatch.setattr(FakeSockets, "listeners", lambda _self, _protocol: made.listening)
    return made


def sshd(machine: Machine) -> None:
    """Let an SSH daemon listen."""
    machine.listening = [ListeningSocket(bytes(16), port, port, True, False, port, 0) for port in (2022, 80)]
    machine.processes.ssh_sockets = {2022, 4711}


def test_a_process_that_cannot_see_the_daemons_removes_no_port(machine):
    system = machine.system()
    with splicer_pins(system.bpf, system.bpffs, PIN_DIR) as pins:
        sshd(machine)
        assert follow_reserved_ports(system, pins)
        assert (reserved_ports(system.bpf, pins), follow_reserved_ports(system, pins)) == (MANAGED | SSH, False)
        machine.processes.ssh_sockets = None
        assert (follow_reserved_ports(system, pins), reserved_ports(system.bpf, pins)) == (False, MANAGED | SSH)
        machine.processes.ssh_sockets = set()
        assert (follow_reserved_ports(system, pins), reserved_ports(system.bpf, pins)) == (True, MANAGED)


def test_the_watcher_looks_now_and_then(machine):
    system = machine.system()
    watch = ReservedPortsWatch(system, PIN_DIR)
    with splicer_pins(system.bpf, system.bpffs, PIN_DIR) as pins:
        watch.follow()
        sshd(machine)
        watch.follow()
        assert reserved_ports(system.bpf, pins) == MANAGED
        machine.clock += AGAIN_NS
        watch.follow()
        assert reserved_ports(system.bpf, pins) == MANAGED | SSH


def test_the_sockets_of_a_process_by_its_name():
    with open("/proc/self/comm", encoding="utf-8") as file:
        name = file.read().strip()
    with socket.socket() as made:
        inode = os.fstat(made.fileno()).st_ino
        assert inode in procfs.sockets_of((name,))
        assert inode not in procfs.sockets_of((f"not {name}",))
    assert inode not in procfs.sockets_of((name,))


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can become another user")
def test_a_process_that_cannot_be_read_is_no_answer():
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        os._exit(0 if procfs.sockets_of(("systemd", "init", "sh", "bash", "python3", "pytest")) is None else 1)
    assert os.waitpid(child, 0)[1] == 0
