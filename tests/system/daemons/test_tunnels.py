# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tunnel of GRE and one of IPIP whose carrier drops by default, and the rule that lets its outer packets in."""

from __future__ import annotations

import pathlib
import socket
import sys

import pytest

from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, OWN

TUNNEL = pathlib.Path(__file__).with_name("tunnel.py")
INNER, INNER_OF_CLIENT = "172.30.0.1", "172.30.0.2"
DEVICE, PORT = "tun7", 7777
WORDS = b"through the tunnel"


def lay(router, client, daemons, kind: str) -> None:
    """Make both ends of a tunnel, with an address of its own network on each."""
    ends = {"ours": (OWN, CLIENT, INNER, None), "theirs": (CLIENT, OWN, INNER_OF_CLIENT, client)}
    for name, (own, other, inner, inside) in ends.items():
        if inside:
            with inside.inside():
                _end(router, daemons, kind, name, own, other, inner)
        else:
            _end(router, daemons, kind, name, own, other, inner)


def _end(router, daemons, kind: str, name: str, own: str, other: str, inner: str) -> None:
    if not router.netns.can(f"ip tunnel add {DEVICE} mode {kind} local {own} remote {other}"):
        daemons.start(name, sys.executable, str(TUNNEL), DEVICE, kind, own, other)
        daemons.until(lambda: router.netns.can(f"ip link show {DEVICE}"), "a tun device")
    router.netns.run(f"ip address add {inner}/30 dev {DEVICE}")
    router.netns.run(f"ip link set {DEVICE} up mtu 1400")


def hears(client, size: int = 0) -> bool:
    """Return whether a datagram from the client reaches the router by the tunnel."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind((INNER, PORT))
        ear.settimeout(1)
        with client.socket(socket.SOCK_DGRAM) as mouth:
            mouth.sendto(WORDS.ljust(size, b"."), (INNER, PORT))
        try:
            return ear.recv(9000) == WORDS.ljust(size, b".")
        except TimeoutError:
            return False


@pytest.mark.parametrize("kind", ["gre", "ipip"])
def test_a_tunnel_needs_a_rule_for_its_outer_packets(closed, client, daemons, kind):
    lay(closed, client, daemons, kind)
    assert not hears(client)
    assert closed.reasons()["other", "dropped"] >= 1
    closed.rules({"destination": OWN, "source": CLIENT, "protocol": kind, "interfaces": [LAN], "action": "pass"})
    daemons.until(lambda: hears(client), f"a datagram by {kind}")
    assert closed.reasons()["rule", "passed"] >= 1
    verdict = closed.verdict(interface=LAN, source=CLIENT, destination=OWN, protocol=kind)
    assert (verdict["verdict"], verdict["reason"]) == ("pass", "rule")


def test_outer_packets_in_fragments_pass_one_by_one(closed, client, daemons):
    """The inner packet is longer than the link carries, so the other end fragments the outer one."""
    lay(closed, client, daemons, "gre")
    closed.rules({"destination": OWN, "source": CLIENT, "protocol": "gre", "interfaces": [LAN], "action": "pass"})
    with client.inside():
        closed.netns.run(f"ip link set {LAN}-peer mtu 600")
    daemons.until(lambda: hears(client, 1200), "a datagram in fragments of GRE")
    assert closed.reasons()["rule", "passed"] >= 3
    assert ("fragment", "dropped") not in closed.reasons()
