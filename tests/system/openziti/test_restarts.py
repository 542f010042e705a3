# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services that change, and the end of each process: controller, router, helper, the whole machine."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager

import pytest

from ansible_collections.netedge.tproxy.tests.system.openziti import lab
from ansible_collections.netedge.tproxy.tests.system.openziti.services import (
    OTHER_WEB,
    WEB,
    intercept,
)

HELPER = "tproxy-splicer-helper.service"
STOPS = int(os.environ.get("OPENZITI_STOPS", "50"))


@contextmanager
def held(network, host, port):
    """Hold a connection with an echo each 50 ms. Yield a list of faults.

    The router accepts a connection before it asks the controller for a way, so the first echo comes before the yield.
    """
    faults: list[OSError] = []
    done = threading.Event()
    made = network.client.connect(host, port)
    made.settimeout(20)

    def echo() -> None:
        made.sendall(b"h")
        assert made.recv(1) == b"h"

    def use() -> None:
        while not done.wait(0.05):
            try:
                echo()
            except (OSError, AssertionError) as error:
                faults.append(error)
                return

    echo()
    user = threading.Thread(target=use)
    user.start()
    try:
        yield faults
    finally:
        done.set()
        user.join()
        made.close()


def test_a_service_changes(network, serve):
    service = serve("changes", intercept("172.16.30.1", 80), port=WEB)
    network.client.until_answered("172.16.30.1", 80)
    service.change(network.api, "intercept.v1", intercept("172.16.30.1", 81))
    network.client.until_answered("172.16.30.1", 81)
    assert network.client.silent("172.16.30.1", 80)
    service.change(network.api, "intercept.v1", intercept("172.16.30.2", 81))
    network.client.until_answered("172.16.30.2", 81)
    assert network.client.silent("172.16.30.1", 81)


def test_a_policy_goes_and_comes(network, serve):
    service = serve("withdrawn", intercept("172.16.30.3", 80), port=WEB, attribute="withdrawn")
    identity = network.api.id_of("identities", "r1")
    hosting = network.api.policy("withdrawn-Bind", "Bind", [network.api.id_of("identities", "r2")], "withdrawn")
    try:
        for _turn in range(2):
            policy = network.api.policy("withdrawn-Dial", "Dial", [identity], "withdrawn")
            network.client.until_answered("172.16.30.3", 80)
            network.api.delete("service-policies", policy)
            lab.eventually(lambda: service.owner not in {rule["owner"] for rule in network.r1.rules()})
            assert network.client.silent("172.16.30.3", 80)
    finally:
        network.api.delete("service-policies", hosting)


def test_a_connection_outlives_its_rule(network, serve):
    """The rule goes with the router's -D and comes again. Rules without a listener are removed meanwhile."""
    serve("held", intercept("172.16.30.4", 7000))
    lab.eventually(lambda: can_connect(network, "172.16.30.4", 7000))
    rule = next(one for one in network.r1.rules() if one["destination"] == "172.16.30.4/32")
    flow = ["-c", "172.16.30.4", "-m", 32, "-p", "tcp", "-o", "0.0.0.0", "-n", 0, "-l", 7000, "-h", 7000]
    with held(network, "172.16.30.4", 7000) as faults:
        network.r1.run("tproxy-splicer", "-D", *flow, "-s", rule["owner"].partition(":")[2])
        network.r1.run("tproxy-splicer", "gc")
        assert network.client.silent("172.16.30.4", 7000)
        service = rule["owner"].partition(":")[2]
        network.r1.run("tproxy-splicer", "-I", *flow, "-t", rule["tproxy_port"], "-s", service)
        lab.eventually(lambda: can_connect(network, "172.16.30.4", 7000))
        time.sleep(0.3)  # the connection is used after the change too
    assert not faults


def can_connect(network, host, port) -> bool:
    """Return whether an echo answers."""
    try:
        return network.client.echo_ms(host, port, 1) > 0
    except OSError:
        return False


