# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packet table, row by row: kinds of packets. test_always_allowed.py has traffic that always passes."""

from __future__ import annotations

import random

import pytest

from ansible_collections.netedge.tproxy.tests.support.packets import (
    ACK,
    CLIENT_SOURCES,
    ETH_ARP,
    ETH_IPV6,
    ICMP,
    IPV4_OPTIONS,
    MORE_FRAGMENTS,
    TCP,
    UDP,
    ethernet,
    ipv4,
    ipv6,
    tcp,
    tcp_frame,
    udp,
)
from ansible_collections.netedge.tproxy.tests.support.splicer import told

LAN = 1  # the loopback interface is as good as any: what makes it special is a flag of its policy
SERVER = "192.0.2.1"
ROUTING, GRE, AH, OSPF, VRRP = 43, 47, 51, 89, 112
EVERYTHING = [
    {"destination": "0.0.0.0/0", "protocol": protocol, "ports": "0-65535", "action": "pass"}
    for protocol in ("tcp", "udp")
]


# ---- row 1: not for us to judge ----------------------------------------------------------


@pytest.mark.parametrize("default", ["drop", "pass"])
def test_arp_passes(splicer, default):
    splicer.policy(LAN, default_action=default)
    assert told(splicer.ask(ethernet(bytes(28), ETH_ARP), LAN)) == ("pass", "arp")


@pytest.mark.parametrize("protocol", [0x88CC, 0x888E, 0x8809, 0x8864, 0x8847], ids=hex)
def test_link_protocols_pass(splicer, protocol):
    """LLDP, EAPOL, slow protocols, PPPoE and MPLS."""
    splicer.policy(LAN)
    splicer.rules(*EVERYTHING)
    assert told(splicer.ask(ethernet(bytes(46), protocol), LAN)) == ("pass", "link")
    splicer.policy(LAN, link_protocols="drop", default_action="pass")
    assert told(splicer.ask(ethernet(bytes(46), protocol), LAN)) == ("drop", "link")
    assert told(splicer.ask(ethernet(bytes(28), ETH_ARP), LAN)) == ("pass", "arp")


@pytest.mark.parametrize("default", ["drop", "pass"])
@pytest.mark.parametrize(
    "frame",
    [
        ethernet(ipv4(b"\x0d" + bytes(15), ICMP)),
        ethernet(ipv4(bytes(16), 47)),
        ethernet(ipv4(b"", 0)),
    ],
    ids=["ICMP-timestamp", "GRE", "no-payload"],
)
def test_what_no_row_names_gets_the_default_action(splicer, frame, default):
    splicer.policy(LAN, default_action=default)
    splicer.rules(*EVERYTHING)
    assert told(splicer.ask(frame, LAN)) == (default, "other")


# ---- rows 7 and 9: protocols without ports ------------------------------------------------

PORTLESS = [
    {"destination": "192.0.2.0/24", "protocol": "gre", "action": "pass"},
    {"destination": SERVER, "source": "10.9.0.0/16", "protocol": "gre", "action": "drop"},
    {"destination": "0.0.0.0/0", "protocol": "ospf", "action": "drop"},
    {"destination": "fd00::/8", "protocol": "ah", "action": "pass"},
    {"destination": "fd00::/8", "protocol": "tcp", "ports": 443, "action": "tproxy", "tproxy_port": 1},
    {"destination": "192.0.2.0/24", "protocol": "udp", "ports": 443, "action": "tproxy", "tproxy_port": 1},
]


