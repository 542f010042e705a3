# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The digest by which an edit of an image by hand is seen.

It is the exclusive or of a number for each block of pages, so that a change of a few words costs a few blocks. A
block's number mixes its place with its CRC-32: CRCs alone are linear, and the same edit of two blocks would cancel out.
Every word of the pages in use counts, but for the two that tell of the digest itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hashlib import sha256
from typing import Any
from zlib import crc32

from ..abi.layout import GROUP_BASE, HEADER_CHANGING, HEADER_DIGEST, HEADER_PAGES, PAGE_BYTES, PAGE_WORDS

BLOCK_WORDS = 4 * PAGE_WORDS
BLOCK_BYTES = 4 * BLOCK_WORDS
HEADER_BYTES = 4 * GROUP_BASE
PLACE = struct.Struct("<II")


class ImageDigest:
    """The digest of an image, any buffer of whole words, which may change afterwards; `value` is never 0."""

    def __init__(self, words: Any) -> None:
        with memoryview(words).cast("B") as data:
            used = data[: PAGE_BYTES * _word(data, HEADER_PAGES)]
            self._numbers = [_number(used, block) for block in range(-(-len(used) // BLOCK_BYTES))]
        self._all = 0
        for number in self._numbers:
            self._all ^= number

    @property
    def value(self) -> int:
        """What belongs in HEADER_DIGEST."""
        return self._all or 1

    def follow(self, words, changed: Iterable) -> int:
        """Return the value after [(first word, words)] changed in pages that were in use before."""
        blocks = {block for at, count in changed for block in range(at // BLOCK_WORDS, -(-(at + count) // BLOCK_WORDS))}
        with memoryview(words).cast("B") as data:
            for block in blocks:
                number = _number(data, block)
                self._all ^= self._numbers[block] ^ number
                self._numbers[block] = number
        return self.value


def _number(data: memoryview, block: int) -> int:
    content = data[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]
    crc = crc32(content) if block else crc32(content[HEADER_BYTES:], crc32(_header(content)))
    return int.from_bytes(sha256(PLACE.pack(block, crc)).digest()[:4], "little")


def _header(data: memoryview) -> bytes:
    return bytes(without_digest(data[:HEADER_BYTES]))


def without_digest(image) -> bytearray:
    """Return a copy of an image, or of its header, that says neither whether it is being changed nor its digest."""
    copy = bytearray(image)
    for word in (HEADER_CHANGING, HEADER_DIGEST):
        copy[4 * word : 4 * word + 4] = bytes(4)
    return copy


def is_changing(image) -> bool:
    """Whether an image, or its header, says that a change of it has begun and not ended."""
    return bool(_word(memoryview(image).cast("B"), HEADER_CHANGING))


def is_edited(words) -> bool:
    """Whether an image that nobody is changing keeps a digest that is not its own."""
    with memoryview(words).cast("B") as data:
        kept = _word(data, HEADER_DIGEST)
    return bool(kept) and not is_changing(words) and kept != ImageDigest(words).value


def _word(data: memoryview, word: int) -> int:
    return struct.unpack_from("=I", data, 4 * word)[0]
