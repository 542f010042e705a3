# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of the report, and its sums, from results of tproxy_info."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.plugin_utils.report_rows import LISTED, label, row_of, summary_of
from ansible_collections.netedge.tproxy.tests.support.command_line import answer_of_info
from ansible_collections.netedge.tproxy.tests.support.fleet import FAILED, OWN_SOURCE, UNREACHABLE, answer, fleet

LIMITS = {"rules": 131071, "interfaces": 256}
COLLECTION = {"version": "0.1.0", "source_sha256": OWN_SOURCE}


def rows(results: dict) -> list:
    return [row_of(name, result, LIMITS) for name, result in results.items()]


def test_a_row_has_what_the_result_has():
    row = row_of("edge1", {**answer_of_info(), "drops": []}, LIMITS)
    assert (row["router"], row["state"], row["generation"]) == ("edge1", "error", 7)
    assert [one["name"] for one in row["interfaces"]] == ["lan0", "lan1"]
    assert [one["default_action"] for one in row["interfaces"]] == ["drop", ""]
    assert row["drift"] == [
        {"interface": "", "code": "change_overdue"},
        {"interface": "lan1", "code": "no_filter"},
    ]
    assert {severity: row["findings"][severity] for severity in ("error", "warning", "note")} == {
        "error": 1,
        "warning": 0,
        "note": 0,
    }
    assert row["drops"] == {"default": 9}
    assert row["would_drops"] == {}
    assert row["change_pending"] is True
    assert row["rules"] == {
        "total": 2,
        "unused": 0,
        "not_in_force": 0,
        "busiest": {"voice (udp 172.16.240.0/24 5060)": 12, "build farm (tcp fd00::/8 30000-40000)": 9},
        "first_unused": [],
    }
    assert row["capacity"] == [
        {"what": "interfaces", "used": 2, "size": 256, "percent": 0.8},
        {"what": "rules", "used": 2, "size": 131071, "percent": 0.0},
        {"what": "own flows", "used": 5, "size": 65536, "percent": 0.0},
    ]


@pytest.mark.parametrize(
    "result, state, why",
    [
        (UNREACHABLE, "unreachable", "Failed to connect to the host via ssh: timed out"),
        (FAILED, "failed", "expected the rights of root, got user 1000; use become"),
        ({"failed": True}, "failed", "no result"),
        ({}, "failed", "no result"),
    ],
)
def test_a_router_without_an_answer_has_a_row_with_the_message(result, state, why):
    assert row_of("edge9", result, LIMITS) == {"router": "edge9", "state": state, "why": why}


def test_the_worst_finding_is_the_state():
    assert row_of("edge1", answer(1), LIMITS)["state"] == "ok"  # it has a note
    assert row_of("edge3", answer(3), LIMITS)["state"] == "warning"
    assert row_of("edge4", answer(4), LIMITS)["state"] == "error"
    removed = {**answer(1), "attachments": [], "program": None, "findings": []}
    assert row_of("edge1", removed, LIMITS)["state"] == "no program"


def test_a_row_is_small_however_many_rules_there_are():
    row = row_of("edge1", answer(1, rules=5000), LIMITS)
    assert row["rules"]["total"] == 5000
    assert row["rules"]["unused"] > 1000
    assert len(row["rules"]["first_unused"]) == LISTED
    assert len(row["rules"]["busiest"]) == 10
    assert list(row["rules"]["busiest"].values()) == sorted(row["rules"]["busiest"].values(), reverse=True)


def test_counts_of_interfaces_are_added():
    row = row_of("edge5", answer(5), LIMITS)
    assert row["drops"] == {"default": 2 * 5 * 613, "fragment": 2 * 2, "malformed": 2}


def test_audit_is_counted_apart():
    row = row_of("edge7", answer(7), LIMITS)
    assert row["would_drops"] == {"default": 7 * 613}
    assert row["drops"]["default"] == 7 * 613


@pytest.mark.parametrize(
    "given, text",
    [
        ({"name": "voice", "service": "other"}, "voice (udp 10.0.0.0/8 53)"),
        ({"name": "", "service": "build farm"}, "build farm (udp 10.0.0.0/8 53)"),
        ({"name": "", "service": ""}, "udp 10.0.0.0/8 53"),
        ({"name": "", "service": "", "protocol": "gre", "ports": ""}, "gre 10.0.0.0/8"),
    ],
)
def test_a_rule_is_called_by_its_name_and_flow(given, text):
    assert label({"protocol": "udp", "destination": "10.0.0.0/8", "ports": "53", **given}) == text


def test_the_summary_adds_up_all_routers():
    results = fleet(120)
    summary = summary_of(rows(results), "now", COLLECTION)
    answered = [result for result in results.values() if "rules" in result]
    assert summary["routers"] == 120
    assert sum(summary["states"].values()) == 120
    assert summary["states"]["unreachable"] == 3
    assert summary["states"]["failed"] == 2
    assert summary["rules"] == 40 * len(answered)
    assert summary["unused_rules"] == 8 * len(answered)
    assert next(iter(summary["drops"])) == "default"
    assert summary["busiest_rules"]["build farm (udp 172.16.0.0/24 5000)"] == sum(
        result["rules"][0]["hits"]["packets"] for result in answered
    )
    assert [row["router"] for row in summary["rows"]] == sorted(results)
    assert [one["percent"] for one in summary["fullest"]] == sorted(
        (one["percent"] for one in summary["fullest"]), reverse=True
    )
    assert len(summary["fullest"]) == 10


def test_a_program_of_another_source_has_no_version():
    summary = summary_of(rows({"edge5": answer(5), "edge6": answer(6), "edge9": UNREACHABLE}), "now", COLLECTION)
    assert [row["version"] for row in summary["rows"]] == ["", "0.1.0", ""]


def test_without_routers_the_summary_is_empty():
    summary = summary_of([], "now", COLLECTION)
    assert (summary["routers"], summary["rules"], summary["rows"], summary["drops"]) == (0, 0, [], {})
