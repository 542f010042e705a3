# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows 7a to 7c: which fragment gets what. traffic/test_fragments.py has datagrams that a stack puts together."""

from __future__ import annotations

import struct
import sys
import time

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import layout, structs
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.policy import Management
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import Prefix, parse_address
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf
from ansible_collections.netedge.tproxy.tests.support.packets import (
    DONT_FRAGMENT,
    ETH_IPV6,
    ICMP,
    MORE_FRAGMENTS,
    TCP,
    UDP,
    ethernet,
    icmpv6,
    ipv4,
    ipv6,
    tcp,
    tcp_frame,
    udp,
    udp_frame,
)
from ansible_collections.netedge.tproxy.tests.support.splicer import OWN, told

LAN = 1
CLIENT, SERVER, BESIDE = "10.1.0.2", "192.0.2.1", "198.51.100.1"
CLIENT6, SERVER6 = "fd00:1::2", "2001:db8::1"
FIRST, LATER = MORE_FRAGMENTS, 3
NEXT_FRAGMENT, NEXT_OPTIONS, ICMPV6 = 44, 60, 58
DROP_WEB = {"destination": SERVER, "protocol": "tcp", "ports": 80, "action": "drop"}
DROP_SYSLOG = {"destination": SERVER, "protocol": "udp", "ports": 514, "action": "drop"}
PASS_ALL = [
    {"destination": "0.0.0.0/0", "protocol": protocol, "ports": "0-65535", "action": "pass"}
    for protocol in ("tcp", "udp")
]


def fragment6(payload: bytes, following: int, offset: int = 0, more: bool = True, behind: bytes = b"") -> bytes:
    """Return a frame with a fragment header; `behind` it stands another header, of which `following` is the next."""
    first = NEXT_OPTIONS if behind else following
    head = struct.pack(">BBHI", first, 0, offset | more, 1)
    return ethernet(ipv6(head + behind + payload, NEXT_FRAGMENT, CLIENT6, SERVER6), ETH_IPV6)


@pytest.fixture
def firsts(splicer):
    """Return a function that lets the program know a first fragment, for so many seconds."""
    kept = []

    def know(verdict: int, seconds: int = 30, marked: int = 0, **changed) -> None:
        key = {"saddr": CLIENT, "daddr": SERVER, "ifindex": LAN, "id": 1, "protocol": UDP, **changed}
        key.update({name: parse_address(key[name]) for name in ("saddr", "daddr")})
        # in network order, as in the packet
        key["id"] = int.from_bytes(
            key["id"].to_bytes(4 if ":" in changed.get("saddr", "") else 2, "big"), sys.byteorder
        )
        expires = time.monotonic_ns() + seconds * 10**9
        state = {"expires": expires, "verdict": verdict, "marked": marked}
        kept.append(structs.encode("fragment_key", key))
        bpf.update(splicer.maps["fragments"], kept[-1], structs.encode("fragment_state", state))

    yield know
    for key in kept:
        bpf.delete(splicer.maps["fragments"], key, "fragments")


# ---- first fragments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (tcp_frame(OWN, 22, fragment=FIRST), ("pass", "management")),
        (tcp_frame(SERVER, 80, fragment=FIRST), ("drop", "rule")),
        (udp_frame(SERVER, 515, fragment=FIRST), ("pass", "rule")),
        (udp_frame(OWN, 68, source_port=67, fragment=FIRST), ("pass", "dhcp")),
        (udp_frame(BESIDE, 68, source_port=67, fragment=FIRST), ("pass", "rule")),
        (ethernet(ipv4(bytes((8, 0)) + bytes(22), ICMP, destination=OWN, fragment=FIRST)), ("pass", "icmp")),
        (ethernet(ipv4(bytes((3, 3)) + bytes(46), ICMP, destination=OWN, fragment=FIRST)), ("drop", "other")),
        (fragment6(udp(515), UDP), ("drop", "default")),
        (fragment6(udp(515), UDP, behind=struct.pack(">BB6x", UDP, 0)), ("drop", "default")),
        (fragment6(icmpv6(135), ICMPV6), ("drop", "other")),
    ],
)
def test_a_first_fragment_is_judged_like_a_whole_packet(splicer, frame, expected):
    splicer.policy(LAN, allow_echo=True, management=(Management(Prefix.any_of(4), "tcp", 22),))
    splicer.rules(*PASS_ALL, DROP_WEB, DROP_SYSLOG)
    assert told(splicer.ask(frame, LAN)) == expected


