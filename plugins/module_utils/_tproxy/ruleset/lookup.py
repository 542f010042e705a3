# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The walk of an image, step by step as the program does it (bpf/abi.h, "Node word").

A walk returns the rule slot, 0 for none. Where the program would read on in damaged words, this room raises
VerificationFailed: such an image must never be put in force. It never asks what the right answer is (_verify does).
"""

from __future__ import annotations

from array import array
from typing import Any

from ..abi.layout import (
    ACTION_WORDS,
    FIELD4_DADDR_LOW,
    FIELD4_DPORT,
    FIELD6_DADDR,
    FIELD6_DPORT,
    GROUP_BASE,
    GROUPED_INTERFACES,
    HEADER_ACTIONS,
    HEADER_GROUPS,
    HEADER_PAGES,
    HEADER_SLOTS,
    INTERCEPT4_DADDR_HIGH,
    LOOKUP4_STEPS,
    LOOKUP6_STEPS,
    NODE_FIELD_MASK,
    NODE_FIELD_SHIFT,
    NODE_HIGH,
    NODE_LEAF,
    NODE_POINTER_MASK,
    NODE_SEARCH,
    NODE_TAG_SHIFT,
    NODE_WIDTH_MASK,
    NODE_WIDTH_SHIFT,
    PAGE_BYTES,
    PAGE_WORDS,
    PROBES,
    UNIT_WORDS,
)
from ..errors import VerificationFailed
from ..model.prefix import family_of
from .compile import CLASS_WORD, COVER, ROOT_PAGES
from .groups import CLASS_PAGES

STEPS = {4: LOOKUP4_STEPS, 6: LOOKUP6_STEPS}
PORT_FIELD = {4: FIELD4_DPORT, 6: FIELD6_DPORT}
DESTINATION_END = {4: FIELD4_DADDR_LOW + 1, 6: FIELD6_DADDR + 8}
FIELDS = NODE_FIELD_MASK + 1
PAGE_HALVES = 2 * PAGE_WORDS
UNIT_HALVES = 2 * UNIT_WORDS


def walk(image, ifindex: int, destination: int, source: int, protocol: str, port: int) -> int:
    """Return the slot of the rule that holds for a packet; addresses are mapped 128-bit numbers."""
    return Walker(image).slot(ifindex, destination, source, protocol, port)


class Walker:
    """An image to walk in, often."""

    def __init__(self, image: Any) -> None:
        """`image` is any buffer of whole words; what lies beyond the pages in use is not looked at."""
        data = memoryview(image).cast("B")
        header = array("I", bytes(data[:PAGE_BYTES]))
        used = PAGE_BYTES * header[HEADER_PAGES] if len(header) == PAGE_WORDS else 0
        if not 2 * PAGE_BYTES <= used <= len(data):
            raise VerificationFailed(f"the image says that {used} bytes are in use, it has {len(data)}")
        raw = bytes(data[:used])
        self.words, self._halves = array("I", raw), array("H", raw)

    def slot(self, ifindex: int, destination: int, source: int, protocol: str, port: int) -> int:
        """Return what `walk` returns."""
        family = family_of(destination)
        word = self.root(self.class_of(ifindex), protocol, destination)
        return self.follow(word, fields_of(destination, source, port), STEPS[family])[0]

    def cover(self, number: int, destination: int) -> int:
        """Return the slot of the best rule of a class that intercepts something at the destination, 0 for none."""
        family = family_of(destination)
        fields = fields_of(destination, 0, 0)
        if family == 4:
            fields[INTERCEPT4_DADDR_HIGH] = destination >> 16 & 0xFFFF
        return self.follow(self.directory(number, family, COVER), fields, STEPS[family])[0]

    def class_of(self, ifindex: int) -> int:
        """Return the class of an interface: the page of its directory."""
        if self.words[HEADER_GROUPS] > 1:
            for distance in range(PROBES):
                pair = PAGE_WORDS + 2 * ((ifindex + distance) % GROUPED_INTERFACES)
                if self.words[pair] == ifindex:
                    return self.words[pair + 1]
        return 0

    def bound(self) -> dict:
        """Return {ifindex: class} of page 1."""
        pairs = self.words[PAGE_WORDS : 2 * PAGE_WORDS]
        return {ifindex: number for ifindex, number in zip(pairs[0::2], pairs[1::2]) if ifindex}

    def directory(self, number: int, family: int, protocol: str) -> int:
        """Return the word of the class directory, `number` being the class."""
        end = min(CLASS_PAGES + self.words[HEADER_GROUPS] - 1, self.words[HEADER_PAGES])
        if number and not CLASS_PAGES <= number < end:
            raise _damaged(number)
        return self.words[PAGE_WORDS * number + GROUP_BASE + CLASS_WORD[family, protocol]]

    def root(self, number: int, protocol: str, destination: int) -> int:
        """Return the word at which a walk in a class begins."""
        family = family_of(destination)
        root = self.directory(number, family, protocol)
        if family == 6 or not root:
            return root
        if root + ROOT_PAGES > self.words[HEADER_PAGES]:
            raise _damaged(root)
        return self.words[root * PAGE_WORDS + (destination >> 16 & 0xFFFF)]

    def follow(self, word: int, fields: list, steps: int, end: int = FIELDS) -> tuple:
        """Walk from a word to a leaf, or to the first word that examines field `end` or one beyond it.

        Returns (word, steps left). Raises VerificationFailed when the steps do not suffice: the program would give up.
        """
        words, begun = self.words, word
        try:
            while word >> NODE_TAG_SHIFT != NODE_LEAF:
                tag, field = word >> NODE_TAG_SHIFT, word >> NODE_FIELD_SHIFT & NODE_FIELD_MASK
                if field >= end:
                    break
                if not steps:
                    raise _damaged(begun)
                steps -= 1
                value = fields[field]
                if tag == NODE_SEARCH:
                    word = self._search(word, value)
                else:
                    entry = value >> 8 if tag == NODE_HIGH else value & 0xFF
                    word = words[(word & NODE_POINTER_MASK) * PAGE_WORDS + entry]
        except IndexError:  # no such field, or beyond the image
            raise _damaged(begun) from None
        return word, steps

    def action(self, slot: int) -> bytes:
        """Return struct action of a rule slot."""
        at = self.words[HEADER_ACTIONS] * PAGE_WORDS + slot * ACTION_WORDS
        action = self.words[at : at + ACTION_WORDS]
        if slot >= self.words[HEADER_SLOTS] or len(action) < ACTION_WORDS:
            raise _damaged(slot)
        return action.tobytes()

    def _search(self, word: int, value: int) -> int:
        """Return the value of the last key that is not above `value`; the first key is never looked at."""
        size = word >> NODE_WIDTH_SHIFT & NODE_WIDTH_MASK
        keys, at = self._halves, (word & NODE_POINTER_MASK) * UNIT_HALVES
        if at % PAGE_HALVES + (12 << size) > PAGE_HALVES:
            raise _damaged(word)
        if not size:
            found = (keys[at + 1] <= value) + (keys[at + 2] <= value) + (keys[at + 3] <= value)
        else:
            found, half = 0, 2 << size
            while half:
                if keys[at + found + half] <= value:
                    found += half
                half >>= 1
        return self.words[(at >> 1) + (2 << size) + found]


def fields_of(destination: int, source: int, port: int) -> list:
    """Return the fields of a packet, by their number in a node word."""
    if family_of(destination) == 4:
        return [destination & 0xFFFF, port, source >> 16 & 0xFFFF, source & 0xFFFF]
    chunks = (destination << 128 | source).to_bytes(32, "big")
    return [chunks[at] << 8 | chunks[at + 1] for at in range(0, 32, 2)] + [port]


def _damaged(word: int) -> VerificationFailed:
    return VerificationFailed(f"the image is damaged: a walk from {word:#010x} leads nowhere")
