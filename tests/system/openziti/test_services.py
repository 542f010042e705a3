# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each kind of service that a controller can describe, from the client behind the router to the server."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.tests.system.openziti import lab
from ansible_collections.netedge.tproxy.tests.system.openziti.clients import Client
from ansible_collections.netedge.tproxy.tests.system.openziti.services import (
    OTHER_WEB,
    OTHER_WEB_SAYS,
    WEB,
    WEB_SAYS,
    intercept,
)

IPPROTO_MPTCP = 262  # of socket.py since Python 3.10


@pytest.mark.slice
def test_one_address(network, serve):
    serve("one", intercept("172.16.10.1", 80), port=WEB)
    network.client.until_answered("172.16.10.1", 80)
    assert network.client.body("172.16.10.1", 80) == WEB_SAYS
    assert network.client.silent("172.16.10.1", 81)


def test_the_router_finds_its_diverter(network):
    journal = network.r1.run("journalctl", "--quiet", "--output=cat", "--unit=ziti-router")
    assert "using external tproxy diverter" in journal
    assert "version info tproxy-splicer" in journal


def test_ranges_on_two_addresses(network, serve):
    serve("ranges", intercept(["172.16.11.1", "172.16.11.2"], (8000, 8100), 9000), port=WEB)
    network.client.until_answered("172.16.11.2", 9000)
    for host in ("172.16.11.1", "172.16.11.2"):
        for port in (8000, 8050, 8100, 9000):
            assert network.client.body(host, port) == WEB_SAYS
        assert network.client.silent(host, 8101)


def test_a_range_with_exchanged_ends(network, serve):
    """The router hands the ends to its diverter as they are."""
    serve("ends", intercept("172.16.11.3", (100, 80)), port=WEB)
    for port in (80, 90, 100):
        network.client.until_answered("172.16.11.3", port)
    for port in (79, 101):
        assert network.client.silent("172.16.11.3", port)


def test_a_network_with_host_bits(network, serve):
    serve("cidr", intercept("172.16.12.0/24", 80), port=WEB)
    serve("host-bits", intercept("172.16.19.5/24", 80), port=WEB)
    network.client.until_answered("172.16.19.200", 80)
    for host in ("172.16.12.1", "172.16.12.254", "172.16.19.5", "172.16.19.4"):
        assert network.client.body(host, 80) == WEB_SAYS


def test_datagrams(network, serve):
    serve("udp", intercept("172.16.13.1", 5000, protocols=["udp"]))
    lab.eventually(lambda: network.client.datagrams("172.16.13.1", 5000, 1, 100)[0])
    for count, size in ((1000, 100), (100, 1400), (20, 1472)):
        assert network.client.datagrams("172.16.13.1", 5000, count, size)[0] == count


def test_both_protocols_and_a_half_closed_stream(network, serve):
    serve("both", intercept("172.16.14.1", (5000, 5003), (7000, 7003), protocols=["tcp", "udp"]))
    lab.eventually(lambda: network.client.datagrams("172.16.14.1", 5000, 1, 100)[0])
    assert network.client.half_close("172.16.14.1", 7000, 100_000) == b"BYE 100000\n"


def test_a_configuration_of_the_first_tunnellers(network, serve):
    serve("client-v1", client={"hostname": "172.16.20.1", "port": 80}, port=WEB)
    network.client.until_answered("172.16.20.1", 80)


@pytest.mark.slice
def test_names_and_wildcards(network, serve):
    """The name service of the router answers, as the management entry lets its questions in."""
    serve("name", intercept("web.lab.ziti", 80), port=WEB)
    serve("wild", intercept("*.wild.lab.ziti", 80), port=OTHER_WEB)
    resolver = network.r1.lan
    for name, body in (
        ("web.lab.ziti", WEB_SAYS),
        ("a.wild.lab.ziti", OTHER_WEB_SAYS),
        ("b.wild.lab.ziti", OTHER_WEB_SAYS),
    ):
        address = lab.eventually(lambda name=name: network.client.look_up(resolver, name))
        assert network.client.body(address, 80) == body
    assert network.client.silent(address, 443)
    address = network.client.look_up(resolver, "new.wild.lab.ziti")
    assert network.client.get(address, 80).body == OTHER_WEB_SAYS  # its rule is in force before the answer


