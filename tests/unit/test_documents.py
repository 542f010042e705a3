# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the documents: links lead to files and headings; named tests, paths and targets exist."""

from __future__ import annotations

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("docs", "bpf", "roles", "tests")
PACKAGES = "plugins/module_utils/_tproxy"
HOMES = (
    "plugins/module_utils",
    PACKAGES,
    "tests/kernel",
    f"tests/unit/{PACKAGES}",
    "roles/tproxy_splicer",
    "bpf",
    "bpf/stubs/include",
)
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def without_code(text: str) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.S | re.M)


def anchors_of(page: pathlib.Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_code(page.read_text(encoding="utf-8")), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_to_files_and_headings(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text(encoding="utf-8"))):
        if "://" in target:
            continue
        path, _hash, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors_of(there)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_named_tests_exist(page):
    """A name that ends in `...` is the beginning of a test's name; `::test_x` repeats the file before it."""
    files: dict[str, str] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        files[path.name] = files.get(path.name, "") + path.read_text(encoding="utf-8")
    missing, text = [], page.read_text(encoding="utf-8")
    current = ""
    for name, test in re.findall(r"`(?:[\w/]*?(test_\w+\.py))?(?:::(test_\w+))?(?:\.\.\.)?`", text):
        current = name or current
        if current and current not in files:
            missing.append(current)
        elif test and f"def {test}" not in files[current]:
            missing.append(f"{current}::{test}")
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_named_paths_exist(page):
    """A path in code is below the root, the page's folder, or one of HOMES. A path of a router begins with `/`."""
    missing = []
    for path in re.findall(
        r"`([A-Za-z_][\w.-]*(?:/[\w.-]+)*(?:/|/[\w.-]+))`", without_code(page.read_text(encoding="utf-8"))
    ):
        homes = (ROOT, page.parent, *(ROOT / home for home in HOMES))
        if not any((home / f"{path}{end}").exists() for home in homes for end in ("", ".py")):
            missing.append(path)
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_named_targets_exist(page):
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    commands = re.findall(r"`make ([a-z0-9 -]+)", page.read_text(encoding="utf-8"))
    assert {target for command in commands for target in command.split()} <= targets
