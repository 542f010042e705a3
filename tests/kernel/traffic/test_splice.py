# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Splicing with real packets over a wire, as proxy and client see it. test_changes.py has changes under traffic."""

from __future__ import annotations

import selectors
import socket

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.client import Netlink
from ansible_collections.netedge.tproxy.tests.support.router import (
    CLIENT,
    LAN,
    OWN,
    PATIENCE,
    SERVER,
    eventually,
    transparent,
)

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
PROXY_PORT = 8443
TC_ACT_SHOT = 2


def rule(protocol: str = "tcp", ports: str = "443", **given) -> dict:
    outcome = {"tproxy_port": PROXY_PORT} if given.get("action", "tproxy") == "tproxy" else {}
    return {"destination": "192.0.2.0/24", "protocol": protocol, "ports": ports, **outcome, **given}


@pytest.fixture
def client(lasting):
    """Return the client of this file's router."""
    return lasting[1]


@pytest.fixture
def splicing(splicing):
    """Return the router, which splices TCP and UDP port 443 of the net behind it."""
    splicing.rules(rule("tcp"), rule("udp"))
    return splicing


def connect(client, port: int = 443, address: str = SERVER) -> socket.socket:
    made = client.socket(TCP)
    made.connect((address, port))
    return made


def attempt(client, port: int = 443) -> socket.socket:
    """Return a socket that tries to connect, without waiting for it."""
    made = client.socket(TCP)
    made.setblocking(False)
    made.connect_ex((SERVER, port))
    return made


# ---- what proxy and client see -----------------------------------------------------------------


@pytest.mark.parametrize("address", [SERVER, "192.0.2.0", "192.0.2.255"])
def test_a_connection_is_spliced_with_its_original_destination(splicing, client, address):
    with transparent(TCP, PROXY_PORT) as proxy, connect(client, 443, address) as asking:
        answering, peer = proxy.accept()
        with answering:
            assert answering.getsockname() == (address, 443)
            assert peer == asking.getsockname()
            asking.sendall(b"ping")
            assert answering.recv(9) == b"ping"
            answering.sendall(b"pong")
            assert asking.recv(9) == b"pong"
    counted = splicing.reasons()
    assert counted["spliced", "passed"] == 1
    assert counted["established", "passed"] >= 2


@pytest.fixture
def wide(splicing, client):
    """Let the wire take packets of any size, until the end."""
    _set_mtu(splicing.netns, client, 65535)
    yield
    _set_mtu(splicing.netns, client, 1500)


def _set_mtu(netns, client, size: int) -> None:
    netns.run(f"ip link set {LAN} mtu {size}")
    with client.inside():
        netns.run(f"ip link set {LAN}-peer mtu {size}")


def test_a_datagram_in_many_pages_is_spliced_whole(splicing, client, wide):
    """Its data lies beyond the linear area of the packet's buffer."""
    payload = bytes(range(256)) * 240
    with transparent(UDP, PROXY_PORT) as proxy, client.socket(UDP) as asking:
        asking.sendto(payload, (SERVER, 443))
        assert proxy.recv(65535) == payload
    assert splicing.reasons()["spliced", "passed"] == 1


def test_bulk_data_in_segments_of_64_kib_arrives_whole(splicing, client):
    payload = bytes(range(256)) * 4096 * 4
    with transparent(TCP, PROXY_PORT) as proxy, connect(client) as asking:
        answering, _peer = proxy.accept()
        with answering, selectors.DefaultSelector() as ready:
            asking.setblocking(False)
            ready.register(asking, selectors.EVENT_WRITE)
            sent, received = 0, bytearray()
            while len(received) < len(payload):
                if sent < len(payload) and ready.select(0):
                    sent += asking.send(payload[sent : sent + (1 << 20)])
                received += answering.recv(1 << 20)
    assert bytes(received) == payload
    assert "default" not in {reason for reason, _verdict in splicing.reasons()}


def test_200_connections_at_once(splicing, client):
    with transparent(TCP, PROXY_PORT) as proxy:
        asking = [attempt(client) for _number in range(200)]
        answering = [proxy.accept()[0] for _connection in asking]
        assert {one.getsockname() for one in answering} == {(SERVER, 443)}
        assert {one.getpeername() for one in answering} == {one.getsockname() for one in asking}
        for one in (*asking, *answering):
            one.close()
    assert splicing.reasons()["spliced", "passed"] == 200


