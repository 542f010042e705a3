# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sock_diag adapter: lookups of listening sockets, with real sockets in an own namespace."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import parse_address
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.sock_diag import (
    listener_at,
    listeners,
)

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
PORT = 58997

pytestmark = pytest.mark.usefixtures("netns")


def bound(protocol: str, address: str = "127.0.0.1", port: int = PORT) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, KINDS[protocol])
    made.bind((address, port))
    if protocol == "tcp":
        made.listen(1)
    return made


def listens(protocol: str, address: str = "127.0.0.1", port: int = PORT) -> bool:
    return listener_at(protocol, parse_address(address), port) is not None


@pytest.mark.parametrize("protocol", KINDS)
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_listener_is_found_until_it_closes(protocol, address):
    assert not listens(protocol, address)
    with bound(protocol, address):
        assert listens(protocol, address)
        assert not listens(protocol, address, PORT + 1)
    assert not listens(protocol, address)


@pytest.mark.parametrize("protocol", KINDS)
def test_a_listener_on_all_addresses_is_found_at_each(protocol):
    with bound(protocol, "0.0.0.0"):
        assert listens(protocol)


@pytest.mark.parametrize("protocol", KINDS)
def test_the_other_protocol_does_not_count(protocol):
    (other,) = set(KINDS) - {protocol}
    with bound(other):
        assert not listens(protocol)


def test_a_connection_of_a_closed_listener_is_no_listener():
    listener = bound("tcp")
    with socket.create_connection(("127.0.0.1", PORT)) as asking:
        answering, _peer = listener.accept()
        with answering:
            listener.close()
            assert asking.getpeername()[1] == PORT
            assert not listens("tcp")


def test_a_bound_tcp_socket_is_no_listener():
    with socket.socket() as made:
        made.bind(("127.0.0.1", PORT))
        assert not listens("tcp")


# ---- cookies -----------------------------------------------------------------------------------

SO_COOKIE = 57  # include/uapi/asm-generic/socket.h


def cookie_of(one: socket.socket) -> int:
    return int.from_bytes(one.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), sys.byteorder)


@pytest.mark.parametrize("protocol", KINDS)
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_listener_is_known_by_the_cookie_that_the_kernel_has_for_it(protocol, address):
    with bound(protocol, address) as one, bound(protocol, address, PORT + 1):
        assert listener_at(protocol, parse_address(address), PORT) == (cookie_of(one), 0)
        assert [found.cookie for found in listeners(protocol, PORT)] == [cookie_of(one)]
        assert len(listeners(protocol)) == 2
    with bound(protocol, address) as next_one:
        assert listener_at(protocol, parse_address(address), PORT).cookie == cookie_of(next_one) != 0


@pytest.mark.parametrize("protocol", KINDS)
def test_a_listener_has_the_user_that_opened_it(protocol):
    with bound(protocol) as one:
        os.fchown(one.fileno(), 998, -1)
        assert listener_at(protocol, parse_address("127.0.0.1"), PORT).user == 998
        assert [found.user for found in listeners(protocol, PORT)] == [998]
