# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the nodes of an image by bpf/abi.h alone, for tests: without the compiler's modules."""

from __future__ import annotations

from typing import NamedTuple

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import layout


class Node(NamedTuple):
    """One decoded node; a leaf has no values."""

    tag: int
    field: int
    at: int
    words: int
    keys: list
    values: list


def read_node(words, word):
    """Return the Node that a node word points to."""
    tag, field, pointer = word >> 30, word >> 23 & 31, word & 0x7FFFFF
    if tag == layout.NODE_LEAF:
        return Node(tag, 0, 0, 0, [], [])
    if tag in (layout.NODE_HIGH, layout.NODE_LOW):
        at = pointer * layout.PAGE_WORDS
        return Node(tag, field, at, layout.PAGE_WORDS, [], list(words[at : at + layout.PAGE_WORDS]))
    count, at = 4 << (word >> 28 & 3), pointer * 4
    keys = memoryview(words[at : at + count // 2]).cast("B").cast("H").tolist()
    values = list(words[at + count // 2 : at + count // 2 + count])
    return Node(tag, field, at, count // 2 + count, keys, values)


def directory_pages(words):
    """Return the pages of the class directories, that of class 0 first."""
    first = 1 + layout.GROUP_PAGES
    return [0, *range(first, first + words[layout.HEADER_GROUPS] - 1)]


def roots(words):
    """Return {(class, column): node words at which walks begin}."""
    found = {}
    for number in directory_pages(words):
        for column in range(layout.GROUP_WORDS):
            root = words[number * layout.PAGE_WORDS + layout.GROUP_BASE + column]
            if column in (layout.GROUP_IPV4_TCP, layout.GROUP_IPV4_UDP) and root:
                found[number, column] = list(words[root * layout.PAGE_WORDS :][:65536])
            else:
                found[number, column] = [root]
    return found


def reachable(words):
    """Return {node word: Node} of everything a walk can meet."""
    found = {}
    todo = {word for starts in roots(words).values() for word in starts}
    while todo:
        word = todo.pop()
        if word not in found:
            found[word] = read_node(words, word)
            todo.update(found[word].values)
    return found


def longest_walk(words, starts):
    """Return the most steps that any packet could make a walk take from these words."""
    nodes, known = reachable(words), {}

    def steps(word):
        if word not in known:
            values = set(nodes[word].values)
            known[word] = 1 + max(map(steps, values)) if values else 0
        return known[word]

    return max(map(steps, set(starts)))
