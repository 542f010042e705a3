# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An edge router's life, call by call: what is in force is what must be, and real connections go where they belong."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ansible_collections.netedge.tproxy.tests.contract.edge_router import NOBODY, Service, in_force
from ansible_collections.netedge.tproxy.tests.support.router import eventually, original_destination, transparent

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
FARM = Service("4rGdWvtU7Zg0tJQqR5nYbX", protocols=("tcp", "udp"))
NAMES = Service("1-a.B", (("100.64.0.2", "32"),), (("53", "53"), ("0", "0")), ("udp",))
WIDE = Service("-D", (("10.20.30.40", "8"), ("fd00:5::7", "64")), (("0", "65535"),), interfaces=("lan0", "lan7"))
PICKY = Service("picky", (("192.0.2.7", "32"),), (("80", "80"),), sources=(("10.1.0.0", "24"), ("10.9.9.9", "32")))
ALL = (FARM, NAMES, WIDE, PICKY)


def connects(client, listener: socket.socket, address: str, port: int) -> None:
    """A connection of the client to an address reaches the listener, which sees that address as its own."""
    with client.socket(TCP) as asking:
        asking.connect((address, port))
        answering, peer = listener.accept()
        with answering:
            assert (answering.getsockname(), peer) == ((address, port), asking.getsockname())


def arrives(client, listener: socket.socket, address: str, port: int) -> None:
    """A datagram of the client reaches the listener with its destination, and is answered from there."""
    with client.socket(UDP) as asking:
        asking.connect((address, port))
        asking.send(b"ping")
        data, ancillary, _flags, peer = listener.recvmsg(99, 99)
        assert (data, original_destination(ancillary)) == (b"ping", (address, port))
        with transparent(UDP, port, address) as answering:
            answering.sendto(b"pong", peer)
        assert asking.recv(99) == b"pong"


def is_dropped(client, router, address: str, port: int, kind: int = UDP) -> None:
    """What the client sends there is dropped by default."""
    before = router.reasons().get(("default", "dropped"), 0)
    with client.socket(kind) as asking:
        asking.setblocking(False)
        asking.connect_ex((address, port))
        if kind == UDP:
            asking.send(b"ping")
        eventually(lambda: router.reasons().get(("default", "dropped"), 0) > before)


# ---- a life --------------------------------------------------------------------------------------


def test_a_router_starts_as_anybody_and_before_anything_is_attached(command, bare_router):
    done = command.divert("-V", user=NOBODY)
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 1, "")
    assert bare_router.pinned() == {}


def test_services_are_in_force_when_their_calls_return(edge, guarded):
    edge.add(*ALL)
    assert in_force(guarded) == edge.wanted()
    assert len(edge.calls) == 1 + sum(len(service.flows()) for service in ALL)


def test_connections_and_datagrams_reach_the_services_listeners(edge, client):
    edge.add(FARM, NAMES)
    connects(client, edge.listeners[FARM.id]["tcp"], "172.16.1.5", 30022)
    arrives(client, edge.listeners[FARM.id]["udp"], "172.16.1.15", 40000)
    arrives(client, edge.listeners[NAMES.id]["udp"], "100.64.0.2", 53)


def test_a_source_that_is_not_allowed_is_not_spliced(edge, guarded, client):
    edge.add(PICKY._replace(sources=(("10.1.0.2", "32"),)))
    connects(client, edge.listeners[PICKY.id]["tcp"], "192.0.2.7", 80)
    edge.change(PICKY._replace(sources=(("10.9.9.9", "32"),)))
    is_dropped(client, guarded, "192.0.2.7", 80, TCP)


def test_a_removed_service_leaves_nothing_and_takes_nothing_with_it(edge, guarded, client):
    edge.add(*ALL)
    edge.remove(FARM.id)
    assert in_force(guarded) == edge.wanted()
    is_dropped(client, guarded, "172.16.1.5", 30022)
    arrives(client, edge.listeners[NAMES.id]["udp"], "100.64.0.2", 53)


def test_a_changed_service_is_what_it_became(edge, guarded, client):
    edge.add(FARM)
    edge.change(FARM._replace(ports=(("443", "443"),)))
    assert in_force(guarded) == edge.wanted()
    connects(client, edge.listeners[FARM.id]["tcp"], "172.16.1.5", 443)


def test_after_a_reset_all_is_there_on_new_ports(edge, guarded, client):
    edge.add(*ALL)
    before = in_force(guarded)
    edge.reset()
    assert in_force(guarded) == edge.wanted() != before
    connects(client, edge.listeners[FARM.id]["tcp"], "172.16.1.5", 30022)


