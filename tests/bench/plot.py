# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plot the rows of the live bench as SVG: median time over the base against the number of rules, for each peer.

plot.py FIGURES FOLDER: FIGURES is what `run --json` wrote. Both axes are logarithmic, since a list of rules takes a
thousand times as long as a set. The colours can be read on light and dark pages.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pygal
from pygal.etree import etree
from pygal.style import Style

PREFIX = "LIVE "
# A time below is noise.
LEAST_NS = 3
WIDTH, HEIGHT = 720, 440
BASES = {"nothing attached": "no program", "drop at once, TCX": "an immediate drop"}
TEXT, LINES = "#7a7a7a", "#8c8c8c"
COLOURS = {
    "empty program, TCX": "#8c8c8c",
    "drop at once, clsact": "#8c8c8c",
    "ours, clsact": "#3fa7e0",
    "ours, TCX": "#0a6fd6",
    "original": "#1a9850",
    "nftables set": "#d98c00",
    "iptables-legacy": "#e0552f",
    "iptables-nft": "#c65fa6",
}


def main() -> int:
    """Write a plot for each table with more than one number of rules."""
    figures, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for table in json.loads(figures.read_text(encoding="utf-8")):
        title = table.get("title", "")
        if title.startswith(PREFIX) and len(sizes_of(table)) > 1:
            path = folder / f"{name_of(title)}.svg"
            path.write_text(plot(table), encoding="utf-8")
            print(path)
    return 0


def name_of(title: str) -> str:
    """Return the name of a file for the title of a table."""
    words = title.removeprefix(PREFIX).partition(":")[0].lower().replace(",", "")
    return f"bench-{words.replace(' ', '-')}"


def sizes_of(table: Mapping[str, Any]) -> list[int]:
    """Return the numbers of rules in a table."""
    return sorted({_rules(row) for row in table["rows"]})


def plot(table: Mapping[str, Any]) -> str:
    """Return the SVG of a table."""
    columns, base = table["columns"], table["notes"][0].removeprefix("base: ").partition(";")[0]
    # Round by round: the minimum of a peer and that of the base can come from a fast and a slow phase of the machine.
    lines = series(table["rows"], columns.index("peer"), columns.index("over base"))
    chart = pygal.XY(
        style=_style([COLOURS[name] for name in lines]),
        width=WIDTH,
        height=HEIGHT,
        explicit_size=True,
        logarithmic=True,
        js=(),
        title=table["title"].removeprefix(PREFIX).partition(":")[0],
        x_title="rules",
        y_title=f"ns over {BASES[base]}",
        legend_at_bottom=True,
        legend_at_bottom_columns=3,
        margin_right=40,
        margin_bottom=36,
        dots_size=4,
        show_x_guides=True,
        truncate_legend=-1,
        value_formatter=lambda value: f"{value:,.0f}",
        x_value_formatter=lambda value: f"{value:,.0f}",
    )
    chart.uuid = name_of(table["title"])  # else a random one, and each drawing differs
    chart.x_labels = sizes_of(table)
    chart.y_labels = _marks(max(value for points in lines.values() for _rules_of, value in points))
    chart.range = (chart.y_labels[0], chart.y_labels[-1])
    for name, points in lines.items():
        chart.add(name, points)
    drawing = chart.render_tree()
    # A script would hold pygal's settings only.
    for parent in list(drawing.iter()):
        for script in parent.findall("script"):
            parent.remove(script)
    text = etree.tostring(drawing)
    return f"{text if isinstance(text, str) else text.decode()}\n"


def series(rows: Sequence[Sequence[Any]], peer: int, value: int) -> dict[str, list[tuple[int, float]]]:
    """Return {peer: [(rules, ns)]} in the order of COLOURS."""
    found: dict[str, list[tuple[int, float]]] = {}
    for name in COLOURS:
        points = [(_rules(row), max(LEAST_NS, row[value])) for row in rows if row[peer] == name]
        if points:
            found[name] = points
    return found


def _rules(row: Sequence[Any]) -> int:
    return int(row[0].replace(",", ""))


def _marks(highest: float) -> list[int]:
    """Return the marks of the axis: 3, 10, 30, 100 and so on, up to the first one above."""
    marks = [LEAST_NS]
    while marks[-1] < highest:
        marks.append(10 * marks[-2] if len(marks) > 1 else 10)
    return marks


def _style(colours: Sequence[str]) -> Style:
    return Style(
        background="transparent",
        plot_background="transparent",
        foreground=TEXT,
        foreground_strong=TEXT,
        foreground_subtle=LINES,
        colors=tuple(colours),
        font_family="sans-serif",
        label_font_size=13,
        major_label_font_size=13,
        legend_font_size=13,
        title_font_size=16,
        guide_stroke_color=LINES,
        major_guide_stroke_color=LINES,
        guide_stroke_dasharray="1,5",
        major_guide_stroke_dasharray="1,5",
        stroke_width="3",
        stroke_opacity="1",
        opacity="1",
        transition="0s",
    )


if __name__ == "__main__":
    sys.exit(main())
