# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ICMP errors from the path of a flow: packets too big, and hop limits exceeded. Real packets, both families."""

from __future__ import annotations

import errno
import itertools
import socket
import threading

import pytest

from ansible_collections.netedge.tproxy.tests.support.ends import (
    ENDS,
    TCP,
    UDP,
    asking,
    connected,
    proxy,
    set_sysctl,
    splice_rule,
)
from ansible_collections.netedge.tproxy.tests.support.router import PATIENCE, Client, eventually

NARROW = 1280  # bytes: the least that IPv6 allows
PAYLOAD = bytes(range(256)) * 4096
FAR = {4: ("10.2.0.1", "10.2.0.2"), 6: ("fd00:2::1", "fd00:2::2")}
BEHIND = {4: "192.0.2.254", 6: "2001:db8::fe"}
LENGTHS = {4: 24, 6: 64}
HOSTS = itertools.count(3)
IP_MTU, IPV6_MTU = 14, 24
IP_RECVERR, IPV6_RECVERR, MSG_ERRQUEUE = 11, 25, 0x2000
TRACED_PORT = 33434  # where traceroute begins

BOTH = pytest.mark.parametrize("version", ENDS)


@pytest.fixture
def client(lasting):
    """Return the client at the other end of the router's wire."""
    return lasting[1]


# ---- packets that are too big ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def far(lasting):
    """Return a client behind `client`. The link between them takes at most NARROW bytes.

    The far end does not know that: it asks for segments as big as its own link takes.
    """
    router, client = lasting
    netns = router.netns
    netns.run("ip link add far0 type veth peer name far0-peer")
    made = Client(netns, "far0-peer", "far0", FAR[4][1], FAR[4][0])
    client.observe_state(netns, "far0")
    with client.inside():
        netns.run(f"ip link set far0 up mtu {NARROW}")
        for version, (gateway, _address) in FAR.items():
            netns.address(f"{gateway}/{LENGTHS[version]}", "far0")
            set_sysctl(f"ipv{version}.conf.all.forwarding", 1)
    with made.inside():
        netns.address(f"{FAR[6][1]}/64", "far0-peer")
        netns.run(f"ip route add default via {FAR[6][0]}")
    netns.run(f"ip route add 10.2.0.0/24 via {ENDS[4].client}")
    netns.run(f"ip route add fd00:2::/64 via {ENDS[6].client}")
    yield made
    made.close()


@pytest.fixture(params=ENDS)
def far_ends(request, far, splicing):
    """Return the addresses of one family; no path to this client is known yet."""
    number = next(HOSTS)
    address = FAR[request.param][0][:-1] + f"{number:x}"
    with far.inside():
        splicing.netns.address(f"{address}/{LENGTHS[request.param]}", "far0-peer")
    return ENDS[request.param]._replace(client=address)


def deliver(sender: socket.socket, receiver: socket.socket) -> None:
    """Send much, and see it arrive whole."""
    sender.settimeout(PATIENCE)
    sending = threading.Thread(target=sender.sendall, args=(PAYLOAD,))
    sending.start()
    received = bytearray()
    while len(received) < len(PAYLOAD):
        received += receiver.recv(1 << 20)
    sending.join()
    assert bytes(received) == PAYLOAD


def path_mtu(one: socket.socket) -> int:
    """Return the path MTU that a connected socket assumes."""
    if one.family == socket.AF_INET:
        return one.getsockopt(socket.IPPROTO_IP, IP_MTU)
    return one.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)


def test_a_spliced_flow_learns_what_its_path_takes(splicing, far, far_ends):
    """The error is addressed to the server that the client asked for, and means the proxy."""
    splicing.rules(splice_rule(far_ends))
    with proxy(far_ends, TCP) as listener, connected(far, far_ends) as near:
        answering, _peer = listener.accept()
        with answering:
            deliver(answering, near)
            assert path_mtu(answering) == NARROW


def test_a_flow_of_the_router_itself_learns_what_its_path_takes(splicing, far, far_ends):
    with far.inside():
        service = socket.create_server((far_ends.client, 8080), family=far_ends.family)
    with service, socket.create_connection((far_ends.client, 8080), PATIENCE) as asked:
        service.settimeout(PATIENCE)
        served, _peer = service.accept()
        with served:
            served.settimeout(PATIENCE)
            deliver(asked, served)
            assert path_mtu(asked) == NARROW


