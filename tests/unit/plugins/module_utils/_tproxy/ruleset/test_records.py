# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random
import struct

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import layout
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import LayoutMismatch, VerificationFailed
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.compile import compile_image
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.records import (
    SlottedRule,
    decode_source,
    encode_source,
    read_image,
)
from ansible_collections.netedge.tproxy.tests.support import rule_sets


@pytest.mark.parametrize("seed", range(10))
def test_decode_of_encode(seed):
    slotted = rule_sets.to_slotted(rule_sets.draw_rules(seed, 120))
    assert decode_source(encode_source(slotted)) == slotted


def test_texts_survive():
    rule = rule_sets.to_rule(rule_sets.draw_rules(1, 1)[0])._replace(
        name="Stra\u00dfe \u2192 web/intern",
        owner="ziti:\u00e4 b",
        interfaces=("br-lan", "eth0.100", "\u00f6"),
    )
    assert decode_source(encode_source([(rule, 131071)])) == [(rule, 131071)]


def test_no_rules():
    assert decode_source(encode_source([])) == []


def test_order_does_not_matter():
    slotted = rule_sets.to_slotted(rule_sets.draw_rules(2, 30))
    mixed = random.Random(2).sample(slotted, len(slotted))
    assert encode_source(mixed) == encode_source(slotted)


def test_bytes_by_hand():
    """One rule as it lies behind the nodes, so that a change of format is seen here first."""
    plain = (4, (0x0A000000, 8), (0, 0), "udp", 53, 54, ("eth0", "wan"), "ansible")
    rule = rule_sets.to_rule(plain, 2)._replace(
        name="dns", tproxy_port=5353, on_missing="pass", listener=258, user=999, fragments="always"
    )
    assert (
        encode_source([(rule, 9)])
        == bytes.fromhex(
            "01000000 4c000000"  # one record of 76 bytes
            "00000000000000000000 ffff 0a000000 68"  # destination, 96 + 8
            "00000000000000000000 ffff 00000000 60"  # source, 96 + 0
            "3500 3600 e914 11 03 93 00"  # low, high, tproxy_port; udp, tproxy, flags: pass, checks, always; pad
            "09000000 00000000 01000000 02000000 03000000"  # slot; numbers of the texts
            "0201000000000000 e7030000"  # listener, user
        )
        + b"127.0.0.1\0dns\0ansible\0eth0/wan"
    )


def test_records_of_release_0_1_have_no_listener():
    rules = [rule_sets.to_rule(plain) for plain in rule_sets.draw_rules(3, 20)]
    new = bytearray(encode_source(SlottedRule(rule, slot) for slot, rule in enumerate(rules, 1)))
    records = [bytes(new[8 + 76 * number :][:64]) for number in range(20)]
    old = struct.pack("<II", 20, 64) + b"".join(records) + bytes(new[8 + 76 * 20 :])
    assert [rule for rule, _slot in decode_source(old)] == rules


def test_the_listener_survives():
    rule = rule_sets.to_rule(rule_sets.draw_rules(1, 1)[0])._replace(action="tproxy", tproxy_port=1, on_missing="drop")
    for listener in (None, 0, 1, 2**64 - 1):
        assert decode_source(encode_source([(rule._replace(listener=listener), 1)]))[0].rule.listener == listener


def test_the_user_survives():
    rule = rule_sets.to_rule(rule_sets.draw_rules(1, 1)[0])._replace(action="tproxy", tproxy_port=1, on_missing="drop")
    for user in (None, 0, 1, 2**32 - 2):
        assert decode_source(encode_source([(rule._replace(user=user), 1)]))[0].rule.user == user


def image_of(seed=4, count=20, generation=7):
    slotted = rule_sets.to_slotted(rule_sets.draw_rules(seed, count))
    return slotted, compile_image(slotted, rule_sets.INTERFACES, generation)


@pytest.mark.parametrize("form", [lambda words: words, lambda words: words.tobytes(), memoryview])
def test_read_image(form):
    slotted, words = image_of()
    contents = read_image(form(words))
    assert contents.rules == slotted
    assert (contents.generation, contents.slots) == (7, 21)
    assert contents.pages * layout.PAGE_WORDS == len(words)
    assert set(contents.bindings) <= set(rule_sets.INTERFACES.values())


def test_read_image_ignores_what_lies_beyond():
    slotted, words = image_of()
    assert read_image(words.tobytes() + b"\xff" * 4096).rules == slotted


@pytest.mark.parametrize("word", [layout.HEADER_MAGIC, layout.HEADER_FORMAT])
def test_other_magic_or_format(word):
    _slotted, words = image_of()
    words[word] += 1
    with pytest.raises(LayoutMismatch):
        read_image(words)


def test_an_image_that_was_never_written():
    with pytest.raises(LayoutMismatch):
        read_image(bytes(4096))


def test_records_of_another_size():
    source = bytearray(encode_source(image_of()[0]))
    struct.pack_into("<I", source, 4, 60)
    with pytest.raises(LayoutMismatch):
        decode_source(bytes(source))


@pytest.mark.parametrize("seed", range(20))
def test_any_flipped_bit_of_the_rules_is_seen(seed):
    _slotted, words = image_of()
    bit = random.Random(seed).randrange(8 * words[layout.HEADER_SOURCE_BYTES])
    words[words[layout.HEADER_SOURCE] + bit // 32] ^= 1 << bit % 32
    with pytest.raises(VerificationFailed):
        read_image(words)


@pytest.mark.parametrize("bytes_left", [0, 100, 2047])
def test_too_short(bytes_left):
    with pytest.raises(VerificationFailed):
        read_image(image_of()[1].tobytes()[:bytes_left])


def test_cut_off():
    words = image_of()[1]
    with pytest.raises(VerificationFailed):
        read_image(words[: words[layout.HEADER_SOURCE]])


def test_count_in_the_header_differs():
    words = image_of()[1]
    words[layout.HEADER_RULES] += 1
    with pytest.raises(VerificationFailed):
        read_image(words)
