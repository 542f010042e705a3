# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters of the report, called as a template calls them. tests/system/report looks at the page in a browser."""

from __future__ import annotations

import html.parser
import json
import re
import sys

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.netedge.tproxy.plugins.filter import report_page as page_plugin
from ansible_collections.netedge.tproxy.plugins.filter import report_row as row_plugin
from ansible_collections.netedge.tproxy.plugins.filter import report_summary as summary_plugin
from ansible_collections.netedge.tproxy.plugins.plugin_utils.report_charts import MISSING, bars, shortened
from ansible_collections.netedge.tproxy.tests.support.fleet import FAILED, HOSTILE, UNREACHABLE, answer, fleet

report_row = row_plugin.FilterModule().filters()["report_row"]
report_summary = summary_plugin.FilterModule().filters()["report_summary"]
report_page = page_plugin.FilterModule().filters()["report_page"]


class Elements(html.parser.HTMLParser):
    """The elements of a page: (name, attributes) of each, and the text of the scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Note an element."""
        self.found.append((tag, dict(attrs)))

    def count(self, tag: str) -> int:
        """Return the number of elements of a name."""
        return sum(name == tag for name, _attributes in self.found)


def page_of(results: dict) -> str:
    return report_page(report_summary([report_row(result, name) for name, result in results.items()], "now"))


def hostile(number: int) -> dict:
    """Return a result with hostile text in each place that a router chooses."""
    result = answer(number)
    result["rules"][0]["name"] = result["rules"][4]["name"] = HOSTILE
    result["attachments"][0]["interface"] = HOSTILE
    result["attachments"][0]["reasons"][HOSTILE] = {"dropped": {"packets": 10**9, "bytes": 1}}
    result["flows"] = {HOSTILE: {"entries": 99, "size": 100}}
    result["drops"][0].update(interface=HOSTILE, source=HOSTILE, reason=HOSTILE)
    result["findings"][0].update(found=HOSTILE, remedy=HOSTILE, code=HOSTILE)
    return result


def test_a_page_has_a_row_for_each_router():
    elements = Elements(page_of(fleet(100)))
    assert elements.count("tbody") == 100
    assert elements.count("svg") == 3
    assert elements.count("script") == 1


def test_a_page_names_no_other_file():
    page = page_of(fleet(30))
    for name, attributes in Elements(page).found:
        for attribute in ("src", "href", "data", "action", "srcset"):
            assert attributes.get(attribute, "data:").startswith("data:"), (name, attributes)
    assert not re.search(r"url\(|@import", page)


def test_text_of_routers_is_escaped():
    plain, page = Elements(page_of({"edge1": answer(1)})), page_of({HOSTILE: hostile(1)})
    elements = Elements(page)
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;document.title") >= 8
    assert elements.count("script") == plain.count("script") == 1
    assert elements.count("img") == 0
    assert not any(name.startswith("on") for _tag, attributes in elements.found for name in attributes)


@pytest.mark.parametrize("result", [{**UNREACHABLE, "msg": HOSTILE}, {**FAILED, "msg": HOSTILE}])
def test_so_is_the_message_of_a_router_without_an_answer(result):
    elements = Elements(page_of({"edge1": result}))
    assert (elements.count("script"), elements.count("img")) == (1, 0)


def test_a_chart_has_no_script_and_shows_the_whole_name_on_demand():
    name = f"{HOSTILE} {'x' * 60}"
    drawing = bars("hits", "Hits", [(name, 12345), ("voice", 7)])
    elements = Elements(drawing)
    assert (elements.count("script"), elements.count("img")) == (0, 0)
    assert "12,345" in drawing
    assert "x" * 60 in drawing
    assert bars("hits", "Hits", [(name, 12345), ("voice", 7)]) == drawing


def test_a_chart_without_values_is_empty():
    assert bars("drops", "Drops", []) == ""
    assert "No data." in page_of({"edge9": UNREACHABLE})


def test_a_long_label_is_shortened():
    assert shortened("voice (udp 172.16.240.0/24 5060)") == "voice"
    assert shortened("x" * 40) == "x" * 31 + "…"


def test_without_the_library_the_page_says_so(monkeypatch):
    said = []
    monkeypatch.setitem(sys.modules, "pygal", None)
    monkeypatch.setattr(page_plugin.Display, "warning", lambda _self, text: said.append(text))
    page = page_of(fleet(10))
    elements = Elements(page)
    assert said == [MISSING]
    assert MISSING in page
    assert (elements.count("svg"), elements.count("tbody")) == (0, 10)


def test_a_summary_is_json_and_has_the_version_of_the_own_program():
    summary = report_summary([report_row(answer(1), "edge1")], "2026-01-05 10:00 UTC")
    assert json.loads(json.dumps(summary)) == summary
    assert summary["rows"][0]["version"] == summary["version"] == summary_plugin.VERSION


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: report_row({"attachments": [], "findings": []}, "edge1"), "report_row: expected a result"),
        (lambda: report_row("text", "edge1"), "report_row: expected a result"),
        (lambda: report_summary([{"state": "ok"}], "now"), "report_summary: expected rows"),
        (lambda: report_page({}), "report_page: expected a result"),
    ],
)
def test_other_input_is_refused(call, message):
    with pytest.raises(AnsibleFilterError, match=message):
        call()
