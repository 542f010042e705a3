# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a real router: doctor, metrics and tproxy_info tell each, and the cure of the finding works."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.tests.system.openziti import guide, lab
from ansible_collections.netedge.tproxy.tests.system.openziti.findings import gone, obey, told
from ansible_collections.netedge.tproxy.tests.system.openziti.management_api import ADDRESS
from ansible_collections.netedge.tproxy.tests.system.openziti.network import UNIT
from ansible_collections.netedge.tproxy.tests.system.openziti.services import (
    OTHER_WEB,
    OTHER_WEB_SAYS,
    WEB,
    WEB_SAYS,
    intercept,
)

SOCKET_LOOKUPS = "/sys/fs/bpf/tproxy_splicer/v3/sk_lookup"
TOO_LONG = "a-name-of-19-letters"


def test_a_refused_call(network, serve):
    """The kernel knows no interface name of this length. The router then leaves out the interfaces that follow."""
    service = serve("refused", intercept("172.16.61.1", 80), interfaces=[TOO_LONG, "lan0"], port=WEB)
    finding = told(network, "calls_refused")
    assert TOO_LONG in finding["found"] and f"systemctl restart {UNIT}" in finding["remedy"]
    journal, restart = guide.commands("After a refused or lost call")
    assert TOO_LONG in network.r1.shell(journal) and restart in finding["remedy"]
    assert network.client.silent("172.16.61.1", 80)
    service.change(network.api, "interfaces.v1", {"interfaces": ["lan0"]})  # the reason
    obey(network, finding)
    network.client.until_answered("172.16.61.1", 80)
    gone(network, "calls_refused")


def test_a_service_on_the_network_of_the_clients(network, serve):
    """The router puts the network on lo, and no client reaches it any more."""
    serve("before", intercept("172.16.61.2", 80), port=WEB)
    network.client.until_answered("172.16.61.2", 80)
    service = serve("neighbours", intercept("10.1.1.0/24", 443), port=WEB)
    finding = told(network, "lo_covers")
    assert f"10.1.1.0/24 on lo, for {service.owner}, covers the subnet 10.1.1.0/24 of lan0" in finding["found"]
    assert network.client.silent("172.16.61.2", 80)
    owner = service.owner
    service.remove(network.api)
    lab.eventually(lambda: owner not in {rule["owner"] for rule in network.r1.rules()})
    network.r1.control("restart")
    network.client.until_answered("172.16.61.2", 80)
    gone(network, "lo_covers")


@pytest.mark.parametrize(
    ("taken", "covered"),
    [
        (ADDRESS, f"covers {ADDRESS}, the controller of ziti"),
        ("10.0.0.0/8", "the subnet 10.1.1.0/24 of lan0"),
        ("10.1.1.254", "the gateway 10.1.1.254 of lan0"),
    ],
)
def test_a_service_on_a_neighbour(network, serve, taken, covered):
    """It cuts the controller and Ansible off, so the console tells. A restart mends it without the service."""
    network.r1.run("ip", "route", "replace", "203.0.113.0/24", "via", "10.1.1.254")
    service = serve("neighbour", intercept(taken, 443), port=WEB)
    try:
        finding = lab.eventually(lambda: network.r1.findings().get("lo_covers"))
        assert finding["severity"] == "error" and service.owner in finding["found"] and covered in finding["found"]
    finally:
        service.remove(network.api)
        network.r1.control("restart")
        network.r1.run("ip", "route", "del", "203.0.113.0/24")
    lab.eventually(lambda: "lo_covers" not in network.r1.findings())
    lab.eventually(network.all_online)
    serve("after-neighbour", intercept("172.16.61.9", 80), port=WEB)
    network.client.until_answered("172.16.61.9", 80)
    gone(network, "lo_covers")


