# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The digest of an image: every word counts, but for the two that tell of it."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import (
    HEADER_CHANGING,
    HEADER_DIGEST,
    HEADER_GENERATION,
    HEADER_PAGES,
    PAGE_WORDS,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule_options import rules_from_params
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.compile import compile_image
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.digest import (
    BLOCK_WORDS,
    ImageDigest,
    is_edited,
)


@pytest.fixture
def image():
    item = {"destination": "192.0.2.0/24", "protocol": "tcp", "ports": "443", "tproxy_port": "8443"}
    return compile_image([(rules_from_params([item])[0][0], 1)], {}, 1)


def test_a_compiled_image_keeps_its_own_digest(image):
    assert image[HEADER_DIGEST] == ImageDigest(image).value != 0
    assert not is_edited(image)


def test_every_word_counts(image):
    used = image[HEADER_PAGES] * PAGE_WORDS
    for word in {HEADER_GENERATION, *range(HEADER_DIGEST + 1, used, 97), used - 1} - {HEADER_PAGES}:
        image[word] ^= 1
        assert is_edited(image), word
        image[word] ^= 1
    assert not is_edited(image)


def test_what_lies_behind_the_pages_in_use_does_not_count(image):
    image.extend([7] * PAGE_WORDS)
    assert not is_edited(image)


def test_the_same_edit_of_two_blocks_does_not_cancel_out(image):
    for block in (2, 5):
        image[block * BLOCK_WORDS + 7] ^= 0x1234
    assert is_edited(image)


def test_blocks_that_changed_places_are_seen(image):
    first, second = (slice(block * BLOCK_WORDS, (block + 1) * BLOCK_WORDS) for block in (3, 9))
    image[first.start] = 1
    digest = ImageDigest(image)
    image[first], image[second] = image[second], image[first]
    assert ImageDigest(image).value != digest.value


@pytest.mark.parametrize("word, value", [(HEADER_DIGEST, 0), (HEADER_CHANGING, 1)])
def test_an_image_that_keeps_none_or_is_being_changed_is_not_judged(image, word, value):
    image[word] = value
    image[-1] ^= 1
    assert not is_edited(image)


def test_a_digest_that_follows_changes_is_that_of_the_whole(image):
    digest = ImageDigest(image)
    changes = [(3, 1), (BLOCK_WORDS - 2, 5), (7 * BLOCK_WORDS, 2 * BLOCK_WORDS), (len(image) - 1, 1)]
    for at, count in changes:
        for word in range(at, at + count):
            image[word] ^= word + 1 if word > 3 else 0
    assert digest.follow(image, changes) == ImageDigest(image).value != image[HEADER_DIGEST]
