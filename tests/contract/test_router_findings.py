# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings about routers: each is provoked, the test does what the remedy says, and the finding goes."""

from __future__ import annotations

import socket

import pytest

from ansible_collections.netedge.tproxy.tests.contract.edge_router import Commands, EdgeRouter, Service
from ansible_collections.netedge.tproxy.tests.contract.router_process import RouterProcess
from ansible_collections.netedge.tproxy.tests.support.router import eventually

WEB = Service("web", (("192.0.2.7", "32"),), (("80", "80"),))
FLOW = ("-c", "192.0.2.7", "-m", "32", "-p", "tcp", "-o", "0.0.0.0", "-n", "0", "-l", "80", "-h", "80")
NO_ADDRESS = ("-c", "192.0.2.777", *FLOW[2:])


@pytest.fixture
def of_routers(attached_router):
    """Return a function that returns the findings about routers, by code."""
    codes = {
        "listener_without_rule",
        "calls_refused",
        "lo_covers",
        "flow_shared",
        "router_ipv4_only",
        "fragments_dropped",
        "service_not_in_force",
    }

    def found() -> dict:
        return {each["code"]: each for each in attached_router.info()["findings"] if each["code"] in codes}

    return found


@pytest.fixture
def edge(attached_router, installed, helper):
    """Return a router in this process that calls the helper."""
    started = EdgeRouter(Commands(installed, attached_router.pin_dir, str(helper.path)))
    yield started
    started.crash()


@pytest.fixture(params=["root", "helper"])
def start(request, attached_router, installed):
    """Return a function that starts a router as a process."""
    started = []
    helper = str(request.getfixturevalue("helper").path) if request.param == "helper" else ""
    environment = {
        "TPROXY_SPLICER_PIN_DIR": attached_router.pin_dir,
        "TPROXY_SPLICER_HELPER": helper,
        "PATH": "/usr/bin:/bin",
    }

    def begin() -> RouterProcess:
        started.append(RouterProcess(str(installed / "tproxy-splicer"), environment))
        return started[-1]

    yield begin
    for one in started[-1:]:
        one.stop()


def test_a_lost_and_a_refused_call_are_told_until_the_router_has_restarted(start, of_routers):
    router = start()
    port = router.listen()
    lost = of_routers()["listener_without_rule"]
    assert f"({router.pid}) listens transparently on tcp 127.0.0.1:{port}, and no rule leads there" in lost["found"]
    assert router.call("-I", *NO_ADDRESS, "-t", str(port), "-s", "web").status == 2
    refused = of_routers()["calls_refused"]
    assert refused["found"].startswith("1 calls of ")
    assert f"({router.pid}) were refused since it started" in refused["found"]
    assert "192.0.2.777" in refused["found"]
    router.call("-D", *NO_ADDRESS)
    assert of_routers()["calls_refused"]["found"].startswith("2 calls of ")
    router.stop()
    router = start()
    assert router.call("-I", *FLOW, "-t", str(router.listen()), "-s", "web") == (0, "", "")
    assert of_routers() == {}


def test_an_intercept_that_takes_a_subnet_or_a_gateway_is_told_until_the_address_goes(
    edge, attached_router, of_routers
):
    netns = attached_router.netns
    wide = WEB._replace(addresses=(("10.1.0.0", "24"),))
    edge.add(wide)
    assert of_routers() == {}
    netns.run("ip address add 10.1.0.0/24 dev lo")
    taken = of_routers()["lo_covers"]
    assert taken["severity"] == "error"
    assert taken["found"].startswith("10.1.0.0/24 on lo, for ziti:web, covers the subnet 10.1.0.0/24 of lan0")
    edge.remove("web")
    netns.run("ip address del 10.1.0.0/24 dev lo")
    assert of_routers() == {}
    netns.run("ip route add 203.0.113.0/24 via 10.1.0.2")
    netns.run("ip address add 10.1.0.2/32 dev lo")
    assert "covers the gateway 10.1.0.2 of lan0" in of_routers()["lo_covers"]["found"]
    netns.run("ip address del 10.1.0.2/32 dev lo")
    netns.run("ip address add 192.0.2.7/32 dev lo")
    assert of_routers() == {}


def test_one_flow_of_two_services_is_told_until_one_of_them_goes(edge, of_routers):
    edge.add(WEB._replace(id="b"), WEB._replace(id="a"))
    shared = of_routers()["flow_shared"]["found"]
    assert shared == "1 flows have two owners: tcp 192.0.2.7/32 ports 80: ziti:a has it, and ziti:b gets nothing"
    edge.remove("a")
    assert of_routers() == {}


def test_one_flow_of_a_service_and_of_an_operator_is_told(edge, attached_router, of_routers):
    flow = {"destination": "192.0.2.7", "protocol": "tcp", "ports": "80"}
    attached_router.rules({**flow, "action": "drop"})
    edge.add(WEB)
    assert "ansible has it, and ziti:web gets nothing" in of_routers()["flow_shared"]["found"]
    attached_router.rules(flow, state="absent")
    assert of_routers() == {}


def test_an_ipv6_service_is_told_until_it_has_no_ipv6_address(edge, of_routers):
    edge.add(WEB._replace(addresses=(("192.0.2.7", "32"), ("fd00:16::1", "128"))))
    assert "so IPv6 addresses of ziti:web get no answer" in of_routers()["router_ipv4_only"]["found"]
    edge.change(WEB)
    assert of_routers() == {}


def test_dropped_fragments_are_told_while_a_router_intercepts_udp(edge, attached_router, client, of_routers):
    edge.add(WEB._replace(protocols=("udp",)))
    with client.socket(socket.SOCK_DGRAM) as asking:
        asking.sendto(bytes(4000), ("192.0.2.7", 80))
    eventually(lambda: attached_router.reasons().get(("fragment", "dropped"), 0) > 0)
    told = of_routers()["fragments_dropped"]
    assert told["interface"] == "lan0"
    assert "fragments were dropped on lan0, and a router intercepts UDP" in told["found"]
    edge.change(WEB)
    assert of_routers() == {}


def test_a_stored_rule_is_told_until_its_interface_has_the_program(edge, attached_router, netns, of_routers):
    edge.add(WEB._replace(interfaces=("wan0",)))
    told = of_routers()["service_not_in_force"]
    assert (told["severity"], "no program on wan0" in told["found"]) == ("note", True)
    netns.veth("wan0", "wan0-peer")
    attached_router.attach("wan0")
    assert of_routers() == {}
