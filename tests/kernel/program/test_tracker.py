# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flows that the tracker records for this host, and the answers that the program passes by them."""

from __future__ import annotations

import struct

import pytest

from ansible_collections.netedge.tproxy.tests.support.packets import (
    ACK,
    ETH_IPV6,
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    ethernet,
    icmpv6,
    ipv4,
    ipv6,
    tcp,
    udp,
    udp_frame,
)
from ansible_collections.netedge.tproxy.tests.support.splicer import told

WAN, SECOND, CLOSED = 1, 81, 82
OWN, OWN6 = "192.0.2.1", "2001:db8::1"
PEER, PEER6 = "198.51.100.7", "2001:db8:7::7"
FOREIGN = "203.0.113.9"
PASSED, DROPPED = ("pass", "session"), ("drop", "default")


@pytest.fixture
def tracking(netns, splicer):
    """Return the program on two uplinks that track, and on an interface that does not."""
    for ifindex in (SECOND, CLOSED):
        netns.run(f"ip link add uplink{ifindex} index {ifindex} type veth peer name far{ifindex}")
    for ifindex, track in ((WAN, "own"), (SECOND, "own"), (CLOSED, "none")):
        splicer.policy(ifindex, track=track)
    splicer.own(OWN, OWN6)
    return splicer


@pytest.fixture
def port():
    """Return a port that no other test has, because flows outlive their test."""
    port.last = getattr(port, "last", 20000) + 1
    return port.last


def answer(port: int, source: str = PEER, source_port: int = 123, destination: str = OWN) -> bytes:
    return udp_frame(destination, port, source, source_port)


def question(port: int, source: str = OWN, destination: str = PEER) -> bytes:
    return udp_frame(destination, 123, source, port)


def test_an_answer_to_a_datagram_of_this_host_is_a_session_on_each_tracked_interface(tracking, port):
    assert told(tracking.ask(answer(port), WAN)) == DROPPED
    assert tracking.leave(question(port), WAN) == "unspec"
    for ifindex, expected in ((WAN, PASSED), (SECOND, PASSED), (CLOSED, DROPPED)):
        assert told(tracking.ask(answer(port), ifindex)) == expected


def test_each_address_and_port_counts(tracking, port):
    tracking.leave(question(port), WAN)
    others = (
        answer(port + 1),
        answer(port, source_port=124),
        answer(port, source="198.51.100.8"),
        answer(port, destination="192.0.2.2"),
        ethernet(ipv4(tcp(port, 123, ACK), TCP, PEER, OWN)),
    )
    for frame in others:
        assert told(tracking.ask(frame, WAN)) == DROPPED


def test_ipv6_has_sessions_too(tracking, port):
    tracking.leave(ethernet(ipv6(udp(123, port), UDP, OWN6, PEER6), ETH_IPV6), WAN)
    assert told(tracking.ask(ethernet(ipv6(udp(port, 123), UDP, PEER6, OWN6), ETH_IPV6), WAN)) == PASSED


def test_a_proxys_answer_with_a_foreign_source_makes_no_session(tracking, port):
    tracking.leave(question(port, source=FOREIGN), WAN)
    assert told(tracking.ask(answer(port, destination=FOREIGN), WAN)) == DROPPED


def test_tcp_of_this_host_is_left_to_its_socket(tracking, port):
    tracking.leave(ethernet(ipv4(tcp(443, port), TCP, OWN, PEER)), WAN)
    assert tracking.flow("flows_own", PEER, OWN, TCP, (443, port)) is None
    assert told(tracking.ask(ethernet(ipv4(tcp(port, 443, ACK), TCP, PEER, OWN)), WAN)) == DROPPED


def test_an_interface_without_tracking_records_nothing(tracking, port):
    tracking.leave(question(port), CLOSED)
    assert told(tracking.ask(answer(port), WAN)) == DROPPED


@pytest.mark.parametrize("action", ["drop", "pass"])
def test_rules_come_before_sessions(tracking, port, action):
    tracking.leave(question(port), WAN)
    tracking.rules({"destination": "0.0.0.0/0", "protocol": "udp", "ports": str(port), "action": action})
    assert told(tracking.ask(answer(port), WAN)) == (action, "rule")


def test_a_question_leaves_the_state_of_a_flow_as_it_is(tracking, port):
    tracking.leave(question(port), WAN)
    before = tracking.flow("flows_own", PEER, OWN, UDP, (123, port))
    assert tracking.ask(answer(port), WAN).reason == "session"
    assert tracking.flow("flows_own", PEER, OWN, UDP, (123, port)) == before
    assert before["flags"] == 0


# ---- ICMP ----------------------------------------------------------------------------------------


def error(quoted: bytes, destination: str = OWN) -> bytes:
    """Return a message "time exceeded" of a router on the way."""
    if ":" in destination:
        return ethernet(ipv6(icmpv6(3, b"")[:8] + quoted, ICMPV6, PEER6, destination), ETH_IPV6)
    return ethernet(ipv4(b"\x0b" + bytes(7) + quoted, ICMP, FOREIGN, destination))


def echo(kind: int, identifier: int) -> bytes:
    return struct.pack(">BBHHH", kind, 0, 0, identifier, 1)


def test_an_error_about_a_tracked_flow_passes(tracking, port):
    quoted = ipv4(udp(123, port), UDP, OWN, PEER)
    assert told(tracking.ask(error(quoted), WAN)) == ("drop", "icmp")
    tracking.leave(ethernet(quoted), WAN)
    assert told(tracking.ask(error(quoted), WAN)) == ("pass", "icmp")
    assert told(tracking.ask(error(ipv4(udp(124, port), UDP, OWN, PEER)), WAN)) == ("drop", "icmp")


@pytest.mark.parametrize("ifindex", [WAN, CLOSED])
def test_an_error_about_an_echo_request_of_this_host_passes(tracking, ifindex):
    assert told(tracking.ask(error(ipv4(echo(8, 7), ICMP, OWN, PEER)), ifindex)) == ("pass", "icmp")
    assert told(tracking.ask(error(ipv6(echo(128, 7), ICMPV6, OWN6, PEER6), OWN6), ifindex)) == ("pass", "icmp")


def test_an_error_about_an_echo_request_of_another_host_does_not(tracking):
    frame = error(ipv4(echo(8, 7), ICMP, FOREIGN, PEER), FOREIGN)
    assert told(tracking.ask(frame, WAN)) == ("drop", "icmp")


@pytest.mark.parametrize("kind", [0, 3, 13])
def test_an_error_about_another_icmp_message_is_no_error(tracking, kind):
    assert told(tracking.ask(error(ipv4(echo(kind, 7), ICMP, OWN, PEER)), WAN)) == ("drop", "other")


def test_an_echo_request_of_this_host_is_recorded_by_its_identifier(tracking):
    tracking.leave(ethernet(ipv4(echo(8, 77), ICMP, OWN, PEER)), WAN)
    assert tracking.flow("flows_own", PEER, OWN, ICMP, (0, 77)) is not None
    tracking.leave(ethernet(ipv6(echo(128, 78), ICMPV6, OWN6, PEER6), ETH_IPV6), WAN)
    assert tracking.flow("flows_own", PEER6, OWN6, ICMPV6, (0, 78)) is not None
    tracking.leave(ethernet(ipv4(echo(0, 79), ICMP, OWN, PEER)), WAN)
    assert tracking.flow("flows_own", PEER, OWN, ICMP, (0, 79)) is None
