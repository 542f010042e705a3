# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The best rule for a packet, by brute force: docs/SEMANTICS.md, "Matching" and "Precedence", sentence by sentence.

It judges the compiler, the lookup, the index and the program. So it shares nothing with them and uses plain tuples:

rule  (family, destination, source, protocol, low, high, interfaces, owner)
flow  (family, destination, source, protocol, port, interface)

A prefix is (network, length) in bits of its family, an address an integer of 32 or 128 bits, interfaces a sorted tuple
of names, () for all.
"""

from __future__ import annotations

BITS = {4: 32, 6: 128}


def winner(rules, flow):
    """Return the index of the rule that holds, or None."""
    matching = [index for index, rule in enumerate(rules) if matches(rule, flow)]
    return min(matching, key=lambda index: rank(rules[index])) if matching else None


def cover(rules, covering, packet):
    """Return the index of the rule that covers the destination of a fragment without ports, or None.

    `covering` are the indexes of the rules that may; a packet is (family, destination, protocol, interface).
    """
    found = [index for index in covering if _covers(rules[index], *packet)]
    return min(found, key=lambda index: rank(rules[index])) if found else None


def _covers(rule, family, destination, protocol, interface):
    if family != rule[0] or protocol != rule[3] or (rule[6] and interface not in rule[6]):
        return False
    return inside(rule[1], destination, family)


def matches(rule, flow):
    """Say whether a rule matches in every dimension."""
    family, destination, source, protocol, low, high, interfaces, _owner = rule
    return (
        family == flow[0]
        and inside(destination, flow[1], family)
        and inside(source, flow[2], family)
        and protocol == flow[3]
        and low <= flow[4] <= high
        and (not interfaces or flow[5] in interfaces)
    )


def inside(prefix, address, family):
    """Say whether the first `length` bits are equal."""
    network, length = prefix
    host_bits = BITS[family] - length
    return network >> host_bits == address >> host_bits


def rank(rule):
    """Return the values that the precedence compares, the smallest first."""
    _family, destination, source, _protocol, low, high, interfaces, owner = rule
    longest_destination, longest_source = -destination[1], -source[1]
    narrowest_range = high - low
    for_all_interfaces = interfaces == ()
    names = [name.encode() for name in interfaces]
    return (
        longest_destination,
        longest_source,
        narrowest_range,
        low,
        for_all_interfaces,
        len(interfaces),
        names,
        owner.encode(),
    )
