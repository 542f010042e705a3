# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Interface classes: which interfaces have which rules of their own (bpf/abi.h, page 1 of an image).

Class 0 has the rules that name no interface. Interfaces that are named by the same rules share one class. A class is
known by the page that holds its directory: 0, then CLASS_PAGES and those behind it. This room sees names, indexes and
slots; it compiles nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import NamedTuple

from ..abi.layout import GROUPED_INTERFACES, PAGE_BYTES, PROBES
from ..errors import LimitExceeded

CLASS_PAGES = 2


class InterfaceClasses(NamedTuple):
    """`numbers`: {slots of the rules that name an interface of a class: class}. `bound`: {ifindex: class}."""

    numbers: dict
    bound: dict


def classes_of(slotted: list, ifindexes: Mapping) -> InterfaceClasses:
    """Return the classes that [(Rule, slot)] need, {name: ifindex} being the interfaces there are now.

    A name without an index binds nothing yet. Raises LimitExceeded.
    """
    named = {}
    for rule, slot in slotted:
        for ifindex in (ifindexes[name] for name in rule.interfaces if name in ifindexes):
            named.setdefault(ifindex, set()).add(slot)
    if len(named) > GROUPED_INTERFACES:
        raise LimitExceeded("interfaces named by rules", len(named), GROUPED_INTERFACES, "nothing was changed")
    sets = {ifindex: frozenset(slots) for ifindex, slots in sorted(named.items())}
    numbers = {slots: number for number, slots in enumerate(dict.fromkeys(sets.values()), CLASS_PAGES)}
    return InterfaceClasses({frozenset(): 0, **numbers}, {ifindex: numbers[slots] for ifindex, slots in sets.items()})


def bound_page(bound: Mapping) -> array:
    """Return page 1: (ifindex, page of its class) pairs, each within PROBES slots from ifindex % GROUPED_INTERFACES.

    Raises LimitExceeded when too many indexes meet at one place.
    """
    slots = [None] * GROUPED_INTERFACES
    for ifindex in sorted(bound):
        _settle(slots, ifindex)
    page = array("I", bytes(PAGE_BYTES))
    for slot, ifindex in enumerate(slots):
        if ifindex is not None:
            page[2 * slot], page[2 * slot + 1] = ifindex, bound[ifindex]
    return page


def _settle(slots: list, ifindex: int) -> None:
    """Place an index; whoever is nearer to its own place moves on (Robin Hood hashing), so that none goes far."""
    distance = 0
    while distance < PROBES:
        slot = (ifindex + distance) % GROUPED_INTERFACES
        if slots[slot] is None:
            slots[slot] = ifindex
            return
        others = (slot - slots[slot]) % GROUPED_INTERFACES
        if others < distance:
            slots[slot], ifindex, distance = ifindex, slots[slot], others
        distance += 1
    raise LimitExceeded(
        f"interfaces whose index is near {ifindex} modulo {GROUPED_INTERFACES}",
        PROBES + 1,
        PROBES,
        "nothing was changed; name fewer interfaces, or create one of them anew for another index",
    )