def test_a_second_fragment_header_is_malformed(splicer):
    splicer.policy(LAN, default_action="pass")
    inner = struct.pack(">BBHI", UDP, 0, 0, 2)
    assert told(splicer.ask(fragment6(inner + udp(515), NEXT_FRAGMENT), LAN)) == ("drop", "malformed")


@pytest.mark.parametrize("bits", [0, DONT_FRAGMENT, 0x8000])
def test_other_bits_make_no_fragment(splicer, bits):
    splicer.policy(LAN)
    splicer.rules(*PASS_ALL)
    assert told(splicer.ask(tcp_frame(SERVER, 443, fragment=bits), LAN)) == ("pass", "rule")


# ---- fragments whose ports are not known --------------------------------------------------------------


SHORT = ethernet(ipv4(tcp(80)[:16], TCP, destination=SERVER, fragment=FIRST))


@pytest.mark.parametrize("default", ["drop", "pass"])
@pytest.mark.parametrize("bits", [1, LATER, 0x1FFF, MORE_FRAGMENTS | 185, DONT_FRAGMENT | 1])
def test_a_later_fragment_without_a_first_gets_the_default_action(splicer, bits, default):
    splicer.policy(LAN, default_action=default, management=(Management(Prefix.any_of(4), "tcp", 22),))
    splicer.rules(*PASS_ALL)
    for frame in (
        tcp_frame(OWN, 22, fragment=bits),
        udp_frame(SERVER, 68, source_port=67, fragment=bits),
        tcp_frame(SERVER, 443, fragment=bits),
    ):
        assert splicer.ask(frame, LAN)[:4] == (default, "fragment", default, 0)


@pytest.mark.parametrize(
    ("frame", "rule"),
    [
        (tcp_frame(SERVER, 443, fragment=LATER), 1),
        (udp_frame(SERVER, 443, fragment=LATER), 2),
        (SHORT, 1),
        (tcp_frame(BESIDE, 443, fragment=LATER), 0),
        (ethernet(ipv4(tcp(80)[:16], TCP, destination=BESIDE, fragment=FIRST)), 0),
        (ethernet(ipv4(bytes(24), ICMP, destination=SERVER, fragment=LATER)), 0),
        (fragment6(bytes(24), TCP, offset=16), 0),
    ],
)
def test_a_rule_that_splices_or_drops_covers_fragments_of_its_protocol(splicer, frame, rule):
    splicer.policy(LAN, default_action="pass")
    splicer.rules(DROP_WEB, {**DROP_SYSLOG, "action": "tproxy", "tproxy_port": 1}, PASS_ALL[0])
    verdict = "drop" if rule else "pass"
    assert splicer.ask(frame, LAN)[:4] == (verdict, "fragment", verdict, rule)


def test_the_cover_of_ipv6(splicer):
    splicer.policy(LAN, default_action="pass")
    splicer.rules({"destination": "2001:db8::/32", "protocol": "udp", "ports": 514, "action": "drop"})
    assert told(splicer.ask(fragment6(bytes(24), UDP, offset=16), LAN)) == ("drop", "fragment")
    assert told(splicer.ask(fragment6(bytes(24), TCP, offset=16), LAN)) == ("pass", "fragment")


