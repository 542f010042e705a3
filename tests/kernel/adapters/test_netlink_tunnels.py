# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapters to the outer packets of tunnels, against the kernel: rtnetlink, WireGuard, connection tracking."""

from __future__ import annotations

import shutil
import socket
import subprocess

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import parse_address
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink import conntrack, ipsec, wireguard
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.client import Netlink
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.path import Ends
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.tunnels import Tunnel
from ansible_collections.netedge.tproxy.tests.support.wireguard import set_wireguard

OWN, REMOTE, OWN6, REMOTE6 = map(parse_address, ("10.1.0.1", "10.1.0.2", "fd00::1", "fd00::2"))
V4, V6 = "local 10.1.0.1 remote 10.1.0.2", "local fd00::1 remote fd00::2"
KINDS = [
    (f"type vxlan id 5 dstport 4789 {V4}", Tunnel("udp", OWN, REMOTE, 4789)),
    (f"type vxlan id 5 dstport 4789 {V6}", Tunnel("udp", OWN6, REMOTE6, 4789)),
    ("type vxlan id 5 dstport 4789", Tunnel("udp", port=4789)),
    ("type vxlan dstport 4789 external", Tunnel("udp", port=4789, opaque=True)),
    ("type geneve id 5 remote 10.1.0.2", Tunnel("udp", b"", REMOTE, 6081)),
    ("type geneve id 5 dstport 7000 remote fd00::2", Tunnel("udp", b"", REMOTE6, 7000)),
    (f"type gre {V4}", Tunnel("gre", OWN, REMOTE)),
    ("type gre external", Tunnel("gre", opaque=True)),
    (f"type gre {V4} encap fou encap-sport auto encap-dport 5555", Tunnel("gre", OWN, REMOTE, opaque=True)),
    (f"type gretap {V4}", Tunnel("gre", OWN, REMOTE)),
    (f"type ip6gre {V6}", Tunnel("gre", OWN6, REMOTE6)),
    (f"type ipip {V4}", Tunnel("", OWN, REMOTE)),
    (f"type sit {V4}", Tunnel("", OWN, REMOTE)),
    (f"type ip6tnl {V6}", Tunnel("", OWN6, REMOTE6)),
]


@pytest.fixture
def netlink(netns):
    with Netlink() as opened:
        yield opened


def made(netns, netlink, about: str) -> object:
    kind = about.split()[1]
    if not netns.can(f"ip link add name tunnel0 {about}"):
        pytest.skip(f"this kernel has no {kind}, or not with these options")
    return netlink.link("tunnel0")


@pytest.mark.parametrize(("about", "expected"), KINDS)
def test_the_outer_packets_are_those_that_it_was_made_for(netns, netlink, about, expected):
    assert made(netns, netlink, about).tunnel == expected


def test_the_interface_and_the_mark_of_a_tunnel(netns, netlink):
    ifindex = netns.veth()
    assert made(netns, netlink, f"type gre {V4} dev lan0 fwmark 0x5").tunnel == Tunnel(
        "gre", OWN, REMOTE, 0, ifindex, 5
    )


def test_an_ordinary_interface_is_no_tunnel(netns, netlink):
    netns.veth()
    link = netlink.link("lan0")
    assert (link.tunnel, link.master_kind, link.vrf) == (None, "", False)


@pytest.mark.parametrize(("kind", "parent"), [("vlan id 5", True), ("macvlan", False)])
def test_the_interface_below(netns, netlink, kind, parent):
    ifindex = netns.veth()
    if not netns.can(f"ip link add link lan0 name above0 type {kind}"):
        pytest.skip(f"this kernel has no {kind}")
    found = netlink.link("above0")
    assert (found.lower, found.vlan_parent) == (ifindex, ifindex if parent else 0)


@pytest.mark.parametrize(("kind", "vrf"), [("bridge", False), ("vrf table 1000", True)])
def test_the_kind_of_the_master(netns, netlink, kind, vrf):
    netns.veth()
    if not netns.can(f"ip link add above0 type {kind}"):
        pytest.skip(f"this kernel has no {kind}")
    netns.run("ip link set lan0 master above0")
    found = netlink.link("lan0")
    assert (found.master_kind, found.vrf, netlink.link("above0").vrf) == (kind.split()[0], vrf, vrf)


def test_the_ends_that_a_vxlan_forwards_to(netns, netlink):
    link = made(netns, netlink, "type vxlan id 5 dstport 4789")
    assert netlink.forwarding(link.ifindex) == []
    for end in ("10.1.0.2", "10.1.0.3"):
        netns.run(f"bridge fdb append 00:00:00:00:00:00 dev tunnel0 dst {end}")
    netns.run("bridge fdb append 02:00:00:00:00:01 dev tunnel0 dst 10.1.0.2")
    assert sorted(netlink.forwarding(link.ifindex)) == [REMOTE, parse_address("10.1.0.3")]


