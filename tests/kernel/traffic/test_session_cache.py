# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that use a port again as soon as they have closed it: the cache leads no packet to a session that is over."""

from __future__ import annotations

import socket
import struct

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.pins import splicer_pins
from ansible_collections.netedge.tproxy.tests.support.ends import ENDS, TCP, asking, proxy, splice_rule
from ansible_collections.netedge.tproxy.tests.support.session_cache import SessionCache

CLIENT_PORT, PORT = 40000, 443
ROUNDS, MESSAGES = 20, 20
RESET = struct.pack("ii", 1, 0)  # of SO_LINGER: close() sends a RST, and no TIME_WAIT follows


@pytest.fixture
def client(lasting):
    """Return the client of this file's router."""
    return lasting[1]


@pytest.fixture(params=[4, 6])
def ends(request, splicing):
    """Return the addresses of a family, whose flows to the server are spliced."""
    splicing.rules(splice_rule(ENDS[request.param]))
    return ENDS[request.param]


@pytest.fixture
def listening(ends):
    """Return the socket of the proxy."""
    with proxy(ends, TCP) as made:
        yield made


def connected(client, ends) -> socket.socket:
    """Return a new connection from the same port of the client."""
    made = asking(client, ends, TCP, CLIENT_PORT)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    made.connect((ends.server, PORT))
    return made


def exchange(near: socket.socket, far: socket.socket, number: int) -> None:
    """Send messages both ways, each of which names its connection."""
    for message in (f"{number} {at}".encode() for at in range(MESSAGES)):
        near.sendall(message)
        assert far.recv(100) == message
        far.sendall(message)
        assert near.recv(100) == message


def is_cached(router) -> bool:
    """Return whether the cache has the session of the client's port."""
    system = router.system()
    with splicer_pins(system.bpf, system.bpffs, router.pin_dir) as pins:
        return (CLIENT_PORT, PORT) in SessionCache(pins.fd("session_cache")).heads()


@pytest.mark.parametrize("cookies", [0, 1, 2], ids=["no SYN cookies", "on demand", "always"])
def test_each_connection_from_one_port_is_its_own(splicing, client, ends, listening, cookies):
    with open("/proc/sys/net/ipv4/tcp_syncookies", "w", encoding="ascii") as file:
        file.write(str(cookies))
    for number in range(ROUNDS):
        near = connected(client, ends)
        far, peer = listening.accept()
        with near, far:
            assert (peer[1], *far.getsockname()[:2]) == (CLIENT_PORT, ends.server, PORT)
            exchange(near, far, number)
            assert is_cached(splicing)
    assert splicing.reasons()["established", "passed"] > ROUNDS * MESSAGES


def test_a_port_is_used_again_after_the_router_closed_first(client, ends, listening):
    """The socket of the router goes on in TIME_WAIT, and the SYN ends that."""
    for number in range(ROUNDS):
        near = connected(client, ends)
        far, _peer = listening.accept()
        exchange(near, far, number)
        far.close()
        assert near.recv(100) == b""
        near.close()
