# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thousands of services: start and stop beside the router's built-in mode, and a router that is killed.

These tests run by `-m storm` only. OPENZITI_SERVICES and OPENZITI_ROUNDS make them smaller or longer. Figures are
printed (-s) and written to .work/log/openziti-storm.json. Times are reported, never asserted.
"""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest

from ansible_collections.netedge.tproxy.tests.system.openziti import lab
from ansible_collections.netedge.tproxy.tests.system.openziti.network import BUILT_IN, DIVERTER, UNIT
from ansible_collections.netedge.tproxy.tests.system.openziti.services import create_many, intercept, sweep

SERVICES = int(os.environ.get("OPENZITI_SERVICES", "2000"))
ROUNDS = int(os.environ.get("OPENZITI_ROUNDS", "5"))
WITHDRAWN = SERVICES * 15 // 100
HELPER = "tproxy-splicer-helper.service"
START_SECONDS = 300
REPORT = lab.ROOT / ".work" / "log" / "openziti-storm.json"

pytestmark = pytest.mark.storm


class Crowd:
    """The services of a storm: those that stay, and those that are withdrawn. Each has an address of its own."""

    def __init__(self, network) -> None:
        self._network, self._dial = network, {}
        self.staying = create_many(network.api, range(SERVICES - WITHDRAWN), "storm-a", "172.17")
        self.leaving = create_many(network.api, range(SERVICES - WITHDRAWN, SERVICES), "storm-b", "172.17")
        hosting = network.api.id_of("identities", "r2")
        self._policies = [
            network.api.policy(f"{name}-Bind", "Bind", [hosting], name) for name in ("storm-a", "storm-b")
        ]
        self.allow("storm-a")
        self.allow("storm-b")

    def allow(self, attribute: str) -> None:
        """Let the router under test dial these services."""
        identity = self._network.api.id_of("identities", "r1")
        self._dial[attribute] = self._network.api.policy(f"{attribute}-Dial", "Dial", [identity], attribute)

    def withdraw(self, attribute: str) -> None:
        """Take these services from the router under test."""
        self._network.api.delete("service-policies", self._dial.pop(attribute))

    def remove(self) -> None:
        """Remove all."""
        for identifier in (*self._policies, *self._dial.values()):
            self._network.api.delete("service-policies", identifier)
        sweep(self._network.api, "storm-a", "storm-b")


@pytest.fixture(scope="module")
def crowd(network):
    """Return the services, with rules in force."""
    made = Crowd(network)
    yield made
    made.remove()
    network.r1.control("restart")  # a router that is still starting misses some of the withdrawals
    lab.eventually(lambda: not network.r1.rules(), START_SECONDS)


def listeners(network) -> int:
    """Return the number of the router's listeners for streams."""
    return int(network.r1.shell("ss -Hltn src 127.0.0.1 | wc -l"))


def seconds_until(condition, limit: float = START_SECONDS) -> float:
    """Return the seconds until a condition is true."""
    start = time.monotonic()
    lab.eventually(condition, limit, 0.1)
    return time.monotonic() - start


def cpu_seconds(network, unit: str) -> float:
    """Return the processor time of a running unit."""
    return int(network.r1.unit(unit, "CPUUsageNSec")) / 1e9


def measure(network) -> dict[str, float]:
    """Stop the router, start it, and return the seconds and the processor time that this took."""
    found = {"stop_seconds": network.r1.control("stop")}
    before = cpu_seconds(network, HELPER)
    network.r1.control("start")
    found["first_listener_seconds"] = seconds_until(lambda: listeners(network))
    found["all_listeners_seconds"] = found["first_listener_seconds"] + seconds_until(
        lambda: listeners(network) >= SERVICES
    )
    found["router_cpu_seconds"] = cpu_seconds(network, UNIT)
    found["helper_cpu_seconds"] = cpu_seconds(network, HELPER) - before
    return {name: round(value, 2) for name, value in found.items()}


def traffic(network) -> dict[str, float]:
    """Return the latencies and the seconds for 50 MiB, with the services in force."""
    client, host = network.client, "172.16.40.1"
    client.until_answered(host, 80)
    lab.eventually(lambda: client.datagrams(host, 5000, 1, 100)[0])
    return {
        "tcp_echo_ms": round(client.echo_ms(host, 7000, 500), 3),
        "udp_echo_ms": round(client.datagrams(host, 5000, 500, 100)[1], 3),
        "seconds_of_50_mib": round(client.get(host, 80, "50").seconds, 2),
        "seconds_of_200_at_once": round(client.at_once(host, 80, 200)[1], 2),
    }


