# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random rule sets, made to collide: rules as a user writes them."""

from __future__ import annotations

import random
from ipaddress import ip_address

from ansible_collections.netedge.tproxy.tests.fuzz.model.policy import BITS

from .host import (
    AWAY,
    CONNECTED_PORT,
    DUAL_PORT,
    EVERY_PORT,
    INTERFACES,
    LOOPBACK,
    OWN,
    PROXY_PORT,
    SERVICE_PORT,
    SILENT_PORT,
    TCP_PROXY_PORT,
    UDP_PROXY_PORT,
)

ABSENT_INTERFACE = "gone0"
COUNTS = (0, 1, 2, 5, 12, 12, 25, 25, 40, 60, 120)
CROWD = 150
SPECIAL = {4: ("255.255.255.255", "224.0.0.5", "127.0.0.5", "0.0.0.5"), 6: ("ff02::5", "::1")}
HOSTS = {4: ("172.16.5.7", "203.0.113.9"), 6: ("2001:db8:5:6:7:8:9:a", "fe80::5", "::fffe:7:8")}
BASES = {
    family: tuple(int(ip_address(text)) for text in (OWN[family], AWAY[family], *HOSTS[family], *SPECIAL[family]))
    for family in (4, 6)
}
PORTS = (0, 1, 21, 22, 23, 53, 67, 68, 80, 443, 546, 547, 5060, 8080, 9000, 40000, 65534, 65535)
EVERY_PORT_THERE_IS = [0, 65535]
# IGMP, IPIP, GRE, ESP, AH, OSPF, VRRP, SCTP, UDP-Lite, and two without a name.
PORTLESS = (2, 4, 47, 50, 51, 89, 112, 132, 136, 61, 255)
OWNERS = ("ansible", "ziti:a", "ziti:b")
PROXIES = (
    *((LOOPBACK, port) for port in (PROXY_PORT, PROXY_PORT, TCP_PROXY_PORT, UDP_PROXY_PORT, SILENT_PORT)),
    (OWN, SERVICE_PORT),
    (OWN, CONNECTED_PORT),
    (OWN, EVERY_PORT),
    (OWN, DUAL_PORT),
)


def draw_rules(chance: random.Random) -> list:
    """Return rules of different identities, none up to about 260."""
    draw = chance.choice((*[_mixed] * 8, _crowded, _nested))
    options = ("owner", "destination", "source", "protocol", "ports", "interfaces")
    return list({repr([rule[option] for option in options]): rule for rule in draw(chance)}.values())


def _mixed(chance: random.Random) -> list:
    """Return rules of every sort; when they are many, /0 and a host of both families are among them."""
    count, rules = chance.choice(COUNTS), []
    known = {family: [(base, BITS[family]) for base in bases] for family, bases in BASES.items()}
    if count > 11:
        for family in (4, 6):
            for destination in ((0, 0), known[family][0]):
                rules += [_rule(chance, family, destination, protocol=name) for name in ("tcp", "udp", 47)]
    for _number in range(count):
        family = chance.choice((4, 6))
        destination = _prefix(chance, known[family], family)
        source = _prefix(chance, known[family], family) if chance.random() < 0.4 else (0, 0)
        rules.append(_rule(chance, family, destination, source))
    return rules


def _crowded(chance: random.Random) -> list:
    """Return many rules that share all but one value, so that nodes of every size are needed."""
    family, varied = chance.choice((4, 6)), chance.choice(("ports", "destination", "source"))
    bits, base, spread = BITS[family], chance.choice(BASES[family][:4]), chance.choice((6, 8, 12, 20))
    low, rules = chance.randrange(60000), []
    for _number in range(CROWD):
        prefix = _cut(base ^ chance.getrandbits(spread), chance.choice((bits, bits, bits - 1, bits - 4)), bits)
        first = low + chance.randrange(2000) if varied == "ports" else 443
        destination, source = (prefix if varied == name else (0, 0) for name in ("destination", "source"))
        ports = [first, first + chance.choice((0, 0, 1, 5))]
        rules.append(_rule(chance, family, destination, source, ports=ports))
    return rules + _mixed(chance)[:20]


