# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions with real packets in both families: how they begin, their sockets, and their listeners."""

from __future__ import annotations

import platform
import re
import socket
from contextlib import ExitStack, contextmanager

import pytest

from ansible_collections.netedge.tproxy.tests.support.ends import (
    ENDS,
    KINDS,
    TCP,
    UDP,
    asking,
    connected,
    proxy,
    sent_to,
    setting,
    splice_rule,
)
from ansible_collections.netedge.tproxy.tests.support.router import LAN, PATIENCE, eventually

CLIENT_PORT = 40000
SOCKETS, FLOWS = 4, 48  # of a group; that one of them gets nothing of so many has a chance of 4 * (3/4)**48


@pytest.fixture
def client(lasting):
    """Return the client of this file's router."""
    return lasting[1]


@pytest.fixture(params=ENDS)
def ends(request, splicing):
    """Return the addresses of one family; the router splices TCP and UDP port 443 of the net behind it."""
    found = ENDS[request.param]
    splicing.rules(splice_rule(found, "tcp"), splice_rule(found, "udp"))
    return found


def say_hello(one: socket.socket, other: socket.socket) -> None:
    for sender, receiver in ((one, other), (other, one)):
        receiver.settimeout(PATIENCE)
        sender.sendall(b"hello")
        assert receiver.recv(9) == b"hello"


# ---- how they begin ------------------------------------------------------------------------------


def test_a_connection_keeps_its_original_destination(splicing, ends, client):
    with proxy(ends, TCP) as listener, connected(client, ends) as near:
        far, peer = listener.accept()
        with far:
            assert (far.getsockname()[:2], peer[0]) == ((ends.server, 443), ends.client)
            say_hello(near, far)
    assert splicing.reasons()["spliced", "passed"] == 1


def test_a_datagram_keeps_its_original_destination_and_is_answered_from_there(splicing, ends, client):
    with proxy(ends, UDP) as listener, asking(client, ends, UDP) as near:
        near.connect((ends.server, 443))
        near.send(b"ping")
        data, ancillary, _flags, peer = listener.recvmsg(99, 99)
        assert (data, sent_to(ends, ancillary)) == (b"ping", (ends.server, 443))
        with proxy(ends, UDP, 443, ends.server) as far:
            far.connect(peer[:2])
            far.send(b"pong")
            assert near.recv(9) == b"pong"
            near.send(b"to the one that is connected")
            assert far.recv(99) == b"to the one that is connected"
    counted = splicing.reasons()
    assert (counted["spliced", "passed"], counted["established", "passed"]) == (1, 1)


def test_with_syn_cookies_the_last_acknowledgement_finds_the_listener(splicing, ends, client):
    """It belongs to no socket: a cookie is all that the kernel keeps of such a SYN, and the client keeps it."""
    with setting("ipv4.tcp_syncookies", 2), proxy(ends, TCP) as listener, connected(client, ends) as near:
        far, _peer = listener.accept()
        with far:
            say_hello(near, far)
    assert splicing.reasons()["spliced", "passed"] == 2


def test_a_port_that_is_used_again_while_its_session_is_in_time_wait_connects(splicing, ends, client):
    with proxy(ends, TCP) as listener:
        for _session in range(2):
            with connected(client, ends, port=CLIENT_PORT) as near:
                far, _peer = listener.accept()
                say_hello(near, far)
                far.close()  # who closes first waits
                assert near.recv(9) == b""
    assert splicing.reasons()["spliced", "passed"] == 2


