# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter to /proc: settings, rights and packet sockets of a namespace."""

from __future__ import annotations

import os
import socket

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import KernelRefused
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import procfs

NOBODY = 65534


def write(path: str, value: int) -> None:
    with open(f"/proc/sys/{path}", "w", encoding="ascii") as file:
        file.write(str(value))


def test_a_setting_is_read_where_the_thread_is(netns):
    write("net/ipv4/ip_forward", 1)
    assert procfs.read_int("net/ipv4/ip_forward") == 1
    write("net/ipv4/ip_forward", 0)
    assert procfs.read_int("net/ipv4/ip_forward") == 0


def test_a_setting_that_is_not_there_is_none(netns):
    assert procfs.read_int("net/ipv4/no_such_setting") is None
    assert procfs.interface_setting("nosuch0", "rp_filter") is None


@pytest.mark.parametrize(("shared", "own", "in_force"), [(0, 0, 0), (0, 2, 2), (1, 0, 1), (2, 1, 2)])
def test_the_greater_of_all_and_the_interface_is_in_force(netns, shared, own, in_force):
    netns.veth("lan0.7")
    write("net/ipv4/conf/all/rp_filter", shared)
    write("net/ipv4/conf/lan0.7/rp_filter", own)
    assert procfs.interface_setting("lan0.7", "rp_filter") == in_force


def test_src_valid_mark_of_all_is_in_force_on_each_interface(netns):
    netns.veth()
    write("net/ipv4/conf/all/src_valid_mark", 0)
    assert procfs.interface_setting("lan0", "src_valid_mark") == 0
    write("net/ipv4/conf/all/src_valid_mark", 1)
    assert procfs.interface_setting("lan0", "src_valid_mark") == 1


def test_a_setting_that_may_not_be_read_is_refused(netns):
    with pytest.raises(KernelRefused, match="refused to read /proc/sys/net/ipv4/route/flush"):
        procfs.read_int("net/ipv4/route/flush")


def test_the_release_is_that_of_uname(netns):
    assert procfs.kernel_release() == os.uname().release


def test_rights_are_those_in_effect(netns):
    assert procfs.has_capability(procfs.CAP_NET_ADMIN)
    os.seteuid(NOBODY)
    try:
        assert not procfs.has_capability(procfs.CAP_NET_ADMIN)
        assert not procfs.has_capability(procfs.CAP_SYS_ADMIN)
        assert procfs.capabilities() == 0
    finally:
        os.seteuid(0)
    assert procfs.has_capability(procfs.CAP_BPF) == bool(procfs.capabilities() & 1 << 39)


def packet_socket(interface: str, protocol: int) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.bind((interface, protocol))
    return opened


def inode(opened: socket.socket) -> int:
    return os.fstat(opened.fileno()).st_ino


def test_packet_sockets_that_take_ip_from_the_interface_are_found(netns):
    ifindex = netns.veth()
    with packet_socket("lan0", 0x0800) as bound, packet_socket("lan0", 0x0003), packet_socket("lan0-peer", 0x0800):
        assert procfs.packet_sockets(ifindex) == [inode(bound)]
        assert procfs.packet_sockets(ifindex, 0x0003) != [inode(bound)]
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as everywhere:
            assert sorted(procfs.packet_sockets(ifindex)) == sorted([inode(bound), inode(everywhere)])
        netns.run("ip link set lan0 down")
        assert procfs.packet_sockets(ifindex) == []
    netns.run("ip link set lan0 up")
    assert procfs.packet_sockets(ifindex) == []


def test_an_index_of_any_size_is_found(netns):
    ifindex = netns.veth(options="index 70000")
    with packet_socket("lan0", 0x0800) as bound:
        assert ifindex == 70000
        assert procfs.packet_sockets(ifindex) == [inode(bound)]


def test_what_is_read_belongs_to_the_namespace_of_the_thread(netns):
    ifindex = netns.veth()
    write("net/ipv4/ip_forward", 1)
    with packet_socket("lan0", 0x0800):
        assert netns.elsewhere(lambda: procfs.packet_sockets(ifindex)) == []
        assert netns.elsewhere(lambda: procfs.interface_setting("lan0", "rp_filter")) is None
