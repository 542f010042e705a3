# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The rules of one family and protocol as nodes: destination, then ports, then source.

Every destination prefix gets a *profile*: the partition of its ports into words. Where a profile has no answer, its
word is the port node of the next shorter prefix that has rules. So a packet falls through (docs/SEMANTICS.md,
"Fall-through"): a lookup may compare the port again, never the destination. What has no ports is judged by its
destination alone: cover().

1. A small profile takes the answers of its parent into its own node: one step less (INLINE_MAX).
2. A chain of profiles is cut where a walk along it could take more than `chain_steps` steps: there the rules of all
   ancestors are compiled into one profile. This bounds the walk; see LOOKUP4_STEPS and LOOKUP6_STEPS.
3. Rules come best first. This room never asks for the precedence of two rules.
"""

from __future__ import annotations

from typing import NamedTuple

from ..abi.layout import (
    FIELD4_DADDR_LOW,
    FIELD4_DPORT,
    FIELD4_SADDR_HIGH,
    FIELD4_SADDR_LOW,
    FIELD6_DADDR,
    FIELD6_DPORT,
    FIELD6_SADDR,
    INTERCEPT4_DADDR_HIGH,
    INTERCEPT4_DADDR_LOW,
    LOOKUP4_STEPS,
    LOOKUP6_STEPS,
)
from .intervals import covers_all, disjoint_prefixes, joined, overlay, partition_of_ports
from .nodes import NodeTable

INLINE_MAX = 8
NO_MATCH = 0


class Family(NamedTuple):
    """Bits of an address, and the fields of a walk, most significant first; `cover` is the whole destination."""

    bits: int
    destination: tuple
    port: int
    source: tuple
    chain_steps: int
    cover: tuple


# IPv4's upper half of the destination is the index of the root. A field costs two steps at most, so one profile without
# parents takes 2 + 4 steps (IPv6: 2 + 16) and the destination 2 (16) more: half of the walk is enough for a chain.
IPV4 = Family(
    32,
    (FIELD4_DADDR_LOW,),
    FIELD4_DPORT,
    (FIELD4_SADDR_HIGH, FIELD4_SADDR_LOW),
    LOOKUP4_STEPS // 2,
    (INTERCEPT4_DADDR_HIGH, INTERCEPT4_DADDR_LOW),
)
IPV6 = Family(
    128,
    tuple(range(FIELD6_DADDR, FIELD6_DADDR + 8)),
    FIELD6_DPORT,
    tuple(range(FIELD6_SADDR, FIELD6_SADDR + 8)),
    LOOKUP6_STEPS // 2,
    tuple(range(FIELD6_DADDR, FIELD6_DADDR + 8)),
)
FAMILIES = {4: IPV4, 6: IPV6}


class Claim(NamedTuple):
    """A rule's part within its destination: ports, and the candidate (source network, source length, word)."""

    low: int
    high: int
    candidate: tuple


class Profile(NamedTuple):
    """What becomes of the ports of one destination prefix."""

    word: int
    partition: list
    claims: list
    parent: Profile | None


NOTHING = Profile(NO_MATCH, [(0, NO_MATCH)], [], None)


class Tree:
    """Compiles the rules of one family and protocol."""

    def __init__(self, nodes: NodeTable, family: Family):
        self._nodes = nodes
        self._family = family
        self._source_words = {}

    def partition(self, claims_by_prefix: dict) -> list:
        """Return the partition of all destinations into words.

        `claims_by_prefix` is {(network, length): [Claim, best first]}; networks and lengths in bits of this family.
        """
        return disjoint_prefixes(list(self._words(claims_by_prefix)), self._family.bits, NO_MATCH)

    def _words(self, claims_by_prefix: dict):
        """Yield (network, length, word of the port node), parents before children."""
        bits = self._family.bits
        ancestors = []  # (network, length, profile) of the prefixes around the current one
        for (network, length), claims in sorted(claims_by_prefix.items()):
            while ancestors and (ancestors[-1][0] ^ network) >> bits - ancestors[-1][1]:
                ancestors.pop()
            profile = self._profile(claims, ancestors[-1][2] if ancestors else NOTHING)
            ancestors.append((network, length, profile))
            yield network, length, profile.word

    def _profile(self, claims: list, parent: Profile) -> Profile:
        partition = self._over(claims, parent)
        if self._nodes.steps_of(partition) > self._family.chain_steps:
            partition = self._over(_with_ancestors(claims, parent), NOTHING)
        return Profile(self._nodes.node(self._family.port, partition), partition, claims, parent)

    def _over(self, claims: list, parent: Profile) -> list:
        """Return the partition of the ports into words, the parent's answers under the claims."""
        own = partition_of_ports(claims, self._family.bits)
        merged = _inlined(own, parent.partition) or [(start, candidates, parent.word) for start, candidates in own]
        return joined((start, self.word(candidates, fallback)) for start, candidates, fallback in merged)

    def word(self, candidates: tuple, fallback: int) -> int:
        """Return the word that looks for the source among the candidates."""
        if not candidates:
            return fallback
        if not candidates[0][1]:
            return candidates[0][2]
        key = candidates, NO_MATCH if covers_all(candidates) else fallback
        word = self._source_words.get(key)
        if word is None:
            partition = disjoint_prefixes(sorted(candidates), self._family.bits, key[1])
            word = self._source_words[key] = self._nodes.trie(self._family.source, partition)
        return word


def cover(claims_by_prefix: dict, bits: int) -> list:
    """Return the partition of all destinations into words: that of the best claim of the longest prefix around each."""
    words = [(*prefix, claims[0].candidate[2]) for prefix, claims in claims_by_prefix.items()]
    return disjoint_prefixes(sorted(words), bits, NO_MATCH)


def _inlined(own: list, under: list) -> list | None:
    """Return the overlay of two partitions if it is small."""
    if len(own) + len(under) > 2 * INLINE_MAX:
        return None
    merged = overlay(own, under)
    return merged if len(merged) <= INLINE_MAX else None


def _with_ancestors(claims: list, parent: Profile) -> list:
    """Return the claims of a prefix and of all prefixes around it, best first."""
    found = list(claims)
    while parent is not None:
        found += parent.claims
        parent = parent.parent
    return found
