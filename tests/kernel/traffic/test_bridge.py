# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A wire that is a port of a bridge: packets are routed by the bridge's name."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.tests.support.ends import ENDS, TCP, connected, proxy, splice_rule
from ansible_collections.netedge.tproxy.tests.support.packets import ethernet, udp_frame
from ansible_collections.netedge.tproxy.tests.support.router import LAN, eventually


@pytest.fixture
def bridged(router):
    """Return the router; its wire is a port of br0, which has the address."""
    run = router.netns.run
    run("ip link add br0 type bridge")
    run(f"ip link set {LAN} master br0")
    run(f"ip address flush dev {LAN}")
    run(f"ip address add {ENDS[4].own}/24 dev br0")
    run("ip link set br0 up")
    return router


def test_a_bridge_splices(bridged, client):
    bridged.route("br0")
    bridged.attach("br0")
    bridged.rules(splice_rule(ENDS[4]))
    with proxy(ENDS[4], TCP) as listener, connected(client, ENDS[4]) as near:
        far, _peer = listener.accept()
        with far:
            near.sendall(b"hello")
            assert far.recv(9) == b"hello"
    assert bridged.reasons("br0")["spliced", "passed"] == 1


def test_its_port_splices_nothing(bridged, client):
    """A bridge gives the packets of its ports to no assigned socket, so it is a finding: `port`."""
    bridged.route()
    bridged.attach()
    bridged.rules(splice_rule(ENDS[4]))
    with proxy(ENDS[4], TCP), client.socket(TCP) as near:
        near.setblocking(False)
        near.connect_ex((ENDS[4].server, 443))
        eventually(lambda: bridged.reasons().get(("undeliverable", "dropped")))
    assert ("spliced", "passed") not in bridged.reasons()


def test_an_interface_that_becomes_a_port_is_restored_as_one(router, client):
    """Else frames that the bridge forwards would pass as frames for other hosts."""
    router.attach(policy={"track": "none"})
    router.netns.run("ip link add br0 type bridge")
    router.netns.run(f"ip link set {LAN} master br0")
    assert router.attach(policy={"track": "none"}, check=True)["changed"]
    router.attach(policy={"track": "none"})
    router.netns.run("ip link set br0 up")
    with client.raw() as wire:
        router.count_anew()
        wire.send(ethernet(udp_frame(ENDS[4].server, 9)[14:], destination=b"\x02\0\0\0\0\x99"))
        eventually(lambda: router.reasons().get(("default", "dropped")))
    router.netns.run(f"ip link set {LAN} nomaster")
    assert router.attach(policy={"track": "none"})["changed"]
    assert not router.attach(policy={"track": "none"})["changed"]
