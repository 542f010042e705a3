# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The digest by which an image is known to be as it was compiled. Who changes one in place keeps none."""

from __future__ import annotations

import zlib

from ._layout import HEADER_DIGEST, HEADER_PAGES, PAGE_WORDS


def digest(words) -> int:
    """Return the digest of an image, any buffer of whole words; never 0."""
    data = memoryview(words).cast("B")
    used = 4 * PAGE_WORDS * data[: 4 * PAGE_WORDS].cast("I")[HEADER_PAGES]
    before, behind = 4 * HEADER_DIGEST, 4 * HEADER_DIGEST + 4
    return zlib.crc32(data[behind:used], zlib.crc32(bytes(4), zlib.crc32(data[:before]))) or 1


def is_edited(words) -> bool:
    """Whether an image keeps a digest that is not its own."""
    kept = memoryview(words).cast("B")[: 4 * PAGE_WORDS].cast("I")[HEADER_DIGEST]
    return bool(kept) and kept != digest(words)
