# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables: they fit the console and lose no content."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.output import COLUMNS, paragraph, table

CELL = st.text(alphabet="abc.:/-", max_size=60)
ROWS = st.lists(st.tuples(CELL, CELL, CELL, CELL), min_size=1, max_size=5)
HEADS = ("ONE", "TWO", "THREE", "FOUR")


@given(ROWS, st.integers(0, 10))
def test_no_line_is_longer_than_the_console_and_no_character_is_lost(rows, indent):
    lines = table(HEADS, rows, indent=indent)
    assert all(len(line) <= COLUMNS for line in lines)
    shown = sorted("".join(lines).replace(" ", ""))
    told = [head for number, head in enumerate(HEADS) if any(row[number] for row in rows)]
    assert shown == sorted("".join([*told, *("".join(row) for row in rows)]))


def test_a_column_without_content_is_omitted():
    assert table(("A", "B", "C"), [("1", "", "22"), ("333", "", "4")]) == ["A    C", "1    22", "333  4"]


def test_the_widest_cell_continues_on_the_next_line():
    assert table(("A", "B"), [("x", "one two three")], columns=12) == ["A  B", "x  one two", "   three"]


def test_a_column_of_one_word_is_broken_after_those_of_many():
    lines = table(("A", "B"), [("fe80::50b4:4ff:fed3:a88e", "10.9.0.0/16 to tcp/22")], columns=40)
    assert lines[1] == "fe80::50b4:4ff:fed3:a88e  10.9.0.0/16 to"


def test_a_text_is_wrapped_and_indented():
    assert paragraph("one two three", indent=2, columns=10) == ["  one two", "  three"]


def test_a_note_follows_its_row():
    assert table(("A", "B"), [(1, 2), (3, 4)], ["", "from here"]) == ["A  B", "1  2", "3  4", "    from here"]
