# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions by tracked flows, with real sockets: the router's own, forwarded ones, and those that must be none.

client 10.1.0.2 ---- lan0 router wan0 (wan1) ---- peers 10.9.0.2 and 10.8.0.2, which are one host's uplinks
"""

from __future__ import annotations

import socket
import struct
from contextlib import ExitStack, closing

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import FLOWS
from ansible_collections.netedge.tproxy.tests.kernel.operations.test_router import steer
from ansible_collections.netedge.tproxy.tests.support.ends import ENDS, UDP, proxy, set_sysctl, splice_rule
from ansible_collections.netedge.tproxy.tests.support.packets import checksum, ethernet, ipv4, udp
from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, OWN, SERVER, eventually, lay_wire

WAN, SECOND = "wan0", "wan1"
OUTSIDE, OUTSIDE_OWN, SECOND_OWN, SECOND_PEER = "10.9.0.2", "10.9.0.1", "10.8.0.1", "10.8.0.2"
NTP, DNS, WEB = 123, 53, 443
FLOOD = 70_000  # flows, of which a table holds 65,536
AT_ONCE = 500  # packets; more than net.core.netdev_max_backlog (1,000) can be lost on a slow machine
CLOSED = {"default_action": "drop", "allow_ssh": False, "track": "own"}


@pytest.fixture
def edge(lasting):
    """Return the router with its two interfaces closed, without rules. It forwards."""
    router, _client = lasting
    router.rules(purge=True)
    for interface in (LAN, WAN):
        router.attach(interface, policy=dict(CLOSED))
    for interface in (LAN, WAN):
        router.count_anew(interface)
    return router


@pytest.fixture(scope="module")
def outside(lasting):
    """Return a host behind wan0."""
    router, _client = lasting
    set_sysctl("ipv4.ip_forward", 1)
    for scope in ("all", "default"):
        set_sysctl(f"ipv4.conf.{scope}.rp_filter", 0)
    made = lay_wire(router.netns, WAN, OUTSIDE_OWN, OUTSIDE)
    router.attach(WAN)
    router.record(interfaces=[LAN, WAN])
    yield made
    made.close()


@pytest.fixture
def client(lasting, outside):
    """Return the client behind lan0."""
    return lasting[1]


@pytest.fixture
def sockets():
    """Return a maker of UDP sockets of a host, None for the router. The test closes them."""
    with ExitStack() as opened:

        def make(host, address: str = "0.0.0.0", port: int = 0) -> socket.socket:
            made = opened.enter_context(host.socket(UDP) if host else socket.socket(socket.AF_INET, UDP))
            made.settimeout(5)
            made.bind((address, port))
            return made

        yield make


def answered(asker: socket.socket, server: socket.socket, to: tuple) -> bool:
    """Ask a server, let it answer to where the question came from, and return whether the answer arrives."""
    asker.sendto(b"question", to)
    _data, peer = server.recvfrom(99)
    server.sendto(b"answer", peer)
    asker.settimeout(0.5)
    try:
        return asker.recv(99) == b"answer"
    except TimeoutError:
        return False


def judged(router, interface: str = WAN) -> dict:
    """Return the counters of an interface without those of its link."""
    return {
        outcome: number for outcome, number in router.reasons(interface).items() if outcome[0] not in ("arp", "icmp")
    }


# ---- flows of the router -----------------------------------------------------------------------------------------


def test_an_unconnected_client_of_the_router_gets_its_answers(edge, client, outside, sockets):
    server, asker = sockets(outside, port=NTP), sockets(None)
    assert answered(asker, server, (OUTSIDE, NTP))
    assert judged(edge) == {("session", "passed"): 1}
    stranger = sockets(outside)
    stranger.sendto(b"unasked", (OUTSIDE_OWN, asker.getsockname()[1]))
    eventually(lambda: judged(edge).get(("default", "dropped")) == 1)


def test_an_answer_comes_although_the_table_gets_another_size_meanwhile(edge, client, outside, sockets):
    server, asker = sockets(outside, port=NTP), sockets(None)
    asker.sendto(b"question", (OUTSIDE, NTP))
    _data, peer = server.recvfrom(99)
    for size in (131072, FLOWS):
        steer(edge, flow_tables={"own": size})
        assert edge.info()["flows"]["own"]["size"] == size
        server.sendto(b"answer", peer)
        assert asker.recv(99) == b"answer"


def test_without_tracking_it_does_not(edge, client, outside, sockets):
    edge.attach(WAN, policy={**CLOSED, "track": "none"})
    assert not answered(sockets(None), sockets(outside, port=NTP), (OUTSIDE, NTP))


def test_a_forwarder_gets_answers_and_its_own_answers_keep_no_client_in(edge, client, outside, sockets):
    edge.rules({"destination": f"{OWN}/32", "protocol": "udp", "ports": str(DNS), "action": "pass"})
    upstream, forwarder = sockets(outside, port=DNS), sockets(None, port=DNS)
    asker = sockets(client)
    asker.sendto(b"name", (OWN, DNS))
    _data, peer = forwarder.recvfrom(99)
    assert answered(sockets(None), upstream, (OUTSIDE, DNS))
    forwarder.sendto(b"address", peer)
    assert asker.recv(99) == b"address"
    edge.rules(purge=True)
    edge.count_anew(LAN)
    asker.sendto(b"name", (OWN, DNS))
    eventually(lambda: judged(edge, LAN) == {("default", "dropped"): 1})


def test_the_answer_may_come_by_another_uplink(edge, client, outside, sockets):
    netns = edge.netns
    netns.run(f"ip link add {SECOND} type veth peer name {SECOND}-peer")
    netns.run(f"ip address add {SECOND_OWN}/24 dev {SECOND}")
    netns.run(f"ip link set {SECOND} up")
    outside.observe_state(netns, f"{SECOND}-peer")
    with outside.inside():
        netns.run(f"ip link set {SECOND}-peer up")
        netns.run(f"ip address add {SECOND_PEER}/24 dev {SECOND}-peer")
        netns.run(f"ip route add {OUTSIDE_OWN}/32 via {SECOND_OWN}")
    try:
        edge.attach(SECOND, policy=dict(CLOSED))
        edge.count_anew(SECOND)
        assert answered(sockets(None, OUTSIDE_OWN), sockets(outside, OUTSIDE, NTP), (OUTSIDE, NTP))
        assert (judged(edge), judged(edge, SECOND)) == ({}, {("session", "passed"): 1})
    finally:
        netns.run(f"ip link delete {SECOND}")


def test_the_router_can_ping_and_hears_of_errors_about_it(edge, client, outside):
    message = struct.pack(">BBHHH", 8, 0, 0, 77, 1)
    message = message[:2] + struct.pack(">H", checksum(message)) + message[4:]
    with closing(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)) as raw:
        raw.settimeout(5)
        raw.sendto(message, (OUTSIDE, 0))
        assert raw.recv(99)[20] == 0
        edge.netns.run(f"ip route add 203.0.113.0/24 via {OUTSIDE}")
        try:
            with outside.inside():
                set_sysctl("ipv4.ip_forward", 1)
                edge.netns.run("ip route add unreachable 203.0.113.0/24")
            raw.sendto(message, ("203.0.113.9", 0))
            assert raw.recv(99)[20] == 3
        finally:
            edge.netns.run("ip route delete 203.0.113.0/24")
    assert not any(verdict == "dropped" for _reason, verdict in edge.reasons(WAN))


# ---- proxies ------------------------------------------------------------------------------------------------------


def test_a_proxys_answers_open_no_way_around_it(edge, client, outside, sockets):
    edge.rules(splice_rule(ENDS[4], "udp"))
    with proxy(ENDS[4], UDP) as listener, proxy(ENDS[4], UDP, WEB, SERVER) as far:
        asker = sockets(client)
        for number in range(3):
            asker.sendto(b"question", (SERVER, WEB))
            _data, peer = listener.recvfrom(99)
            far.sendto(b"answer", peer)
            assert asker.recvfrom(99) == (b"answer", (SERVER, WEB))
            assert judged(edge, LAN) == {("spliced", "passed"): number + 1}
        edge.rules(purge=True)
        asker.sendto(b"question", (SERVER, WEB))
        eventually(lambda: judged(edge, LAN).get(("default", "dropped")) == 1)
        assert ("session", "passed") not in judged(edge, LAN)


# ---- forwarded flows ----------------------------------------------------------------------------------------------


@pytest.fixture
def forwarding(edge, client, outside):
    """Return the router that tracks all flows. One rule lets the client's flows in."""
    with outside.inside():
        edge.netns.run(f"ip route replace {CLIENT}/32 via {OUTSIDE_OWN}")
    for interface in (LAN, WAN):
        edge.attach(interface, policy={**CLOSED, "track": "all"})
    for protocol in ("tcp", "udp"):
        edge.rules(
            {"destination": f"{OUTSIDE}/32", "protocol": protocol, "ports": "1-65535", "action": "pass"},
            owner=protocol,
        )
    yield edge
    for protocol in ("tcp", "udp"):
        edge.rules(purge=True, owner=protocol)


