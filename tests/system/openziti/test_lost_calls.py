# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls that are lost: a router never repeats one. A finding tells, and its cure works."""

from __future__ import annotations

from ansible_collections.netedge.tproxy.tests.system.openziti import lab
from ansible_collections.netedge.tproxy.tests.system.openziti.findings import gone, obey, told
from ansible_collections.netedge.tproxy.tests.system.openziti.network import UNIT
from ansible_collections.netedge.tproxy.tests.system.openziti.services import WEB, intercept

FINDING = "listener_without_rule"


def told_and_mended(network, host: str) -> None:
    """Wait for the finding, do what it says, and expect answers and no finding."""
    finding = told(network, FINDING)
    assert f"systemctl restart {UNIT}" in finding["remedy"]
    assert network.client.silent(host, 80)
    obey(network, finding)
    network.client.until_answered(host, 80)
    gone(network, FINDING)


def test_the_diverter_is_away_during_a_call(network, serve):
    serve("before-away", intercept("172.16.60.1", 80), port=WEB)
    network.client.until_answered("172.16.60.1", 80)
    path = "/usr/local/sbin/tproxy-splicer"
    network.r1.run("mv", path, f"{path}.away")
    try:
        serve("while-away", intercept("172.16.60.2", 80), port=WEB)
        lab.eventually(lambda: "while-away" in network.r1.run("journalctl", "-q", "-o", "cat", "-u", UNIT))
    finally:
        network.r1.run("mv", f"{path}.away", path)
    told_and_mended(network, "172.16.60.2")


def test_absent_and_present_with_the_unit_named(network, serve):
    """The role restarts the router, so that all its calls come again."""
    serve("absent-unit", intercept("172.16.60.4", 80), port=WEB)
    network.client.until_answered("172.16.60.4", 80)
    network.role(tproxy_splicer_state="absent")
    started = network.r1.unit(UNIT, "ExecMainStartTimestampMonotonic")
    network.role(tproxy_splicer_openziti_unit=UNIT)
    assert network.r1.unit(UNIT, "ExecMainStartTimestampMonotonic") != started
    network.client.until_answered("172.16.60.4", 80)
    gone(network, FINDING)
    again = network.r1.unit(UNIT, "ExecMainStartTimestampMonotonic")
    network.role(tproxy_splicer_openziti_unit=UNIT)
    assert network.r1.unit(UNIT, "ExecMainStartTimestampMonotonic") == again


def test_absent_and_present_while_the_router_runs(network, serve):
    """The role removes the rules of every owner. It leaves the router alone, and the finding tells."""
    serve("absent", intercept("172.16.60.3", 80), port=WEB)
    network.client.until_answered("172.16.60.3", 80)
    network.role(tproxy_splicer_state="absent")
    network.role()
    told_and_mended(network, "172.16.60.3")
