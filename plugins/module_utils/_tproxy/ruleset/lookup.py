# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Lookups in an image, step by step as the program does them (bpf/lib/trie.h, "A node" in bpf/abi.h).

A lookup returns a rule slot, or 0 for no rule. Where the program would read on in damaged words, this module raises
VerificationFailed, because such an image must never be put in force. verify.py knows the right answers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..abi.layout import (
    ACTION_WORDS,
    COVER4_DADDR_HIGH,
    FIELD4_DADDR_LOW,
    FIELD4_DPORT,
    FIELD4_SADDR_HIGH,
    FIELD4_SADDR_LOW,
    FIELD6_DADDR,
    FIELD6_DPORT,
    FIELD6_SADDR,
    GROUP_PAGES,
    HEADER_ACTIONS,
    HEADER_GROUP_SEED,
    HEADER_GROUPS,
    HEADER_PAGES,
    HEADER_SLOTS,
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
    PAIRS_PER_PAGE,
    PROBES,
    UNIT_WORDS,
)
from ..errors import VerificationFailed
from ..model.prefix import family_of
from ..model.protocol import has_ports, protocol_number, table_of
from .groups import COVERS, FIRST_GROUP_PAGE, ROOT_PAGES, directory_word, pair_place

if TYPE_CHECKING:
    from typing_extensions import Buffer

STEPS = {4: LOOKUP4_STEPS, 6: LOOKUP6_STEPS}
PORT_FIELD = {4: FIELD4_DPORT, 6: FIELD6_DPORT}

DESTINATION_FIELDS = {4: 1 << FIELD4_DADDR_LOW, 6: 0xFF << FIELD6_DADDR}  # as a mask
SOURCE_FIELDS = {4: 1 << FIELD4_SADDR_HIGH | 1 << FIELD4_SADDR_LOW, 6: 0xFF << FIELD6_SADDR}
DECODED_MAX = 16384  # nodes in memory
LEAF_MAX = (1 << NODE_TAG_SHIFT) - 1  # the tag of a leaf is 0
ALL_FIELDS = (1 << NODE_FIELD_MASK + 1) - 1


# A node that a lookup has reached, the steps that it has left, and a mask of the fields that it has compared. No
# NamedTuple, because making them is a tenth of a verification.
Position = tuple[int, int, int]


class _Node(NamedTuple):
    """A node: the field that it compares, the keys of a SEARCH node without the first one, and the nodes behind it.

    A page has no keys. Its index is the value of the field, shifted and masked.
    """

    field: int
    keys: list[int] | None
    shift: int
    nodes: list[int]


