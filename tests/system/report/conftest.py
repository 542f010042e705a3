# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for the report in a browser."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.filter.report_page import report_page
from ansible_collections.netedge.tproxy.plugins.filter.report_row import report_row
from ansible_collections.netedge.tproxy.plugins.filter.report_summary import report_summary
from ansible_collections.netedge.tproxy.tests.system.report.browser import Look, browser


@pytest.fixture(scope="session")
def running():
    """Return the browser."""
    with browser() as started:
        yield started


@pytest.fixture
def look(running, tmp_path):
    """Return a function that shows the report of results in the browser."""
    looks = []

    def show(results: dict, size: dict, scheme: str = "light") -> Look:
        rows = [report_row(result, name) for name, result in results.items()]
        path = tmp_path / "report.html"
        path.write_text(report_page(report_summary(rows, "2026-01-05 10:00 UTC")), encoding="utf-8")
        looks.append(Look(running, path, size, scheme))
        return looks[-1]

    yield show
    for each in looks:
        each.page.close()
