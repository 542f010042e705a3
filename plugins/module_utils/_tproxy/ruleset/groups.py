# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Interface groups: interfaces with the same rules that name them (docs/IMAGE.md).

Group 0 has the rules that name no interface. The number of a group is the page of its directory: 0, then
FIRST_GROUP_PAGE and those after it. This module sees names, indexes and slots, and compiles nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..abi.layout import (
    GROUP_BASE,
    GROUP_IPV4_INTERCEPT,
    GROUP_IPV4_TCP,
    GROUP_IPV4_UDP,
    GROUP_IPV6_INTERCEPT,
    GROUP_IPV6_TCP,
    GROUP_IPV6_UDP,
    GROUPED_INTERFACES,
    PAGE_WORDS,
    PROBES,
)
from ..errors import LimitExceeded
from .records import SlottedRule

FIRST_GROUP_PAGE = 2
ROOT_PAGES = 65536 // PAGE_WORDS  # of the root of an IPv4 table, one word for each upper half of a destination
INTERCEPT = "intercept"  # in place of a protocol: the lookup of fragments, by destination alone
DIRECTORY = {
    (4, "tcp"): GROUP_IPV4_TCP,
    (4, "udp"): GROUP_IPV4_UDP,
    (6, "tcp"): GROUP_IPV6_TCP,
    (6, "udp"): GROUP_IPV6_UDP,
    (4, INTERCEPT): GROUP_IPV4_INTERCEPT,
    (6, INTERCEPT): GROUP_IPV6_INTERCEPT,
}


class InterfaceGroups(NamedTuple):
    """`numbers` is {slots of the rules that name an interface of a group: group}, `group_of` {ifindex: group}."""

    numbers: dict[frozenset[int], int]
    group_of: dict[int, int]


def interface_groups(rules: Iterable[SlottedRule], ifindexes: Mapping[str, int]) -> InterfaceGroups:
    """Return the groups that rules need, `ifindexes` being {name: ifindex} of the interfaces that exist.

    An interface that does not exist is in no group. Raise LimitExceeded if rules name too many interfaces.
    """
    named: dict[int, set[int]] = {}
    for rule, slot in rules:
        for ifindex in (ifindexes[name] for name in rule.interfaces if name in ifindexes):
            named.setdefault(ifindex, set()).add(slot)
    if len(named) > GROUPED_INTERFACES:
        raise LimitExceeded("interfaces named by rules", len(named), GROUPED_INTERFACES, "nothing was changed")
    sets = {ifindex: frozenset(slots) for ifindex, slots in sorted(named.items())}
    numbers = {slots: number for number, slots in enumerate(dict.fromkeys(sets.values()), FIRST_GROUP_PAGE)}
    return InterfaceGroups({frozenset(): 0, **numbers}, {ifindex: numbers[slots] for ifindex, slots in sets.items()})


def directory_word(group: int, family: int, protocol: str) -> int:
    """Return the position of a word of a group's directory; `protocol` is tcp, udp or INTERCEPT."""
    return PAGE_WORDS * group + GROUP_BASE + DIRECTORY[family, protocol]


def group_page(group_of: Mapping[int, int]) -> array[int]:
    """Return page 1: pairs (ifindex, group), each within PROBES pairs from ifindex modulo GROUPED_INTERFACES.

    Raise LimitExceeded if too many indexes meet at one place.
    """
    places: list[int | None] = [None] * GROUPED_INTERFACES
    for ifindex in sorted(group_of):
        _insert(places, ifindex)
    page = array("I", bytes(4 * PAGE_WORDS))
    for place, ifindex_there in enumerate(places):
        if ifindex_there is not None:
            page[2 * place], page[2 * place + 1] = ifindex_there, group_of[ifindex_there]
    return page


def _insert(places: list[int | None], ifindex: int) -> None:
    """Insert an index. One that is nearer to its own place moves on (Robin Hood hashing), so that none is far away."""
    distance = 0
    while distance < PROBES:
        place = (ifindex + distance) % GROUPED_INTERFACES
        other = places[place]
        if other is None:
            places[place] = ifindex
            return
        others = (place - other) % GROUPED_INTERFACES
        if others < distance:
            places[place], ifindex, distance = ifindex, other, others
        distance += 1
    raise LimitExceeded(
        f"interfaces whose index is near {ifindex} modulo {GROUPED_INTERFACES}",
        PROBES + 1,
        PROBES,
        "nothing was changed; name fewer interfaces, or create one of them anew for another index",
    )
