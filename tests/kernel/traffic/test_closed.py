# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A closed interface passes what its host needs, and forwards none of it to the hosts behind. Real frames."""

from __future__ import annotations

import socket

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import parse_address
from ansible_collections.netedge.tproxy.tests.support.ends import set_sysctl
from ansible_collections.netedge.tproxy.tests.support.packets import (
    ETH_IPV6,
    ETH_P_ALL,
    ICMP,
    ICMPV6,
    ethernet,
    icmpv6,
    ipv4,
    ipv6,
    tcp_frame,
    udp_frame,
)
from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, OWN, eventually, lay_wire, link_address

BEHIND, BEHIND6, OWN6, CLIENT6 = "10.2.0.2", "fd00:2::2", "fd00:1::1", "fd00:1::2"
HEADER = 14
POLICY = {"allow_echo": True, "management": [{"source": "0.0.0.0/0", "protocol": "udp", "port": 161}]}
LAST = udp_frame(BEHIND, 9)


def to_host(address: str, address6: str) -> list:
    """Return frames that a host with these addresses needs, or that its policy lets in."""
    return [
        udp_frame(address, 161),
        udp_frame(address, 68, source_port=67),
        tcp_frame(address, 22),
        *(ethernet(ipv4(bytes([kind]) + bytes(7), ICMP, CLIENT, address)) for kind in (0, 8)),
        *(
            ethernet(ipv6(icmpv6(kind), ICMPV6, CLIENT6, address6, 255), ETH_IPV6)
            for kind in (128, 129, 133, 134, 135, 136, 137)
        ),
    ]


@pytest.fixture
def forwarding(router, client):
    """Return the router, which forwards between lan0 and lan1, and a raw socket of the host behind lan1."""
    run = router.netns.run
    host = lay_wire(router.netns, "lan1", "10.2.0.1", BEHIND)
    for address, interface in ((f"{OWN6}/64", LAN), ("fd00:2::1/64", "lan1")):
        router.netns.address(address, interface)
    for name in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
        set_sysctl(name, 1)
    with host.inside():
        router.netns.address("fd00:2::2/64", "lan1-peer")
        link = link_address("lan1-peer").hex(":")
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        raw.bind(("lan1-peer", ETH_P_ALL))
    for address in (BEHIND, BEHIND6):
        run(f"ip neighbour replace {address} lladdr {link} dev lan1 nud permanent")
    with raw:
        yield router, raw
    host.close()


@pytest.fixture
def wire(client):
    """Return a raw socket on the client's end of the wire."""
    with client.raw() as raw:
        yield raw


def forwarded(raw: socket.socket) -> set:
    """Return the kinds of the frames that came to the host behind, up to the last one: protocol, and type or port."""
    raw.settimeout(10)
    found = set()
    while True:
        frame = raw.recv(2048)
        protocol, destination, payload = parts(frame)
        if destination == parse_address(BEHIND) and payload[2:4] == b"\0\x09":
            return found
        if destination in (parse_address(BEHIND), parse_address(BEHIND6)):
            found.add((protocol, payload[0] if protocol in (ICMP, ICMPV6) else int.from_bytes(payload[2:4], "big")))


def parts(frame: bytes) -> tuple:
    """Return (protocol, destination, payload) of a frame."""
    if frame[12:14] == b"\x86\xdd":
        return frame[20], frame[38:54], frame[54:]
    return frame[23], bytes(10) + b"\xff\xff" + frame[30:34], frame[34:]


def send(wire, frames: list, link: str) -> None:
    for frame in frames:
        wire.send(bytes.fromhex(link.replace(":", "")) + frame[6:])


def test_no_service_of_the_host_is_forwarded_to_hosts_behind(forwarding, wire):
    router, raw = forwarding
    router.attach(policy=POLICY)
    router.rules({"destination": BEHIND, "protocol": "udp", "ports": "9", "action": "pass"})
    router.count_anew()
    link = link_address(LAN).hex(":")
    send(wire, [*to_host(BEHIND, BEHIND6), LAST], link)
    assert forwarded(raw) == set()
    send(wire, to_host(OWN, OWN6), link)
    passed = {("management", "passed"): 1, ("dhcp", "passed"): 2, ("ssh", "passed"): 1}
    eventually(lambda: {key: router.reasons().get(key) for key in passed} == passed)
    assert router.reasons()["icmp", "passed"] >= 9
    # With a default action that passes, all of them are forwarded but the answer of the DHCP server.
    router.attach(policy={**POLICY, "default_action": "pass"})
    send(wire, [*to_host(BEHIND, BEHIND6), LAST], link)
    assert {(17, 161), (6, 22), (ICMP, 0), (ICMP, 8), (ICMPV6, 128), (ICMPV6, 129)} <= forwarded(raw)


def test_an_address_counts_from_the_next_run_on(router, client):
    router.attach()
    router.netns.run(f"ip address add 10.1.0.77/24 dev {LAN}")
    asked = {"interface": LAN, "source": CLIENT, "destination": "10.1.0.77", "protocol": "tcp", "port": 22}
    assert router.verdict(**asked)["reason"] == "default"
    router.record(interfaces=[LAN], addresses=[OWN])
    assert router.verdict(**asked)["reason"] == "ssh"
    router.netns.run(f"ip address delete 10.1.0.77/24 dev {LAN}")
    router.record(interfaces=[LAN], addresses=[OWN])
    assert router.verdict(**asked)["reason"] == "default"


def test_an_address_of_lo_counts_only_if_it_is_recorded(router, client):
    router.netns.run("ip address add 10.9.0.1/32 dev lo")
    router.attach()
    asked = {"interface": LAN, "source": CLIENT, "destination": "10.9.0.1", "protocol": "tcp", "port": 22}
    assert router.verdict(**asked)["reason"] == "default"
    router.record(interfaces=["lo"], addresses=["10.9.0.1"])
    assert router.info()["own_addresses"] == [{"interface": "lo", "ifindex": 1, "addresses": ["10.9.0.1"]}]
    assert router.verdict(**asked)["reason"] == "ssh"