def install_iptables(network) -> None:
    """Copy this machine's iptables into the router, for the router's built-in mode."""
    files = [path for path in lab.run(["dpkg", "-L", "iptables"]).split("\n") if os.path.isfile(path)]
    links = [f"/usr/sbin/{name}" for name in ("iptables", "ip6tables")]
    packed = subprocess.run(["tar", "-cP", *files], stdout=subprocess.PIPE, check=True).stdout
    network.r1.run("tar", "-xP", given=packed)
    for link in links:
        network.r1.run("ln", "-sf", "/usr/sbin/xtables-nft-multi", link)


def switch(network, mode: str) -> None:
    """Run the router in a mode, with the program on lan0 for the diverter only."""
    network.r1.control("stop")
    state = "present" if mode == DIVERTER else "absent"
    policy = {"default_action": "drop", "management": [{"source": "10.1.1.0/24", "protocol": "udp", "port": 53}]}
    given = {"policy": policy} if state == "present" else {}
    lab.module("tc_bpf_attach", interface="lan0", state=state, **given)
    network.r1.configure(mode=mode)
    network.r1.control("start")


def report(name: str, figures: object) -> None:
    """Print figures, and write them beside those of the other tests."""
    known = json.loads(REPORT.read_text(encoding="utf-8")) if REPORT.exists() else {}
    REPORT.write_text(json.dumps(known | {name: figures}, indent=2), encoding="utf-8")
    print(f"\n{name}: {json.dumps(figures)}")


def test_start_and_stop_beside_the_built_in_mode(network, crowd, serve):
    """Each call is in force at the end, and a stop leaves no rule and no address."""
    ports = [80, 5000, 7000]
    serve("storm-web", intercept("172.16.40.1", 80), port=8080)
    serve("storm-echo", intercept("172.16.40.1", *ports[1:], protocols=["tcp", "udp"]))
    lab.eventually(lambda: len(network.r1.rules()) >= SERVICES, START_SECONDS)
    figures = {"services": SERVICES, "diverter": measure(network)}
    lab.eventually(lambda: len(network.r1.rules()) >= SERVICES)
    figures["diverter"] |= traffic(network)
    install_iptables(network)
    try:
        switch(network, BUILT_IN)
        lab.eventually(lambda: listeners(network) >= SERVICES, START_SECONDS)
        figures["built-in"] = measure(network) | traffic(network)
    finally:
        switch(network, DIVERTER)
    lab.eventually(lambda: len(network.r1.rules()) >= SERVICES, START_SECONDS)
    figures["diverter"]["last_stop_seconds"] = round(network.r1.control("stop"), 2)
    report("start and stop", figures)
    left = (
        len(network.r1.rules()),
        network.r1.shell("ip -4 address show dev lo | grep -c '172[.]17[.]' || true").strip(),
    )
    network.r1.control("start")
    assert left == (0, "0")


def test_a_killed_router_gives_no_flow_to_another_service(network, crowd):
    """Killed, and a part of its services is withdrawn before it is back: which service answers at each address?"""
    astray: list[dict[str, object]] = []
    for number in range(ROUNDS):
        lab.eventually(lambda: listeners(network) >= SERVICES, START_SECONDS)  # rules of the last round may be stale
        network.r1.kill()
        crowd.withdraw("storm-b")
        astray.append({"round": number, **observe(network, crowd)})
        crowd.allow("storm-b")
    report("flows that reached another service", astray)
    assert [one for one in astray if one["withdrawn"] or one["living"]] == []


def observe(network, crowd) -> dict[str, int]:
    """Count the answers of another service, from the moment when the router is back until all its rules are renewed."""
    network.client.until_answered(crowd.staying[0], 443)
    withdrawn: set[str] = set()
    living: set[str] = set()
    while True:
        whole = listeners(network) >= SERVICES - WITHDRAWN
        withdrawn |= {host for host, answer in network.client.sweep(crowd.leaving, 443, 0.5).items() if answer.body}
        answers = network.client.sweep(crowd.staying[-400:], 443, 0.5)
        living |= {host for host, answer in answers.items() if answer.body and answer.body != f"{host}:8080"}
        if whole:
            return {"withdrawn": len(withdrawn), "living": len(living)}
