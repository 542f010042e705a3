# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rule sets and the traffic that meets them, the same ones in every run.

It makes Rule objects of the collection and flows; it knows no kernel.
"""

from __future__ import annotations

import random
from collections import defaultdict
from typing import NamedTuple

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import Prefix, mask
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule import Rule
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.records import SlottedRule
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.reference import Reference

MAPPED = 0xFFFF << 32
PROXY_IPS, PROXY_PORT = {4: "127.0.0.1", 6: "::1"}, 15001
PROXY_IP = PROXY_IPS[4]
BITS = {4: 32, 6: 128}
# The networks of host_rules(): 10/8 and a /104 of fd00::/8.
HOSTS = {4: MAPPED | 10 << 24, 6: 0xFD << 120}
PROTOCOLS = ("tcp", "udp")
KINDS = ("hit", "port miss", "address miss")

# Half of the rules name hosts, a quarter /24 networks; 13 lengths in all.
LENGTHS = {
    4: (32,) * 50 + (24,) * 25 + (16,) * 8 + (28,) * 4 + (20,) * 4 + (22,) * 3 + (8, 12, 14, 19, 26, 30),
    6: (128,) * 45 + (64,) * 25 + (48,) * 12 + (56,) * 6 + (32,) * 4 + (60,) * 3 + (96,) * 2 + (36, 40, 112),
}
SERVICES = (22, 53, 80, 443, 3306, 5060, 5432, 6379, 8080, 8443)
# Ports that hardly any rule has.
STRANGE_PORTS = (1, 7, 9, 65535)
# The original's program has room for so many ranges in one prefix; see programs.py.
RANGES_MAX = 50


class Flow(NamedTuple):
    """A packet's flow; addresses are mapped 128-bit numbers."""

    destination: int
    source: int
    protocol: str
    source_port: int
    port: int


def mixed_rules(count: int, seed: int = 1, family: int = 4) -> list:
    """Return rules as routers have them: prefixes in prefixes, ranges in one prefix; from ten on a /0 per protocol."""
    chance, rules, prefixes, lows = random.Random(seed), [], [], defaultdict(set)
    if count >= 10:
        rules += [_rule(Prefix.any_of(family), *ports) for ports in (("tcp", 8443, 8443), ("udp", 5353, 5353))]
    while len(rules) < count:
        prefix, protocol = _prefix(chance, prefixes, family), chance.choice(PROTOCOLS)
        low, high = _ports(chance)
        taken = lows[prefix, protocol]
        # The original keeps a range by its low port.
        if low in taken or len(taken) == RANGES_MAX:
            continue
        taken.add(low)
        rules.append(_rule(prefix, protocol, low, high))
    return rules


def host_rules(count: int, seed: int = 1, family: int = 4) -> list:
    """Return UDP rules for single hosts, with one port or a narrow range each. Every peer can express them."""
    chance = random.Random(seed)
    hosts = chance.sample(range(1 << 24), count)
    return [_rule(Prefix(HOSTS[family] | host, 128), "udp", *_ports(chance, wide=False)) for host in hosts]


def traffic(rules: list, kind: str, count: int, seed: int = 2) -> list:
    """Return flows of one of KINDS: to rules, to their addresses on strange ports, or to random addresses."""
    chance = random.Random(seed)
    return [_flow(chance, chance.choice(rules), kind) for _number in range(count)]


def slotted(rules: list) -> list:
    """Return [SlottedRule], slots from 1 on in the order given."""
    return [SlottedRule(rule, slot) for slot, rule in enumerate(rules, 1)]


class Judge:
    """Says, without an image, which slot of [(Rule, slot)] a flow belongs to."""

    def __init__(self, slotted: list):
        self._index = Reference(rule for rule, _slot in slotted)
        self._slots = {rule.identity: slot for rule, slot in slotted}

    def slots(self, flows: list) -> list:
        """Return the slot of each flow, 0 for none."""
        best = (self._index.best(flow.destination, flow.source, flow.protocol, flow.port) for flow in flows)
        return [self._slots[rule.identity] if rule else 0 for rule in best]


def _rule(prefix: Prefix, protocol: str, low: int, high: int) -> Rule:
    family = prefix.family
    return Rule(prefix, Prefix.any_of(family), protocol, low, high, (), "tproxy", PROXY_IPS[family], PROXY_PORT, "drop")


def _prefix(chance: random.Random, prefixes: list, family: int) -> Prefix:
    """Return a known prefix (40 in 100), one inside a known one (18), or one anywhere.

    Half of the last ones are in 10/8 or fd00::/24.
    """
    if prefixes and chance.random() < 0.4:
        return chance.choice(prefixes)
    length, network = chance.choice(LENGTHS[family]) + 128 - BITS[family], chance.getrandbits(BITS[family])
    if prefixes and chance.random() < 0.3:
        around = chance.choice(prefixes)
        length, network = max(length, around.length), around.network | network & ~mask(around.length)
    elif chance.random() < 0.5:
        network = 10 << 24 | network & 0xFFFFFF if family == 4 else 0xFD << 120 | network & (1 << 104) - 1
    prefix = Prefix(_address(network, family) & mask(length), length)
    prefixes.append(prefix)
    return prefix


def _ports(chance: random.Random, wide: bool = True) -> tuple:
    """Return (low, high): a service, any port, a narrow range or (10 in 100) a wide one."""
    sort = chance.random() * (1 if wide else 0.9)
    if sort < 0.6:
        port = chance.choice(SERVICES) if sort < 0.35 else chance.randrange(1, 65536)
        return port, port
    if sort < 0.9:
        low = chance.randrange(1, 65000)
        return low, low + chance.randrange(1, 100)
    low = chance.randrange(1, 40000)
    return low, low + chance.randrange(100, 20000)


def _flow(chance: random.Random, rule: Rule, kind: str) -> Flow:
    family = rule.destination.family
    inside = chance.getrandbits(BITS[family]) & ~mask(rule.destination.length)
    destination, port = rule.destination.network | inside, chance.randint(rule.low, rule.high)
    if kind == "port miss":
        port = chance.choice(STRANGE_PORTS)
    elif kind == "address miss":
        destination, port = _address(chance.getrandbits(BITS[family]), family), chance.randint(40000, 65000)
    source = _address(chance.getrandbits(BITS[family]), family)
    return Flow(destination, source, rule.protocol, chance.randrange(1024, 65536), port)


def _address(number: int, family: int) -> int:
    """Return an address as a mapped 128-bit number."""
    return MAPPED | number if family == 4 else number
