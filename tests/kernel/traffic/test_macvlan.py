# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames for another link address than that of a closed interface: containers on a macvlan, and other hosts."""

from __future__ import annotations

import socket

import pytest

from ansible_collections.netedge.tproxy.tests.support.ends import ENDS, TCP, proxy, splice_rule
from ansible_collections.netedge.tproxy.tests.support.packets import ROUTER_LINK, ethernet, ipv4, sound_syn
from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, OWN, SERVER, Client, eventually

CONTAINER = "10.1.0.50"
OTHER_LINK = b"\x02\0\0\0\0\x99"


@pytest.fixture
def closed(router):
    """Return the router, whose interface drops by default and splices the port 443 of the clients' net too."""
    router.route()
    router.attach()
    router.rules(splice_rule(ENDS[4]), splice_rule(ENDS[4], destination="10.1.0.48/29"))
    return router


@pytest.fixture
def container(closed):
    """Return a container with a macvlan on the closed interface."""
    closed.netns.run(f"ip link add mv0 link {LAN} type macvlan mode bridge")
    made = Client(closed.netns, "mv0", LAN, CONTAINER, OWN)
    yield made
    made.close()


def test_clients_reach_a_container(closed, client, container):
    with container.inside():
        listening = socket.create_server((CONTAINER, 443))
    with listening, proxy(ENDS[4], TCP), client.socket(TCP) as near:
        near.connect((CONTAINER, 443))
        far, peer = listening.accept()
        with far:
            assert peer[0] == CLIENT
            far.sendall(b"of the container")
            assert near.recv(100) == b"of the container"
    reasons = closed.reasons()
    assert reasons["link", "passed"] > 2
    assert ("spliced", "passed") not in reasons


def test_a_frame_for_another_host_is_not_spliced(closed, client):
    syn = ipv4(sound_syn(443, 40000, CLIENT, SERVER), 6, CLIENT, SERVER)
    with proxy(ENDS[4], TCP), client.raw() as wire:
        closed.count_anew()
        wire.send(ethernet(syn, destination=OTHER_LINK))
        eventually(lambda: closed.reasons().get(("link", "passed")))
        assert ("spliced", "passed") not in closed.reasons()
        wire.send(ethernet(syn, destination=ROUTER_LINK))
        eventually(lambda: closed.reasons().get(("spliced", "passed")))
