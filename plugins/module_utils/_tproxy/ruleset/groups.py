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
    GROUP_IPV4_PORTLESS,
    GROUP_IPV4_TCP,
    GROUP_IPV4_TCP_COVER,
    GROUP_IPV4_UDP,
    GROUP_IPV4_UDP_COVER,
    GROUP_IPV6_PORTLESS,
    GROUP_IPV6_TCP,
    GROUP_IPV6_TCP_COVER,
    GROUP_IPV6_UDP,
    GROUP_IPV6_UDP_COVER,
    GROUP_PAGE_SHIFT,
    GROUP_PAGES,
    GROUP_PAIR_SHIFT,
    INTERFACES,
    PAGE_WORDS,
    PAIRS_PER_PAGE,
    PROBES,
)
from ..errors import LimitExceeded
from ..model.protocol import PORTLESS
from ..model.rule import Rule
from .records import SlottedRule

FIRST_GROUP_PAGE = 1 + GROUP_PAGES
SEEDS = 1000  # tried in turn; one of the first few fits almost every set of indexes
GOLDEN = 0x9E3779B1  # 2**32 / the golden ratio, made odd: the usual factor of multiplicative hashing
ROOT_PAGES = 65536 // PAGE_WORDS  # of the root of an IPv4 table, one word for each upper half of a destination
# In place of a protocol: the lookup of its fragments, by destination alone.
COVERS = {"tcp": "tcp cover", "udp": "udp cover"}
COVERING = ("tproxy", "drop")  # actions
DIRECTORY = {
    (4, "tcp"): GROUP_IPV4_TCP,
    (4, "udp"): GROUP_IPV4_UDP,
    (4, PORTLESS): GROUP_IPV4_PORTLESS,
    (6, "tcp"): GROUP_IPV6_TCP,
    (6, "udp"): GROUP_IPV6_UDP,
    (6, PORTLESS): GROUP_IPV6_PORTLESS,
    (4, COVERS["tcp"]): GROUP_IPV4_TCP_COVER,
    (4, COVERS["udp"]): GROUP_IPV4_UDP_COVER,
    (6, COVERS["tcp"]): GROUP_IPV6_TCP_COVER,
    (6, COVERS["udp"]): GROUP_IPV6_UDP_COVER,
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
    if len(named) > INTERFACES:
        raise LimitExceeded("interfaces named by rules", len(named), INTERFACES, "nothing was changed")
    sets = {ifindex: frozenset(slots) for ifindex, slots in sorted(named.items())}
    numbers = {slots: number for number, slots in enumerate(dict.fromkeys(sets.values()), FIRST_GROUP_PAGE)}
    return InterfaceGroups({frozenset(): 0, **numbers}, {ifindex: numbers[slots] for ifindex, slots in sets.items()})


def is_cover(table: str) -> bool:
    """Return whether a table is one of COVERS."""
    return table in COVERS.values()


def tables_of(rule: Rule) -> list[str]:
    """Return the tables of a rule: that of its protocol, and the cover if it keeps fragments from their destination."""
    covers = rule.protocol in COVERS and rule.action in COVERING
    return [rule.table, COVERS[rule.protocol]] if covers else [rule.table]


def directory_word(group: int, family: int, table: str) -> int:
    """Return the position of a word of a group's directory; `table` is tcp, udp, PORTLESS or one of COVERS."""
    return PAGE_WORDS * group + GROUP_BASE + DIRECTORY[family, table]


class GroupPages(NamedTuple):
    """Pages 1 to GROUP_PAGES, and HEADER_GROUP_SEED, by which the program finds a pair in them."""

    words: array[int]
    seed: int


def group_pages(group_of: Mapping[int, int]) -> GroupPages:
    """Return the pairs (ifindex, group), each within PROBES pairs from its place, and the seed of the places.

    Half of the pairs stay free, so a few seeds are enough for any indexes. Raise LimitExceeded if none of SEEDS fits.
    """
    for number in range(SEEDS):
        seed = GOLDEN * (2 * number + 1) & 0xFFFFFFFF
        pages = [_pairs(members) for members in _by_page(group_of, seed)]
        if None not in pages:
            words = array("I", bytes(4 * PAGE_WORDS * GROUP_PAGES))
            for place, ifindex in enumerate(ifindex for page in pages for ifindex in page or ()):
                if ifindex is not None:
                    words[2 * place], words[2 * place + 1] = ifindex, group_of[ifindex]
            return GroupPages(words, seed)
    raise LimitExceeded("interfaces at such indexes", len(group_of), INTERFACES, "nothing was changed")


def pair_place(ifindex: int, seed: int) -> tuple[int, int]:
    """Return the page of an ifindex, from 0, and the first of its pairs there."""
    product = ifindex * seed & 0xFFFFFFFF
    return product >> GROUP_PAGE_SHIFT, product >> GROUP_PAIR_SHIFT & PAIRS_PER_PAGE - 1


def _by_page(group_of: Mapping[int, int], seed: int) -> list[list[tuple[int, int]]]:
    """Return [(first pair, ifindex)] of each page."""
    pages: list[list[tuple[int, int]]] = [[] for _page in range(GROUP_PAGES)]
    for ifindex in group_of:
        page, first = pair_place(ifindex, seed)
        pages[page].append((first, ifindex))
    return pages


def _pairs(members: list[tuple[int, int]]) -> list[int | None] | None:
    """Return the ifindex of each pair of one page, or None if one is more than PROBES pairs away from its place.

    An index that is nearer to its own place moves on (Robin Hood hashing), so that none is far away.
    """
    pairs: list[tuple[int, int] | None] = [None] * PAIRS_PER_PAGE
    for entry in sorted(members):
        moving, distance = entry, 0
        while distance < PROBES:
            pair = (moving[0] + distance) % PAIRS_PER_PAGE
            there = pairs[pair]
            if there is None:
                pairs[pair] = moving
                break
            others = (pair - there[0]) % PAIRS_PER_PAGE
            if others < distance:
                pairs[pair], moving, distance = moving, there, others
            distance += 1
        else:
            return None
    return [None if entry is None else entry[1] for entry in pairs]
