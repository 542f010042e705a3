# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames that a test run refuses or cannot make: tagged, cut short, in pages, without Ethernet."""

from __future__ import annotations

import fcntl
import functools
import os
import socket
import struct

import pytest

from ansible_collections.netedge.tproxy.tests.dataplane.packets import (
    ETH_ARP,
    ETH_IP,
    ETH_VLAN,
    TCP,
    UDP,
    ethernet,
    ipv4,
    tagged,
    tcp,
    udp,
)
from ansible_collections.netedge.tproxy.tests.dataplane.router import LAN, OWN, SERVER, eventually, transparent

ETH_QINQ = 0x88A8
NOISE = ("icmp", "other")  # an interface that comes up solicits routers and reports its groups
PACKET_VNET_HDR, SOL_PACKET = 15, 263
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
PASSING = {"destination": SERVER, "protocol": "tcp", "ports": "443", "action": "pass"}
ASKING, DENIED = (ipv4(tcp(port), TCP, destination=SERVER) for port in (443, 444))


@pytest.fixture
def wire(router, client):
    """Return a raw socket on the client's end of the wire; the router passes what ASKING asks for."""
    router.attach(policy={"allow_ssh": False})
    router.rules(PASSING)
    with client.inside():
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        raw.bind((f"{LAN}-peer", 0))
    with raw:
        yield raw


def heard(router, send) -> set:
    """Return the outcomes that were counted for the frame that `send()` sends."""
    before, found = router.reasons(), set()

    def counted() -> bool:
        after = router.reasons()
        grown = {outcome for outcome in after if after[outcome] != before.get(outcome, 0)}
        found.update(outcome for outcome in grown if outcome[0] not in NOISE)
        return bool(found)

    send()
    eventually(counted)
    return found


TAGGED = {
    "untagged": (ethernet(ASKING), ("rule", "passed")),
    "VLAN 7": (tagged(ASKING, 7), ("vlan", "passed")),
    "VLAN 4095": (tagged(ASKING, 4095), ("vlan", "passed")),
    "denied in VLAN 7": (tagged(DENIED, 7), ("vlan", "passed")),
    "QinQ": (ethernet(struct.pack(">HHHH", 7, ETH_VLAN, 8, ETH_IP) + ASKING, ETH_QINQ), ("vlan", "passed")),
    "ARP in VLAN 7": (tagged(bytes(28), 7, ETH_ARP), ("arp", "passed")),
    "VLAN 0": (tagged(ASKING, 0), ("rule", "passed")),
    "denied in VLAN 0": (tagged(DENIED, 0), ("default", "dropped")),
    "denied with a priority": (tagged(DENIED, 0xE000), ("default", "dropped")),
}


def test_tagged_frames_belong_to_the_vlan_but_for_vlan_0(router, wire):
    found = {name: heard(router, functools.partial(wire.send, frame)) for name, (frame, _outcome) in TAGGED.items()}
    assert found == {name: {outcome} for name, (_frame, outcome) in TAGGED.items()}


def test_a_datagram_cut_short_is_malformed(router, wire):
    lengths = (0, 1, 19, 20, 24, 39)
    found = {length: heard(router, functools.partial(wire.send, ethernet(ASKING[:length]))) for length in lengths}
    assert found == {length: {("malformed", "dropped")} for length in lengths}


@pytest.mark.parametrize("options", [b"", bytes(40)], ids=["no-options", "options"])
def test_headers_may_lie_beyond_the_linear_area(router, wire, client, netns, options):
    """A packet socket with a virtio header puts no more than `hdr_len` bytes there: packet_alloc_skb()."""
    netns.run(f"ip link set {LAN} mtu 9000")
    with client.inside():
        netns.run(f"ip link set {LAN}-peer mtu 9000")
    wire.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    for linear in (14, 15, 33, 34, 35, 53, 54, 100):
        virtio = struct.pack("=BBHHHH", 0, 0, linear, 0, 0, 0)
        for port, outcome in ((443, ("rule", "passed")), (444, ("default", "dropped"))):
            datagram = ipv4(tcp(port, payload=bytes(5000)), TCP, destination=SERVER, options=options)
            frame = virtio + ethernet(datagram)
            assert heard(router, functools.partial(wire.send, frame)) == {outcome}, f"{linear} bytes are linear"


@pytest.fixture
def tunnel(bare_router):
    """Return (router, descriptor) of a tun device: what is written there comes in without an Ethernet header."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
    bare_router.netns.run(f"ip address add {OWN}/24 dev tun0")
    bare_router.netns.run("ip link set tun0 up")
    yield bare_router, descriptor
    os.close(descriptor)


def test_an_interface_without_ethernet_headers_splices(tunnel):
    router, descriptor = tunnel
    router.route("tun0")
    router.attach("tun0")
    router.rules(PASSING, {"destination": SERVER, "protocol": "udp", "ports": "53", "tproxy_port": 8053})
    with transparent(socket.SOCK_DGRAM, 8053) as proxy:
        os.write(descriptor, ipv4(udp(53, payload=b"ping"), UDP, destination=SERVER))
        assert proxy.recv(9) == b"ping"
    for datagram in (ASKING, DENIED, ASKING[:39]):
        os.write(descriptor, datagram)
    outcomes = ("spliced", "passed"), ("rule", "passed"), ("default", "dropped"), ("malformed", "dropped")
    eventually(lambda: [router.reasons("tun0").get(outcome) for outcome in outcomes] == [1, 1, 1, 1])
