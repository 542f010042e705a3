# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Tables of text that fit a console of 80 columns. It knows columns and cells, and not what they tell."""

from __future__ import annotations

from collections.abc import Sequence

COLUMNS = 80
GAP = 2
NARROWEST = 5
NOTE_INDENT = 4


def table(heads: Sequence, rows: Sequence, notes: Sequence = (), indent: int = 0, columns: int = COLUMNS) -> list:
    """Return the lines of a table. Cells become text; a column whose cells are all empty is left out.

    Where it does not fit, the widest columns yield and their cells go on in the next line. A row's note, if there is
    one for each row, stands below it.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    used = [number for number in range(len(heads)) if any(row[number] for row in cells)]
    lines = [[heads[number] for number in used], *([row[number] for number in used] for row in cells)]
    widths = _fit([list(column) for column in zip(*lines)], columns - indent)
    told = []
    for row, note in zip(lines, ["", *(notes or [""] * len(rows))]):
        told += [" " * indent + line for line in _row(row, widths)]
        told += paragraph(note, indent + NOTE_INDENT, columns) if note else []
    return told


def paragraph(text: str, indent: int = 0, columns: int = COLUMNS) -> list:
    """Return the lines of a text."""
    return [" " * indent + line for line in _wrap(text, columns - indent)]


def _fit(cells: list, columns: int) -> list:
    """Return the width of each column of cells, so that they fit: without breaking words, else as NARROWEST allows."""
    widths = [max(map(len, column)) for column in cells]
    words = [max(len(word) for cell in column for word in cell.split() or [""]) for column in cells]
    excess = sum(widths) + GAP * (len(widths) - 1) - columns
    for least in (words, [NARROWEST] * len(widths)):
        while excess > 0 and (yielding := [at for at, width in enumerate(widths) if width > least[at]]):
            widths[max(yielding, key=widths.__getitem__)] -= 1
            excess -= 1
    return widths


def _row(row: list, widths: list) -> list:
    """Return the lines of one row."""
    if all(len(cell) <= width for cell, width in zip(row, widths)):
        return [_line(row, widths)]
    wrapped = [_wrap(cell, width) for cell, width in zip(row, widths)]
    height = max(map(len, wrapped))
    return [_line([cell[at] if at < len(cell) else "" for cell in wrapped], widths) for at in range(height)]


def _line(cells: list, widths: list) -> str:
    return (" " * GAP).join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip()


def _wrap(text: str, width: int) -> list:
    if len(text) <= width:
        return [text]
    import textwrap  # brings `re`, which many commands do without

    return textwrap.wrap(text, width, break_on_hyphens=False)
