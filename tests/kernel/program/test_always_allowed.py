# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packet table, row by row: traffic that always passes. test_rules.py has sessions and rules."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import MANAGEMENT
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.policy import Management
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import Prefix
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.protocol import protocol_name
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources import interfaces
from ansible_collections.netedge.tproxy.tests.support.packets import (
    ETH_IPV6,
    ICMP,
    ICMPV6,
    ethernet,
    icmpv6,
    ipv4,
    ipv6,
    tcp_frame,
    udp_frame,
)
from ansible_collections.netedge.tproxy.tests.support.splicer import told

LAN = 1
SERVER, OWN, OTHER = "192.0.2.1", "10.1.0.1", "10.1.0.77"


def management(source: str, port: int = 8006, protocol: str = "tcp") -> Management:
    return Management(Prefix.parse(source)[0], protocol, port)


# ---- row 3: management ---------------------------------------------------------------------------


@pytest.mark.parametrize("length", range(33))
def test_management_holds_exactly_its_prefix(splicer, length):
    network = 0x0A63D5A6 >> (32 - length) << (32 - length)
    last = network | ((1 << (32 - length)) - 1)
    splicer.policy(LAN, management=(management(f"{address(network)}/{length}"),))
    for source in (network, last):
        assert told(splicer.ask(tcp_frame(OWN, 8006, address(source)), LAN)) == ("pass", "management")
    for source in (network - 1, last + 1):
        if 0 <= source < 1 << 32:
            assert told(splicer.ask(tcp_frame(OWN, 8006, address(source)), LAN)) == ("drop", "default")


def address(number: int) -> str:
    return ".".join(str(number >> shift & 0xFF) for shift in (24, 16, 8, 0))


def test_management_is_of_one_protocol_and_port_to_this_host(splicer):
    splicer.policy(LAN, management=(management("10.1.0.0/24", 161, "udp"),))
    splicer.own(OWN, OTHER, broadcasts=("10.1.0.255",))
    for destination in (OWN, OTHER, "10.1.0.255", "255.255.255.255", "224.0.0.251"):
        assert told(splicer.ask(udp_frame(destination, 161), LAN)) == ("pass", "management")
    for destination in (SERVER, "10.1.0.2", "127.0.0.1"):
        assert told(splicer.ask(udp_frame(destination, 161), LAN)) == ("drop", "default")
    for frame in (tcp_frame(OWN, 161), udp_frame(OWN, 162), udp_frame(OWN, 160), udp_frame(OWN, 9, source_port=161)):
        assert told(splicer.ask(frame, LAN)) == ("drop", "default")


@pytest.mark.parametrize("number", [2, 47, 50, 89, 112, 255])
def test_management_of_a_protocol_without_ports(splicer, number):
    splicer.policy(LAN, management=(Management(Prefix.parse("10.1.0.0/24")[0], protocol_name(number)),))
    splicer.own(OWN)
    for destination in (OWN, "224.0.0.18"):
        assert told(splicer.ask(portless_frame(destination, number), LAN)) == ("pass", "management")
        assert told(splicer.ask(portless_frame(destination, number, "10.2.0.2"), LAN)) == ("drop", "other")
        assert told(splicer.ask(portless_frame(destination, 253), LAN)) == ("drop", "other")
    assert told(splicer.ask(portless_frame(SERVER, number), LAN)) == ("drop", "other")
    assert told(splicer.ask(tcp_frame(OWN, number), LAN)) == ("drop", "default")


def portless_frame(destination: str, protocol: int, source: str = "10.1.0.2") -> bytes:
    return ethernet(ipv4(bytes(24), protocol, source, destination))


