# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The answer to a call whose rule names an own address: reserved ports of it stay with this host."""

from __future__ import annotations

from collections.abc import Iterable

from ..abi.layout import ADDRESS_OWN
from ..model.prefix import ADDRESS_BITS, format_number
from ..model.rule import Rule, is_routers
from ..resources.host_addresses import ADDRESS_BYTES, KIND
from ..resources.host_addresses import MAP_NAME as OWN_ADDRESSES_MAP
from ..resources.pins import Pins
from ..resources.reserved_ports import reserved_ports
from ..system.system import Bpf

NAMED_MAX = 8  # ports in one message


def spared(rules: Iterable[Rule], bpf: Bpf, pins: Pins) -> str:
    """Return a sentence about the reserved ports that rules of a router would take on an own address, or ""."""
    concerned = [rule for rule in rules if _names_own_address(rule, bpf, pins)]
    reserved = sorted(reserved_ports(bpf, pins)) if concerned else []
    found = [
        f"{protocol} {number} of {format_number(rule.destination.network)}"
        for rule in concerned
        for protocol, number in reserved
        if protocol == rule.protocol and rule.low <= number <= rule.high
    ]
    if not found:
        return ""
    more = ["..."] if len(found) > NAMED_MAX else []
    return f"stored without {', '.join(found[:NAMED_MAX] + more)}: SSH or a management entry of this router has it"


def _names_own_address(rule: Rule, bpf: Bpf, pins: Pins) -> bool:
    """Return whether a rule of a router is for one address, and this host has it."""
    if not is_routers(rule.owner) or rule.action != "tproxy" or rule.destination.length != ADDRESS_BITS:
        return False
    if not pins.has(OWN_ADDRESSES_MAP):
        return False
    address = rule.destination.network.to_bytes(ADDRESS_BYTES, "big")
    return bpf.lookup(pins.fd(OWN_ADDRESSES_MAP), address, KIND.size) == KIND.pack(ADDRESS_OWN)