def test_the_controller_restarts(network, serve):
    """Rules and connections stay. New connections are answered when the controller is back."""
    serve("held", intercept("172.16.30.5", 7000))
    serve("web", intercept("172.16.30.6", 80), port=WEB)
    lab.eventually(lambda: can_connect(network, "172.16.30.5", 7000))
    network.client.until_answered("172.16.30.6", 80)
    before = network.r1.rules()
    with held(network, "172.16.30.5", 7000) as faults:
        network.restart_controller()
        network.client.until_answered("172.16.30.6", 80)
    assert not faults
    assert {rule["owner"] for rule in network.r1.rules()} == {rule["owner"] for rule in before}


def served(network, serve, net: str) -> list[str]:
    """Return eight hosts of a net, each with a service that answers."""
    hosts = [f"{net}.{number}" for number in range(1, 9)]
    for host in hosts:
        serve(f"of-{host}", intercept(host, 80), port=OTHER_WEB)
    for host in hosts:
        network.client.until_answered(host, 80)
    return hosts


def test_the_controller_changes_the_data_of_the_router(network, serve):
    """The router removes and adds all its rules. All are in force again, each with its new listener."""
    hosts = served(network, serve, "172.16.32")
    before = {rule["destination"]: rule["tproxy_port"] for rule in network.r1.rules()}
    identity = network.api.id_of("identities", "r1")
    network.api.call("PATCH", f"identities/{identity}", {"appData": {"changed": f"{time.time()}"}})
    lab.eventually(lambda: renewed(network, before))
    answers = network.client.sweep(hosts, 80)
    assert [host for host, answer in answers.items() if answer.fault] == []
    assert stale(network) == []


def renewed(network, before) -> bool:
    """Return whether each rule has another port than before."""
    now = {rule["destination"]: rule["tproxy_port"] for rule in network.r1.rules()}
    return now.keys() == before.keys() and all(now[each] != before[each] for each in now)


@pytest.mark.slice
def test_the_router_restarts(network, serve, record_property):
    serve("restart", intercept("172.16.30.7", 80), port=WEB)
    network.client.until_answered("172.16.30.7", 80)
    record_property("restart_seconds", network.r1.control("restart"))
    record_property("answer_seconds", network.client.until_answered("172.16.30.7", 80))
    assert stale(network) == []


def stale(network) -> list[str]:
    """Return the destinations of rules without a listener."""
    listening = {line.split()[3].rpartition(":")[2] for line in network.r1.run("ss", "-Hltnu").splitlines() if line}
    listening |= {line.split()[4].rpartition(":")[2] for line in network.r1.run("ss", "-Hltnu").splitlines() if line}
    return [rule["destination"] for rule in network.r1.rules() if str(rule["tproxy_port"]) not in listening]


@pytest.mark.storm
def test_stops_leave_no_rule(network, many):
    """systemd sends its signal to the router and to the calls of the diverter that the router makes meanwhile."""
    addresses = set(many(range(8)))
    left = []
    for _stop in range(STOPS):
        lab.eventually(lambda: addresses <= destinations(network))
        network.r1.control("stop")
        left.append(len(network.r1.rules()))
        network.r1.control("reset-failed")  # systemd allows five starts in ten seconds
        network.r1.control("start")
    print(f"{STOPS} stops, rules left after each: {left}")
    assert not any(left)


def test_the_router_is_killed(network, serve, record_property):
    """Its flows are dropped meanwhile, and answered when it is back."""
    serve("killed", intercept("172.16.30.8", 80), port=WEB)
    network.client.until_answered("172.16.30.8", 80)
    network.r1.kill()
    start = time.monotonic()
    lab.eventually(lambda: network.client.silent("172.16.30.8", 80))  # once the kernel has closed its sockets
    network.client.until_answered("172.16.30.8", 80)
    record_property("back_seconds", time.monotonic() - start)
    lab.eventually(lambda: stale(network) == [])


def test_the_machine_reboots(network, serve, record_property):
    """Power is cut. The role's rules and the router's are in force again without Ansible."""
    serve("reboot", intercept("172.16.30.9", 80), port=WEB)
    network.client.until_answered("172.16.30.9", 80)
    lab.lab("stop", "r1")
    start = time.monotonic()
    lab.lab("start", "r1")
    network.client.until_answered("172.16.30.9", 80)
    record_property("boot_seconds", time.monotonic() - start)
    restored, helped = (
        int(network.r1.unit(unit, key))
        for unit, key in (
            ("tproxy-splicer.service", "ActiveEnterTimestampMonotonic"),
            (HELPER, "ExecMainStartTimestampMonotonic"),
        )
    )
    assert 0 < restored < helped
    lab.eventually(network.all_online)


