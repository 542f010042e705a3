# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The calls of an edge router: the expected rules are in force, and real connections reach the right listeners."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.launcher import START
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.zipapp import executable
from ansible_collections.netedge.tproxy.tests.contract.edge_router import NOBODY, Service, in_force
from ansible_collections.netedge.tproxy.tests.contract.helper import Helper
from ansible_collections.netedge.tproxy.tests.support.router import eventually, original_destination, transparent

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
FARM = Service("4rGdWvtU7Zg0tJQqR5nYbX", protocols=("tcp", "udp"))
NAMES = Service("1-a.B", (("100.64.0.2", "32"),), (("53", "53"), ("0", "0")), ("udp",))
WIDE = Service("-D", (("10.20.30.40", "8"), ("fd00:5::7", "64")), (("0", "65535"),), interfaces=("lan0", "lan7"))
PICKY = Service("picky", (("192.0.2.7", "32"),), (("80", "80"),), sources=(("10.1.0.0", "24"), ("10.9.9.9", "32")))
ALL = (FARM, NAMES, WIDE, PICKY)
PACKAGE = Path(__file__).resolve().parents[2] / "plugins" / "module_utils" / "_tproxy"
REAL_CALLS = Path(__file__).resolve().parent / "real_calls.txt"


def connects(client, listener: socket.socket, address: str, port: int) -> None:
    """Assert that a connection of the client to an address reaches the listener, with that address as its own."""
    with client.socket(TCP) as asking:
        asking.connect((address, port))
        answering, peer = listener.accept()
        with answering:
            assert (answering.getsockname(), peer) == ((address, port), asking.getsockname())


def arrives(client, listener: socket.socket, address: str, port: int) -> None:
    """Assert that a datagram of the client reaches the listener with its destination, and that an answer returns."""
    with client.socket(UDP) as asking:
        asking.connect((address, port))
        asking.send(b"ping")
        data, ancillary, _flags, peer = listener.recvmsg(99, 99)
        assert (data, original_destination(ancillary)) == (b"ping", (address, port))
        with transparent(UDP, port, address) as answering:
            answering.sendto(b"pong", peer)
        assert asking.recv(99) == b"pong"


def is_dropped(client, router, address: str, port: int, kind: int = UDP) -> None:
    """Assert that the default action drops packets of the client to this address and port."""
    before = router.reasons().get(("default", "dropped"), 0)
    with client.socket(kind) as asking:
        asking.setblocking(False)
        asking.connect_ex((address, port))
        if kind == UDP:
            asking.send(b"ping")
        eventually(lambda: router.reasons().get(("default", "dropped"), 0) > before)


# ---- one call after the other ----------------------------------------------------------------------


def test_a_router_starts_as_any_user_and_before_any_attachment(command, bare_router):
    done = command.divert("-V", user=NOBODY)
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 1, "")
    assert bare_router.pinned() == {}


def test_services_are_in_force_when_their_calls_return(edge, attached_router):
    edge.add(*ALL)
    assert in_force(attached_router) == edge.wanted()
    assert len(edge.calls) == 1 + sum(len(service.flows()) for service in ALL)


def test_connections_and_datagrams_reach_the_services_listeners(edge, client):
    edge.add(FARM, NAMES)
    connects(client, edge.listeners[FARM.id]["tcp"], "172.16.1.5", 30022)
    arrives(client, edge.listeners[FARM.id]["udp"], "172.16.1.15", 40000)
    arrives(client, edge.listeners[NAMES.id]["udp"], "100.64.0.2", 53)


def test_a_source_that_is_not_allowed_is_not_spliced(edge, attached_router, client):
    edge.add(PICKY._replace(sources=(("10.1.0.2", "32"),)))
    connects(client, edge.listeners[PICKY.id]["tcp"], "192.0.2.7", 80)
    edge.change(PICKY._replace(sources=(("10.9.9.9", "32"),)))
    is_dropped(client, attached_router, "192.0.2.7", 80, TCP)