class Lookup:
    """An image, any buffer of whole words, for many lookups. It must not change meanwhile."""

    def __init__(self, image: Buffer) -> None:
        data = memoryview(image).cast("B")
        used = PAGE_BYTES * data[:PAGE_BYTES].cast("I")[HEADER_PAGES] if len(data) >= PAGE_BYTES else 0
        if not 2 * PAGE_BYTES <= used <= len(data):
            raise VerificationFailed(f"the image says that {used} bytes are in use, it has {len(data)}")
        self._words = data[:used].cast("I")
        self._keys = data[:used].cast("H")
        self._nodes: dict[int, _Node] = {}

    def slot(self, ifindex: int, destination: int, source: int, protocol: str, port: int) -> int:
        """Return the slot of the rule for a packet. Addresses are mapped 128-bit numbers.

        The port does not matter for a protocol without ports.
        """
        root = self.root(self.group_of(ifindex), table_of(protocol), destination)
        in_its_place = port if has_ports(protocol) else protocol_number(protocol)
        return self.finish(root, fields_of(destination, source, in_its_place))[0]

    def cover(self, group: int, protocol: str, destination: int) -> int:
        """Return the slot of the best rule of a group that covers fragments to the destination, 0 for none."""
        family = family_of(destination)
        fields = fields_of(destination, 0, 0)
        if family == 4:
            fields[COVER4_DADDR_HIGH] = destination >> 16 & 0xFFFF
        return self.finish((self.directory(group, family, COVERS[protocol]), STEPS[family], 0), fields)[0]

    def group_of(self, ifindex: int) -> int:
        """Return the group of an interface: the page of its directory."""
        if self._words[HEADER_GROUPS] > 1:
            page, first = pair_place(ifindex, self._words[HEADER_GROUP_SEED])
            for distance in range(PROBES):
                pair = PAGE_WORDS * (1 + page) + 2 * ((first + distance) % PAIRS_PER_PAGE)
                if self._words[pair] == ifindex:
                    return self._words[pair + 1]
        return 0

    def grouped(self) -> dict[int, int]:
        """Return {ifindex: group} of the pages of pairs."""
        pairs = self._words[PAGE_WORDS : (1 + GROUP_PAGES) * PAGE_WORDS].tolist()
        return {ifindex: group for ifindex, group in zip(pairs[0::2], pairs[1::2]) if ifindex}

    def directory(self, group: int, family: int, table: str) -> int:
        """Return a word of the directory of a group."""
        end = min(FIRST_GROUP_PAGE + self._words[HEADER_GROUPS] - 1, self._words[HEADER_PAGES])
        if group and not FIRST_GROUP_PAGE <= group < end:
            raise _damaged(group)
        return self._words[directory_word(group, family, table)]

    def root(self, group: int, table: str, destination: int) -> Position:
        """Return the position at which a lookup in a group begins."""
        family = family_of(destination)
        root = self.directory(group, family, table)
        if family == 4 and root:
            if root + ROOT_PAGES > self._words[HEADER_PAGES]:
                raise _damaged(root)
            root = self._words[root * PAGE_WORDS + (destination >> 16 & 0xFFFF)]
        return root, STEPS[family], 0

    def destination(self, family: int, root: int, destination: int) -> Position:
        """Return the position at which the lookup of a destination has compared all of it; `root` as directory()."""
        if family == 6:
            return self.follow((root, STEPS[6], 0), fields_of(destination, 0, 0), DESTINATION_FIELDS[6])
        if root and root + ROOT_PAGES > self._words[HEADER_PAGES]:
            raise _damaged(root)
        node = self._words[root * PAGE_WORDS + (destination >> 16 & 0xFFFF)] if root else 0
        return self.follow((node, STEPS[4], 0), (destination & 0xFFFF,), DESTINATION_FIELDS[4])

    def slots(
        self, position: Position, fields: list[int], port_field: int, ports: Sequence[int], mask: int
    ) -> list[tuple[int, int]]:
        """Return the slot and a mask of the compared fields for each port; as finish()."""
        found = []
        for port in ports:
            fields[port_field] = port
            leaf, _steps, compared = self.follow(position, fields, mask)
            if leaf > LEAF_MAX:
                raise _damaged(position[0])
            found.append((leaf, compared))
        return found

    def finish(self, position: Position, fields: Sequence[int], mask: int = ALL_FIELDS) -> Position:
        """Return the leaf that a lookup from a position reaches. Its node is a slot.

        Raise VerificationFailed if the lookup compares a field that is not in the mask.
        """
        leaf = self.follow(position, fields, mask)
        if leaf[0] >> NODE_TAG_SHIFT != NODE_LEAF:
            raise _damaged(position[0])
        return leaf

    def follow(self, position: Position, fields: Sequence[int], mask: int) -> Position:
        """Continue a lookup to a leaf, or to the first node that compares a field that is not in the mask.

        Raise VerificationFailed if the steps do not suffice: there the program would find no rule.
        """
        node, steps, compared = position
        known_nodes = self._nodes
        try:
            while True:
                if node <= LEAF_MAX:
                    break
                known = known_nodes.get(node) or self._decode(node)
                field, keys, shift, nodes = known
                if not mask >> field & 1:
                    break
                if not steps:
                    raise _damaged(position[0])
                steps -= 1
                compared |= 1 << field
                value = fields[field]
                node = nodes[value >> shift & 0xFF] if keys is None else nodes[bisect_right(keys, value)]
        except IndexError:  # no such field
            raise _damaged(position[0]) from None
        return node, steps, compared

    def action(self, slot: int) -> bytes:
        """Return struct action of a rule slot."""
        at = self._words[HEADER_ACTIONS] * PAGE_WORDS + slot * ACTION_WORDS
        action = self._words[at : at + ACTION_WORDS]
        if slot >= self._words[HEADER_SLOTS] or len(action) < ACTION_WORDS:
            raise _damaged(slot)
        return action.tobytes()

    def _decode(self, node: int) -> _Node:
        """Return the content of a node. Raise VerificationFailed if it is damaged."""
        if len(self._nodes) == DECODED_MAX:
            self._nodes.clear()
        tag, field = node >> NODE_TAG_SHIFT, node >> NODE_FIELD_SHIFT & NODE_FIELD_MASK
        pointer = node & NODE_POINTER_MASK
        if tag == NODE_SEARCH:
            count, at = 4 << (node >> NODE_WIDTH_SHIFT & NODE_WIDTH_MASK), pointer * UNIT_WORDS
            keys = self._keys[2 * at + 1 : 2 * at + count].tolist()
            nodes = self._words[at + count // 2 : at + count // 2 + count].tolist()
            if at % PAGE_WORDS + count // 2 + count > PAGE_WORDS or len(nodes) < count or keys != sorted(keys):
                raise _damaged(node)
            decoded = _Node(field, keys, 0, nodes)
        else:
            nodes = self._words[pointer * PAGE_WORDS : (pointer + 1) * PAGE_WORDS].tolist()
            if len(nodes) < PAGE_WORDS:
                raise _damaged(node)
            decoded = _Node(field, None, 8 if tag == NODE_HIGH else 0, nodes)
        self._nodes[node] = decoded
        return decoded


def fields_of(destination: int, source: int, port: int) -> list[int]:
    """Return the fields of a packet, by their number in a node."""
    if family_of(destination) == 4:
        return [destination & 0xFFFF, port, source >> 16 & 0xFFFF, source & 0xFFFF]
    chunks = (destination << 128 | source).to_bytes(32, "big")
    return [chunks[at] << 8 | chunks[at + 1] for at in range(0, 32, 2)] + [port]


def _damaged(node: int) -> VerificationFailed:
    return VerificationFailed(f"the image is damaged: a lookup from {node:#010x} leads nowhere")
