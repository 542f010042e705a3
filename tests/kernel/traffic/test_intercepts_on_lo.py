# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two services of an OpenZiti router, one of a network and one of a host in it. The router puts both prefixes on lo."""

from __future__ import annotations

import socket
from contextlib import contextmanager

import pytest

from ansible_collections.netedge.tproxy.tests.support.router import eventually, transparent

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
NETWORK, HOST, NEIGHBOUR = "198.51.100.0/24", "198.51.100.7", "198.51.100.8"
OF_NETWORK, OF_HOST = 8444, 8445


def rule(destination: str, port: int, protocol: str) -> dict:
    """Return a rule as the router's call makes it."""
    proxy = OF_NETWORK if destination == NETWORK else OF_HOST
    ports = {"protocol": protocol, "ports": str(port), "tproxy_port": proxy}
    return {"owner": f"ziti:{destination}", "destination": destination, **ports}


@pytest.fixture
def client(lasting):
    """Return the client of this file's router."""
    return lasting[1]


@pytest.fixture
def intercepting(splicing):
    """Return the router: the network's service has port 80, the host's service has port 443."""
    for prefix in (NETWORK, f"{HOST}/32"):
        splicing.netns.run(f"ip address add {prefix} dev lo")
    splicing.record()
    of_network = (rule(NETWORK, 80, name) for name in ("tcp", "udp"))
    splicing.rules(*of_network, *(rule(HOST, 443, name) for name in ("tcp", "udp")))
    yield splicing
    splicing.netns.run("ip address flush dev lo scope global")
    splicing.rules(purge=True, owner=f"ziti:{NETWORK}")
    splicing.rules(purge=True, owner=f"ziti:{HOST}")


@contextmanager
def listeners(kind: int):
    """Listen as the two services."""
    with transparent(kind, OF_NETWORK) as network, transparent(kind, OF_HOST) as host:
        yield {OF_NETWORK: network, OF_HOST: host}


CASES = [(HOST, 80, OF_NETWORK), (HOST, 443, OF_HOST), (NEIGHBOUR, 80, OF_NETWORK)]


@pytest.mark.parametrize(("address", "port", "proxy"), CASES)
def test_a_datagram_goes_to_the_service_of_its_port(intercepting, client, address, port, proxy):
    with listeners(UDP) as services, client.socket(UDP) as asking:
        asking.sendto(b"hello", (address, port))
        assert services[proxy].recv(9) == b"hello"


@pytest.mark.parametrize(("address", "port", "proxy"), CASES)
def test_a_connection_goes_to_the_service_of_its_port(intercepting, client, address, port, proxy):
    with listeners(TCP) as services, client.socket(TCP) as asking:
        asking.connect((address, port))
        answering, _peer = services[proxy].accept()
        with answering:
            assert answering.getsockname() == (address, port)


@pytest.mark.parametrize(("address", "port"), [(NEIGHBOUR, 443), (HOST, 22), (NEIGHBOUR, 22)])
def test_no_service_gets_another_port(intercepting, client, address, port):
    """Nor does SSH of the router answer at the address of a service: an address on lo counts only if it is recorded."""
    with listeners(UDP), client.socket(UDP) as asking:
        intercepting.count_anew()
        asking.sendto(b"hello", (address, port))
        eventually(lambda: intercepting.reasons() == {("default", "dropped"): 1})
    with client.socket(TCP) as asking:
        intercepting.count_anew()
        asking.setblocking(False)
        asking.connect_ex((address, port))
        eventually(lambda: intercepting.reasons().get(("default", "dropped")))
