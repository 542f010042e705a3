# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A wire that is a port of a bridge: packets are routed by the bridge's name."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.tests.support.ends import ENDS, TCP, connected, proxy, splice_rule
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


def test_what_its_port_splices_is_delivered_to_nobody(bridged, client):
    """So it is a finding: `port`."""
    bridged.route()
    bridged.attach()
    bridged.rules(splice_rule(ENDS[4]))
    with proxy(ENDS[4], TCP) as listener, client.socket(TCP) as near:
        near.setblocking(False)
        near.connect_ex((ENDS[4].server, 443))
        eventually(lambda: bridged.reasons().get(("spliced", "passed")))
        listener.settimeout(1)
        with pytest.raises(TimeoutError):
            listener.accept()