def test_allowed_sources(network, serve):
    serve("here", intercept("172.16.15.1", 80, sources=["10.1.1.2/32", "10.1.1.128/25"]), port=WEB)
    serve("elsewhere", intercept("172.16.15.2", 80, sources=["10.9.9.0/24"]), port=WEB)
    serve("bare", intercept("172.16.15.3", 80, sources=["10.1.1.2"]), port=WEB)
    network.client.until_answered("172.16.15.3", 80)
    network.client.until_answered("172.16.15.1", 80)
    assert network.client.silent("172.16.15.2", 80)


@pytest.mark.parametrize("sources", [["fd00:1:1::/64", "10.1.1.0/24"], ["10.1.1.0/24", "fd00:1:1::/64"]])
def test_sources_of_two_families(network, serve, sources):
    """A source of the other family takes no call with it, in either order."""
    service = serve("families", intercept("172.16.15.4", 80, sources=sources), port=WEB)
    network.client.until_answered("172.16.15.4", 80)
    assert [rule["source"] for rule in network.r1.rules() if rule["owner"] == service.owner] == ["10.1.1.0/24"]


@pytest.mark.slice
@pytest.mark.parametrize("interfaces", [["wan0", "lan0"], ["lan0", "wan0"], ["lan0"], ["nosuch9", "lan0"]])
def test_interfaces(network, serve, interfaces):
    """The program is on lan0 only. The calls for the other interfaces succeed, so that the router goes on to lan0."""
    service = serve("interfaces", intercept("172.16.16.1", 80), interfaces=interfaces, port=WEB)
    network.client.until_answered("172.16.16.1", 80)
    named = [rule["interfaces"] for rule in network.r1.rules() if rule["owner"] == service.owner]
    assert sorted(named) == sorted([name] for name in interfaces)


def test_an_empty_list_of_interfaces(network, serve):
    serve("nowhere", intercept("172.16.16.3", 80), interfaces=[], port=WEB)
    serve("somewhere", intercept("172.16.16.4", 80), port=WEB)
    network.client.until_answered("172.16.16.4", 80)
    assert network.client.silent("172.16.16.3", 80)


@pytest.mark.slice
def test_two_services_share_a_flow(network, serve):
    """One of them gets the flow. The other takes over when the first goes."""
    first = serve("share-a", intercept("172.16.17.1", 80), port=WEB)
    second = serve("share-b", intercept("172.16.17.1", 80), port=OTHER_WEB)
    owners = {first.owner, second.owner}
    lab.eventually(lambda: owners <= {rule["owner"] for rule in network.r1.rules()})
    body = network.client.body("172.16.17.1", 80)
    winner, other = (first, second) if body == WEB_SAYS else (second, first)
    assert winner.owner == min(owners)
    winner.remove(network.api)
    lab.eventually(lambda: getattr(network.client.answered("172.16.17.1", 80), "body", body) != body)
    assert [rule["owner"] for rule in network.r1.rules() if rule["owner"] in owners] == [other.owner]


@pytest.mark.slice
def test_a_service_of_a_host_inside_the_network_of_another(network, serve):
    """Each port goes to its own service, although the router puts both prefixes on lo."""
    serve("over-net", intercept("172.16.21.0/24", 80), port=WEB)
    serve("over-host", intercept("172.16.21.5", 81), port=OTHER_WEB)
    network.client.until_answered("172.16.21.7", 80)
    assert network.client.body("172.16.21.5", 81) == OTHER_WEB_SAYS
    assert network.client.body("172.16.21.5", 80) == WEB_SAYS
    on_lo = network.r1.run("ip", "-4", "address", "show", "dev", "lo")
    assert "172.16.21.0/24" in on_lo and "172.16.21.5/32" in on_lo
    for host, port in (("172.16.21.7", 81), ("172.16.21.5", 22)):
        assert network.client.silent(host, port)


