# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bpf adapter: TCX programs of a hook, compared with packets and with the kernel's own revisions."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import KernelRefused
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf

PASS, DROP, NEXT = 0, 2, -1
DIRECTIONS = ("ingress", "egress")
EXPERIMENTAL = 0x88B5  # an ethertype for local experiments
PATIENCE = 5


@pytest.fixture
def lan(netns):
    """Return the ifindex of lan0, on a kernel with TCX."""
    if bpf.tcx_programs(1, "ingress") is None:
        pytest.skip("this kernel has no TCX, as those before Linux 6.6")
    return netns.veth()


def ids(ifindex: int, direction: str = "ingress") -> tuple:
    return bpf.tcx_programs(ifindex, direction).ids


def revision(ifindex: int, direction: str = "ingress") -> int:
    return bpf.tcx_programs(ifindex, direction).revision


def attach(ifindex: int, program, direction: str = "ingress", **how) -> None:
    bpf.attach_tcx(ifindex, direction, program.fd, revision(ifindex, direction), **how)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_programs_stand_in_their_order(lan, program, direction):
    first, second, third, instead = (program(NEXT) for _each in range(4))
    attach(lan, second, direction)
    attach(lan, third, direction)
    attach(lan, first, direction, before=second.id)
    assert ids(lan, direction) == (first.id, second.id, third.id)
    attach(lan, instead, direction, replaced=second.fd)
    assert ids(lan, direction) == (first.id, instead.id, third.id)
    bpf.detach_tcx(lan, direction, first.fd, revision(lan, direction))
    assert ids(lan, direction) == (instead.id, third.id)
    other = next(way for way in DIRECTIONS if way != direction)
    assert ids(lan, other) == ()


def test_each_change_raises_the_revision_and_an_outdated_one_is_refused(lan, program):
    one, other = program(NEXT), program(NEXT)
    before = revision(lan)
    attach(lan, one)
    assert revision(lan) > before
    for change in (
        lambda: bpf.attach_tcx(lan, "ingress", other.fd, before),
        lambda: bpf.attach_tcx(lan, "ingress", other.fd, before, one.fd),
        lambda: bpf.detach_tcx(lan, "ingress", one.fd, before),
    ):
        with pytest.raises(KernelRefused) as refusal:
            change()
        assert refusal.value.errno == errno.ESTALE
    assert ids(lan) == (one.id,)


def test_a_program_that_is_not_there_is_not_replaced(lan, program):
    one, other = program(NEXT), program(NEXT)
    with pytest.raises(KernelRefused) as refusal:
        attach(lan, one, replaced=other.fd)
    assert refusal.value.errno == errno.ENOENT
    attach(lan, one)
    with pytest.raises(KernelRefused) as refusal:
        attach(lan, one)
    assert refusal.value.errno == errno.EEXIST


def test_an_attachment_needs_neither_descriptor_nor_pin(lan, program):
    one = program(DROP)
    descriptor = os.dup(one.fd)
    bpf.attach_tcx(lan, "ingress", descriptor, revision(lan))
    os.close(descriptor)
    assert ids(lan) == (one.id,)


def test_it_ends_with_its_interface_and_a_vanished_one_has_none(lan, netns, program):
    attach(lan, program(NEXT))
    netns.run("ip link set lan0 down")
    netns.run("ip link set lan0 name other0")
    assert len(ids(lan)) == 1
    netns.run("ip link delete other0")
    assert bpf.tcx_programs(lan, "ingress") == ((), 0)


def test_the_program_judges_packets(lan, program):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EXPERIMENTAL)) as received:
        received.bind(("lan0", EXPERIMENTAL))
        received.settimeout(PATIENCE)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sent:
            sent.bind(("lan0-peer", 0))
            denied = program(DROP)
            attach(lan, denied)
            sent.send(bytes(12) + EXPERIMENTAL.to_bytes(2, "big") + b"denied".ljust(46))
            attach(lan, program(PASS), replaced=denied.fd)
            sent.send(bytes(12) + EXPERIMENTAL.to_bytes(2, "big") + b"passed".ljust(46))
            assert received.recv(99)[14:20] == b"passed"
