# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The session cache: packets as from the network to real sockets, and to sockets that have closed a moment ago.

A session ends by a close() in repair mode, without FIN, RST and TIME_WAIT. An entry would hold for a part of an epoch
only. So a test asks about an entry that it renews, and asks again if the epoch has changed meanwhile.
"""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.policy import Mark
from ansible_collections.netedge.tproxy.tests.support.packets import ROUTER_LINK, TCP, ethernet, ipv4, ipv6, tcp
from ansible_collections.netedge.tproxy.tests.support.session_cache import EPOCH, SessionCache

LAN, OTHER, UNKNOWN = 101, 102, 103
ETH_IPV6 = 0x86DD
FIN, SYN, RST, ACK = 1, 2, 4, 16
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
ADDRESSES = {4: ("10.1.0.1", "10.1.0.2"), 6: ("2001:db8::1", "2001:db8::2")}
PORT, CLIENT_PORT, WITNESS_PORT = 443, 40000, 40009
PORTS, WITNESS = (CLIENT_PORT, PORT), (WITNESS_PORT, PORT)
TCP_REPAIR = 19
ATTEMPTS = 100
PASSES, DROPS = ("pass", 0x10000000), ("drop", 0)


class Sessions:
    """Two sessions of this host with itself: one that a test closes, and a witness that lives on."""

    def __init__(self, splicer, family: int, ends: list):
        self._splicer, self._ends = splicer, ends
        self.family, self.cache = family, SessionCache(splicer.maps["session_cache"])

    def frame(self, flags: int = ACK, port: int = PORT, client_port: int = CLIENT_PORT, **header) -> bytes:
        """Return a frame from the client to the server."""
        here, there = ADDRESSES[self.family]
        return self.between(there, here, tcp(port, client_port, flags), **header)

    def between(self, source: str, destination: str, segment: bytes, **header) -> bytes:
        """Return a frame between two addresses."""
        if self.family == 4:
            return ethernet(ipv4(segment, TCP, source, destination, **header))
        return ethernet(ipv6(segment, TCP, source, destination), ETH_IPV6)

    def remember_and_close(self) -> None:
        """Let the program remember the session, and end it."""
        assert self._splicer.receive(self.frame(), LAN) == PASSES
        assert PORTS in self.cache.heads()
        for end in self._ends:
            end.setsockopt(socket.SOL_TCP, TCP_REPAIR, 1)
            end.close()

    def within_the_epoch(self, *frames: bytes, ifindex: int = LAN) -> list:
        """Return the answers to frames that come while the entry of the closed session holds."""
        entry = self.cache.heads()[PORTS]
        for _attempt in range(ATTEMPTS):
            epoch = self._epoch()
            self.cache.renew(entry, epoch)
            answers = [self._splicer.receive(frame, ifindex) for frame in frames]
            if self._epoch() == epoch:
                return answers
        raise AssertionError("no epoch was long enough")

    def _epoch(self) -> int:
        self._splicer.receive(self.frame(client_port=WITNESS_PORT), LAN)
        return self.cache.epoch(WITNESS)


@pytest.fixture(params=[4, 6])
def sessions(request, netns, splicer):
    """Return sessions of one family, and a program that drops by default and remembers none."""
    family, (here, there) = request.param, ADDRESSES[request.param]
    for ifindex in (LAN, OTHER, UNKNOWN):
        link = f"if{ifindex} index {ifindex} address {ROUTER_LINK.hex(':')}"
        netns.run(f"ip link add {link} type veth peer name peer{ifindex}")
    for address in (here, there):
        netns.address(f"{address}/{32 if family == 4 else 128}", "lo")
    for ifindex in (LAN, OTHER):
        splicer.policy(ifindex, allow_ssh=False)
    with ExitStack() as opened, socket.socket(FAMILIES[family], socket.SOCK_STREAM) as listening:
        listening.bind((here, PORT))
        listening.listen()
        ends = []
        for port in (WITNESS_PORT, CLIENT_PORT):
            client = opened.enter_context(socket.socket(FAMILIES[family], socket.SOCK_STREAM))
            client.bind((there, port))
            client.connect((here, PORT))
            ends = [client, opened.enter_context(listening.accept()[0])]
        listening.close()
        found = Sessions(splicer, family, ends)
        found.cache.clear()
        yield found


def test_a_session_is_remembered(sessions):
    sessions.remember_and_close()
    assert sessions.within_the_epoch(sessions.frame(), sessions.frame()) == [PASSES, PASSES]


def test_a_test_run_asks_no_cache_and_fills_none(splicer, sessions):
    splicer.ask(sessions.frame(), LAN)
    assert sessions.cache.heads() == {}
    sessions.remember_and_close()
    assert splicer.ask(sessions.frame(), LAN).reason == "default"


def test_a_session_is_forgotten_with_its_epoch(splicer, sessions):
    sessions.remember_and_close()
    time.sleep(1.2 * EPOCH)
    assert splicer.receive(sessions.frame(), LAN) == DROPS


@pytest.mark.parametrize("flags", [SYN, SYN | ACK, FIN | ACK, RST, RST | ACK])
def test_a_packet_that_begins_or_ends_a_session_removes_it(sessions, flags):
    sessions.remember_and_close()
    assert sessions.within_the_epoch(sessions.frame(flags), sessions.frame()) == [DROPS, DROPS]
    assert PORTS not in sessions.cache.heads()


@pytest.mark.parametrize("flags", [SYN, FIN | ACK, RST])
def test_such_a_packet_is_never_remembered(splicer, sessions, flags):
    assert splicer.receive(sessions.frame(flags), LAN) == PASSES
    assert sessions.cache.heads() == {}


@pytest.mark.parametrize("other", [{"port": PORT + 1}, {"client_port": CLIENT_PORT + 1}])
def test_other_ports_are_another_session(sessions, other):
    sessions.remember_and_close()
    frames = sessions.frame(**other), sessions.frame(SYN, **other), sessions.frame()
    assert sessions.within_the_epoch(*frames) == [DROPS, DROPS, PASSES]


def test_other_addresses_are_another_session(sessions):
    sessions.remember_and_close()
    here, there = ADDRESSES[sessions.family]
    near = {4: "10.1.0.3", 6: "2001:db8:1::2"}[sessions.family]
    segment = tcp(PORT, CLIENT_PORT, ACK)
    pairs = ((here, there), (near, here), (there, near), (there, here))
    frames = [sessions.between(source, destination, segment) for source, destination in pairs]
    assert sessions.within_the_epoch(*frames) == [DROPS, DROPS, DROPS, PASSES]


def test_another_interface_looks_for_itself(sessions):
    sessions.remember_and_close()
    assert sessions.within_the_epoch(sessions.frame(), ifindex=OTHER) == [DROPS]


def test_an_interface_without_a_policy_has_no_cache(splicer, sessions):
    assert splicer.receive(sessions.frame(), UNKNOWN) == PASSES
    assert sessions.cache.heads() == {}


def test_a_new_mark_is_in_force_at_once(splicer, sessions):
    sessions.remember_and_close()
    splicer.policy(LAN, mark=Mark(0x20, 0x20), allow_ssh=False)
    assert sessions.within_the_epoch(sessions.frame()) == [("pass", 0x20)]


@pytest.mark.parametrize("sessions", [4], indirect=True)
@pytest.mark.parametrize("header", [{"options": b"\1" * 4}, {"fragment": 0x2000}, {"length": 39}, {"length": 41}])
def test_ipv4_packets_of_other_shapes_take_the_long_way(sessions, header):
    sessions.remember_and_close()
    assert sessions.within_the_epoch(sessions.frame(**header)) == [DROPS]


@pytest.mark.parametrize("sessions", [4], indirect=True)
def test_an_ipv6_packet_that_names_ipv4_addresses_is_malformed_still(sessions):
    sessions.remember_and_close()
    here, there = (f"::ffff:{address}" for address in ADDRESSES[4])
    packet = ipv6(tcp(PORT, CLIENT_PORT, ACK), TCP, there, here)
    assert sessions.within_the_epoch(ethernet(packet, ETH_IPV6), sessions.frame()) == [DROPS, PASSES]
