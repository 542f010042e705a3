# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The digest of an image, which detects edits by hand.

It is the exclusive or of a number for each block of pages, so a change of a few words costs a few blocks. The number of
a block mixes its position with its CRC-32, because CRCs alone are linear: the same edit of two blocks would cancel out.
All words of the pages in use count, except the header words of the digest itself and of an unfinished change.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hashlib import sha256
from typing import TYPE_CHECKING, cast
from zlib import crc32

from ..abi.layout import GROUP_BASE, HEADER_CHANGING, HEADER_DIGEST, HEADER_PAGES, PAGE_BYTES, PAGE_WORDS

if TYPE_CHECKING:
    from typing_extensions import Buffer

BLOCK_WORDS = 4 * PAGE_WORDS
BLOCK_BYTES = 4 * BLOCK_WORDS
HEADER_BYTES = 4 * GROUP_BASE
POSITION = struct.Struct("<II")


class ImageDigest:
    """The digest of an image, any buffer of whole words, which may change afterwards."""

    def __init__(self, image: Buffer) -> None:
        with memoryview(image).cast("B") as data:
            used = data[: PAGE_BYTES * _word(data, HEADER_PAGES)]
            self._numbers = [_number(used, block) for block in range(-(-len(used) // BLOCK_BYTES))]
        self._all = 0
        for number in self._numbers:
            self._all ^= number

    @property
    def value(self) -> int:
        """The word for HEADER_DIGEST. It is never 0, because 0 means unknown."""
        return self._all or 1

    def follow(self, image: Buffer, changed: Iterable[tuple[int, int]]) -> int:
        """Return the value after changes of [(first word, words)] in pages that were in use before."""
        blocks = {block for at, count in changed for block in range(at // BLOCK_WORDS, -(-(at + count) // BLOCK_WORDS))}
        with memoryview(image).cast("B") as data:
            for block in blocks:
                number = _number(data, block)
                self._all ^= self._numbers[block] ^ number
                self._numbers[block] = number
        return self.value


def _number(data: memoryview, block: int) -> int:
    content = data[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]
    crc = crc32(content) if block else crc32(content[HEADER_BYTES:], crc32(without_digest(content[:HEADER_BYTES])))
    return int.from_bytes(sha256(POSITION.pack(block, crc)).digest()[:4], "little")


def without_digest(image: Buffer) -> bytearray:
    """Return a copy of an image, or of its header, with an unknown digest and without an unfinished change."""
    copy = bytearray(image)
    for word in (HEADER_CHANGING, HEADER_DIGEST):
        copy[4 * word : 4 * word + 4] = bytes(4)
    return copy


def is_changing(image: Buffer) -> bool:
    """Return whether an image, or its header, has an unfinished change."""
    return bool(_word(memoryview(image).cast("B"), HEADER_CHANGING))


def is_edited(image: Buffer) -> bool:
    """Return whether an image without an unfinished change has another digest than it should have."""
    with memoryview(image).cast("B") as data:
        kept = _word(data, HEADER_DIGEST)
    return bool(kept) and not is_changing(image) and kept != ImageDigest(image).value


def _word(data: memoryview, word: int) -> int:
    return cast(int, struct.unpack_from("=I", data, 4 * word)[0])