def test_a_removed_service_loses_its_own_rules_only(edge, attached_router, client):
    edge.add(*ALL)
    edge.remove(FARM.id)
    assert in_force(attached_router) == edge.wanted()
    is_dropped(client, attached_router, "172.16.1.5", 30022)
    arrives(client, edge.listeners[NAMES.id]["udp"], "100.64.0.2", 53)


def test_a_changed_service_has_its_new_rules(edge, attached_router, client):
    edge.add(FARM)
    edge.change(FARM._replace(ports=(("443", "443"),)))
    assert in_force(attached_router) == edge.wanted()
    connects(client, edge.listeners[FARM.id]["tcp"], "172.16.1.5", 443)


def test_after_a_reset_all_services_have_new_ports(edge, attached_router, client):
    edge.add(*ALL)
    before = in_force(attached_router)
    edge.reset()
    assert in_force(attached_router) == edge.wanted() != before
    connects(client, edge.listeners[FARM.id]["tcp"], "172.16.1.5", 30022)


def test_a_router_that_stopped_leaves_no_rule(edge, attached_router):
    attached_router.rules({"destination": "192.0.2.0/24", "protocol": "tcp", "ports": "22", "action": "pass"})
    edge.add(*ALL)
    edge.stop()
    assert in_force(attached_router) == []
    assert [rule["owner"] for rule in attached_router.info()["rules"]] == ["ansible"]


def test_after_a_crash_the_next_router_replaces_the_rules(edge, attached_router, client):
    """The services may have new ids: the rules of the dead router must not precede theirs."""
    edge.add(FARM, NAMES)
    edge.crash()
    after = edge.successor()
    after.add(FARM._replace(id="a new id"), NAMES)
    assert in_force(attached_router) == after.wanted()
    connects(client, after.listeners["a new id"]["tcp"], "172.16.1.5", 30022)
    after.stop()


def test_two_services_share_a_flow_until_the_last_delete(edge, attached_router, client):
    other = FARM._replace(id="other")
    edge.add(FARM, other)
    assert in_force(attached_router) == edge.wanted()
    edge.remove(FARM.id)
    assert in_force(attached_router) == edge.wanted()
    connects(client, edge.listeners["other"]["tcp"], "172.16.1.5", 30022)
    edge.remove("other")
    assert in_force(attached_router) == []


# ---- parallel calls --------------------------------------------------------------------------------


def many(count: int) -> list:
    return [Service(f"service{number}", ((f"172.20.{number}.0", "24"),)) for number in range(count)]


def test_parallel_calls_are_all_in_force(edge, attached_router):
    edge.add(*many(12), at_once=6)
    assert in_force(attached_router) == edge.wanted()
    edge.remove(*[f"service{number}" for number in range(0, 12, 2)], at_once=6)
    assert in_force(attached_router) == edge.wanted()


def test_a_playbook_and_a_router_keep_the_rules_of_each_other(edge, attached_router):
    mine = [{"destination": f"192.0.2.{n}", "protocol": "tcp", "ports": "22", "action": "pass"} for n in range(8)]
    with ThreadPoolExecutor(2) as pool:
        others = pool.submit(lambda: [attached_router.rules(rule) for rule in mine])
        edge.add(*many(6), at_once=1)
        others.result()
    assert in_force(attached_router) == edge.wanted()
    assert sum(rule["owner"] == "ansible" for rule in attached_router.info()["rules"]) == len(mine)


@pytest.mark.parametrize("edge", ["helper"], indirect=True)
def test_a_repeatedly_killed_helper_loses_no_call(edge, attached_router, helper):
    done = threading.Event()

    def kill_often() -> None:
        seen = len(edge.calls)
        while not done.wait(0.01):
            if len(edge.calls) >= seen + 4:  # so that each helper completes some calls
                helper.kill()
                helper.start()
                seen = len(edge.calls)

    killer = threading.Thread(target=kill_often)
    killer.start()
    try:
        edge.add(*many(24), at_once=3)
        edge.remove(*[f"service{number}" for number in range(0, 24, 2)], at_once=3)
    finally:
        done.set()
        killer.join()
    assert in_force(attached_router) == edge.wanted()


