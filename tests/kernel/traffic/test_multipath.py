# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Multipath TCP, which programs in Go use for their listeners by default."""

from __future__ import annotations

import socket

import pytest

from ansible_collections.netedge.tproxy.tests.support.router import PATIENCE, SERVER

TCP, IPPROTO_MPTCP, IP_TRANSPARENT = socket.SOCK_STREAM, 262, 19
PROXY_PORT = 8443


@pytest.fixture
def client(lasting):
    """Return the client of this file's router."""
    return lasting[1]


def opened(protocol: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, TCP, protocol)
    made.settimeout(PATIENCE)
    return made


@pytest.mark.parametrize("of_proxy", [IPPROTO_MPTCP, socket.IPPROTO_TCP])
@pytest.mark.parametrize("of_client", [IPPROTO_MPTCP, socket.IPPROTO_TCP])
def test_a_connection_is_spliced_whichever_end_has_multipath_tcp(splicing, client, of_proxy, of_client):
    splicing.rules({"destination": SERVER, "protocol": "tcp", "ports": "443", "tproxy_port": PROXY_PORT})
    with client.inside():
        asking = opened(of_client)
    with asking, opened(of_proxy) as proxy:
        proxy.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
        proxy.bind(("127.0.0.1", PROXY_PORT))
        proxy.listen()
        asking.connect((SERVER, 443))
        answering, _peer = proxy.accept()
        with answering:
            asking.sendall(b"ping")
            assert answering.recv(9) == b"ping"
            answering.sendall(b"pong")
            assert asking.recv(9) == b"pong"
    assert splicing.reasons()["spliced", "passed"] == 1