def test_the_route_has_next_hop_and_source_and_heeds_the_mark(netns, netlink):
    netns.veth()
    netns.run("ip address add 10.1.0.1/24 dev lan0")
    netns.run("ip route add 203.0.113.0/24 via 10.1.0.2")
    netns.run("ip route add 203.0.113.0/24 via 10.1.0.3 table 5")
    netns.run("ip rule add fwmark 0x5 lookup 5")
    found = netlink.route_to("203.0.113.9", "")
    assert (found.gateway, found.source) == (REMOTE, OWN)
    assert netlink.route_to("203.0.113.9", "", 5).gateway == parse_address("10.1.0.3")
    assert netlink.route_to("10.1.0.9", "10.1.0.1").gateway == b""


def test_a_next_hop_of_the_other_family(netns, netlink):
    netns.veth()
    netns.run("ip address add 10.1.0.1/24 dev lan0")
    netns.address("fd00::1/64", "lan0")
    netns.run("ip route add 203.0.113.0/24 via inet6 fd00::2 dev lan0")
    assert netlink.route_to("203.0.113.9", "").gateway == REMOTE6


# ---- WireGuard -----------------------------------------------------------------------------------


def test_the_peers_of_wireguard(netns):
    ifindex = netns.veth()
    assert wireguard.device(ifindex) is None
    if not netns.can("ip link add wg0 type wireguard"):
        pytest.skip("this kernel has no WireGuard")
    many = {(f"10.2.{number // 250}.{number % 250 + 1}", 51820): (f"10.3.{number}.0", 24) for number in range(250)}
    set_wireguard("wg0", 51821, many)
    found = wireguard.device(socket.if_nametoindex("wg0"))
    assert (found.port, found.mark, len(found.peers)) == (51821, 0, 250)
    ends = {(peer.endpoint, peer.port): peer.allowed for peer in found.peers}
    assert ends[parse_address("10.2.0.8"), 51820] == ((parse_address("10.3.7.0"), 120),)


# ---- IPsec ---------------------------------------------------------------------------------------


def test_the_inbound_policies_of_ipsec(netns):
    if not netns.can("ip xfrm policy list"):
        pytest.skip("this kernel has no IPsec")
    template = "tmpl src 10.1.0.2 dst 10.1.0.1 proto esp mode tunnel"
    netns.run(f"ip xfrm policy add src 172.30.0.0/16 dst 10.9.0.1/32 dir in {template}")
    netns.run(f"ip xfrm policy add src fd00::/16 dst ::/0 dir in {template}")
    netns.run(f"ip xfrm policy add src 172.16.0.0/16 dst 10.9.0.1/32 dir out {template}")
    netns.run(f"ip xfrm policy add src 172.17.0.0/16 dst 10.9.0.1/32 dir in action block {template}")
    netns.run("ip xfrm policy add src 172.18.0.0/16 dst 10.9.0.1/32 dir in")
    assert sorted(ipsec.inbound_policies()) == sorted(
        [
            ipsec.InboundPolicy((parse_address("172.30.0.0"), 112), (parse_address("10.9.0.1"), 128)),
            ipsec.InboundPolicy((parse_address("fd00::"), 16), (bytes(16), 0)),
        ]
    )


# ---- connection tracking -------------------------------------------------------------------------


def test_without_a_redirect_the_ends_are_those_of_the_socket(netns):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as made_:
        ends = ends_of(made_.getsockname(), server.getsockname())
        assert conntrack.original_of(ends) in (None, ends)


@pytest.mark.parametrize(
    ("family", "address", "table"), [(socket.AF_INET, "127.0.0.1", "ip"), (socket.AF_INET6, "::1", "ip6")]
)
def test_the_ends_before_a_redirect(netns, family, address, table):
    nft = shutil.which("nft") or pytest.skip("no nft to redirect with")
    with socket.create_server((address, 0), family=family) as server:
        port = server.getsockname()[1]
        rules = f"""table {table} nat {{ chain output {{ type nat hook output priority -100;
            tcp dport 2222 redirect to :{port}; }}; }}"""
        subprocess.run([nft, "-f", "-"], input=rules, text=True, check=True)
        with socket.socket(family, socket.SOCK_STREAM) as client:
            client.connect((address, 2222))
            ends = ends_of(client.getsockname(), server.getsockname())
            assert conntrack.original_of(ends) == ends._replace(port=2222)
            assert conntrack.original_of(ends._replace(source_port=1)) is None


def ends_of(client: tuple, server: tuple) -> Ends:
    return Ends(parse_address(client[0]), client[1], parse_address(server[0]), server[1])
