# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Datagrams in fragments, put together by the stack and read by real sockets.

client 10.1.0.2, fd00:1::2 ---- lan0 router wan0 ---- outside 10.9.0.2
"""

from __future__ import annotations

import itertools
import json
import platform
import socket
import struct
from contextlib import ExitStack, closing, nullcontext, suppress

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.drops import drops
from ansible_collections.netedge.tproxy.tests.support.ends import (
    ENDS,
    UDP,
    asking,
    heard,
    proxy,
    set_sysctl,
    splice_rule,
)
from ansible_collections.netedge.tproxy.tests.support.packets import (
    ETH_P_ALL,
    MORE_FRAGMENTS,
    TCP,
    checksum,
    ethernet,
    ipv4,
    sound_syn,
)
from ansible_collections.netedge.tproxy.tests.support.packets import UDP as UDP_PROTOCOL
from ansible_collections.netedge.tproxy.tests.support.packets import udp as udp_datagram
from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, OWN, eventually, lay_wire, link_address

LARGE = bytes(range(200)) * 100
SERVICE, OTHER, QUESTION = 5000, 5001, 53
SO_RCVMARK, SO_MARK = 75, 36  # Linux 5.19
SYN_ACK = 0x12
SECONDS = 1
MARK = 0x10000000
NUMBERS = itertools.count(7000)  # the program remembers a first fragment for longer than a test takes
CLOSED = {"default_action": "drop", "allow_ssh": False, "track": "own"}
OPEN = {"default_action": "pass"}


@pytest.fixture(params=[4, 6], ids=["IPv4", "IPv6"])
def ends(request):
    """Return the addresses of one family."""
    return ENDS[request.param]


@pytest.fixture
def router(splicing):
    """Return the router, closed."""
    splicing.attach(policy=dict(CLOSED))
    splicing.record(interfaces=[LAN])
    splicing.count_anew()
    return splicing


@pytest.fixture
def client(lasting):
    """Return the client."""
    return lasting[1]


@pytest.fixture
def bound():
    """Return a maker of UDP sockets of the router. The test closes them."""
    with ExitStack() as opened:

        def make(ends, port: int) -> socket.socket:
            made = opened.enter_context(socket.socket(ends.family, UDP))
            made.settimeout(SECONDS)
            made.bind((ends.own, port))
            return made

        yield make


def service(ends, action: str, port: int = SERVICE, protocol: str = "udp") -> dict:
    return {"destination": ends.own, "protocol": protocol, "ports": str(port), "action": action}


# ---- datagrams that pass --------------------------------------------------------------------------


def test_a_large_datagram_to_a_service_that_a_rule_opens_arrives(router, client, ends, bound):
    router.rules(service(ends, "pass"))
    listener = bound(ends, SERVICE)
    with asking(client, ends, UDP) as near:
        assert heard(lambda: listener.recv(65535), lambda: near.sendto(LARGE, (ends.own, SERVICE))) == LARGE
        counted = router.reasons()
        assert counted["rule", "passed"] >= 1
        assert counted["fragment", "passed"] >= len(LARGE) // 1500
        router.count_anew()
        near.sendto(LARGE, (ends.own, OTHER))
    eventually(lambda: router.reasons().get(("default", "dropped")) == 1)
    eventually(lambda: router.reasons().get(("fragment", "dropped"), 0) >= len(LARGE) // 1500)


def test_a_large_answer_to_a_question_of_the_router_arrives(router, client, ends, bound):
    asker = bound(ends, 0)
    with asking(client, ends, UDP, QUESTION) as server:
        for question in (b"question", LARGE):
            asker.sendto(question, (ends.client, QUESTION))
            asked, peer = server.recvfrom(65535)
            assert asked == question
            assert heard(lambda: asker.recv(65535), lambda to=peer: server.sendto(LARGE, to)) == LARGE
    assert router.reasons()["session", "passed"] >= 2


def test_fragments_of_a_transparent_session_are_delivered_with_its_mark(router, client, ends):
    """The address is foreign: each fragment needs the mark to get here, and the stack keeps that of the first one."""
    with proxy(ends, UDP, SERVICE, ends.server) as session, asking(client, ends, UDP, OTHER) as near:
        session.connect((ends.client, OTHER))
        with suppress(OSError):
            session.setsockopt(socket.SOL_SOCKET, SO_RCVMARK, 1)
        session.settimeout(SECONDS)
        data, ancillary, _flags, _peer = heard(
            lambda: session.recvmsg(65535, 512), lambda: near.sendto(LARGE, (ends.server, SERVICE))
        )
    assert data == LARGE
    marks = [data for level, kind, data in ancillary if (level, kind) == (socket.SOL_SOCKET, SO_MARK)]
    assert marks == [struct.pack("=I", MARK)] or kernel_before(5, 19)
    assert router.reasons()["established", "passed"] >= 1


def kernel_before(*release: int) -> bool:
    return tuple(map(int, platform.release().split(".")[:2])) < release


def echo(ends, identifier: int) -> bytes:
    """Return an echo request that needs several fragments."""
    head = struct.pack(">BBHHH", 128 if ends.is_ipv6 else 8, 0, 0, identifier, 1)
    return head[:2] + struct.pack(">H", 0 if ends.is_ipv6 else checksum(head + LARGE[:5000])) + head[4:] + LARGE[:5000]


def ping(raw: socket.socket, ends, to: str, identifier: int) -> bytes:
    """Send large echo requests until a reply comes, and return its data. Raises AssertionError."""

    def receive() -> bytes:
        while True:
            answer = raw.recv(65535)
            message = answer if ends.is_ipv6 else answer[20:]
            if message[0] in (0, 129) and message[4:6] == struct.pack(">H", identifier):
                return message[8:]

    with closing(raw):
        raw.settimeout(SECONDS)
        return heard(receive, lambda: raw.sendto(echo(ends, identifier), (to, 0)))


def icmp_socket(ends) -> socket.socket:
    protocol = socket.IPPROTO_ICMPV6 if ends.is_ipv6 else socket.IPPROTO_ICMP
    return socket.socket(ends.family, socket.SOCK_RAW, protocol)


def test_large_pings_are_answered_both_ways(router, client, ends):
    assert ping(icmp_socket(ends), ends, ends.client, 77) == LARGE[:5000]
    router.attach(policy={**CLOSED, "allow_echo": False})
    with client.inside():
        raw = icmp_socket(ends)
    with pytest.raises(AssertionError, match="none of"):
        ping(raw, ends, ends.own, 78)
    router.attach(policy={**CLOSED, "allow_echo": True})
    with client.inside():
        raw = icmp_socket(ends)
    assert ping(raw, ends, ends.own, 79) == LARGE[:5000]


def test_a_large_datagram_is_forwarded_by_the_verdict_on_its_flow(router, client):
    ends, outside = ENDS[4], lay_wire(router.netns, "wan0", "10.9.0.1", "10.9.0.2")
    set_sysctl("ipv4.ip_forward", 1)
    try:
        router.rules({"destination": "10.9.0.2", "protocol": "udp", "ports": str(SERVICE), "action": "pass"})
        with asking(client, ends, UDP) as near, outside.socket(UDP) as far, outside.socket(UDP) as closed:
            far.bind(("10.9.0.2", SERVICE))
            closed.bind(("10.9.0.2", OTHER))
            near.sendto(LARGE, ("10.9.0.2", OTHER))
            far.settimeout(SECONDS)
            assert heard(lambda: far.recv(65535), lambda: near.sendto(LARGE, ("10.9.0.2", SERVICE))) == LARGE
            closed.setblocking(False)
            with pytest.raises(BlockingIOError):
                closed.recv(65535)
    finally:
        outside.close()
        router.netns.run("ip link delete wan0")


# ---- drop rules and intercepts under default pass -----------------------------------------------------


def test_a_drop_rule_takes_a_datagram_in_fragments_and_no_other(router, client, ends, bound):
    router.attach(policy=dict(OPEN))
    router.rules(service(ends, "drop"))
    dropped, passed = bound(ends, SERVICE), bound(ends, OTHER)
    with asking(client, ends, UDP) as near:
        near.sendto(LARGE, (ends.own, SERVICE))
        assert heard(lambda: passed.recv(65535), lambda: near.sendto(LARGE, (ends.own, OTHER))) == LARGE
    dropped.setblocking(False)
    with pytest.raises(BlockingIOError):
        dropped.recv(65535)


def test_an_intercepted_datagram_in_fragments_is_dropped_and_noted(router, client, ends):
    router.attach(policy=dict(OPEN))
    router.rules(splice_rule(ends, "udp"))
    with proxy(ends, UDP) as listener, asking(client, ends, UDP) as near:
        near.sendto(LARGE, (ends.server, 443))
        near.sendto(b"whole", (ends.server, 443))
        assert listener.recv(65535) == b"whole"
    options = {"follow": False, "json": True, "limit": 100, "pin_dir": router.pin_dir}
    entries = json.loads("".join(drops(options, router.system(), False)))["drops"]
    noted = [entry for entry in entries if (entry["reason"], entry["source"]) == ("fragment", ends.client)]
    assert {(entry["port"], entry["rule"] == "") for entry in noted} >= {(443, False), (0, True)}


# ---- fragments that no honest host sends ---------------------------------------------------------------


class Wire:
    """Fragments from the client to the router, byte by byte."""

    def __init__(self, raw: socket.socket, destination: bytes):
        self.raw, self._destination = raw, destination

    def send(self, *pieces: tuple, protocol: int = UDP_PROTOCOL) -> None:
        """Send the fragments (offset, bytes, whether more follow) of one datagram to OWN."""
        number = next(NUMBERS)
        for offset, data, more in pieces:
            bits = offset >> 3 | MORE_FRAGMENTS * more
            packet = ipv4(data, protocol, CLIENT, OWN, fragment=bits, identification=number)
            self.raw.send(ethernet(packet, destination=self._destination))


@pytest.fixture
def wire(router, client):
    """Return the client's end of the wire, where the default action passes and a rule drops SERVICE."""
    router.attach(policy=dict(OPEN))
    router.rules(service(ENDS[4], "drop"), service(ENDS[4], "drop", protocol="tcp"))
    with client.raw() as raw:
        raw.bind((f"{LAN}-peer", ETH_P_ALL))
        yield Wire(raw, link_address(LAN))