def test_every_entry_counts_and_none_beyond_their_number(splicer, stale):
    entries = tuple(management(f"10.1.0.{host}", 9000 + host) for host in range(MANAGEMENT))
    splicer.policy(LAN, management=entries)
    for host in range(MANAGEMENT):
        assert told(splicer.ask(tcp_frame(OWN, 9000 + host, f"10.1.0.{host}"), LAN)) == ("pass", "management")
    stale("management_count", 3)
    splicer.policy(LAN, management=entries)
    assert told(splicer.ask(tcp_frame(OWN, 9002, "10.1.0.2"), LAN)) == ("pass", "management")
    assert told(splicer.ask(tcp_frame(OWN, 9003, "10.1.0.3"), LAN)) == ("drop", "default")


@pytest.fixture
def stale(monkeypatch):
    """Return a way to leave in a struct more entries than it counts, as if from before."""

    def leave(member: str, count: int) -> None:
        encode = interfaces.encode
        monkeypatch.setattr(
            interfaces,
            "encode",
            lambda name, values: encode(name, {**values, member: count} if member in values else values),
        )

    return leave


@pytest.mark.parametrize("source", ["::/0", "::/8", "::/80", "fd00::/8", "a0a:a0a::/32"])
def test_an_ipv6_prefix_admits_no_ipv4_peer(splicer, source):
    splicer.policy(LAN, management=(management(source),))
    assert told(splicer.ask(tcp_frame(OWN, 8006, "10.10.10.10"), LAN)) == ("drop", "default")


def test_management_goes_before_rules(splicer):
    splicer.policy(LAN, management=(management("10.1.0.0/24"),))
    splicer.rules({"destination": "0.0.0.0/0", "protocol": "tcp", "ports": 8006, "action": "drop"})
    assert told(splicer.ask(tcp_frame(OWN, 8006), LAN)) == ("pass", "management")
    assert told(splicer.ask(tcp_frame(OWN, 8006, "10.2.0.2"), LAN)) == ("drop", "rule")


# ---- row 4: DHCP -----------------------------------------------------------------------------------


@pytest.mark.parametrize("destination", ["255.255.255.255", OWN, SERVER])
def test_a_dhcp_answer_passes(splicer, destination):
    """A client may have no address yet. test_closed.py shows that the stack forwards none of these answers."""
    splicer.policy(LAN, allow_ssh=False)
    assert told(splicer.ask(udp_frame(destination, 68, source_port=67), LAN)) == ("pass", "dhcp")


@pytest.mark.parametrize(
    "frame",
    [
        udp_frame(OWN, 67, source_port=68),
        udp_frame(OWN, 67, source_port=67),
        udp_frame(OWN, 68, source_port=68),
        udp_frame(OWN, 69, source_port=67),
        udp_frame(OWN, 68, source_port=66),
        tcp_frame(OWN, 68, source_port=67),
    ],
    ids=["request", "67-67", "68-68", "67-69", "66-68", "TCP"],
)
def test_what_only_looks_like_dhcp_does_not(splicer, frame):
    splicer.policy(LAN)
    assert told(splicer.ask(frame, LAN)) == ("drop", "default")


# ---- row 5: SSH --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 31, 32, 300])
def test_ssh_to_own_addresses_only(splicer, count):
    own = [f"10.{1 + number // 256}.{number % 256}.1" for number in range(count)]
    splicer.policy(LAN)
    splicer.own(*own, broadcasts=("10.1.0.255",))
    for address_of_host in own:
        assert told(splicer.ask(tcp_frame(address_of_host, 22), LAN)) == ("pass", "ssh")
    for other in (SERVER, "10.1.0.2", f"10.9.{count % 256}.1", "0.0.0.0", "10.1.0.255", "224.0.0.1"):
        assert told(splicer.ask(tcp_frame(other, 22), LAN)) == ("drop", "default")


def test_ssh_to_no_address_while_the_host_has_none(splicer):
    splicer.policy(LAN)
    splicer.own()
    assert told(splicer.ask(tcp_frame(OWN, 22), LAN)) == ("drop", "default")


def test_an_ipv6_address_that_ends_alike_is_another(splicer):
    splicer.policy(LAN)
    splicer.own(f"2001:db8::ffff:{OWN}")
    assert told(splicer.ask(tcp_frame(OWN, 22), LAN)) == ("drop", "default")