def test_one_rule_is_enough_for_a_forwarded_flow(forwarding, client, outside, sockets):
    assert answered(sockets(client), sockets(outside, port=NTP), (OUTSIDE, NTP))
    assert judged(forwarding) == {("session", "passed"): 1}


def test_a_host_outside_begins_nothing_and_answers_keep_nobody_in(forwarding, client, outside, sockets):
    inside = sockets(client, port=4500)
    asker = sockets(outside, port=4500)
    asker.sendto(b"unasked", (CLIENT, 4500))
    eventually(lambda: judged(forwarding) == {("default", "dropped"): 1})
    forwarding.rules(
        {"destination": f"{CLIENT}/32", "protocol": "udp", "ports": "4500", "action": "pass"}, owner="inward"
    )
    assert answered(asker, inside, (CLIENT, 4500))
    forwarding.rules(purge=True, owner="inward")
    forwarding.count_anew(WAN)
    asker.sendto(b"again", (CLIENT, 4500))
    eventually(lambda: judged(forwarding) == {("default", "dropped"): 1})


@pytest.fixture
def forwarded(edge, client, outside):
    """Return both ends of a connection through the router, made while nothing was tracked."""
    with outside.inside():
        edge.netns.run(f"ip route replace {CLIENT}/32 via {OUTSIDE_OWN}")
    for interface in (LAN, WAN):
        edge.attach(interface, policy={"default_action": "pass", "track": "none"})
    with ExitStack() as opened:
        listener = opened.enter_context(outside.socket(socket.SOCK_STREAM))
        listener.bind((OUTSIDE, 0))
        listener.listen()
        near = opened.enter_context(client.socket(socket.SOCK_STREAM))
        near.connect(listener.getsockname())
        far, _peer = listener.accept()
        opened.enter_context(far)
        yield near, far, listener.getsockname()[1]


