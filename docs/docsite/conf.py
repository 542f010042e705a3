# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sphinx settings of the site that `make docs` builds from the documents of the checkout and from the plugins."""

from __future__ import annotations

import os
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = "https://github.com/netedge/ansible-tproxy/blob/main"

project = "netedge.tproxy"
copyright = "netedge.tproxy contributors"
release = os.environ["TPROXY_VERSION"]
extensions = ["myst_parser", "sphinx_antsibull_ext"]
html_theme = "furo"
html_title = f"netedge.tproxy {release}"
# Headings have the anchors that GitHub gives them, so each link works here and there.
myst_heading_anchors = 6
exclude_patterns = ["collections/environment_variables.rst"]
# furo shows the sections of a page beside it, and an error in place of a table of contents within the page.
_CONTENTS = re.compile(r"^\.\. contents::.*\n(?:   :.*\n)*", re.MULTILINE)
_LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")


def setup(app: object) -> None:
    """Register the steps that change pages before they are parsed."""
    app.connect("source-read", _lead_outside)  # type: ignore[attr-defined] # Sphinx is not in .work/venv of mypy
    app.connect("source-read", _drop_contents)  # type: ignore[attr-defined]


def _drop_contents(_app: object, _page: str, source: list[str]) -> None:
    """Remove the tables of contents that antsibull-docs puts into its pages."""
    source[0] = _CONTENTS.sub("", source[0])


def _lead_outside(_app: object, page: str, source: list[str]) -> None:
    """Let links to files that the site does not have lead to the repository."""
    folder = (HERE / page).parent

    def outside(link: re.Match[str]) -> str:
        start, target, anchor, end = link.groups()
        there = folder / target
        if "://" in target or there.is_file():
            return link[0]
        path = os.path.relpath(there, HERE)
        return f"{start}{REPOSITORY}/{path}{anchor or ''}{end}"

    source[0] = _LINK.sub(outside, source[0])