PADDING = b"\0\0\x01\x04\0\0\0\0"  # a header of options (RFC 8200, section 4.3) with nothing but PadN
IPV6_HOPOPTS, IPV6_DSTOPTS = 54, 59
OPTIONS = {
    4: ((socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x01" * 8),),
    6: tuple((socket.IPPROTO_IPV6, option, PADDING) for option in (IPV6_HOPOPTS, IPV6_DSTOPTS)),
}
SYN_BYTES = {4: 14 + 20 + 40, 6: 14 + 40 + 40}  # with TCP's own options


def test_options_and_extension_headers_are_stepped_over(splicing, ends, client):
    version = 6 if ends.is_ipv6 else 4
    with proxy(ends, TCP) as listener, asking(client, ends, TCP) as near:
        for option in OPTIONS[version]:
            near.setsockopt(*option)
        near.connect((ends.server, 443))
        far, _peer = listener.accept()
        with far:
            say_hello(near, far)
    hits = next(rule["hits"] for rule in splicing.info()["rules"] if rule["protocol"] == "tcp")
    assert hits == {"packets": 1, "bytes": SYN_BYTES[version] + sum(len(data) for _l, _o, data in OPTIONS[version])}


def test_a_datagram_in_fragments_is_dropped_whole_and_counted(splicing, ends, client):
    """The first one alone has ports, and the kernel's reassembly forgets an assigned socket."""
    with proxy(ends, UDP) as listener, asking(client, ends, UDP) as near:
        near.connect((ends.server, 443))
        near.send(bytes(4000))
        near.send(b"whole")
        assert listener.recv(9) == b"whole"
    counted = splicing.reasons()
    assert (counted["fragment", "dropped"], counted["spliced", "passed"]) == (3, 1)


# ---- who listens -----------------------------------------------------------------------------------


def test_a_listener_that_dies_is_missed_and_its_sessions_and_successor_are_not(splicing, ends, client):
    with proxy(ends, TCP) as listener, connected(client, ends) as near:
        far, _peer = listener.accept()
        listener.close()
        with asking(client, ends, TCP) as late:
            late.setblocking(False)
            late.connect_ex((ends.server, 443))
            eventually(lambda: ("no_listener", "dropped") in splicing.reasons())
        say_hello(near, far)
        with proxy(ends, TCP) as successor, connected(client, ends) as new:
            other, _peer = successor.accept()
            say_hello(new, other)
            say_hello(near, far)
            other.close()
        far.close()


@contextmanager
def another_address(netns):
    """Give the interface more addresses for a while. The kernel then drops its cached routes."""
    addresses = "10.77.0.1/24", "fd00:77::1/64"
    for address in addresses:
        netns.address(address, LAN)
    yield
    for address in addresses:
        netns.run(f"ip address delete {address} dev {LAN}")


def test_a_flow_goes_on_when_its_rule_goes_and_a_new_one_does_not_begin(splicing, ends, client):
    """Below Linux 6.1 an IPv6 socket that has heard nothing yet has no route cached; any other loses it sometime."""
    with proxy(ends, TCP) as listener, connected(client, ends) as near:
        far, _peer = listener.accept()
        splicing.rules(purge=True)
        say_hello(near, far)
        with another_address(splicing.netns):
            say_hello(near, far)
        with asking(client, ends, TCP) as late:
            late.setblocking(False)
            late.connect_ex((ends.server, 443))
            eventually(lambda: ("default", "dropped") in splicing.reasons())
        far.close()


def assigns_to_groups() -> bool:
    """Whether this kernel lets a socket of a SO_REUSEPORT group be assigned: from Linux 6.6 on."""
    return tuple(map(int, re.match(r"(\d+)\.(\d+)", platform.release()).groups())) >= (6, 6)


@pytest.mark.parametrize("protocol", KINDS)
def test_a_group_of_listeners_shares_the_flows_or_gets_none(splicing, ends, client, protocol):
    """Below Linux 6.6 bpf_sk_assign() refuses a socket with SO_REUSEPORT, and the packet is dropped and counted."""
    outcome = ("spliced", "passed") if assigns_to_groups() else ("assign_error", "dropped")
    with ExitStack() as opened:
        group = [opened.enter_context(proxy(ends, KINDS[protocol], shared=True)) for _member in range(SOCKETS)]
        for _flow in range(FLOWS):
            near = opened.enter_context(asking(client, ends, KINDS[protocol]))
            near.setblocking(False)
            near.connect_ex((ends.server, 443))
            if protocol == "udp":
                near.send(b"hello")
        eventually(lambda: splicing.reasons().get(outcome, 0) >= FLOWS)
        shares = [_taken(member, protocol) for member in group]
    assert sum(shares) == (FLOWS if assigns_to_groups() else 0)
    assert all(shares) == assigns_to_groups()


def _taken(member: socket.socket, protocol: str) -> int:
    """Return how many flows wait at a member of the group."""
    member.settimeout(0.2)
    count = 0
    try:
        while True:
            if protocol == "tcp":
                member.accept()[0].close()
            else:
                member.recv(9)
            count += 1
    except TimeoutError:
        return count


# ---- whose they are --------------------------------------------------------------------------------------


def test_the_answers_to_an_own_datagram_pass_while_its_socket_is_connected(splicing, ends, client):
    splicing.attach(policy={"default_action": "drop", "track": "none"})
    with asking(client, ends, UDP, 5353) as service, socket.socket(ends.family, UDP) as own:
        own.settimeout(PATIENCE)
        own.connect((ends.client, 5353))
        own.send(b"ping")
        _data, peer = service.recvfrom(9)
        service.sendto(b"pong", peer)
        assert own.recv(9) == b"pong"
        with socket.socket(ends.family, UDP) as unconnected:
            unconnected.sendto(b"ping", (ends.client, 5353))
            _data, peer = service.recvfrom(9)
            service.sendto(b"pong", peer)
            eventually(lambda: splicing.reasons().get(("default", "dropped")) == 1)
    assert splicing.reasons()["established", "passed"] == 1
