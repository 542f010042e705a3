# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the report, from a template that escapes every text: a router chooses names of rules and interfaces.

The policy in the page's head is a second line of defence. A browser runs the one script whose digest it names, and
fetches nothing.
"""

from __future__ import annotations

import base64
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from .report_charts import Chart
from .report_rows import SEVERITIES, STATES

TEMPLATES = pathlib.Path(__file__).resolve().parents[2] / "playbooks" / "templates"
PAGE, STYLE, SCRIPT = "report.html.j2", "report.css", "report.js"


def page_of(summary: Mapping[str, Any], charts: Sequence[Chart], note: str) -> str:
    """Return the page of a summary. `note` is the reason why there are no charts."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = figure
    environment.filters["counted"] = counted
    script = (TEMPLATES / SCRIPT).read_text(encoding="utf-8")
    return environment.get_template(PAGE).render(
        report=summary,
        charts=[chart._replace(svg=Markup(chart.svg)) for chart in charts],
        note=note,
        states=STATES,
        severities=SEVERITIES,
        style=Markup((TEMPLATES / STYLE).read_text(encoding="utf-8")),
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def figure(number: float) -> str:
    """Return a number with its thousands apart."""
    return f"{number:,}"


def counted(number: int, word: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