def test_the_helper_is_killed_while_services_come(network, many):
    addresses = []
    adding = threading.Thread(target=lambda: addresses.extend(many(range(10))))
    adding.start()
    for _turn in range(5):
        network.r1.run("systemctl", "kill", "--signal=KILL", HELPER, check=False)
        time.sleep(0.25)
    adding.join()
    lab.eventually(lambda: set(addresses) <= destinations(network))
    lab.eventually(lambda: not any(answer.fault for answer in network.client.sweep(addresses, 443).values()))


def destinations(network) -> set[str]:
    """Return the destinations of rules of the router, without prefix lengths."""
    return {rule["destination"].partition("/")[0] for rule in network.r1.rules()}


@pytest.mark.parametrize("confirm_timeout", [0, 90])
def test_services_come_while_the_role_changes_a_rule(network, many, confirm_timeout):
    """Eighty services come at 4 a second, during a role run whose change may wait for its confirmation."""
    network.role(tproxy_splicer_rules=[drop("172.16.200.1")])
    pace = threading.Thread(target=lambda: [many_at_a_pace(many, number) for number in range(80)])
    pace.start()
    time.sleep(2)  # a part of them comes before the run, a part after it
    changed = {"tproxy_splicer_rules": [drop("172.16.200.2")]}
    output = network.role(tproxy_splicer_confirm_timeout=confirm_timeout, **changed)
    pace.join()
    assert "changed=1" in output
    wanted = {f"172.17.0.{number + 1}" for number in range(80)}
    lab.eventually(lambda: wanted <= destinations(network), 30)
    assert "changed=0" in network.role(**changed)
    assert wanted <= destinations(network)  # purge leaves the rules of routers
    network.role()


def test_services_come_while_the_role_replaces_the_helper(network, many):
    """The role mends a unit of the helper that differs, and starts the helper again."""
    pace = threading.Thread(target=lambda: [many_at_a_pace(many, number, 0.1) for number in range(120)])
    network.r1.shell(f"echo '# of the operator' >> /etc/systemd/system/{HELPER}; systemctl daemon-reload")
    pace.start()
    time.sleep(1)
    before = network.r1.unit(HELPER, "ExecMainStartTimestampMonotonic")
    output = network.role()
    pace.join()
    assert "changed=1" in output
    assert network.r1.unit(HELPER, "ExecMainStartTimestampMonotonic") != before
    wanted = {f"172.17.0.{number + 1}" for number in range(120)}
    lab.eventually(lambda: wanted <= destinations(network), 30)
    lab.eventually(lambda: not any(answer.fault for answer in network.client.sweep(sorted(wanted), 443).values()))


def many_at_a_pace(many, number: int, seconds: float = 0.25) -> None:
    """Add one service, and use up its time."""
    start = time.monotonic()
    many([number])
    time.sleep(max(0.0, seconds - (time.monotonic() - start)))


def drop(destination: str) -> dict[str, object]:
    """Return a rule that the role may change."""
    return {"name": "of the role", "destination": destination, "protocol": "tcp", "ports": 80, "action": "drop"}


def test_the_router_restarts_while_a_change_waits(network, serve):
    """The change is rolled back. All services are in force, and no rule is stale."""
    hosts = served(network, serve, "172.16.31")
    lab.module("tproxy_confirm", state="begun", confirm_timeout=120, token="waiting")
    lab.module("tproxy_rule", owner="waiting", rules=[drop("172.16.200.3")], confirm_token="waiting")
    network.r1.control("restart")
    for host in hosts:
        network.client.until_answered(host, 80)
    network.r1.run("tproxy-splicer", "rollback")
    answers = network.client.sweep(hosts, 80)
    assert [host for host, answer in answers.items() if answer.fault] == []
    assert stale(network) == []
    assert "waiting" not in {rule["owner"] for rule in network.r1.show("show", "rules")["rules"]}