def _nested(chance: random.Random) -> list:
    """Return rules for prefixes around one host. The longest falls through to the next, and so on.

    Each has enough ports for a node of its own, and sources that no lookup finds.
    """
    family, protocol = chance.choice((4, 6)), chance.choice(("tcp", "udp", 47))
    bits, base, rules = BITS[family], chance.choice(BASES[family][:4]), []
    for length in (0, *chance.sample(range(1, bits), 30), bits):
        for _number in range(6):
            source = _cut(chance.choice(BASES[family][:4]), chance.choice((0, bits, bits, bits - 1, length)), bits)
            low = chance.randrange(40)
            ports = [low, low + chance.choice((0, 0, 0, 2))]
            rules.append(_rule(chance, family, _cut(base, length, bits), source, protocol, ports))
    return rules


def _rule(
    chance: random.Random, family: int, destination: tuple, source=(0, 0), protocol: str | int = "", ports=None
) -> dict:
    """Return a rule. Members that are not given are drawn. A protocol without ports is a number."""
    protocol = protocol or chance.choice(("tcp", "udp") * 6 + PORTLESS[chance.randrange(len(PORTLESS)) :][:2])
    if protocol in PORTLESS:
        ports = EVERY_PORT_THERE_IS
    return {
        "destination": prefix_text(family, *destination),
        "source": prefix_text(family, *source),
        "protocol": protocol,
        "ports": ports or _ports(chance),
        "interfaces": _interfaces(chance),
        "owner": chance.choice(OWNERS),
        **_action(chance, family, protocol in PORTLESS),
    }


def _prefix(chance: random.Random, known: list, family: int) -> tuple:
    """Return a prefix that was drawn before, one inside or around such, or a new one near a base."""
    if chance.random() < 0.3:
        return chance.choice(known)
    bits = BITS[family]
    address = chance.choice(known)[0] ^ chance.getrandbits(chance.choice((1, 4, 8, 12, 17, bits)))
    length = chance.choice((0, 1, bits - 1, bits, 16, 24, 64, chance.randint(0, bits), chance.randint(bits // 2, bits)))
    if length > bits or (family == 6 and address >> 32 == 0xFFFF):
        return known[0]
    known.append(_cut(address, length, bits))
    return known[-1]


def _ports(chance: random.Random) -> list:
    sort = chance.random()
    if sort < 0.2:
        return [0, 65535]
    low = chance.choice(PORTS) if chance.random() < 0.7 else chance.randrange(65536)
    if sort < 0.5:
        return [low, low]
    return sorted((low, chance.choice(PORTS) if sort < 0.8 else min(low + chance.randrange(300), 65535)))


def _interfaces(chance: random.Random) -> list:
    if chance.random() < 0.65:
        return []
    return sorted(chance.sample([*INTERFACES, ABSENT_INTERFACE], chance.choice((1, 1, 2, 3))))


def _action(chance: random.Random, family: int, is_portless: bool) -> dict:
    action = chance.choice(("pass", "drop") if is_portless else ("tproxy", "tproxy", "pass", "drop"))
    if action != "tproxy":
        return {"action": action}
    where, port = chance.choice(PROXIES)
    missing = chance.choice(("drop", "pass"))
    return {"action": action, "tproxy_ip": where[family], "tproxy_port": port, "on_missing": missing}


def _cut(address: int, length: int, bits: int) -> tuple:
    """Return the prefix of this length around an address."""
    return address >> bits - length << bits - length, length


def prefix_text(family: int, address: int, length: int) -> str:
    """Return the text of the prefix of this length around an address."""
    return f"{address_text(family, _cut(address, length, BITS[family])[0])}/{length}"


def address_text(family: int, address: int) -> str:
    """Return the text of an address."""
    return str(ip_address(address.to_bytes(BITS[family] // 8, "big")))
