# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets that left and entered before the packets of a setup: they decide which flows are sessions.

An event is {"way": "out" or "in", "interface", "frame", "from"}: `from` is the interface by which a forwarded packet
came in, None for one of this host. An event of a packet that came in can have its "tag".
"""

from __future__ import annotations

import random
from ipaddress import ip_address

from . import frames
from .flows import Drawn
from .frames import ICMP, ICMPV6, TCP, UDP
from .packets import Arrived
from .rulesets import BASES, PORTS
from .setup import LAYER3_INTERFACE

FLOWS, EVENTS_MAX = 10, 60
MORE, LATER = (0, True), (8, False)  # of a fragment: offset, and whether more follow


def draw_history(setup: dict, chance: random.Random) -> dict:
    """Return the setup with a history, and with the flows that it is about."""
    told = [policy for policy in setup["interfaces"].values() if policy]
    recorded = [ip_address(text) for policy in told for text in policy["addresses"]]
    pool = [_draw_flow(recorded, chance) for _number in range(FLOWS)]
    names = list(setup["interfaces"])
    count = chance.choice((0, 5, EVENTS_MAX, EVENTS_MAX))
    events = [_draw_event(setup, chance.choice(pool), names, chance) for _number in range(count)]
    return {**setup, "flows": [list(flow) for flow in pool], "history": events}


def _draw_flow(recorded: list, chance: random.Random) -> Drawn:
    family = chance.choice((4, 6))
    own = [int(address) for address in recorded if address.version == family] or [chance.choice(BASES[family])]
    source = chance.choice(own) if chance.random() < 0.7 else chance.choice(BASES[family])
    protocol = chance.choice((UDP, UDP, TCP, ICMP if family == 4 else ICMPV6))
    ports = (chance.choice((123, 4500, 40000 + chance.randrange(50))), chance.choice(PORTS))
    if protocol in (ICMP, ICMPV6):
        ports = (chance.randrange(4), 0)
    destination = chance.choice((*BASES[family], *own))
    return Drawn(family, protocol, source, ports[0], destination, ports[1])


def came_in(arrived: Arrived) -> dict:
    """Return the event of a packet that came in."""
    interface, frame, tag = arrived
    return {"way": "in", "interface": interface, "frame": frame.hex(), "from": None, "tag": tag}


def turned(flow: Drawn) -> Drawn:
    """Return the flow of the answers."""
    return Drawn(flow.family, flow.protocol, flow.destination, flow.port, flow.source, flow.source_port)


def _draw_event(setup: dict, flow: Drawn, names: list, chance: random.Random) -> dict:
    way = chance.choice(("out", "out", "in"))
    if chance.random() < (0.2 if way == "out" else 0.8):
        flow = turned(flow)
    payload = frames.transport(flow.protocol, flow.source_port, flow.port, flags=chance.choice(frames.TCP_FLAGS))
    fragment = chance.choice((None, None, None, MORE, MORE, LATER))
    packet = frames.ip(flow.family, flow.source, flow.destination, flow.protocol, payload)
    if fragment is not None:
        packet = frames.fragment(flow.family, flow.source, flow.destination, flow.protocol, payload, *fragment)
    kind, interface = frames.TYPES[flow.family], chance.choice(names)
    if interface == LAYER3_INTERFACE and setup["interfaces"][interface]:
        frame = frames.without_ethernet(packet, kind)
    else:
        frame = frames.ethernet(packet, kind)
    frame = frame.ljust(frames.SHORTEST[kind], b"\0")
    came_by = chance.choice(names) if way == "out" and chance.random() < 0.5 else None
    return {"way": way, "interface": interface, "frame": frame.hex(), "from": came_by}
