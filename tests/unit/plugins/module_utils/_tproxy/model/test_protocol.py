# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import pathlib
import socket

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import InvalidInput
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.protocol import (
    parse_protocol,
    protocol_name,
    protocol_number,
    table_of,
)

PROTOCOLS_FILE = pathlib.Path("/etc/protocols")
NAMES = {
    "igmp": 2, "ipip": 4, "tcp": 6, "udp": 17, "ipv6": 41, "gre": 47, "esp": 50, "ah": 51, "ospf": 89, "pim": 103,
    "vrrp": 112, "l2tp": 115, "sctp": 132, "udplite": 136, "homa": 146,
}  # fmt: skip
REFUSED = ("icmp", "ipv6-icmp", "hopopt", "ip", "ipv6-route", "ipv6-frag", "ipv6-opts", "mptcp")


@pytest.mark.parametrize(("name", "number"), NAMES.items())
def test_names_of_the_registry(name, number):
    assert parse_protocol(name.upper()) == parse_protocol(number) == parse_protocol(str(number)) == name
    assert protocol_number(name) == number


def test_each_number_has_one_name():
    for number in range(256):
        assert protocol_number(protocol_name(number)) == number


def test_a_protocol_without_a_name_is_its_number():
    assert (parse_protocol(253), parse_protocol(94), table_of("253")) == ("253", "94", "portless")


@pytest.mark.skipif(not PROTOCOLS_FILE.exists(), reason="this system has no /etc/protocols")
def test_the_names_of_this_system_mean_the_same():
    """Except ipip: the file gives that name to 94, which no Linux tunnel sends."""
    found = {}
    for number in set(range(256)) - {protocol_number("ipip")}:
        with contextlib.suppress(OSError):
            found[number] = socket.getprotobyname(protocol_name(number))
    assert len(found) > 30
    assert {number: number for number in found} == found


@pytest.mark.parametrize("value", [*REFUSED, None, True, -1, 256, "6.0", "\u0661", ""])
def test_values_that_are_no_protocol_of_a_rule(value):
    with pytest.raises(InvalidInput):
        parse_protocol(value)
