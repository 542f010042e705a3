# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Link-local traffic, and links on a link: real frames from the client's end of the wire."""

from __future__ import annotations

import socket

import pytest

from ansible_collections.netedge.tproxy.tests.support.ends import (
    ENDS,
    TCP,
    UDP,
    Ends,
    connected,
    proxy,
    set_sysctl,
    splice_rule,
)
from ansible_collections.netedge.tproxy.tests.support.packets import ETH_IPV6, ICMPV6, ethernet, icmpv6, ipv6, udp
from ansible_collections.netedge.tproxy.tests.support.packets import UDP as UDP_HEADER
from ansible_collections.netedge.tproxy.tests.support.router import LAN, eventually

LINK, ELSEWHERE, NODES, OWN = "fe80::99", "2001:db8:5::1", "ff02::1", ENDS[6].own
NEIGHBOUR_SOLICITATION, ROUTER_ADVERTISEMENT, REDIRECT = 135, 134, 137
MLD_QUERY, MLD2_REPORT = 130, 143
NEEDED, DENIED = ("icmp", "passed"), ("other", "dropped")


@pytest.fixture
def router(splicing):
    """Return this file's router, which knows no rule."""
    return splicing


@pytest.fixture
def client(lasting):
    """Return the client at the other end of the router's wire."""
    return lasting[1]


@pytest.fixture
def wire(router, client):
    """Return a raw socket on the client's end of a wire that carries no other IPv6."""
    with client.inside():
        set_sysctl(f"ipv6.conf.{LAN}-peer.disable_ipv6", 1)
    set_sysctl(f"ipv6.conf.{LAN}.disable_ipv6", 1)
    with client.raw() as raw:
        yield raw


def message(kind: int, source: str, hop_limit: int, destination: str = NODES) -> bytes:
    return ipv6(icmpv6(kind), ICMPV6, source, destination, hop_limit)


def outcome(router, wire, datagram: bytes) -> set:
    """Return the counters of a datagram."""
    router.count_anew()
    wire.send(ethernet(datagram, ETH_IPV6))
    eventually(router.reasons)
    return set(router.reasons())


CONTROL = {
    "ND from the link": (message(NEIGHBOUR_SOLICITATION, LINK, 255), NEEDED),
    "ND that was forwarded": (message(NEIGHBOUR_SOLICITATION, LINK, 254), DENIED),
    "RA that was forwarded": (message(ROUTER_ADVERTISEMENT, LINK, 64), DENIED),
    "redirect that was forwarded": (message(REDIRECT, LINK, 254), DENIED),
    "redirect from the link": (message(REDIRECT, LINK, 255), NEEDED),
    "MLD from the link": (message(MLD_QUERY, LINK, 1), NEEDED),
    "MLD before there is an address": (message(MLD2_REPORT, "::", 1), NEEDED),
    "MLD that can be forwarded": (message(MLD_QUERY, LINK, 64), DENIED),
    "MLD from elsewhere": (message(MLD2_REPORT, ELSEWHERE, 1), DENIED),
}


def test_discovery_is_heard_from_the_link_alone(router, wire):
    found = {name: outcome(router, wire, datagram) for name, (datagram, _wanted) in CONTROL.items()}
    assert found == {name: {wanted} for name, (_datagram, wanted) in CONTROL.items()}


def dhcpv6(source: str, destination: str = OWN) -> bytes:
    return ipv6(udp(546, 547), UDP_HEADER, source, destination)


def test_what_only_looks_like_a_dhcpv6_answer_is_judged_by_rules(router, wire):
    """Another program lets 547 to 546 pass from anywhere and to anywhere."""
    assert outcome(router, wire, dhcpv6(LINK)) == {("dhcp", "passed")}
    assert outcome(router, wire, dhcpv6(ELSEWHERE)) == {("default", "dropped")}
    router.rules({"destination": OWN, "protocol": "udp", "ports": "546", "action": "drop"})
    assert outcome(router, wire, dhcpv6(ELSEWHERE)) == {("rule", "dropped")}
    assert outcome(router, wire, dhcpv6(LINK)) == {("dhcp", "passed")}


# ---- links on a link -----------------------------------------------------------------------------------


@pytest.fixture
def vlan(router, client):
    """Return the addresses of both ends of VLAN 7 of the wire."""
    netns = router.netns
    if not netns.can(f"ip link add link {LAN} name {LAN}.7 type vlan id 7"):
        pytest.skip("this kernel has no VLAN devices")
    netns.run(f"ip address add 10.7.0.1/24 dev {LAN}.7")
    netns.run(f"ip link set {LAN}.7 up")
    with client.inside():
        netns.run(f"ip link add link {LAN}-peer name {LAN}-peer.7 type vlan id 7")
        netns.run(f"ip address add 10.7.0.2/24 dev {LAN}-peer.7")
        netns.run(f"ip link set {LAN}-peer.7 up")
        netns.run("ip route replace default via 10.7.0.1")
    return Ends(socket.AF_INET, "10.7.0.1", "10.7.0.2", ENDS[4].server, ENDS[4].net, ENDS[4].loopback)


def test_a_vlan_sub_interface_is_judged_by_its_own_policy(router, client, vlan):
    router.route(f"{LAN}.7")
    router.attach(f"{LAN}.7")
    router.rules(splice_rule(vlan, interfaces=[f"{LAN}.7"]))
    with proxy(vlan, TCP) as listener, connected(client, vlan) as near:
        far, peer = listener.accept()
        with far:
            assert (far.getsockname(), peer[0]) == ((vlan.server, 443), vlan.client)
            near.sendall(b"hello")
            assert far.recv(9) == b"hello"
    with client.socket(UDP) as near:
        near.sendto(b"denied", (vlan.own, 53))
        eventually(lambda: router.reasons(f"{LAN}.7").get(("default", "dropped")) == 1)
    assert router.reasons(f"{LAN}.7")["spliced", "passed"] == 1
    assert router.reasons()["vlan", "passed"] >= 3
    assert not {"spliced", "default"} & {reason for reason, _verdict in router.reasons()}