@pytest.mark.parametrize(
    ("protocol", "header", "expected"),
    [
        (GRE, {}, ("pass", "rule")),
        (GRE, {"fragment": MORE_FRAGMENTS}, ("pass", "rule")),
        (GRE, {"fragment": 100}, ("pass", "rule")),
        (GRE, {"source": "10.9.1.1"}, ("drop", "rule")),
        (GRE, {"destination": "192.0.3.1"}, ("drop", "other")),
        (OSPF, {}, ("drop", "rule")),
        (VRRP, {}, ("drop", "other")),
        (VRRP, {"fragment": 100}, ("drop", "other")),
        (UDP, {"fragment": 100}, ("drop", "fragment")),
        (ICMP, {"fragment": 100}, ("drop", "fragment")),
    ],
)
def test_a_rule_for_a_protocol_judges_packets_and_fragments(splicer, protocol, header, expected):
    splicer.policy(LAN, default_action="drop")
    splicer.rules(*PORTLESS)
    assert told(splicer.ask(ethernet(ipv4(bytes(24), protocol, **{"destination": SERVER, **header})), LAN)) == expected


@pytest.mark.parametrize(
    ("destination", "expected"), [("fd00::1", ("pass", "rule")), ("2001:db8::1", ("drop", "other"))]
)
def test_an_authentication_header_ends_the_chain(splicer, destination, expected):
    """The stack gives what follows to no socket without a key, so it is never counted as spliced."""
    splicer.policy(LAN, default_action="drop")
    splicer.rules(*PORTLESS)
    behind_options = bytes((AH, 0)) + bytes(6) + bytes((TCP, 4)) + bytes(22) + tcp(443)
    frame = ethernet(ipv6(behind_options, 0, "fd00::2", destination), ETH_IPV6)
    assert told(splicer.ask(frame, LAN)) == expected


@pytest.mark.parametrize(("addresses_left", "expected"), [(0, ("drop", "no_listener")), (1, ("drop", "undeliverable"))])
def test_a_packet_with_a_next_hop_in_its_routing_header_is_never_spliced(splicer, addresses_left, expected):
    """The stack sends it to the next address, or drops it (ipv6_rthdr_rcv() in net/ipv6/exthdrs.c)."""
    splicer.policy(LAN, default_action="drop")
    splicer.rules(*PORTLESS)
    behind_options = bytes((ROUTING, 0)) + bytes(6) + bytes((TCP, 0, 4, addresses_left)) + bytes(4) + tcp(443)
    frame = ethernet(ipv6(behind_options, 0, "fd00::2", "fd00::1"), ETH_IPV6)
    assert told(splicer.ask(frame, LAN)) == expected


@pytest.mark.parametrize(("options", "undeliverable"), IPV4_OPTIONS.values(), ids=IPV4_OPTIONS)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_packet_with_a_source_route_or_wrong_options_is_never_spliced(splicer, protocol, options, undeliverable):
    """The stack drops it, or sends it on (ip_rcv_options() in net/ipv4/ip_input.c)."""
    splicer.policy(LAN, default_action="drop")
    rule = {"destination": SERVER, "ports": 443, "action": "tproxy", "tproxy_port": 1}
    splicer.rules({**rule, "protocol": protocol})
    number, payload = {"tcp": (TCP, tcp(443)), "udp": (UDP, udp(443))}[protocol]
    frame = ethernet(ipv4(payload, number, "10.1.0.2", SERVER, options=options))
    assert told(splicer.ask(frame, LAN)) == ("drop", "undeliverable" if undeliverable else "no_listener")


@pytest.mark.parametrize(("source", "special"), CLIENT_SOURCES.items())
def test_a_packet_from_a_special_address_is_never_spliced(splicer, source, special):
    splicer.policy(LAN, default_action="drop")
    splicer.rules({"destination": SERVER, "protocol": "tcp", "ports": 443, "action": "tproxy", "tproxy_port": 1})
    expected = "undeliverable" if special else "no_listener"
    assert told(splicer.ask(tcp_frame(SERVER, 443, source), LAN)) == ("drop", expected)


@pytest.mark.parametrize("source", ["::", "::1", "ff02::1"])
def test_a_packet_from_a_special_ipv6_address_is_never_spliced(splicer, source):
    splicer.policy(LAN, default_action="drop")
    splicer.rules(*PORTLESS)
    frame = ethernet(ipv6(tcp(443), TCP, source, "fd00::1"), ETH_IPV6)
    assert told(splicer.ask(frame, LAN)) == ("drop", "undeliverable")


