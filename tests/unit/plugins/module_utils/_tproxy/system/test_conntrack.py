# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of /proc/net/nf_conntrack, as Linux 6.1 writes it."""

from __future__ import annotations

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import parse_address
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.conntrack import read_listing
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.path import Ends

LINES = (
    "ipv4 2 udp 17 29 {v4} sport=5000 dport=53 {v4_back} sport=53 dport=5000 {end}",
    "ipv4 2 tcp 6 431999 ESTABLISHED {v4} sport=5000 dport=2222 {v4_back} sport=22 dport=5000 [ASSURED] {end}",
    "ipv6 10 tcp 6 119 SYN_SENT {v6} sport=5000 dport=2222 [UNREPLIED] {v6_back} sport=22 dport=5000 {end}",
    "ipv4 2 icmp 1 29 {v4} type=8 code=0 id=9 {v4_back} type=0 code=0 id=9 {end}",
)
WORDS = {
    "v4": "src=10.1.0.2 dst=10.1.0.1",
    "v4_back": "src=10.1.0.1 dst=10.1.0.2",
    "v6": "src=fd00::2 dst=fd00::1",
    "v6_back": "src=fd00::1 dst=fd00::2",
    "end": "mark=0 zone=0 use=2",
}


def test_the_tcp_connections_of_a_listing():
    found = list(read_listing(line.format(**WORDS) for line in LINES))
    assert found == [
        (ends("10.1.0.2", 5000, "10.1.0.1", 2222), ends("10.1.0.1", 22, "10.1.0.2", 5000)),
        (ends("fd00::2", 5000, "fd00::1", 2222), ends("fd00::1", 22, "fd00::2", 5000)),
    ]


def ends(source: str, source_port: int, destination: str, port: int) -> Ends:
    return Ends(parse_address(source), source_port, parse_address(destination), port)