# ---- conditions that a router does not see -------------------------------------------------------------


def test_a_rule_for_an_interface_applies_once_it_exists(edge, attached_router, netns):
    edge.add(FARM._replace(interfaces=("lan9",)))
    assert in_force(attached_router) == edge.wanted()
    netns.veth("lan9", "lan9-peer")
    attached_router.attach("lan9")
    edge.add(NAMES)  # any call compiles the rules for the present interfaces
    assert verdict(attached_router, "lan9") == "spliced"
    assert verdict(attached_router, "lan0") == "default"


def verdict(attached_router, interface: str) -> str:
    """Return the program's reason for a connection to FARM that enters by an interface."""
    from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.verdict import ask_verdict
    from ansible_collections.netedge.tproxy.tests.support.options import options

    flow = {"source": "10.1.0.2", "destination": "172.16.1.5", "protocol": "tcp", "port": "30022"}
    asked = options("tproxy_verdict", pin_dir=attached_router.pin_dir, interface=interface, **flow)
    return ask_verdict(asked, attached_router.system(), False).data["reason"]


def test_an_interface_without_the_program_takes_no_other_with_it(edge, attached_router, netns):
    """A router makes no call for lan0 after a status other than 0 for wan0."""
    netns.veth("wan0", "wan0-peer")
    edge.add(FARM._replace(protocols=("tcp",), interfaces=("wan0", "nosuch9", "lan0")))
    assert in_force(attached_router) == edge.wanted()
    wan, absent, lan = (call.stdout for call in edge.calls[1:])
    assert wan == "tproxy-splicer: stored, not in force until wan0 has the program\n"
    assert absent == "tproxy-splicer: stored, not in force until nosuch9 has the program\n"
    assert lan == ""
    assert verdict(attached_router, "lan0") == "spliced"


def test_sources_of_two_families_take_no_others_with_them(edge, attached_router):
    sources = (("fd00:1:1::", "64"), ("10.1.1.0", "24"))
    edge.add(PICKY._replace(sources=sources))
    assert in_force(attached_router) == [flow for flow in edge.wanted() if flow[2][1] == "10.1.1.0/24"]
    assert [call.stdout.partition(":")[2].startswith(" not stored: ") for call in edge.calls[1:]] == [True, False]
    edge.remove(PICKY.id)
    assert in_force(attached_router) == []


@pytest.mark.parametrize("edge", ["helper"], indirect=True)
def test_the_calls_of_a_real_router_all_succeed(edge, attached_router):
    """They are those of OpenZiti 2.1 for 20 kinds of services, in its order (real_calls.txt)."""
    wanted = {}
    for line in REAL_CALLS.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if line.startswith("-"):
            edge.call(*words)
        if words[0] == "-I":
            wanted[flow_of(words)] = words[words.index("-s") + 1]
        elif words[0] == "-D":
            wanted.pop(flow_of(words), None)
    assert sorted(owner for owner, _port, _flow in in_force(attached_router)) == sorted(
        f"ziti:{service}" for service in wanted.values()
    )


def flow_of(words: list) -> tuple:
    """Return the words of a call that name its flow."""
    return (*words[1:15], *(words[words.index("-N") :] if "-N" in words else ()))


@pytest.mark.usefixtures("client")
def test_an_insert_without_an_attachment_is_stored_and_says_so(command, bare_router):
    (flow,) = FARM._replace(protocols=("tcp",)).flows()
    done = command.divert("-I", *flow.words, "-t", "33401", "-s", FARM.id)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "tproxy-splicer: stored, not in force until an interface has the program\n"
    bare_router.attach()
    assert verdict(bare_router, "lan0") == "no_listener"