def test_a_router_that_stopped_leaves_no_rule(edge, guarded):
    guarded.rules({"destination": "192.0.2.0/24", "protocol": "tcp", "ports": "22", "action": "pass"})
    edge.add(*ALL)
    edge.stop()
    assert in_force(guarded) == []
    assert [rule["owner"] for rule in guarded.info()["rules"]] == ["ansible"]


def test_after_a_crash_the_next_router_takes_over(edge, guarded, client):
    """Its services have other ids at worst: what the dead one left must not be in their way."""
    edge.add(FARM, NAMES)
    edge.crash()
    after = edge.successor()
    after.add(FARM._replace(id="a new id"), NAMES)
    assert in_force(guarded) == after.wanted()
    connects(client, after.listeners["a new id"]["tcp"], "172.16.1.5", 30022)
    after.stop()


def test_two_services_share_a_flow_until_the_last_leaves(edge, guarded, client):
    other = FARM._replace(id="other")
    edge.add(FARM, other)
    assert in_force(guarded) == edge.wanted()
    edge.remove(FARM.id)
    assert in_force(guarded) == edge.wanted()
    connects(client, edge.listeners["other"]["tcp"], "172.16.1.5", 30022)
    edge.remove("other")
    assert in_force(guarded) == []


# ---- side by side ----------------------------------------------------------------------------------


def many(count: int) -> list:
    return [Service(f"service{number}", ((f"172.20.{number}.0", "24"),)) for number in range(count)]


def test_calls_side_by_side_are_all_in_force(edge, guarded):
    edge.add(*many(12), at_once=6)
    assert in_force(guarded) == edge.wanted()
    edge.remove(*[f"service{number}" for number in range(0, 12, 2)], at_once=6)
    assert in_force(guarded) == edge.wanted()


def test_a_playbook_and_a_router_do_not_lose_each_others_rules(edge, guarded):
    mine = [{"destination": f"192.0.2.{n}", "protocol": "tcp", "ports": "22", "action": "pass"} for n in range(8)]
    with ThreadPoolExecutor(2) as pool:
        others = pool.submit(lambda: [guarded.rules(rule) for rule in mine])
        edge.add(*many(6), at_once=1)
        others.result()
    assert in_force(guarded) == edge.wanted()
    assert sum(rule["owner"] == "ansible" for rule in guarded.info()["rules"]) == len(mine)


@pytest.mark.parametrize("edge", ["helper"], indirect=True)
def test_a_helper_that_is_killed_again_and_again_loses_no_call(edge, guarded, helper):
    done = threading.Event()

    def kill_often() -> None:
        seen = len(edge.calls)
        while not done.wait(0.01):
            if len(edge.calls) >= seen + 4:  # so that each helper lives to do something
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
    assert in_force(guarded) == edge.wanted()


# ---- what a router does not see, and must not miss -----------------------------------------------------


def test_an_interface_that_is_not_there_yet_is_served_when_it_comes(edge, guarded, netns):
    edge.add(FARM._replace(interfaces=("lan9",)))
    assert in_force(guarded) == edge.wanted()
    netns.veth("lan9", "lan9-peer")
    guarded.attach("lan9")
    edge.add(NAMES)  # any call binds the rules to the interfaces of the day
    assert verdict(guarded, "lan9") == "spliced"
    assert verdict(guarded, "lan0") == "default"


def verdict(guarded, interface: str) -> str:
    """Return what the program says of a connection to the farm that comes in by an interface."""
    from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.verdict import ask_verdict
    from ansible_collections.netedge.tproxy.tests.support.options import options

    flow = {"source": "10.1.0.2", "destination": "172.16.1.5", "protocol": "tcp", "port": "30022"}
    asked = options("tproxy_verdict", pin_dir=guarded.pin_dir, interface=interface, **flow)
    return ask_verdict(asked, guarded.system(), False)["reason"]


@pytest.mark.usefixtures("client")
def test_an_insert_where_nothing_is_attached_fails_in_one_line(command, bare_router):
    (flow,) = FARM._replace(protocols=("tcp",)).flows()
    done = command.divert("-I", *flow.words, "-t", "33401", "-s", FARM.id)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "tproxy-splicer: stored, but not in force: the program is not attached to any interface\n"
    bare_router.attach()
    assert verdict(bare_router, "lan0") == "no_listener"


def test_an_insert_without_rights_fails_in_one_line(command, guarded):
    (flow,) = FARM._replace(protocols=("tcp",)).flows()
    done = command.divert("-I", *flow.words, "-t", "33401", "-s", FARM.id, user=NOBODY)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "CAP_NET_ADMIN" in done.stderr and "a member of the helper's group" in done.stderr
    assert in_force(guarded) == []


def test_a_delete_of_what_never_was_in_force_is_done(edge):
    edge.services[FARM.id], edge.listeners[FARM.id] = FARM, {}
    edge.remove(FARM.id)