def test_one_flow_of_two_services(network, serve):
    services = [serve(f"one-flow-{port}", intercept("172.16.61.3", 80), port=port) for port in (WEB, OTHER_WEB)]
    services.sort(key=lambda one: one.owner)
    finding = told(network, "flow_shared")
    assert f"{services[0].owner} has it, and {services[1].owner} gets nothing" in finding["found"]
    other = OTHER_WEB_SAYS if network.client.body("172.16.61.3", 80) == WEB_SAYS else WEB_SAYS
    services[0].remove(network.api)
    gone(network, "flow_shared")
    lab.eventually(lambda: getattr(network.client.answered("172.16.61.3", 80), "body", "") == other)


def test_a_service_with_an_ipv6_address(network, serve):
    service = serve("both-families", intercept(["172.16.61.4", "fd00:61::4"], 80), port=WEB)
    assert service.owner in told(network, "router_ipv4_only")["found"]
    service.change(network.api, "intercept.v1", intercept("172.16.61.4", 80))
    network.client.until_answered("172.16.61.4", 80)
    gone(network, "router_ipv4_only")


def test_a_service_on_an_interface_without_the_program(network, serve):
    serve("elsewhere", intercept("172.16.61.5", 80), interfaces=["wan0"], port=WEB)
    assert "no program on wan0" in told(network, "service_not_in_force")["found"]
    lab.module("tc_bpf_attach", interface="wan0", policy={"default_action": "pass"})
    try:
        gone(network, "service_not_in_force")
    finally:
        lab.module("tc_bpf_attach", interface="wan0", state="absent")


def test_fragments_without_the_watcher(network, serve):
    """The cure is the watcher, which finds the listener for a datagram in fragments."""
    serve("fragments", intercept("172.16.61.6", 5000, protocols=["udp"]))
    lab.eventually(lambda: network.client.datagrams("172.16.61.6", 5000, 1, 100)[0])
    network.r1.run("systemctl", "stop", "tproxy-splicer-watch")
    network.r1.run("rm", "-f", SOCKET_LOOKUPS)  # as if it had never run
    try:
        lab.eventually(lambda: not network.client.datagrams("172.16.61.6", 5000, 1, 4000)[0])
        assert "fragments were dropped on lan0" in told(network, "fragments_dropped")["found"]
        obey(network, told(network, "watcher_missing"))
        lab.eventually(lambda: network.client.datagrams("172.16.61.6", 5000, 1, 4000)[0])
        gone(network, "fragments_dropped")
        gone(network, "watcher_missing")
    finally:
        network.r1.run("systemctl", "start", "tproxy-splicer-watch")


def test_rules_of_a_router_that_is_gone(network, serve):
    """It was killed, and its unit starts it no more."""
    service = serve("left-behind", intercept("172.16.61.7", 80), port=WEB)
    network.client.until_answered("172.16.61.7", 80)
    network.r1.kill()
    network.r1.control("stop")  # before the unit starts it again
    try:
        obey(network, told(network, "left_behind"))
        gone(network, "left_behind")
        assert service.owner not in {rule["owner"] for rule in network.r1.rules()}
    finally:
        network.r1.control("start")
    network.client.until_answered("172.16.61.7", 80)


def test_the_socket_of_the_helper_is_gone(network, serve):
    network.r1.run("systemctl", "stop", "tproxy-splicer-helper.socket")
    obey(network, told(network, "helper_missing"))
    gone(network, "helper_missing")
    serve("helped", intercept("172.16.61.8", 80), port=WEB)
    network.client.until_answered("172.16.61.8", 80)


def test_the_group_of_the_helper_is_gone(network):
    network.r1.run("groupadd", "--system", "--force", "proxies")
    network.role(tproxy_splicer_helper_group="proxies")
    network.r1.run("groupdel", "proxies")
    try:
        obey(network, told(network, "helper_group_missing"))
        gone(network, "helper_group_missing")
    finally:
        network.role()
        network.r1.run("groupdel", "proxies", check=False)
