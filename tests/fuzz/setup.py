# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of a router: policies, recorded addresses and rules, drawn at random and made to collide.

A setup is plain JSON values, written as a user writes options, so that a case file can be read.
"""

from __future__ import annotations

import random
from ipaddress import ip_address

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import MANAGEMENT
from ansible_collections.netedge.tproxy.tests.fuzz.model.judge import Router, Sockets
from ansible_collections.netedge.tproxy.tests.fuzz.model.policy import BITS, Host, Management, Policy, Prefix
from ansible_collections.netedge.tproxy.tests.fuzz.model.rules import Rules, rule_from_options

from .host import AWAY, INTERFACES, OWN, PEER
from .rulesets import BASES, PORTLESS, PORTS, address_text, draw_rules, prefix_text

LAYER3_INTERFACE = "far0"
SLOTS_MAX = 600
MARKS = ((0x10000000, 0x10000000), (0x20, 0xF0), (0x7, 0xFFFFFFFF))
PASSING, FIRST, SECOND = "passing", "first", "second"


def draw_setup(chance: random.Random) -> dict:
    """Return {"interfaces": {name: policy or None}, "rules": [...], "slots": [...], "image": ...}.

    `image`: FIRST, policies and image in force; SECOND, those before, which hold after a deadline; PASSING, those in
    force while a deadline lies ahead.
    """
    rules, image = draw_rules(chance), chance.choice((FIRST, FIRST, FIRST, SECOND, PASSING))
    # Where the policy was removed there is no deadline either.
    removed = 0.05 if image == FIRST else 0
    return {
        "interfaces": {name: None if chance.random() < removed else _draw_policy(chance, name) for name in INTERFACES},
        "rules": rules,
        "slots": chance.sample(range(1, SLOTS_MAX), len(rules)),
        "image": image,
        "reserved": [
            [protocol, port] for protocol in ("tcp", "udp") for port in sorted(set(chance.choices(PORTS, k=2)))
        ],
        "broadcasts": sorted({address_text(4, chance.choice(BASES[4]) | 0xFF) for _number in range(2)}),
    }


def model_of(setup: dict, sockets: Sockets) -> tuple:
    """Return (the model of a router that was told so, its rules in the order of the setup's)."""
    policies = {name: _policy(told) for name, told in setup["interfaces"].items()}
    rules = [rule_from_options(rule) for rule in setup["rules"]]
    own, broadcasts = (frozenset(map(_number, texts)) for texts in (own_of(setup), setup.get("broadcasts", ())))
    reserved = frozenset(map(tuple, setup.get("reserved", ())))
    return Router(policies, Rules(rules), sockets, Host(own, broadcasts, reserved)), rules


def own_of(setup: dict) -> list:
    """Return the own addresses of the router: those of all its interfaces."""
    return sorted({text for policy in setup["interfaces"].values() if policy for text in policy["addresses"]})


def _number(text: str) -> tuple:
    address = ip_address(text)
    return address.version, int(address)


def _policy(told: dict | None) -> Policy | None:
    if told is None:
        return None
    fields = {
        name: told[name] for name in ("default_action", "allow_ssh", "allow_echo", "accept", "loopback", "layer3")
    }
    fields["track"], fields["link_protocols"] = told.get("track", "none"), told.get("link_protocols", "pass")
    fields["port"] = told.get("port", False)
    entries = (Management(Prefix.parse(one["source"]), one["protocol"], one["port"]) for one in told["management"])
    return Policy(**fields, management=tuple(entries))


# ---- policies --------------------------------------------------------------------------


def _draw_policy(chance: random.Random, name: str) -> dict:
    return {
        "default_action": chance.choice(("drop", "drop", "pass", "audit")),
        "allow_ssh": chance.random() < 0.7,
        "allow_echo": chance.random() < 0.5,
        "accept": chance.choice(("ok", "unspec")),
        "track": chance.choice(("none", "own", "all", "all")),
        "management": [_draw_management(chance) for _number in range(chance.choice((0, 0, 1, 2, 5, MANAGEMENT)))],
        "link_protocols": chance.choice(("pass", "drop")),
        "loopback": name == "lo",
        "port": name != "lo" and chance.random() < 0.1,
        "layer3": name == LAYER3_INTERFACE,
        "addresses": _draw_addresses(chance),
        "mark": list(chance.choice(MARKS)),
    }


def _draw_management(chance: random.Random) -> dict:
    family = chance.choice((4, 6))
    address = chance.choice((int(ip_address(PEER[family])), *BASES[family]))
    length = chance.choice((0, 1, 8, 24, 31, 63, 64, 65, 127, 128))
    protocol = chance.choice(("tcp", "udp", chance.choice(PORTLESS)))
    return {
        "source": prefix_text(family, address, min(length, BITS[family])),
        "protocol": protocol,
        "port": 0 if protocol in PORTLESS else chance.choice(PORTS[1:]),
    }


def _draw_addresses(chance: random.Random) -> list:
    """Return texts of addresses: none, one family's, or up to all that fit."""
    if chance.random() < 0.3:
        return []
    found = {chance.choice((OWN, AWAY))[chance.choice((4, 6))] for _number in range(3)}
    for _number in range(chance.choice((0, 3, 28))):
        family = chance.choice((4, 6))
        found.add(address_text(family, chance.choice(BASES[family]) ^ chance.getrandbits(2)))
    return sorted(found)