def test_a_connection_is_taken_up_in_its_middle_by_a_segment_from_inside(forwarded, edge):
    near, far, port = forwarded
    edge.rules({"destination": f"{OUTSIDE}/32", "protocol": "tcp", "ports": str(port), "action": "pass"})
    for interface in (LAN, WAN):
        edge.attach(interface, policy={**CLOSED, "track": "all"})
    edge.count_anew(WAN)
    near.sendall(b"from inside")
    assert far.recv(99) == b"from inside"
    far.sendall(b"from outside")
    assert near.recv(99) == b"from outside"
    assert set(judged(edge)) == {("session", "passed")}


def test_a_flood_of_forwarded_flows_leaves_the_routers_own(forwarding, client, outside, sockets):
    server, asker = sockets(outside, port=NTP), sockets(None)
    assert answered(asker, server, (OUTSIDE, NTP))
    forwarding.count_anew(LAN)
    shown = forwarding.netns.run(f"ip -o link show {LAN}").split()
    router = bytes.fromhex(shown[shown.index("link/ether") + 1].replace(":", ""))
    with client.raw() as raw:
        for number in range(FLOOD):
            source = f"10.1.{1 + number // 50_000}.9"
            payload = udp(9, 1024 + number % 50_000)
            raw.send(ethernet(ipv4(payload, 17, source, OUTSIDE), destination=router))
            if not number % AT_ONCE:
                eventually(lambda sent=number: judged(forwarding, LAN).get(("rule", "passed"), 0) > sent)
    eventually(lambda: judged(forwarding, LAN).get(("rule", "passed"), 0) >= FLOOD)
    server.sendto(b"late answer", (OUTSIDE_OWN, asker.getsockname()[1]))
    assert asker.recv(99) == b"late answer"
