# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random flows for a setup, most of them at some edge of it.

Edges: first and last address of a prefix and those beside it, its last bit and the next one flipped, first and last
port and those beside, the tuples of the host's sockets with one value changed.
"""

from __future__ import annotations

import random
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from ansible_collections.netedge.tproxy.tests.fuzz.model.judge import Sockets
from ansible_collections.netedge.tproxy.tests.fuzz.model.policy import BITS

from .frames import TCP, UDP
from .rulesets import BASES, PORTLESS, PORTS
from .setup import own_of

PROTOCOLS = {"tcp": TCP, "udp": UDP}
LINK_LOCAL = tuple(
    int(ip_address(text)) for text in ("fe80::1", "febf:ffff::1", "fec0::1", "fe7f:ffff::1", "::", "fd00::1")
)


class Drawn(NamedTuple):
    """The values of a flow; the protocol is its number."""

    family: int
    protocol: int
    source: int
    source_port: int
    destination: int
    port: int


class Flows:
    """Draws flows for one setup on a host with these sockets."""

    def __init__(self, setup: dict, sockets: Sockets, chance: random.Random):
        self._random = chance.random
        self._rules = [_corners(chance, rule) for rule in setup["rules"]]
        told = [policy for policy in setup["interfaces"].values() if policy]
        self._management = [_management_corners(chance, entry) for policy in told for entry in policy["management"]]
        of_host = [ip_address(text) for text in (*own_of(setup), *setup.get("broadcasts", ()))]
        self._of_host = [(address.version, int(address)) for address in of_host]
        self._tuples = _tuples_of(sockets)
        self._tracked = [Drawn(*flow) for flow in setup.get("flows", ())]
        self.addresses = {family: _addresses(self._rules, self._tuples, family) for family in (4, 6)}
        self.addresses[6] += LINK_LOCAL
        for family, address in self._of_host:
            self.addresses[family].append(address)
        self.ports = [*PORTS, *(port for rule in self._rules for port in rule.ports)]
        self._origins = [draw for draw, weight in _ORIGINS for _number in range(weight)]

    def pick(self, among):
        """Return one of a sequence."""
        return among[int(self._random() * len(among))]

    def draw(self) -> Drawn:
        """Return the next flow; now and then with an IPv4 address in an IPv6 packet."""
        flow = self.pick(self._origins)(self)
        if flow.family == 6 and self._random() < 0.02:
            end = self.pick(("source", "destination"))
            flow = flow._replace(**{end: 0xFFFF << 32 | self.pick(self.addresses[4])})
        return flow

    def _of_rule(self) -> Drawn:
        if not self._rules:
            return self.of_anything()
        rule = self.pick(self._rules)
        protocol = rule.protocol if self._random() < 0.95 else self.pick((TCP, UDP, *PORTLESS))
        if self._random() < 0.1:
            return self.of_anything()._replace(protocol=protocol, port=self.pick(rule.ports))
        source_port, port = self._source_port(), self.pick(rule.ports)
        return Drawn(rule.family, protocol, self.pick(rule.sources), source_port, self.pick(rule.destinations), port)

    def _of_session(self) -> Drawn:
        flow = self.pick(self._tuples)
        if self._random() < 0.6:
            return flow
        other = self.of_anything(flow.family)
        name = self.pick(("protocol", "source", "source_port", "destination", "port"))
        return flow._replace(**{name: getattr(other, name)})

    def _of_history(self) -> Drawn:
        """The answer to a flow of the history, often with another value."""
        if not self._tracked:
            return self.of_anything()
        flow = self.pick(self._tracked)
        if self._random() < 0.9:
            flow = Drawn(flow.family, flow.protocol, flow.destination, flow.port, flow.source, flow.source_port)
        if self._random() < 0.7:
            return flow
        other = self.of_anything(flow.family)
        name = self.pick(("protocol", "source", "source_port", "destination", "port"))
        return flow._replace(**{name: getattr(other, name)})

    def _of_proxy_client(self) -> Drawn:
        """The source of a session, to where a rule splices."""
        flow, rule = self.pick(self._tuples), self._of_rule()
        if flow.family != rule.family:
            return rule
        return rule._replace(source=flow.source, source_port=flow.source_port)

    def _of_management(self) -> Drawn:
        if not self._management:
            return self._of_ssh()
        family, protocol, sources, port = self.pick(self._management)
        protocol = protocol if self._random() < 0.9 else self.pick((TCP, UDP, *PORTLESS))
        destination = self.destination(family)
        port = port if self._random() < 0.85 else (port + self.pick((-1, 1))) % 65536
        return Drawn(family, protocol, self.pick(sources), self._source_port(), destination, port)

    def _of_ssh(self) -> Drawn:
        family, destination = self.pick(self._of_host) if self._of_host else (4, self.pick(self.addresses[4]))
        if self._random() < 0.2:
            destination ^= 1 << int(self._random() * BITS[family])
        port, protocol = self.pick((22, 22, 22, 21, 23)), TCP if self._random() < 0.9 else UDP
        return Drawn(family, protocol, self.pick(self.addresses[family]), self._source_port(), destination, port)

    def _of_dhcp(self) -> Drawn:
        family = self.pick((4, 6))
        ports = self.pick(((67, 68), (547, 546))) if self._random() < 0.2 else {4: (67, 68), 6: (547, 546)}[family]
        if self._random() < 0.25:
            ports = self.pick((ports[::-1], (ports[0], ports[1] + 1), (ports[0] - 1, ports[1])))
        source = self.pick(LINK_LOCAL) if family == 6 else self.pick(self.addresses[4])
        protocol = UDP if self._random() < 0.9 else TCP
        return Drawn(family, protocol, source, ports[0], self.destination(family), ports[1])

    def destination(self, family: int) -> int:
        """Return an address of the host, or any."""
        own = [address for version, address in self._of_host if version == family]
        return self.pick(own) if own and self._random() < 0.5 else self.pick(self.addresses[family])

    def of_anything(self, family: int = 0) -> Drawn:
        """Return a flow between any two addresses of the setup."""
        family = family or self.pick((4, 6))
        addresses = self.addresses[family]
        ports = self._source_port(), self.pick(self.ports)
        return Drawn(family, self.pick((TCP, UDP)), self.pick(addresses), ports[0], self.pick(addresses), ports[1])

    def _source_port(self) -> int:
        chance = self._random()
        return 40000 + int(chance * 50) if chance < 0.2 else int(chance * 65536)


_ORIGINS = (
    (Flows._of_rule, 50),
    (Flows._of_session, 20),
    (Flows._of_history, 14),
    (Flows._of_proxy_client, 6),
    (Flows._of_management, 8),
    (Flows._of_ssh, 5),
    (Flows._of_dhcp, 5),
    (Flows.of_anything, 6),
)


# ---- edges ---------------------------------------------------------------------------------


class _Corners(NamedTuple):
    """Values at the edges of one rule."""

    family: int
    protocol: int
    destinations: list
    sources: list
    ports: list


def _corners(chance: random.Random, rule: dict) -> _Corners:
    low, high = rule["ports"]
    ports = [max(low - 1, 0), low, low, high, high, min(high + 1, 65535), chance.randint(low, high)]
    family = ip_network(rule["destination"]).version
    destinations, sources = (_edges(chance, rule[option]) for option in ("destination", "source"))
    return _Corners(family, PROTOCOLS.get(rule["protocol"], rule["protocol"]), destinations, sources, ports)


def _management_corners(chance: random.Random, entry: dict) -> tuple:
    family, sources = ip_network(entry["source"]).version, _edges(chance, entry["source"])
    return family, PROTOCOLS.get(entry["protocol"], entry["protocol"]), sources, entry["port"]


def _edges(chance: random.Random, prefix: str) -> list:
    """Return addresses in and around a prefix, those inside twice as many."""
    network = ip_network(prefix)
    bits, length = BITS[network.version], network.prefixlen
    first, size = int(network.network_address), 1 << BITS[network.version] - length
    inside = [first, first + size - 1, *(first + chance.randrange(size) for _number in range(4))]
    outside = [first - 1, first + size]
    if length:
        outside.append(chance.choice(inside) ^ 1 << bits - length)
    if length < bits:
        inside.append(chance.choice(inside) ^ 1 << bits - length - 1)
    return [address % (1 << bits) for address in inside + outside]


def _tuples_of(sockets: Sockets) -> list:
    """Return the flows that the host's sockets would get."""
    found = []
    for protocol, tuples, ends in ((TCP, sockets.sessions, sockets.listeners), (UDP, sockets.connected, sockets.bound)):
        flows = [(family, protocol, other, other_port, own, port) for family, own, port, other, other_port in tuples]
        found += [Drawn(*flow) for flow in flows for _number in range(2)]
        found += [
            Drawn(family, protocol, BASES[family][2], 40000, own or BASES[family][0], port)
            for family, own, port in ends
        ]
    return sorted(found)


def _addresses(rules: list, tuples: list, family: int) -> list:
    """Return addresses of one family that something in the setup is about."""
    found = {address for rule in rules if rule.family == family for address in rule.destinations}
    found |= {address for flow in tuples if flow.family == family for address in (flow.source, flow.destination)}
    return [*BASES[family], *sorted(found)]
