# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random rule sets, made to collide, and the points at which they must be asked.

Sets are plain tuples as in precedence.py. The same seed gives the same set.
"""

from __future__ import annotations

import random

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import Prefix
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule import Rule
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.records import SlottedRule

from .precedence import BITS

MAPPED = 0xFFFF << 32
INTERFACES = {"eth0": 2, "eth1": 3, "wan": 7, "tun0": 131}
ABSENT_INTERFACE = "gone0"
OWNERS = ("ansible", "ziti:a", "ziti:b")
BASES = {4: 0x0A010200, 6: 0x20010DB8000100020003000400050006}
PORTS = (0, 1, 22, 79, 80, 81, 443, 1023, 5060, 65534, 65535)


def draw_rules(seed, count, families=(4, 6)):
    """Return `count` different rules: nested and shared prefixes, /0, hosts, overlapping ranges, all options."""
    chance = random.Random(seed)
    prefixes = {family: [(0, 0)] for family in families}
    rules = {}
    while len(rules) < count:
        family = chance.choice(families)
        rule = (
            family,
            _draw_prefix(chance, prefixes[family], family),
            _draw_prefix(chance, prefixes[family], family) if chance.random() < 0.4 else (0, 0),
            chance.choice(("tcp", "udp")),
            *_draw_ports(chance),
            _draw_interfaces(chance),
            chance.choice(OWNERS),
        )
        rules[rule] = None
    return list(rules)


def _draw_prefix(chance, known, family):
    """Return a prefix that was drawn before, one inside or around such, or a new one near the base address."""
    if chance.random() < 0.4:
        return chance.choice(known)
    bits = BITS[family]
    address = chance.choice(known)[0] if chance.random() < 0.5 else BASES[family]
    address ^= chance.getrandbits(chance.choice((1, 4, 8, 12, 17, bits)))
    length = chance.choice((0, 1, bits - 1, bits, chance.randint(0, bits), chance.randint(bits // 2, bits)))
    prefix = (address >> bits - length << bits - length, length)
    known.append(prefix)
    return prefix


def _draw_ports(chance):
    kind = chance.random()
    if kind < 0.1:
        return 0, 65535
    low = chance.choice(PORTS) if chance.random() < 0.7 else chance.randrange(65536)
    if kind < 0.4:
        return low, low
    return tuple(sorted((low, chance.choice(PORTS) if kind < 0.7 else min(low + chance.randrange(300), 65535))))


def _draw_interfaces(chance):
    if chance.random() < 0.6:
        return ()
    return tuple(sorted(chance.sample([*INTERFACES, ABSENT_INTERFACE], chance.choice((1, 1, 2, 3)))))


def draw_flows(seed, rules, count):
    """Return flows at the edges of rules: first and last address and one beyond, first and last port and one beyond."""
    chance = random.Random(seed)
    flows = []
    for _number in range(count):
        family, destination, source, protocol, low, high, interfaces, _owner = chance.choice(rules)
        other = chance.choice(rules)
        if other[0] == family and chance.random() < 0.3:
            source = other[2]
        flows.append(
            (
                family,
                _edge(chance, destination, family),
                _edge(chance, source, family),
                protocol,
                min(max(chance.choice((low - 1, low, low, high, high, high + 1)), 0), 65535),
                chance.choice([name for name in (*interfaces, *INTERFACES, "other0") if name != ABSENT_INTERFACE]),
            )
        )
    return flows


def _edge(chance, prefix, family):
    network, length = prefix
    size = 1 << BITS[family] - length
    offset = chance.choice((-1, 0, 0, size - 1, size - 1, size, chance.randrange(size)))
    address = (network + offset) % (1 << BITS[family])
    # ::ffff:a.b.c.d is the name of an IPv4 address here, no IPv6 packet carries it.
    return 1 if family == 6 and address >> 32 == 0xFFFF else address


def mapped(family, address):
    """Return an address as a mapped 128-bit number."""
    return MAPPED | address if family == 4 else address


def to_prefix(family, prefix):
    """Return a plain prefix as a Prefix."""
    return Prefix(mapped(family, prefix[0]), prefix[1] + 128 - BITS[family])


def to_rule(plain, number=0):
    """Return a plain rule as a Rule. The number chooses its action."""
    family, destination, source, protocol, low, high, interfaces, owner = plain
    outcome = (
        {"action": "pass"},
        {"action": "drop"},
        {"action": "tproxy", "tproxy_port": 1 + number, "on_missing": ("drop", "pass")[number // 3 % 2]},
    )[number % 3]
    if outcome["action"] == "tproxy":
        outcome["tproxy_ip"] = {4: "127.0.0.1", 6: "::1"}[family]
    return Rule(
        destination=to_prefix(family, destination),
        source=to_prefix(family, source),
        protocol=protocol,
        low=low,
        high=high,
        interfaces=interfaces,
        name=f"service {number % 5}",
        owner=owner,
        **outcome,
    )


def covering(plain_rules):
    """Return the indexes of the rules that to_slotted() lets splice or drop, if they have ports."""
    return [index for index, rule in enumerate(plain_rules) if index % 3 and rule[3] in ("tcp", "udp")]


def to_slotted(plain_rules):
    """Return [SlottedRule], slots 1, 2, ..."""
    return [SlottedRule(to_rule(plain, number), number + 1) for number, plain in enumerate(plain_rules)]