# ---- row 2: malformed ----------------------------------------------------------------------

WHOLE = tcp(443, flags=ACK)
MALFORMED = {
    "version-0": ipv4(WHOLE, TCP, version=0),
    "version-5": ipv4(WHOLE, TCP, version=5),
    "version-6": ipv4(WHOLE, TCP, version=6),
    "header-of-0-bytes": ipv4(WHOLE, TCP, ihl=0),
    "header-of-16-bytes": ipv4(WHOLE, TCP, ihl=4),
    "header-beyond-the-datagram": ipv4(WHOLE, TCP, ihl=15),
    "header-longer-than-the-datagram": ipv4(WHOLE, TCP, ihl=6, length=23),
    "longer-than-the-frame": ipv4(WHOLE, TCP, length=41),
    "much-longer-than-the-frame": ipv4(WHOLE, TCP, length=0xFFFF),
    "shorter-than-its-header": ipv4(WHOLE, TCP, length=19),
    "of-no-length": ipv4(WHOLE, TCP, length=0),
    "ICMP-shorter-than-its-header": ipv4(bytes(16), ICMP, length=19),
    "fragment-shorter-than-its-header": ipv4(WHOLE, TCP, length=19, fragment=MORE_FRAGMENTS),
    "no-TCP-header": ipv4(b"", TCP),
    "TCP-header-cut": ipv4(WHOLE[:19], TCP),
    "no-UDP-header": ipv4(b"", UDP),
    "UDP-header-cut": ipv4(udp(443)[:7], UDP),
    "TCP-header-in-the-padding": ipv4(WHOLE, TCP, length=39),
    "UDP-header-in-the-padding": ipv4(udp(443), UDP, length=27),
}


@pytest.mark.parametrize("default", ["drop", "pass"])
@pytest.mark.parametrize("datagram", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_datagram_is_dropped_on_any_policy(splicer, datagram, default):
    splicer.policy(LAN, default_action=default)
    splicer.rules(*EVERYTHING)
    assert told(splicer.ask(ethernet(datagram), LAN)) == ("drop", "malformed")


@pytest.mark.parametrize(
    "datagram",
    [ipv4(WHOLE, TCP), ipv4(WHOLE, TCP) + bytes(6), ipv4(udp(443, payload=b""), UDP) + bytes(18)],
    ids=["exact", "padded", "padded-to-a-whole-frame"],
)
def test_a_sound_datagram_is_not(splicer, datagram):
    splicer.policy(LAN)
    splicer.rules(*EVERYTHING)
    assert told(splicer.ask(ethernet(datagram), LAN)) == ("pass", "rule")


@pytest.mark.parametrize("length", range(4, 44, 4))
def test_options_are_stepped_over(splicer, length):
    decoy = (tcp(80) * 2)[:length]
    splicer.policy(LAN)
    splicer.rules({"destination": SERVER, "protocol": "tcp", "ports": 443, "action": "pass"})
    assert told(splicer.ask(tcp_frame(SERVER, 443, options=decoy), LAN)) == ("pass", "rule")
    assert told(splicer.ask(tcp_frame(SERVER, 80, options=decoy), LAN)) == ("drop", "default")


# ---- anything at all -----------------------------------------------------------------------------------


def test_no_garbage_is_dropped_on_the_loopback_interface(splicer):
    splicer.policy(LAN, loopback=True)
    splicer.rules(*EVERYTHING, {"destination": SERVER, "protocol": "tcp", "ports": "0-65535", "action": "drop"})
    chance = random.Random(20260101)
    for _number in range(10_000):
        frame = bytearray(chance.randbytes(chance.randrange(34, 200)))
        if chance.random() < 0.8:
            frame[12:14] = b"\x08\x00"
            frame[14] = chance.choice((0x45, 0x45, 0x46, 0x4F, frame[14]))
            frame[23] = chance.choice((TCP, UDP, frame[23]))
        assert splicer.ask(bytes(frame), LAN).action == "pass"
