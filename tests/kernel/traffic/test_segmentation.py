# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Datagrams that one buffer carries through the hook, as a sender with UDP_SEGMENT and a card with GRO make them.

QUIC, WireGuard and tunnels send so. The stack takes the buffer apart behind the hook, for the socket that is assigned.
"""

from __future__ import annotations

import socket

import pytest

from ansible_collections.netedge.tproxy.tests.support.ends import ENDS, asking, proxy, sent_to, splice_rule
from ansible_collections.netedge.tproxy.tests.support.router import LAN

UDP = socket.SOCK_DGRAM
UDP_SEGMENT, UDP_GRO = 103, 104  # include/uapi/linux/udp.h
SEGMENT_BYTES, SEGMENTS = 1200, 20
PAYLOAD = b"".join(bytes([number]) * SEGMENT_BYTES for number in range(SEGMENTS))
PORT = 443


@pytest.fixture(params=[4, 6])
def ends(request):
    """Return the ends of a family."""
    return ENDS[request.param]


@pytest.fixture
def client(lasting):
    """Return the client of this file's router."""
    return lasting[1]


@pytest.fixture
def splicing(splicing, ends):
    """Return the router with a rule for datagrams to the net behind it."""
    splicing.attach(policy={"track": "own"})
    splicing.record()
    splicing.rules(splice_rule(ends, "udp", str(PORT)))
    return splicing


def in_segments(made: socket.socket) -> socket.socket:
    """Let a socket send each buffer as datagrams of SEGMENT_BYTES."""
    made.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, SEGMENT_BYTES)
    return made


def received(made: socket.socket) -> bytes:
    return b"".join(made.recv(65535) for _number in range(SEGMENTS))


def test_the_proxy_receives_each_datagram_with_its_destination(splicing, client, ends):
    with proxy(ends, UDP) as listening, in_segments(asking(client, ends, UDP)) as sending:
        sending.sendto(PAYLOAD, (ends.server, PORT))
        for number in range(SEGMENTS):
            data, ancillary, _flags, source = listening.recvmsg(65535, 256)
            assert data == bytes([number]) * SEGMENT_BYTES
            assert (sent_to(ends, ancillary), source[0]) == ((ends.server, PORT), ends.client)
    assert splicing.reasons()["spliced", "passed"] == 1  # one buffer


def test_a_proxy_that_asks_for_whole_buffers_gets_them(splicing, client, ends):
    with proxy(ends, UDP) as listening, in_segments(asking(client, ends, UDP)) as sending:
        listening.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        sending.sendto(PAYLOAD, (ends.server, PORT))
        assert listening.recv(65535) == PAYLOAD


def test_answers_to_a_flow_of_the_router_pass(splicing, client, ends):
    with asking(client, ends, UDP, 5000) as answering, socket.socket(ends.family, UDP) as own:
        own.bind((ends.own, 0))
        own.sendto(b"?", (ends.client, 5000))
        _asked, back = answering.recvfrom(9)
        in_segments(answering).sendto(PAYLOAD, back)
        own.settimeout(10)
        assert received(own) == PAYLOAD
    assert splicing.reasons()["session", "passed"] == 1


def test_a_buffer_that_no_rule_matches_is_dropped(splicing, client, ends):
    with socket.socket(ends.family, UDP) as own, in_segments(asking(client, ends, UDP)) as sending:
        own.bind((ends.own, PORT + 1))
        sending.sendto(PAYLOAD, (ends.own, PORT + 1))
        own.settimeout(0.3)
        with pytest.raises(TimeoutError):
            own.recv(9)
    (entry,) = [each for each in splicing.info()["attachments"] if each["interface"] == LAN]
    assert entry["reasons"]["default"]["dropped"]["bytes"] >= len(PAYLOAD)
