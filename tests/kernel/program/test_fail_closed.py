# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fail_closed program in this kernel, packet by packet."""

from __future__ import annotations

import ipaddress
import os
import struct

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import MANAGEMENT
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.policy import Management, Policy
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import Prefix
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.program.fail_closed import fail_closed_program
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.interfaces import encode_policy
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf
from ansible_collections.netedge.tproxy.tests.support.packets import (
    ETH_ARP,
    ETH_IPV6,
    ICMP,
    MORE_FRAGMENTS,
    TCP,
    UDP,
    ethernet,
    ipv4,
    tcp,
    tcp_frame,
    udp,
    udp_frame,
)

ICMPV6 = 58
OWN = "10.1.0.1"


def ipv6(payload: bytes, protocol: int, source: str = "fd00::2", hops: int = 64) -> bytes:
    addresses = ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address("fd00::1").packed
    return ethernet(struct.pack(">IHBB", 6 << 28, len(payload), protocol, hops) + addresses + payload, ETH_IPV6)


def management(source: str, protocol: str, port: int) -> Management:
    return Management(Prefix.parse(source)[0], protocol, port)


POLICY = Policy(
    management=(
        management("10.9.0.0/16", "tcp", 2222),
        management("fd09:0:0:1::/63", "udp", 161),
        management("0.0.0.0/0", "tcp", 2223),
        management("::/0", "tcp", 2224),
        Management(Prefix.parse("10.9.0.0/16")[0], "vrrp"),
    )
)


@pytest.fixture
def passes(netns):
    """Return whether a frame passes the fail_closed program of a policy."""
    made = []

    def ask(frame: bytes, policy: Policy = POLICY) -> bool:
        made.append(bpf.load_program(fail_closed_program(encode_policy(0, policy)), "fail_closed"))
        return {0: True, 2: False}[bpf.test_run(made[-1], frame.ljust(60, b"\0")).value]

    yield ask
    for descriptor in made:
        os.close(descriptor)


OPEN = {
    "ARP": ethernet(bytes(28), ETH_ARP),
    "SSH": tcp_frame(OWN, 22),
    "SSH with IP options": ethernet(ipv4(tcp(22), TCP, options=bytes(8))),
    "SSH over IPv6": ipv6(tcp(22), TCP),
    "DHCP": udp_frame("255.255.255.255", 68, source_port=67),
    "DHCPv6": ipv6(udp(546, 547), UDP, "fe80::1"),
    "neighbour solicitation": ipv6(b"\x87" + bytes(23), ICMPV6, hops=255),
    "management": tcp_frame(OWN, 2222, "10.9.255.7"),
    "management over IPv6": ipv6(udp(161), UDP, "fd09:0:0:0:8::1"),
    "management of a protocol without ports": ethernet(ipv4(bytes(20), 112, "10.9.0.7")),
    "management from anywhere": tcp_frame(OWN, 2223, "203.0.113.9"),
    "management from anywhere over IPv6": ipv6(tcp(2224), TCP),
}
SHUT = {
    "another port": tcp_frame(OWN, 23),
    "UDP to 22": udp_frame(OWN, 22),
    "a later fragment that looks like SSH": ethernet(ipv4(tcp(22), TCP, fragment=185)),
    "a later fragment with more to come": ethernet(ipv4(tcp(22), TCP, fragment=MORE_FRAGMENTS | 1)),
    "ports behind IP options only": ethernet(ipv4(tcp(23), TCP, options=tcp(22)[:8])),
    "DHCP from another port": udp_frame("255.255.255.255", 68, source_port=68),
    "DHCPv6 from afar": ipv6(udp(546, 547), UDP, "fd00::9"),
    "neighbour discovery from afar": ipv6(b"\x87" + bytes(23), ICMPV6, hops=254),
    "ping": ethernet(ipv4(b"\x08" + bytes(7), ICMP)),
    "ping over IPv6": ipv6(b"\x80" + bytes(7), ICMPV6, hops=255),
    "management from the next network": tcp_frame(OWN, 2222, "10.10.0.1"),
    "management over IPv6 from the next network": ipv6(udp(161), UDP, "fd09:0:0:2::1"),
    "another protocol without ports": ethernet(ipv4(bytes(20), 89, "10.9.0.7")),
    "management of a protocol from the next network": ethernet(ipv4(bytes(20), 112, "10.10.0.1")),
    "management that is for IPv6 only": tcp_frame(OWN, 2224, "203.0.113.9"),
    "management that is for IPv4 only": ipv6(tcp(2223), TCP),
    "management over IPv6 from a mapped IPv4 address": ipv6(tcp(2223), TCP, "::ffff:203.0.113.9"),
    "protocol 0, as unused management entries have": ethernet(ipv4(bytes(20), 0)),
    "hop-by-hop options, which have number 0 too": ipv6(bytes(20), 0),
    "another protocol": ethernet(bytes(46), 0x88CC),
}


@pytest.mark.parametrize("frame", OPEN.values(), ids=OPEN)
def test_what_an_operator_needs_passes(passes, frame):
    assert passes(frame)


@pytest.mark.parametrize("frame", SHUT.values(), ids=SHUT)
def test_the_rest_is_dropped(passes, frame):
    assert not passes(frame)


def test_without_allow_ssh_only_management_passes(passes):
    closed = Policy(allow_ssh=False, management=POLICY.management)
    assert not passes(OPEN["SSH"], closed)
    assert not passes(OPEN["SSH over IPv6"], closed)
    assert passes(OPEN["management"], closed)


def test_as_many_entries_as_fit_into_a_policy_load(passes):
    entries = tuple(management(f"fd00:{number:x}::/128", "tcp", 2000 + number) for number in range(MANAGEMENT))
    assert passes(ipv6(tcp(2063), TCP, "fd00:3f::"), Policy(management=entries))
