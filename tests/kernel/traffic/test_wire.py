# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames that a test run refuses or cannot make: tagged, cut short, in pages, without Ethernet."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import socket
import struct

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import structs
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import (
    INTERFACES,
    REASON_DEFAULT,
    REASON_ICMP,
    REASON_OTHER,
    REASON_SSH,
    UNKNOWN_SLOT,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.pins import splicer_pins
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf, bpffs
from ansible_collections.netedge.tproxy.tests.support.ends import ENDS
from ansible_collections.netedge.tproxy.tests.support.packets import (
    ETH_ARP,
    ETH_IP,
    ETH_IPV6,
    ETH_VLAN,
    TCP,
    UDP,
    ethernet,
    ipv4,
    ipv6,
    tagged,
    tcp,
    udp,
)
from ansible_collections.netedge.tproxy.tests.support.router import (
    LAN,
    OWN,
    SERVER,
    eventually,
    outcomes_of,
    transparent,
)

ETH_QINQ = 0x88A8
PACKET_VNET_HDR, SOL_PACKET = 15, 263
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
PASSING = {"destination": SERVER, "protocol": "tcp", "ports": "443", "action": "pass"}
ASKING, DENIED = (ipv4(tcp(port), TCP, destination=SERVER) for port in (443, 444))


@pytest.fixture
def router(splicing):
    """Return this file's router, which passes the flow of ASKING."""
    splicing.attach(policy={"allow_ssh": False, "default_action": "drop"})
    splicing.rules(PASSING)
    return splicing


@pytest.fixture
def client(lasting):
    """Return the client at the other end of the router's wire."""
    return lasting[1]


@pytest.fixture
def wire(router, client):
    """Return a raw socket on the client's end of the wire."""
    with client.raw() as raw:
        yield raw


def tagged_twice(payload: bytes, outer: int, inner: int, kind: int = ETH_VLAN) -> bytes:
    """Return a frame with two tags, `kind` being the EtherType of the outer one."""
    return ethernet(struct.pack(">HHHH", outer, ETH_VLAN, inner, ETH_IP) + payload, kind)


TAGGED = {
    "untagged": (ethernet(ASKING), ("rule", "passed")),
    "VLAN 7": (tagged(ASKING, 7), ("vlan", "passed")),
    "VLAN 4095": (tagged(ASKING, 4095), ("vlan", "passed")),
    "denied in VLAN 7": (tagged(DENIED, 7), ("vlan", "passed")),
    "QinQ": (tagged_twice(ASKING, 7, 8, ETH_QINQ), ("vlan", "passed")),
    "ARP in VLAN 7": (tagged(bytes(28), 7, ETH_ARP), ("arp", "passed")),
    "VLAN 0": (tagged(ASKING, 0), ("rule", "passed")),
    "denied in VLAN 0": (tagged(DENIED, 0), ("default", "dropped")),
    "denied with a priority": (tagged(DENIED, 0xE000), ("default", "dropped")),
    "VLAN 7 behind VLAN 0": (tagged_twice(DENIED, 0, 7), ("vlan", "passed")),
    "VLAN 7 behind VLAN 0, 802.1ad": (tagged_twice(DENIED, 0, 7, ETH_QINQ), ("vlan", "passed")),
    "VLAN 0 twice": (tagged_twice(ASKING, 0, 0), ("malformed", "dropped")),
    "VLAN 0 twice, 802.1ad": (tagged_twice(ASKING, 0xE000, 0xE000, ETH_QINQ), ("malformed", "dropped")),
}


def test_tagged_frames_belong_to_the_vlan_but_for_vlan_0(router, wire):
    found = {
        name: outcomes_of(router, functools.partial(wire.send, frame)) for name, (frame, _outcome) in TAGGED.items()
    }
    assert found == {name: {outcome} for name, (_frame, outcome) in TAGGED.items()}


def test_a_second_priority_tag_leads_no_packet_past_the_rules(router, wire):
    """The kernel takes it off behind the hook, and the packet is the interface's own: check_vlan_id in dev.c."""
    router.attach(policy={"default_action": "pass"})
    router.rules({"destination": OWN, "protocol": "udp", "ports": "53", "action": "drop"})
    kernel = json.loads(router.netns.run(f"ip -j link show {LAN}"))[0]["address"]
    head = bytes.fromhex(kernel.replace(":", ""))
    denied, asking = (ipv4(udp(port, payload=bytes(4)), UDP, destination=OWN) for port in (53, 54))
    with socket.socket(type=socket.SOCK_DGRAM) as own, socket.socket(type=socket.SOCK_DGRAM) as other:
        own.bind((OWN, 53))
        other.bind((OWN, 54))
        for tags in range(4):
            frame = head + bytes(6) + struct.pack(">HH", ETH_VLAN, 0) * tags + struct.pack(">H", ETH_IP)
            wire.send(frame + denied)
        wire.send(head + bytes(6) + struct.pack(">H", ETH_IP) + asking)
        other.settimeout(10)
        assert other.recv(9) == bytes(4)
        own.setblocking(False)
        with pytest.raises(BlockingIOError):
            own.recv(9)


def test_a_datagram_cut_short_is_malformed(router, wire):
    lengths = (0, 1, 19, 20, 24, 39)
    found = {length: outcomes_of(router, functools.partial(wire.send, ethernet(ASKING[:length]))) for length in lengths}
    assert found == {length: {("malformed", "dropped")} for length in lengths}


MUCH = bytes(5000)
DESTINATION_OPTIONS, PADN = 60, 1  # RFC 8200, sections 4.6 and 4.2


def sixth(port: int, extension: bytes = b"") -> bytes:
    """Return a frame of IPv6 with an extension header, or with none."""
    following = DESTINATION_OPTIONS if extension else TCP
    return ethernet(ipv6(extension + tcp(port, payload=MUCH), following, ENDS[6].client, ENDS[6].server), ETH_IPV6)


LONG_FRAMES = {
    "IPv4": lambda port: ethernet(ipv4(tcp(port, payload=MUCH), TCP, destination=SERVER)),
    "IPv4-options": lambda port: ethernet(ipv4(tcp(port, payload=MUCH), TCP, destination=SERVER, options=bytes(40))),
    "IPv6": sixth,
    "IPv6-extension": lambda port: sixth(port, struct.pack("BBBB4x", TCP, 0, PADN, 4)),
}


@pytest.mark.parametrize("kind", LONG_FRAMES)
def test_headers_may_lie_beyond_the_linear_area(router, wire, client, kind):
    """A packet socket with a virtio header puts no more than `hdr_len` bytes there: packet_alloc_skb()."""
    router.netns.run(f"ip link set {LAN} mtu 9000")
    with client.inside():
        router.netns.run(f"ip link set {LAN}-peer mtu 9000")
    wire.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    router.rules({**PASSING, "destination": ENDS[6].server})
    for linear in (14, 15, 33, 34, 35, 53, 54, 100):
        virtio = struct.pack("=BBHHHH", 0, 0, linear, 0, 0, 0)
        for port, outcome in ((443, ("rule", "passed")), (444, ("default", "dropped"))):
            frame = virtio + LONG_FRAMES[kind](port)
            assert outcomes_of(router, functools.partial(wire.send, frame)) == {outcome}, f"{linear} bytes are linear"


@pytest.fixture
def tunnel(router):
    """Return the descriptor of a tun device. Bytes written there come in without an Ethernet header."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
    router.netns.run("ip link set tun0 up")
    router.route("tun0")
    router.attach("tun0")
    yield descriptor
    os.close(descriptor)


def test_an_interface_without_ethernet_headers_splices(router, tunnel):
    router.rules({"destination": SERVER, "protocol": "udp", "ports": "53", "tproxy_port": 8053})
    with transparent(socket.SOCK_DGRAM, 8053) as proxy:
        os.write(tunnel, ipv4(udp(53, payload=b"ping"), UDP, destination=SERVER))
        assert proxy.recv(9) == b"ping"
    for datagram in (ASKING, DENIED, ASKING[:39]):
        os.write(tunnel, datagram)
    outcomes = ("spliced", "passed"), ("rule", "passed"), ("default", "dropped"), ("malformed", "dropped")
    eventually(lambda: [router.reasons("tun0").get(outcome) for outcome in outcomes] == [1, 1, 1, 1])


def test_ssh_reaches_such_an_interface_when_its_policy_was_removed_by_hand(router, tunnel):
    with splicer_pins(bpf, bpffs, router.pin_dir) as pins:
        for slot in range(INTERFACES):
            bpf.update(pins.fd("policy"), structs.key(slot), bytes(structs.size_of("policy")), "policy")
        os.write(tunnel, ipv4(tcp(22), TCP, destination=OWN))
        os.write(tunnel, DENIED)
        eventually(lambda: unknown_reasons(pins) == {REASON_SSH: 1, REASON_DEFAULT: 1})


def unknown_reasons(pins) -> dict:
    """Return {reason: packets} of interfaces without a policy."""
    size = structs.size_of("interface_counters") * bpf.possible_cpus()
    counted = structs.sum_outcomes(bpf.lookup(pins.fd("reasons"), structs.key(UNKNOWN_SLOT), size))
    packets = {reason: counter["packets"] for (reason, _verdict), counter in counted.items() if counter["packets"]}
    return {reason: count for reason, count in packets.items() if reason not in (REASON_ICMP, REASON_OTHER)}
