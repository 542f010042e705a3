# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Destination prefixes and the words they lead to, in levels of 16 bits: the longest prefix holds.

A level begins where a prefix goes beyond the field above it. What holds in a level without a prefix of its own is its
default: the word of the longest prefix around it. It knows words, and no rule.
"""

from __future__ import annotations

from ._live_level import Level
from ._live_nodes import LiveNodes
from ._tree import NO_MATCH


class Destinations:
    """Words by (network, length), in bits of the family; `fields` are those of the levels, `root` the first level."""

    def __init__(self, nodes: LiveNodes, bits: int, fields: tuple, root: Level):
        self._nodes, self._bits, self._fields, self.root = nodes, bits, fields, root
        self._words = {}  # length: {network: word}
        self.home = None  # the word of a class directory that leads to the root

    def put(self, network: int, length: int, word: int) -> None:
        """Add a prefix while the image is built, those around it first; render() makes it true."""
        self._note(network, length, word)
        level, depth = self._path(network, length)[-1], _depth(length)
        level.put(self._value(network, depth), length - 16 * depth, word)

    def render(self) -> None:
        """Write all levels."""
        self._render_below(self.root)

    def _render_below(self, level: Level) -> None:
        for value, below in level.below.items():
            self._render_below(below)
            level.put(value, 16, below.word)
        level.render()

    def set(self, network: int, length: int, word: int | None) -> None:
        """Give a prefix its word, None to forget it, in an image that is in force."""
        self._note(network, length, word)
        depth, path = _depth(length), self._path(network, length)
        value, more = self._value(network, depth), length - 16 * depth
        level = path[-1]
        level.put(value, more, word)
        self._refresh(level, network >> self._bits - 16 * depth, depth, value, more)
        level.render(value, more)
        for above, below in zip(range(depth - 1, -1, -1), reversed(path)):
            value = self._value(network, above)
            path[above].put(value, 16, below.word)
            path[above].render(value, 16)
        if self.home is not None:
            self._nodes.flip(self.home, self.root.word)

    def _refresh(self, level: Level, base: int, depth: int, value: int, more: int) -> None:
        """Give the levels that begin inside a prefix their defaults."""
        last = value | (1 << 16 - more) - 1
        for at, below in level.below.items():
            if not value <= at <= last:
                continue
            inner = base << 16 | at
            below.default = self._longest(inner << self._bits - 16 * (depth + 1), 16 * (depth + 1))
            self._refresh(below, inner, depth + 1, 0, 0)
            below.render()
            level.put(at, 16, below.word)

    def _path(self, network: int, length: int) -> list:
        """Return the levels from the root to that of a prefix; missing ones are made."""
        path = [self.root]
        for depth in range(1, _depth(length) + 1):
            value = self._value(network, depth - 1)
            if value not in path[-1].below:
                default = self._longest(network, 16 * depth)
                path[-1].below[value] = Level(self._nodes, self._fields[depth], default)
            path.append(path[-1].below[value])
        return path

    def _value(self, network: int, depth: int) -> int:
        return network >> self._bits - 16 * (depth + 1) & 0xFFFF

    def _note(self, network: int, length: int, word: int | None) -> None:
        words = self._words.setdefault(length, {})
        if word is None:
            words.pop(network, None)
        else:
            words[network] = word

    def _longest(self, address: int, length: int) -> int:
        """Return the word of the longest prefix of at most `length` bits around an address."""
        for bits in sorted((bits for bits in self._words if bits <= length), reverse=True):
            word = self._words[bits].get(address >> self._bits - bits << self._bits - bits)
            if word is not None:
                return word
        return NO_MATCH


def _depth(length: int) -> int:
    return max(length - 1, 0) // 16
