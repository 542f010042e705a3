# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The rule image: a whole rule set as one array of words, to be put in force by one map update (bpf/abi.h).

    page 0   header, directory of class 0     then  IPv4 roots, 256 pages each
    page 1   interfaces that have a class     then  actions, by rule slot
    page 2   directories of the classes       then  nodes
             that rules make, a page each     then  the canonical rules (_source)

The room lays the pages out; _tree makes the nodes. It writes no map and verifies nothing (_verify does).
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Mapping
from typing import NamedTuple

from ..abi.layout import (
    ACTION_WORDS,
    ACTIONS_PER_PAGE,
    GROUP_BASE,
    GROUP_IPV4_INTERCEPT,
    GROUP_IPV4_TCP,
    GROUP_IPV4_UDP,
    GROUP_IPV6_INTERCEPT,
    GROUP_IPV6_TCP,
    GROUP_IPV6_UDP,
    HEADER_ACTIONS,
    HEADER_DIGEST,
    HEADER_FORMAT,
    HEADER_GENERATION,
    HEADER_GROUPS,
    HEADER_MAGIC,
    HEADER_PAGES,
    HEADER_RULES,
    HEADER_SLOTS,
    HEADER_SOURCE,
    HEADER_SOURCE_BYTES,
    HEADER_SOURCE_CRC,
    IMAGE_FORMAT,
    IMAGE_MAGIC,
    IMAGE_PAGES_MAX,
    PAGE_BYTES,
    PAGE_WORDS,
    RULES,
)
from ..errors import LimitExceeded
from ..model.prefix import Prefix
from .digest import ImageDigest
from .groups import CLASS_PAGES, InterfaceClasses, bound_page, classes_of
from .nodes import NodeTable, WalkOrder
from .records import encode_action, encode_source
from .trie import FAMILIES, Claim, Tree, cover

ROOT_WORDS = 65536
ROOT_PAGES = ROOT_WORDS // PAGE_WORDS
COVER = "cover"
CLASS_WORD = {
    (4, "tcp"): GROUP_IPV4_TCP,
    (4, "udp"): GROUP_IPV4_UDP,
    (6, "tcp"): GROUP_IPV6_TCP,
    (6, "udp"): GROUP_IPV6_UDP,
    (4, COVER): GROUP_IPV4_INTERCEPT,
    (6, COVER): GROUP_IPV6_INTERCEPT,
}


class Row(NamedTuple):
    """A rule as the tree wants it; `slot` is 0 unless the rule names interfaces."""

    prefix: tuple
    claim: Claim
    slot: int


class View(NamedTuple):
    """The rules of one family and protocol (COVER: those that intercept, of both) as one class sees them.

    It sees all unrestricted ones, and these slots.
    """

    family: int
    protocol: str
    restricted: frozenset

    @property
    def has_root(self) -> bool:
        """Whether its word in the class directory is the page of a root, not a node."""
        return self.family == 4 and self.protocol != COVER


