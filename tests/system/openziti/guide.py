# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of docs/openziti.md. The network is made by them, word for word, so the page cannot be wrong unnoticed."""

from __future__ import annotations

import pathlib
import re
import textwrap
from typing import Any

import yaml

from ansible_collections.netedge.tproxy.tests.system.openziti.lab import ROOT

PAGE = ROOT / "docs" / "openziti.md"
FILTER_PAGE = ROOT / "docs" / "reference" / "openziti.md"


def _section(heading: str, page: pathlib.Path = PAGE) -> str:
    """Return the text of a section."""
    text = page.read_text(encoding="utf-8")
    begin = text.index(f"\n## {heading}\n")
    return re.split(r"^## ", text[begin + 4 :], flags=re.MULTILINE)[0]


def block(heading: str, language: str, page: pathlib.Path = PAGE) -> str:
    """Return the only fenced block of a language in a section."""
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```$", _section(heading, page), re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"{page.name}, {heading}: expected one block of {language}, got {len(found)}"
    return textwrap.dedent(found[0])


def commands(heading: str) -> list[str]:
    """Return the indented lines of a section: commands, or lines of a file."""
    return [line.strip() for line in _section(heading).splitlines() if line.startswith("    ")]


def tunnel_listener() -> dict[str, Any]:
    """Return the listener that the page gives to the router's configuration."""
    return yaml.safe_load(block("4. Configuration of the router", "yaml"))["listeners"][0]
