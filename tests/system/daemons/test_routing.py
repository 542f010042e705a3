# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""keepalived (VRRP), BIRD and FRR (OSPF, BGP) on a router whose lan0 drops by default, and their rules."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, OWN
from ansible_collections.netedge.tproxy.tests.system.daemons import bird, frr
from ansible_collections.netedge.tproxy.tests.system.daemons.bird import NETWORK, PEER
from ansible_collections.netedge.tproxy.tests.system.daemons.vrrp import has_shared, keepalived

VRRP = {"destination": "224.0.0.18", "source": CLIENT, "protocol": "vrrp", "interfaces": [LAN], "action": "pass"}
OSPF = [
    {"destination": to, "source": CLIENT, "protocol": "ospf", "interfaces": [LAN], "action": "pass"}
    for to in ("224.0.0.0/24", OWN)
]
BGP = {"destination": OWN, "source": CLIENT, "protocol": "tcp", "ports": "179", "interfaces": [LAN], "action": "pass"}
OURS = pytest.mark.parametrize("ours", [bird, frr], ids=["bird", "frr"])


# ---- VRRP ----------------------------------------------------------------------------------------


def peer_has_shared(router, client) -> bool:
    with client.inside():
        return has_shared(router, PEER)


def test_two_routers_share_an_address_and_it_moves(closed, client, daemons):
    closed.rules(VRRP)
    keepalived(daemons, "master", PEER, 150, inside=client)
    daemons.until(lambda: peer_has_shared(closed, client), "the virtual address on the client")
    keepalived(daemons, "backup", LAN, 100)
    daemons.until(lambda: closed.reasons().get(("rule", "passed"), 0) > 20, "20 advertisements")
    assert not has_shared(closed, LAN)
    daemons.stop("master")
    daemons.until(lambda: has_shared(closed, LAN), "the virtual address on the router after the end of its master")
    keepalived(daemons, "master", PEER, 150, inside=client)
    daemons.until(lambda: not has_shared(closed, LAN), "the virtual address back on the client")


def test_without_the_rule_both_are_master(closed, client, daemons):
    """So the rule is what lets the advertisements in."""
    keepalived(daemons, "master", PEER, 150, inside=client)
    keepalived(daemons, "backup", LAN, 100)
    daemons.until(lambda: has_shared(closed, LAN) and peer_has_shared(closed, client), "two masters")
    assert closed.reasons()["other", "dropped"] > 0


# ---- OSPF and BGP -----------------------------------------------------------------------------------


def learned(router) -> bool:
    """Return whether the kernel of the router has the route of the client's network."""
    return f"via {CLIENT}" in router.netns.run(f"ip route show {NETWORK}")


@OURS
def test_a_route_is_learnt_by_ospf(closed, client, daemons, ours):
    closed.rules(*OSPF)
    ours.ospf(daemons)
    bird.ospf(daemons, client)
    daemons.until(lambda: learned(closed), "the route by OSPF")
    hits = {rule["destination"]: rule["hits"]["packets"] for rule in closed.info()["rules"]}
    assert hits["224.0.0.0/24"] > 0
    assert hits[f"{OWN}/32"] > 0


@OURS
def test_without_the_rules_ospf_has_no_neighbour(closed, client, daemons, ours):
    ours.ospf(daemons)
    bird.ospf(daemons, client)
    daemons.until(lambda: closed.reasons().get(("other", "dropped"), 0) >= 5, "five dropped packets of OSPF")
    assert "Full" not in bird.shown(daemons, client, "ospf neighbors")
    assert not learned(closed)


@OURS
def test_a_route_is_learnt_by_bgp_that_the_peer_opens(closed, client, daemons, ours):
    closed.rules(BGP)
    ours.bgp(daemons, passive=True)
    bird.bgp(daemons, client, passive=False)
    daemons.until(lambda: learned(closed), "the route by BGP")
    assert closed.reasons()["rule", "passed"] >= 1


@OURS
def test_bgp_that_the_router_opens_needs_no_rule(closed, client, daemons, ours):
    """The answers belong to a session of the router."""
    ours.bgp(daemons, passive=False)
    bird.bgp(daemons, client, passive=True)
    daemons.until(lambda: learned(closed), "the route by BGP")
    assert ("rule", "passed") not in closed.reasons()