def compile_image(slotted: list, ifindexes: Mapping, generation: int) -> array:
    """Return the image, an array of u32 words in whole pages, of [(Rule, slot)].

    `ifindexes` is {name: ifindex}, one name for each interface there is now. Raises LimitExceeded; changes nothing.
    """
    check_limits(slotted)
    classes = classes_of(slotted, ifindexes)
    tables = tables_of(sorted(slotted, key=lambda pair: (pair[0].precedence, pair[0].protocol)))
    directory = _directory(tables, classes)
    views = list(dict.fromkeys(directory.values()))
    slots = 1 + max((slot for _rule, slot in slotted), default=0)
    roots_page = CLASS_PAGES + len(classes.numbers) - 1
    actions_page = roots_page + ROOT_PAGES * sum(view.has_root for view in views)
    first_page = actions_page + -(-slots // ACTIONS_PER_PAGE)
    nodes = NodeTable(first_page)
    partitions = {view: _partition(nodes, tables, view) for view in views}
    order = WalkOrder(nodes, first_page)
    roots = _write_roots(order, partitions, roots_page)
    words = order.nodes.words
    for (number, column), view in directory.items():
        words[PAGE_WORDS * number + GROUP_BASE + column] = roots[view]
    words[PAGE_WORDS : 2 * PAGE_WORDS] = bound_page(classes.bound)
    write_actions(words, actions_page, slotted)
    source = encode_source(slotted)
    start = _append_source(words, source)
    write_header(
        words,
        source,
        {
            HEADER_GENERATION: generation,
            HEADER_RULES: len(slotted),
            HEADER_SLOTS: slots,
            HEADER_GROUPS: len(classes.numbers),
            HEADER_ACTIONS: actions_page,
            HEADER_SOURCE: start,
        },
    )
    words[HEADER_DIGEST] = ImageDigest(words).value
    return words


def check_limits(slotted: list) -> None:
    """Raise LimitExceeded when [(Rule, slot)] are too many."""
    highest = max((slot for _rule, slot in slotted), default=0)
    if max(highest, len(slotted)) > RULES:
        raise LimitExceeded("rule slots", max(highest, len(slotted)), RULES, "nothing was changed")


def tables_of(ranked: list) -> dict:
    """Return {(family, protocol or COVER): [Row]} of [(Rule, slot)], in the same order."""
    tables = {}
    for rule, slot in ranked:
        family = rule.destination.family
        source, length = _native(rule.source, family)
        claim = Claim(rule.low, rule.high, (source, length, slot))
        row = Row(_native(rule.destination, family), claim, slot if rule.interfaces else 0)
        tables.setdefault((family, rule.protocol), []).append(row)
        if rule.action == "tproxy":
            tables.setdefault((family, COVER), []).append(row)
    return tables


def _native(prefix: Prefix, family: int) -> tuple:
    """Return (network, length) in bits of the family: short numbers are quicker."""
    return (prefix.network & 0xFFFFFFFF, prefix.length - 96) if family == 4 else tuple(prefix)


def _directory(tables: dict, classes: InterfaceClasses) -> dict:
    """Return {(class, column of the class directory): View}, without views that no rule is in."""
    directory = {}
    for (family, protocol), rows in tables.items():
        ours = {row.slot for row in rows}
        for restricted, number in classes.numbers.items():
            view = View(family, protocol, restricted & ours)
            if view.restricted or 0 in ours:
                directory[number, CLASS_WORD[family, protocol]] = view
    return directory


def _partition(nodes: NodeTable, tables: dict, view: View) -> list:
    """Compile a view, once however many classes share it.

    Returns the partition of the first field of the destination into words; one word for all where there is no root.
    """
    fields, partition = _destinations(nodes, _claims(tables[view.family, view.protocol], view), view)
    if view.has_root:
        return nodes.first_field(fields, partition)
    return [(0, nodes.trie(fields, partition))]


def _write_roots(order: WalkOrder, partitions: dict, page: int) -> dict:
    """Bring the nodes into the order of a walk, and write the roots; return {View: word for the class directory}."""
    roots = {}
    for view, partition in partitions.items():
        moved = [(start, order.move(word)) for start, word in partition]
        if not view.has_root:
            roots[view] = moved[0][1]
            continue
        roots[view] = page
        first = page * PAGE_WORDS
        order.nodes.words[first : first + ROOT_WORDS] = _spread(moved)
        page += ROOT_PAGES
    return roots


def _destinations(nodes: NodeTable, claims: dict, view: View) -> tuple:
    """Return the fields that a walk of the view examines first, and the partition of the destinations into words."""
    family = FAMILIES[view.family]
    if view.protocol == COVER:
        return family.cover, cover(claims, family.bits)
    return family.destination, Tree(nodes, family).partition(claims)


def _claims(rows: list, view: View) -> dict:
    """Return {prefix: [Claim, best first]} of the rows that the view sees."""
    claims = {}
    for prefix, claim, slot in rows:
        if not slot or slot in view.restricted:
            claims.setdefault(prefix, []).append(claim)
    return claims


def _spread(partition: list) -> array:
    """Return a root: one word for each value of the first field."""
    root = array("I")
    ends = [start for start, _word in partition[1:]] + [ROOT_WORDS]
    for (start, word), end in zip(partition, ends):
        root.extend(array("I", (word,)) * (end - start))
    return root


def write_actions(words: array, page: int, slotted: list) -> None:
    """Write the actions of [(Rule, slot)] from a page on."""
    for rule, slot in slotted:
        at = page * PAGE_WORDS + slot * ACTION_WORDS
        words[at : at + ACTION_WORDS] = array("I", encode_action(rule))


def _append_source(words: array, source: bytes) -> int:
    """Append the canonical rules in whole pages; return the word where they begin."""
    start = len(words)
    pages = start // PAGE_WORDS + -(-len(source) // PAGE_BYTES)
    if pages > IMAGE_PAGES_MAX:
        raise LimitExceeded("pages of the image", pages, IMAGE_PAGES_MAX, "nothing was changed; use fewer rules")
    words.frombytes(source.ljust(pages * PAGE_BYTES - 4 * start, b"\0"))
    return start


def write_header(words: array, source: bytes, given: Mapping) -> None:
    """Write the header of an image of `words` that carries `source`; `given` are the words that these do not tell."""
    told = {
        HEADER_MAGIC: IMAGE_MAGIC,
        HEADER_FORMAT: IMAGE_FORMAT,
        HEADER_PAGES: len(words) // PAGE_WORDS,
        HEADER_SOURCE_BYTES: len(source),
        HEADER_SOURCE_CRC: zlib.crc32(source),
    }
    for word, value in {**told, **given}.items():
        words[word] = value