def test_an_insert_without_rights_fails_with_one_line(command, attached_router):
    (flow,) = FARM._replace(protocols=("tcp",)).flows()
    done = command.divert("-I", *flow.words, "-t", "33401", "-s", FARM.id, user=NOBODY)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "CAP_NET_ADMIN" in done.stderr and "a member of the helper's group" in done.stderr
    assert in_force(attached_router) == []


@pytest.mark.parametrize("language", ["perl", "python"])
def test_a_call_waits_while_the_socket_is_replaced(installed, helper, attached_router, language):
    """As the role does: the old socket is closed, and the new one refuses all users until it has its group."""
    (flow,) = FARM._replace(protocols=("tcp",)).flows()
    helper.close_socket()
    asked = [str(installed / "tproxy-splicer"), "-I", *flow.words, "-t", "33401", "-s", FARM.id]
    if language == "python":
        asked = ["/usr/bin/python3", "-I", "-c", START, *asked]
    environment = {"TPROXY_SPLICER_PIN_DIR": attached_router.pin_dir, "TPROXY_SPLICER_HELPER": str(helper.path)}
    waiting = subprocess.Popen(asked, env=environment, user=NOBODY, stderr=subprocess.PIPE, text=True)
    time.sleep(0.5)
    helper.path.unlink()
    successor = Helper(installed, attached_router.pin_dir, helper.path, mode=0o600)
    try:
        successor.start()
        time.sleep(0.2)
        helper.path.chmod(0o666)
        assert waiting.communicate() == (None, "")
        assert waiting.returncode == 0
        assert [rule["owner"] for rule in attached_router.info()["rules"]] == [f"ziti:{FARM.id}"]
    finally:
        successor.close()


@pytest.mark.parametrize("how", ["perl", "shell", "python"])
def test_a_call_outlives_the_signal_that_stops_its_router(installed, helper, attached_router, how):
    """systemd sends SIGTERM to the whole unit. The call has reached the socket, and the helper is slow."""
    (flow,) = FARM._replace(protocols=("tcp",)).flows()
    environment = {"TPROXY_SPLICER_PIN_DIR": attached_router.pin_dir, "TPROXY_SPLICER_HELPER": str(helper.path)}
    command = installed / "tproxy-splicer"
    if how != "perl":
        content = executable(lambda module: (PACKAGE / f"{module}.py").read_bytes(), lambda path: False)
        command = installed / f"started-by-{how}"
        command.write_bytes(content if how == "shell" else content.replace(b"/usr/bin/perl", b"/usr/bin/none"))
        command.chmod(0o755)
    call = [str(command), "-I", *flow.words, "-t", "33401", "-s", FARM.id]
    helper.pause()
    waiting = subprocess.Popen(call, env=environment, user=NOBODY, stderr=subprocess.PIPE, text=True, process_group=0)
    try:
        eventually(lambda: is_connected(helper.path))
        os.killpg(waiting.pid, signal.SIGTERM)
        time.sleep(0.3)  # a process that is about to die has the time to do so
        assert waiting.poll() is None
    finally:
        helper.resume()
    assert waiting.communicate() == (None, "")
    assert waiting.returncode == 0
    assert [rule["owner"] for rule in attached_router.info()["rules"]] == [f"ziti:{FARM.id}"]


def is_connected(path: Path) -> bool:
    """Return whether a client has connected to a socket and waits to be accepted (unix_seq_show(), SS_CONNECTING)."""
    lines = Path("/proc/net/unix").read_text(encoding="utf-8").splitlines()
    return "02" in [line.split()[5] for line in lines if line.endswith(f" {path}")]


def test_a_delete_of_an_unknown_rule_succeeds(edge):
    edge.services[FARM.id], edge.listeners[FARM.id] = FARM, {}
    edge.remove(FARM.id)