def cut(data: bytes, *sizes: int) -> list:
    """Return the fragments of a datagram."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append((at, data[at : at + size], at + size < len(data)))
        at += size
    return pieces


def datagram(port: int) -> bytes:
    return udp_datagram(port, payload=b"evil" * 10)


def test_no_order_and_no_overlap_leads_a_datagram_past_a_rule(router, wire, bound):
    dropped, passed = bound(ENDS[4], SERVICE), bound(ENDS[4], OTHER)
    evil, good = cut(datagram(SERVICE), 16, 16, 16), cut(datagram(OTHER), 16, 16, 16)
    for pieces in (
        evil,
        evil[::-1],
        [*evil, *evil],
        [good[0], evil[0], *evil[1:]],
        [evil[0], good[0], *evil[1:]],
        [good[0], good[1], evil[0], good[2]],
        [(0, good[0][1][:8], True), evil[0], *evil[1:]],
        [good[0], (8, evil[0][1][8:] + evil[1][1], True), *evil[1:]],
        [(0, evil[0][1][:8], True), (8, evil[0][1][8:] + evil[1][1], True), evil[2]],
    ):
        wire.send(*pieces)
    assert heard(lambda: passed.recv(999), lambda: wire.send(*cut(datagram(OTHER), 48))) == b"evil" * 10
    dropped.setblocking(False)
    with pytest.raises(BlockingIOError):
        dropped.recv(999)


def test_a_datagram_whose_fragments_come_twice_arrives(router, wire, bound):
    passed = bound(ENDS[4], OTHER)
    good = cut(datagram(OTHER), 16, 16, 16)
    twice = [good[0], good[0], good[1], good[1], good[2]]
    assert heard(lambda: passed.recv(999), lambda: wire.send(*twice)) == b"evil" * 10


def answer(wire: Wire, port: int) -> int:
    """Return the flags of the segment that answers a SYN."""
    while True:
        frame = wire.raw.recv(2000)
        if frame[12:14] == b"\x08\x00" and frame[23] == TCP and frame[34:36] == struct.pack(">H", port):
            return frame[47]


@pytest.mark.parametrize(("rules", "answered"), [(True, False), (False, True)], ids=["covered", "not covered"])
def test_a_syn_in_parts_passes_only_where_no_rule_covers_it(router, wire, rules, answered):
    """RFC 1858: the ports are in the first fragment, the flags are not."""
    if not rules:
        router.rules(purge=True)
    with ExitStack() as opened:
        for port in (SERVICE, OTHER):
            listener = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((OWN, port))
            listener.listen()
            wire.raw.settimeout(SECONDS)
            parts = cut(sound_syn(port, 40000 + port, CLIENT, OWN), 8, 8, 4)
            with nullcontext() if answered else pytest.raises(AssertionError, match="none of"):
                assert heard(lambda at=port: answer(wire, at), lambda of=parts: wire.send(*of, protocol=TCP)) == SYN_ACK
