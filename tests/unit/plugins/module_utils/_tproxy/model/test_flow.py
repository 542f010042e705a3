# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first packet of a flow, byte by byte."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.flow import Flow, first_packet
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import parse_address

ETHERNET = "000000000000000000000000"


def flow(protocol: str, source: str, source_port: int, destination: str, port: int) -> Flow:
    ends = [int.from_bytes(parse_address(text), "big") for text in (source, destination)]
    return Flow(protocol, ends[0], source_port, ends[1], port)


@pytest.mark.parametrize(
    ("asked", "frame"),
    [
        (
            flow("tcp", "10.0.0.1", 49152, "192.0.2.1", 443),
            "0800 4500002800000000 4006 0000 0a000001 c0000201 c00001bb 00000001 00000000 5002 faf0 0000 0000",
        ),
        (
            flow("udp", "10.0.0.1", 67, "255.255.255.255", 68),
            "0800 4500002400000000 4011 0000 0a000001 ffffffff 00430044 0010 0000 0000000000000000",
        ),
        (
            flow("udp", "fe80::1", 547, "fe80::2", 546),
            "86dd 60000000 0010 11 40 fe800000000000000000000000000001 fe800000000000000000000000000002"
            " 02230222 0010 0000 0000000000000000",
        ),
    ],
)
def test_a_packet_is_what_the_protocols_say(asked, frame):
    assert first_packet(asked) == bytes.fromhex(ETHERNET + frame.replace(" ", ""))