def test_a_rule_keeps_its_hits_whatever_becomes_of_others(splicing, client):
    other = rule("tcp", "80", action="drop")
    with transparent(UDP, PROXY_PORT) as proxy, client.socket(UDP) as asking:
        for change in ({}, {"state": "absent"}):
            asking.sendto(b"ping", (SERVER, 443))
            assert proxy.recv(9) == b"ping"
            assert splicing.rules(other, **change)["changed"]
    hits = {entry["protocol"]: entry["hits"]["packets"] for entry in splicing.info()["rules"]}
    assert hits == {"tcp": 0, "udp": 2}


@pytest.fixture
def others_may_judge(splicing, program):
    """Return a function that adds a dropping filter behind ours. It sees the packets that are not spliced."""
    splicing.attach(policy={"accept": "unspec", "management": [{"source": CLIENT, "protocol": "udp", "port": 161}]})
    later = socket.if_nametoindex(LAN), "ingress", 20, 1
    with Netlink() as netlink:
        is_added = netlink.add_clsact(later[0])  # a TCX program needs none
        yield lambda: netlink.replace_filter(*later, program(TC_ACT_SHOT).fd, "later")
        netlink.delete_filter(*later)
        if is_added:
            netlink.delete_clsact(later[0])
    splicing.attach(policy={"accept": "ok", "management": []})


def test_what_is_spliced_ends_the_hook_and_what_only_passes_need_not(splicing, client, others_may_judge):
    service = socket.socket(socket.AF_INET, UDP)
    with service, transparent(UDP, PROXY_PORT) as proxy, client.socket(UDP) as asking:
        service.bind((OWN, 161))
        asking.sendto(b"so that ARP is done with", (SERVER, 443))
        proxy.recv(99)
        others_may_judge()
        asking.sendto(b"to the later filter", (OWN, 161))
        asking.sendto(b"to the proxy", (SERVER, 443))
        assert proxy.recv(99) == b"to the proxy"
        service.setblocking(False)
        with pytest.raises(BlockingIOError):
            service.recv(99)
    assert splicing.reasons()["management", "passed"] == 1


# ---- what is not spliced -----------------------------------------------------------------------------


def test_a_port_without_a_rule_is_dropped(splicing, client):
    with transparent(TCP, PROXY_PORT), attempt(client, 444), client.socket(UDP) as asking:
        asking.sendto(b"ping", (SERVER, 444))
        eventually(lambda: splicing.reasons().get(("default", "dropped"), 0) >= 2)
    assert ("spliced", "passed") not in splicing.reasons()


def test_the_hosts_own_services_are_closed_but_for_ssh(splicing, client):
    """The port alone identifies SSH here: no process listens, and the kernel's reset comes back."""
    splicing.record()
    with pytest.raises(ConnectionRefusedError):
        connect(client, 22, OWN)
    with socket.socket(socket.AF_INET, UDP) as service, client.socket(UDP) as asking:
        service.bind((OWN, 53))
        asking.sendto(b"ping", (OWN, 53))
        eventually(lambda: ("default", "dropped") in splicing.reasons())
        service.setblocking(False)
        with pytest.raises(BlockingIOError):
            service.recv(9)


@pytest.fixture
def server_here(splicing):
    """Let the server be the router itself, until the end."""
    splicing.netns.run(f"ip address add {SERVER}/32 dev lo")
    yield
    splicing.netns.run(f"ip address delete {SERVER}/32 dev lo")


def test_on_missing_pass_leaves_the_packet_to_routing(splicing, client, server_here):
    splicing.rules(rule("tcp", on_missing="pass"))
    with socket.create_server((SERVER, 443)) as service:
        service.settimeout(PATIENCE)
        with connect(client) as asking:
            served, peer = service.accept()
            assert peer == asking.getsockname()
            served.close()
    assert splicing.reasons()["no_listener", "passed"] >= 1


def test_a_session_that_the_router_began_goes_on(splicing, client):
    """Its answers match no rule; they belong to a connected socket of this host."""
    with client.inside():
        service = socket.create_server((CLIENT, 8080))
    with service, socket.create_connection((CLIENT, 8080), PATIENCE) as asking:
        served, _peer = service.accept()
        served.sendall(b"pong")
        assert asking.recv(9) == b"pong"
        served.close()
    assert splicing.reasons()["established", "passed"] >= 2