# ---- fragments that follow a first one ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "word", "action"),
    [
        (layout.VERDICT_PASS, "pass", "pass"),
        (layout.VERDICT_DROP, "drop", "drop"),
        (layout.VERDICT_WOULD_DROP, "would_drop", "pass"),
    ],
)
def test_a_later_fragment_gets_the_verdict_of_the_first(splicer, firsts, verdict, word, action):
    splicer.policy(LAN)
    splicer.rules(DROP_SYSLOG)
    frame = udp_frame(SERVER, 1, CLIENT, fragment=LATER)
    assert told(splicer.ask(frame, LAN)) == ("drop", "fragment")
    firsts(verdict)
    assert splicer.ask(frame, LAN)[:4] == (action, "fragment", word, 0)
    assert splicer.ask(frame, LAN).mark == 0
    firsts(verdict, marked=1)
    assert splicer.ask(frame, LAN).mark == layout.DEFAULT_MARK


@pytest.mark.parametrize(
    "changed",
    [
        {"saddr": "10.1.0.3"},
        {"daddr": "192.0.2.2"},
        {"ifindex": 2},
        {"id": 2},
        {"protocol": TCP},
        {"seconds": -1},
    ],
)
def test_a_fragment_of_another_datagram_follows_nothing(splicer, firsts, changed):
    splicer.policy(LAN)
    firsts(layout.VERDICT_PASS, **changed)
    assert told(splicer.ask(udp_frame(SERVER, 1, CLIENT, fragment=LATER), LAN)) == ("drop", "fragment")


def test_a_first_fragment_without_its_header_follows_nothing(splicer, firsts):
    splicer.policy(LAN, default_action="pass")
    splicer.rules(DROP_WEB)
    firsts(layout.VERDICT_PASS, protocol=TCP)
    assert told(splicer.ask(tcp_frame(SERVER, 80, CLIENT, fragment=1), LAN)) == ("pass", "fragment")
    assert told(splicer.ask(SHORT, LAN)) == ("drop", "fragment")


@pytest.mark.parametrize("following", [UDP, TCP, NEXT_OPTIONS])
def test_an_ipv6_fragment_follows_whatever_protocol_it_names(splicer, firsts, following):
    splicer.policy(LAN)
    firsts(layout.VERDICT_PASS, saddr=CLIENT6, daddr=SERVER6, protocol=0)
    assert told(splicer.ask(fragment6(bytes(24), following, offset=16), LAN)) == ("pass", "fragment")


def test_a_test_run_is_not_remembered(splicer):
    splicer.policy(LAN)
    splicer.rules(*PASS_ALL)
    assert told(splicer.ask(udp_frame(SERVER, 1, fragment=FIRST), LAN)) == ("pass", "rule")
    assert told(splicer.ask(udp_frame(SERVER, 1, fragment=LATER), LAN)) == ("drop", "fragment")


PACKET_TOO_BIG = 2


@pytest.mark.parametrize("present", [0, 1, 7, 8, 10, 12])
def test_a_first_fragment_that_an_error_quotes_has_not_come_in(splicer, present):
    """Else its later fragments would get the verdict on the error. So many bytes behind the quoted IP header count."""
    quoted = ipv6(struct.pack(">BBHIHH", TCP, 0, 1, 7, 80, 40000), NEXT_FRAGMENT, SERVER6, CLIENT6)
    packet = ipv6(icmpv6(PACKET_TOO_BIG, quoted), ICMPV6, "fd00:1::1", SERVER6)
    length = struct.unpack_from(">H", packet, 4)[0] - 12 + present
    error = ethernet(packet[:4] + struct.pack(">H", length) + packet[6:], ETH_IPV6)
    splicer.policy(LAN)
    for key in remembered(splicer):
        bpf.delete(splicer.maps["fragments"], key, "fragments")
    splicer.receive(to_loopback(error), LAN)
    assert remembered(splicer) == []
    splicer.receive(to_loopback(fragment6(tcp(80), TCP)), LAN)
    assert len(remembered(splicer)) == 1


def remembered(splicer) -> list:
    """Return the keys of the first fragments that the program remembers."""
    return bpf.keys(splicer.maps["fragments"], structs.size_of("fragment_key"), layout.FRAGMENTS)


def to_loopback(frame: bytes) -> bytes:
    """Return a frame for the link address of the loopback interface."""
    return bytes(6) + frame[6:]