def test_all_ports_of_all_addresses(network, serve):
    """SSH, the router's name service and narrower services go on."""
    serve("host", intercept("172.16.18.5", 80), port=OTHER_WEB)
    serve("all", intercept("0.0.0.0/0", (1, 65535), protocols=["tcp", "udp"]), port=WEB)
    serve("name-beside-all", intercept("beside.lab.ziti", 80), port=OTHER_WEB)
    network.client.until_answered("198.51.100.8", 8080)
    assert network.client.body("172.16.18.5", 80) == OTHER_WEB_SAYS
    address = lab.eventually(lambda: network.client.look_up(network.r1.lan, "beside.lab.ziti"))
    assert network.client.body(address, 80) == OTHER_WEB_SAYS
    with network.client.connect(network.r1.lan, 22) as made:
        assert made.recv(4) == b"SSH-"


def test_a_service_on_the_routers_own_ssh(network, serve):
    """SSH of the router goes on, although a service claims it."""
    service = serve("own-ssh", intercept(network.r1.lan, 22), port=WEB)
    lab.eventually(lambda: service.owner in {rule["owner"] for rule in network.r1.rules()})
    with network.client.connect(network.r1.lan, 22) as made:
        assert made.recv(4) == b"SSH-"


def test_a_service_on_the_routers_own_address(network, serve):
    """The rule of one address takes a port of the router that nothing else has."""
    serve("own-web", intercept(network.r1.lan, 8080), port=WEB)
    network.client.until_answered(network.r1.lan, 8080)
    assert network.client.body(network.r1.lan, 8080) == WEB_SAYS


def test_datagrams_in_fragments(network, serve):
    """The first one makes the listener known. Each one behind it arrives."""
    serve("large", intercept("172.16.13.2", 5000, protocols=["udp"]))
    lab.eventually(lambda: network.client.datagrams("172.16.13.2", 5000, 1, 4000)[0])
    for size in (1473, 4000):
        assert network.client.datagrams("172.16.13.2", 5000, 10, size)[0] == 10
    assert "fragments_dropped" not in network.r1.findings()


def test_a_client_of_multipath_tcp(network, serve):
    """The router's listeners are of plain TCP, so that the client falls back to it."""
    serve("multipath", intercept("172.16.14.2", 80), port=WEB)
    network.client.until_answered("172.16.14.2", 80)
    assert Client(network.client.address, protocol=IPPROTO_MPTCP).body("172.16.14.2", 80) == WEB_SAYS


def test_a_reset_of_the_server(network, serve):
    """The overlay passes it on."""
    serve("reset", intercept("172.16.14.3", 7001))
    with lab.eventually(lambda: connected(network.client, "172.16.14.3", 7001)) as made:
        made.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            made.recv(1)


def connected(client, host, port):
    """Return a connection, or None if there is none soon."""
    try:
        return client.connect(host, port)
    except OSError:
        return None


def test_fifty_mebibytes_and_many_connections(network, serve):
    serve("bulk", intercept("172.16.10.2", 80), port=WEB)
    network.client.until_answered("172.16.10.2", 80)
    assert network.client.get("172.16.10.2", 80, "50").size > 50 << 20
    assert network.client.at_once("172.16.10.2", 80, 200)[0] == 200


def test_ipv6(network, serve):
    """The router listens on 127.0.0.1 only, so that no flow over IPv6 reaches it. Its call is stored."""
    service = serve("six", intercept("fd00:16::1", 80), port=WEB)
    serve("four-beside-six", intercept("172.16.10.3", 80), port=WEB)
    network.client.until_answered("172.16.10.3", 80)
    assert [rule["destination"] for rule in network.r1.rules() if rule["owner"] == service.owner] == ["fd00:16::1/128"]
    assert "router_ipv4_only" in network.r1.findings()