@pytest.fixture(scope="module")
def behind(lasting):
    """Return a server behind the router. The router forwards packets that pass."""
    netns = lasting[0].netns
    netns.run("ip link add wan0 type veth peer name wan0-peer")
    netns.run("ip link set wan0 up")
    made = Client(netns, "wan0-peer", "wan0", ENDS[4].server, BEHIND[4])
    for version, address in BEHIND.items():
        netns.address(f"{address}/{LENGTHS[version]}", "wan0")
        set_sysctl(f"ipv{version}.conf.all.forwarding", 1)
    with made.inside():
        netns.address(f"{ENDS[6].server}/64", "wan0-peer")
        netns.run(f"ip route add default via {BEHIND[6]}")
    yield made
    made.close()


@pytest.fixture
def whatever_passes(splicing):
    """Let the router pass packets without a rule, until the end."""
    splicing.attach(policy={"default_action": "pass"})
    yield
    splicing.attach(policy={"default_action": "drop"})


def carry_through(client: Client, ends, behind: Client) -> None:
    """Send much from the server behind the router to a client, past every proxy."""
    with behind.inside():
        service = socket.create_server((ends.server, 443), family=ends.family)
    with service, connected(client, ends) as near:
        service.settimeout(PATIENCE)
        served, _peer = service.accept()
        with served:
            deliver(served, near)
            assert path_mtu(served) == NARROW


def test_a_flow_through_the_router_learns_what_its_path_takes(far, behind, far_ends, whatever_passes):
    carry_through(far, far_ends, behind)


def test_so_does_a_flow_that_a_rule_lets_pass_where_the_rest_is_dropped(splicing, far, behind, far_ends):
    """The rule names the client's packets. ICMP errors about the answers take the same way."""
    splicing.rules(splice_rule(far_ends, action="pass"))
    carry_through(far, far_ends, behind)


# ---- how far they came -----------------------------------------------------------------------------------


def told_by(one: socket.socket, wanted: int) -> str:
    """Wait for an ICMP error with that errno; return who sent it."""
    with pytest.raises(OSError) as refusal:
        one.recv(9)
    assert refusal.value.errno == wanted
    _data, ancillary, _flags, _destination = one.recvmsg(0, 512, MSG_ERRQUEUE)
    raw = ancillary[0][2]
    # struct sock_extended_err has 16 bytes; behind it stands the sender's struct sockaddr: linux/errqueue.h
    at, size = (20, 4) if one.family == socket.AF_INET else (24, 16)
    return socket.inet_ntop(one.family, raw[at : at + size])


def probe(client: Client, ends, destination: str, hops: int) -> socket.socket:
    """Send one of traceroute's datagrams."""
    made = asking(client, ends, UDP)
    level = socket.IPPROTO_IPV6 if ends.is_ipv6 else socket.IPPROTO_IP
    made.setsockopt(level, IPV6_RECVERR if ends.is_ipv6 else IP_RECVERR, 1)
    made.setsockopt(level, socket.IPV6_UNICAST_HOPS if ends.is_ipv6 else socket.IP_TTL, hops)
    made.connect((destination, TRACED_PORT))
    made.send(b"traceroute")
    return made


def traced(ends, destination: str) -> dict:
    return {"destination": destination, "protocol": "udp", "ports": f"{TRACED_PORT}-33534", "action": "pass"}


@BOTH
def test_the_router_answers_a_trace_that_a_rule_lets_pass(splicing, client, behind, version):
    ends = ENDS[version]
    splicing.rules(traced(ends, ends.own), traced(ends, ends.net))
    with probe(client, ends, ends.own, 1) as last:
        assert told_by(last, errno.ECONNREFUSED) == ends.own
    with probe(client, ends, ends.server, 1) as through:
        assert told_by(through, errno.EHOSTUNREACH) == ends.own
    with probe(client, ends, ends.server, 2) as through:
        assert told_by(through, errno.ECONNREFUSED) == ends.server


@BOTH
def test_it_answers_none_that_no_rule_names(splicing, client, version):
    ends = ENDS[version]
    with probe(client, ends, ends.own, 1) as last:
        eventually(lambda: splicing.reasons().get(("default", "dropped")) == 1)
        last.setblocking(False)
        with pytest.raises(BlockingIOError):
            last.recv(9)