def test_ssh_is_tcp_to_port_22_and_can_be_closed(splicer):
    splicer.policy(LAN)
    for frame in (udp_frame(OWN, 22), tcp_frame(OWN, 23), tcp_frame(OWN, 21), tcp_frame(OWN, 40000, source_port=22)):
        assert told(splicer.ask(frame, LAN)) == ("drop", "default")
    splicer.policy(LAN, allow_ssh=False)
    assert told(splicer.ask(tcp_frame(OWN, 22), LAN)) == ("drop", "default")


def test_ssh_goes_before_rules(splicer):
    splicer.policy(LAN)
    splicer.rules({"destination": "0.0.0.0/0", "protocol": "tcp", "ports": 22, "action": "drop"})
    assert told(splicer.ask(tcp_frame(OWN, 22), LAN)) == ("pass", "ssh")


# ---- row 6: ICMP to this host ---------------------------------------------------------------------------


def ping(kind: int, destination: str) -> bytes:
    return ethernet(ipv4(bytes([kind]) + bytes(7), ICMP, "10.1.0.2", destination))


@pytest.mark.parametrize("default", ["drop", "pass"])
def test_echo_passes_to_this_host_only(splicer, default):
    splicer.policy(LAN, default_action=default, allow_echo=True)
    for kind in (0, 8):
        assert told(splicer.ask(ping(kind, OWN), LAN)) == ("pass", "icmp")
        assert told(splicer.ask(ping(kind, SERVER), LAN)) == (default, "icmp")


@pytest.mark.parametrize("kind", [133, 134, 135, 136, 137])
def test_neighbour_discovery_passes_to_this_host_and_on_the_link(splicer, kind):
    splicer.policy(LAN)
    splicer.own("2001:db8::1")

    def ask(destination: str, hop_limit: int = 255) -> tuple:
        packet = ipv6(icmpv6(kind), ICMPV6, "fe80::2", destination, hop_limit)
        return told(splicer.ask(ethernet(packet, ETH_IPV6), LAN))

    for destination in ("2001:db8::1", "ff02::1", "fe80::1"):
        assert ask(destination) == ("pass", "icmp")
        assert ask(destination, 254) == ("drop", "other")
    assert ask("2001:db8:9::1") == ("drop", "icmp")


@pytest.mark.parametrize("kind", [0x11, 0x12, 0x16, 0x17, 0x22])
def test_igmp_of_the_link_passes(splicer, kind):
    splicer.policy(LAN)

    def ask(kind: int, destination: str = "224.0.0.1", ttl: int = 1, size: int = 8) -> tuple:
        message = (bytes([kind]) + bytes(7))[:size]
        return told(splicer.ask(ethernet(ipv4(message, 2, "10.1.0.2", destination, ttl=ttl)), LAN))

    assert ask(kind) == ask(kind, OWN) == ("pass", "icmp")
    assert ask(kind, SERVER) == ("drop", "icmp")
    assert ask(kind, ttl=2) == ask(kind, size=7) == ask(0x13) == ("drop", "other")


@pytest.mark.parametrize(("error", "code"), [(11, 0), (3, 4), (3, 1)])
def test_an_error_about_a_ping_of_this_host_passes(splicer, error, code):
    splicer.policy(LAN)

    def ask(own: str, kind: int = 8, destination: str = "") -> tuple:
        quoted = ipv4(bytes([kind]) + bytes(7), ICMP, own, "198.51.100.7")
        message = bytes([error, code]) + bytes(6) + quoted
        return told(splicer.ask(ethernet(ipv4(message, ICMP, "10.1.0.2", destination or own)), LAN))

    assert ask(OWN) == ("pass", "icmp")
    assert ask(SERVER) == ("drop", "icmp")
    assert ask(OWN, 0) == ask(OWN, destination=OTHER) == ("drop", "other")
