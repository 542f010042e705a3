# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""BIRD on the router, or on the client, which has a network to tell."""

from __future__ import annotations

import subprocess

from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, OWN

PEER, NETWORK = f"{LAN}-peer", "198.51.100.0/24"
OUR_AS, THEIR_AS = 65001, 65002
ROUTE = f"route {NETWORK} blackhole;"
BIRD = """
router id {own};
protocol device {{ scan time 1; }}
protocol static {{ ipv4; {route} }}
protocol kernel {{ ipv4 {{ export where source != RTS_STATIC; }}; }}
{protocol}
"""
OSPF_PROTOCOL = """
protocol ospf v2 neighbours {{
  ipv4 {{ import all; export all; }};
  area 0 {{ interface "{interface}" {{ hello 1; dead count 4; wait 2; }}; }};
}}
"""
BGP_PROTOCOL = """
protocol bgp neighbour {{
  local {own} as {ours};
  neighbor {other} as {theirs};
  {direction}
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 {{ import all; export all; next hop self; }};
}}
"""


def _name(client) -> str:
    return "theirs" if client else "ours"


def _start(daemons, client, protocol: str) -> None:
    name = _name(client)
    text = BIRD.format(own=CLIENT if client else OWN, route=ROUTE if client else "", protocol=protocol)
    (path,) = daemons.files(**{f"{name}.conf": text})
    words = ("-f", "-c", path, "-s", f"{daemons.folder}/{name}.ctl", "-P", f"{daemons.folder}/{name}.pid")
    daemons.start(name, "bird", *words, inside=client)


def ospf(daemons, client=None) -> None:
    """Speak OSPF on the wire between router and client."""
    _start(daemons, client, OSPF_PROTOCOL.format(interface=PEER if client else LAN))


def bgp(daemons, client=None, *, passive: bool) -> None:
    """Speak BGP with the other end. A passive end opens no connection."""
    own, ours, other, theirs = (CLIENT, THEIR_AS, OWN, OUR_AS) if client else (OWN, OUR_AS, CLIENT, THEIR_AS)
    direction = "passive;" if passive else ""
    _start(daemons, client, BGP_PROTOCOL.format(own=own, ours=ours, other=other, theirs=theirs, direction=direction))


def shown(daemons, client, what: str) -> str:
    """Return what birdc shows of the end of the router or of the client."""
    command = ["birdc", "-s", f"{daemons.folder}/{_name(client)}.ctl", "show", *what.split()]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
