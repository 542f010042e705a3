# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Characters that forge a line: found, escaped for people and JSON, and replaced."""

from __future__ import annotations

import json
import unicodedata

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.text import (
    escaped,
    fault_of_text,
    misleading_characters,
    replaced,
)

BIDIRECTIONAL = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
MARKS = "\u061c\u200e\u200f"  # their class is that of a letter
EVERY = [chr(number) for number in range(0x110000)]


def is_misleading(each: str) -> bool:
    """Judge by the tables of Unicode."""
    by_class = unicodedata.category(each) in ("Cc", "Zl", "Zp") or unicodedata.bidirectional(each) in BIDIRECTIONAL
    return by_class or each in MARKS


def test_each_control_and_each_separator_of_unicode_is_found():
    assert [each for each in EVERY if misleading_characters(each)] == list(filter(is_misleading, EVERY))


@pytest.mark.parametrize("text", ["", "build farm", "b\u00fcro \u05d0\u05d1 \u4e2d", "a\u200db"])
def test_a_text_of_any_script_is_none(text):
    assert (misleading_characters(text), fault_of_text(text)) == ("", "")
    assert escaped(text) == replaced(text) == text


def test_a_fault_names_each_character_once_and_shows_none():
    fault = fault_of_text("a\u202eb\u202e\x1b")
    assert "(U+202E, U+001B)" in fault
    assert "remove them" in fault
    assert not misleading_characters(fault)


def test_escaped_json_is_the_same_value():
    value = {"name": "".join(filter(is_misleading, EVERY))}
    text = escaped(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert not misleading_characters(text)


def test_lines_stay_lines():
    assert escaped("one\n\ttwo\x1b[2J") == "one\n\ttwo\\u001b[2J"
    assert replaced("a\u2028b") == "a?b"
