# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The charts of the report, drawn by pygal as SVG: pure functions of the summary.

The charts take their colours from the style sheet of the page, so one drawing serves light and dark. They have no
scripts: pygal's would come from another host, and would hold names that routers chose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MISSING = (
    "the report has no charts: expected the Python library pygal 3 on the controller, got none;"
    " install it beside ansible (pip install pygal) and run the report again"
)
BARS = 10
WIDTH, BAR_HEIGHT, MARGIN_RIGHT = 420, 27, 74
LABEL_CHARACTERS = 32
FONT = 13
GAP = 5  # between a bar and its value


class Chart(NamedTuple):
    """A chart of the page: its heading, a sentence about it, and its SVG, which is "" without data."""

    heading: str
    about: str
    svg: str


def has_library() -> bool:
    """Return whether pygal is there."""
    try:
        import pygal  # noqa: F401
    except ImportError:
        return False
    return True


def charts_of(summary: Mapping[str, Any]) -> list[Chart]:
    """Return the charts of a summary. Needs pygal."""
    drops = list(summary["drops"].items())[:BARS]
    busiest = list(summary["busiest_rules"].items())[:BARS]
    fullest = [(f"{shortened(one['router'], 16)} {one['what']}", one["percent"]) for one in summary["fullest"]]
    return [
        Chart("Drops by reason", "Packets of all routers.", bars("drops", "Drops by reason", drops)),
        Chart(
            "Hits by rule",
            "Packets of all routers, from the busiest rules of each.",
            bars("hits", "Hits by rule", busiest),
        ),
        Chart(
            "Capacity",
            "Percent in use: the fullest table of each router.",
            bars("capacity", "Capacity", fullest, full=100),
        ),
    ]


def bars(name: str, heading: str, values: Sequence[tuple[str, float]], full: float = 0) -> str:
    """Return a chart with a bar for each value, the first one on top. `full` is the value of the longest bar."""
    if not values:
        return ""
    import pygal
    from pygal.etree import etree

    chart = pygal.HorizontalBar(
        style=_style(),
        width=WIDTH,
        height=BAR_HEIGHT * len(values) + 8,
        explicit_size=False,
        margin=0,
        margin_right=MARGIN_RIGHT,
        show_legend=False,
        show_x_labels=False,  # the axis of the values: each bar has its value beside it
        show_x_guides=False,
        print_values=True,
        print_zeroes=True,
        js=(),
        range=(0, full or max(value for _name, value in values)),
    )
    chart.uuid = name  # else a random one, and each page differs
    upwards = list(reversed(values))
    chart.x_labels = [shortened(label) for label, _value in upwards]
    chart.add(None, [value for _label, value in upwards], formatter=lambda value: f"{value:,}")
    drawing = chart.render_tree()
    _clean(drawing, heading, [label for label, _value in upwards])
    text = etree.tostring(drawing)
    return text if isinstance(text, str) else text.decode()


def shortened(label: str, length: int = LABEL_CHARACTERS) -> str:
    """Return a label that leaves room for the bars: of a rule with a name the name, else the beginning."""
    name = label.partition(" (")[0]
    return name if len(name) <= length else f"{name[: length - 1]}…"


def _style() -> Any:
    from pygal.style import Style

    return Style(
        background="transparent",
        plot_background="transparent",
        foreground="var(--text)",
        foreground_strong="var(--text)",
        foreground_subtle="var(--line)",
        colors=("var(--bar)",),
        value_colors=("var(--text)",),
        font_family="inherit",
        label_font_size=FONT,
        major_label_font_size=FONT,
        value_font_size=FONT,
        opacity="1",
        transition="0s",
    )


def _clean(drawing: Any, heading: str, labels: Sequence[str]) -> None:
    """Remove the scripts, put values behind their bars, and give labels their whole text, which a pointer shows."""
    for parent in list(drawing.iter()):
        for script in parent.findall("script"):
            parent.remove(script)
    drawing.set("role", "img")
    drawing.find("title").text = heading
    guides = next(group for group in drawing.iter("g") if group.get("class", "").startswith("axis y")).findall("g")
    rectangles = [each for each in drawing.iter("rect") if "reactive" in each.get("class", "")]
    values = [each for each in drawing.iter("text") if each.get("class") == "value"]
    for guide, label, rectangle, value in zip(guides, labels, rectangles, values):
        guide.find("title").text = label
        value.set("text-anchor", "start")
        value.set("x", f"{float(rectangle.get('x')) + float(rectangle.get('width')) + GAP:.1f}")
