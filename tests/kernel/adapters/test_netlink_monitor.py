# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notifications of rtnetlink and of mounts, while the distribution's tools change the namespace."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.monitor import Events
from ansible_collections.netedge.tproxy.tests.support.router import eventually

RULE = "rule add iif lan0 fwmark 1/1 lookup 1080 proto kernel priority 1080"
CASES = {
    "a deleted filter": ("tc filter del dev lan0 ingress", True),
    "a deleted qdisc": ("tc qdisc del dev lan0 clsact", True),
    "an interface that ends": ("ip link del lan0", True),
    "an interface that is made": ("ip link add lan9 type veth peer name lan9-peer", True),
    "an address that is new": ("ip address add 10.1.0.77/24 dev lan0", True),
    "an IPv6 address that goes": ("ip address del fd00::1/64 dev lan0", True),
    "an address on lo that is new": ("ip address add 10.9.0.77/24 dev lo", False),
    "an address on lo that goes": ("ip address del 10.9.0.1/24 dev lo", False),
    "a deleted policy rule": ("ip rule del priority 1080", True),
    "a deleted IPv6 policy rule": ("ip -6 rule del priority 1080", True),
    "a flushed table": ("ip route flush table 1080", True),
    "a flushed IPv6 table": ("ip -6 route flush table 1080", True),
    "a route that is learnt": ("ip route add 198.51.100.0/24 dev lan0", False),
    "a route that is forgotten": ("ip route del 203.0.113.0/24 dev lan0", False),
    "a default route that is learnt": ("ip route add default dev lan0", False),
}


@pytest.fixture
def events(netns):
    """Return an open monitor, in a namespace with the objects that the cases remove."""
    for device in ("all", "default"):
        with open(f"/proc/sys/net/ipv6/conf/{device}/accept_dad", "w", encoding="ascii") as setting:
            setting.write("0")  # or the kernel tells of an address a second later
    netns.veth()
    eventually(lambda: is_settled(netns))
    netns.address("fd00::1/64", "lan0")
    netns.run("ip address add 10.9.0.1/24 dev lo")
    netns.run("ip route add 203.0.113.0/24 dev lan0")
    netns.run("tc qdisc add dev lan0 clsact")
    netns.run("tc filter add dev lan0 ingress prio 5 protocol ip u32 match ip dport 9 0xffff flowid 1:1")
    for family in ("-4", "-6"):
        netns.run(f"ip {family} {RULE}")
        netns.run(f"ip {family} route add local default dev lo table 1080")
    with Events() as opened:
        # the notifications of the set-up
        while opened.wait(0.5):
            pass
        yield opened


def is_settled(netns) -> bool:
    """Return whether the kernel has told of both ends, of a carrier up to a second late (net/core/link_watch.c)."""
    links = netns.judge("ip address show type veth")
    routes = netns.judge("ip -6 route show table local type local")
    local = [route for route in routes if route["dst"].startswith("fe80::")]
    return len(local) == len(links) and all(link["operstate"] == "UP" for link in links)


@pytest.mark.parametrize(("command", "relevant"), CASES.values(), ids=CASES)
def test_relevant_changes_are_reported_and_learnt_routes_are_not(netns, events, command, relevant):
    netns.run(command)
    assert events.wait(0.5) == relevant
    assert not events.wait(0)


def test_a_mount_and_an_unmount_are_reported(netns, events, tmp_path):
    for command in (f"mount -t tmpfs none {tmp_path}", f"umount -l {tmp_path}"):
        netns.run(command)
        assert events.wait(0.5)
        assert not events.wait(0)


def test_what_did_not_fit_may_have_mattered(netns, events):
    netns.batch("ip", [f"route add 198.18.{number >> 8}.{number & 255}/32 dev lan0" for number in range(1000)])
    assert not events.wait(0.2)
    events._socket.setsockopt(1, 8, 1)  # SO_RCVBUF: as small as it can be
    netns.batch("ip", [f"route del 198.18.{number >> 8}.{number & 255}/32 dev lan0" for number in range(1000)])
    assert events.wait(0.2)
