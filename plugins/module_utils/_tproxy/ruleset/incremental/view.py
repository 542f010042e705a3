# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The rules of one family and protocol as one class sees them, in an image that changes in place.

It is _tree's arrangement (a profile of ports for each destination prefix, which falls through to that of the next
shorter one), with one difference: a prefix that can hold others has its profile behind a place (_live_nodes). So what
falls through to it stays right when it changes, and a change costs what its own prefix costs, not what lies inside.

The cover has no ports: the answer of a prefix is its best rule that splices.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable

from ...abi.layout import LOOKUP4_STEPS, LOOKUP6_STEPS
from ..intervals import joined, partition_of_ports
from ..trie import NO_MATCH, Family, Tree
from .levels import Destinations
from .nodes import CompileAnew, LiveNodes

# What a walk may take after the destination, a field of which costs two steps; IPv4 begins behind its first.
CHAIN_STEPS = {32: LOOKUP4_STEPS - 2, 128: LOOKUP6_STEPS - 16}


class Profile:
    """One destination prefix: `ranked` is its [(precedence, Claim)], best first; `chain` the steps to the last leaf."""

    __slots__ = ("chain", "parent", "prefix", "ranked", "word")

    def __init__(self, prefix: tuple, ranked: list, parent: Profile | None):
        self.prefix, self.ranked, self.parent = prefix, ranked, parent
        self.word, self.chain = None, parent.chain if parent else 0


class LiveView:
    """Profiles by prefix: (network, length) in bits of the family."""

    def __init__(self, nodes: LiveNodes, family: Family, destinations: Destinations, is_cover: bool):
        self._nodes, self._family, self._destinations, self._is_cover = nodes, family, destinations, is_cover
        self._tree = Tree(nodes, family)
        self._profiles = {}
        self._order = []  # the prefixes, sorted: those around a prefix stand before it
        self._lengths = {}  # length: prefixes that have it

    def lead_from(self, home: int) -> int:
        """Let a word of a class directory lead here, from now on; return its value."""
        self._destinations.home = home
        return self._destinations.root.word

    def build(self, ranked_by_prefix: dict) -> None:
        """Take all rules, {prefix: [(precedence, Claim)], best first}."""
        for prefix, ranked in sorted(ranked_by_prefix.items()):
            profile = self._enter(prefix, ranked)
            self._write(profile)
            self._destinations.put(*prefix, profile.word)
        self._destinations.render()

    def add(self, prefix: tuple, precedence: tuple, claim) -> None:
        """Add a rule."""
        profile = self._profiles.get(prefix)
        if profile is None:
            profile = self._enter(prefix, [(precedence, claim)])
            self._write(profile)
            self._destinations.set(*prefix, profile.word)
            self._adopt(self._children(prefix), profile)
            return
        insort(profile.ranked, (precedence, claim))
        self._rewrite(profile)

    def remove(self, prefix: tuple, precedence: tuple, claim) -> None:
        """Remove a rule that was added."""
        profile = self._profiles[prefix]
        profile.ranked.remove((precedence, claim))
        if profile.ranked:
            self._rewrite(profile)
            return
        children = list(self._children(prefix))
        self._leave(profile)
        self._adopt(children, profile.parent)
        self._destinations.set(*prefix, None)

    def _enter(self, prefix: tuple, ranked: list) -> Profile:
        profile = Profile(prefix, ranked, self._around(prefix))
        self._profiles[prefix] = profile
        insort(self._order, prefix)
        self._lengths[prefix[1]] = self._lengths.get(prefix[1], 0) + 1
        return profile

    def _leave(self, profile: Profile) -> None:
        del self._profiles[profile.prefix]
        del self._order[bisect_left(self._order, profile.prefix)]
        self._lengths[profile.prefix[1]] -= 1

    def _around(self, prefix: tuple) -> Profile | None:
        """Return the profile of the next shorter prefix around one."""
        network, length = prefix
        for bits in sorted((bits for bits, count in self._lengths.items() if count and bits < length), reverse=True):
            below = self._family.bits - bits
            found = self._profiles.get((network >> below << below, bits))
            if found is not None:
                return found
        return None

    def _inside(self, prefix: tuple) -> tuple:
        """Return where the prefixes inside one stand in the order: (first, end)."""
        network, length = prefix
        last = network | (1 << self._family.bits - length) - 1
        return bisect_right(self._order, prefix), bisect_right(self._order, (last, self._family.bits))

    def _children(self, prefix: tuple) -> Iterable:
        """Yield the profiles inside a prefix that are inside no longer one."""
        at, end = self._inside(prefix)
        while at < end:
            yield self._profiles[self._order[at]]
            at = self._inside(self._order[at])[1]

    def _adopt(self, children: Iterable, parent: Profile | None) -> None:
        """Let profiles fall through to another one."""
        for child in children:
            self._nodes.spend_row()
            child.parent = parent
            if not self._is_cover:
                self._rewrite(child)

    def _rewrite(self, profile: Profile) -> None:
        """Write a profile anew, and what leads to it if that is another word now."""
        before = profile.word
        self._write(profile)
        if profile.word != before:
            self._destinations.set(*profile.prefix, profile.word)

    def _write(self, profile: Profile) -> None:
        word = self._cover(profile) if self._is_cover else self._ports(profile)
        holds_others = profile.prefix[1] < self._family.bits
        self._count_steps(profile, self._nodes.steps(word) + holds_others)
        if not holds_others:
            profile.word = word
        elif profile.word is None:
            profile.word = self._nodes.place(word)
        else:
            self._nodes.move_place(profile.word, word)

    def _cover(self, profile: Profile) -> int:
        return profile.ranked[0][1].candidate[2]

    def _ports(self, profile: Profile) -> int:
        """Return the word that looks for port and source."""
        fallback = profile.parent.word if profile.parent else NO_MATCH
        own = partition_of_ports([claim for _precedence, claim in profile.ranked], self._family.bits)
        words = joined((start, self._tree.word(candidates, fallback)) for start, candidates in own)
        return self._nodes.node(self._family.port, words)

    def _count_steps(self, profile: Profile, own: int) -> None:
        """Note how long a walk from here may be, and from those inside. Raises CompileAnew when it may be too long."""
        chain = own + (profile.parent.chain if profile.parent and not self._is_cover else 0)
        longer, profile.chain = chain - profile.chain, chain
        if chain > CHAIN_STEPS[self._family.bits]:
            raise CompileAnew("prefixes are nested too deeply")
        if longer and not self._is_cover:
            first, end = self._inside(profile.prefix)
            for prefix in self._order[first:end]:
                inner = self._profiles[prefix]
                inner.chain += longer
                if inner.chain > CHAIN_STEPS[self._family.bits]:
                    raise CompileAnew("prefixes are nested too deeply")
