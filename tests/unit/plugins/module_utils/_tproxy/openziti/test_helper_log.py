# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal lines of the helper: one for each change and refusal, sums if there are many, and no forged lines."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule_options import rules_from_params
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.helper import (
    LINES_PER_PERIOD,
    PERIOD,
    Answer,
    HelperLog,
)

DONE, UNCHANGED, REFUSED = Answer(0, "", True), Answer(0, ""), Answer(2, "no such address")


class Clock:
    now = 5 * PERIOD

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log(clock):
    return HelperLog(clock)


def test_a_change_has_user_and_command_line_and_a_refusal_its_reason(log):
    assert log.answered(998, "-I -c 192.0.2.1", DONE) == ["<6>uid 998: done: -I -c 192.0.2.1"]
    assert log.answered(998, "-I -c x", REFUSED) == ["<4>uid 998: refused: no such address (asked for: -I -c x)"]


def test_a_request_without_a_change_has_no_line(log):
    assert log.answered(998, "-D -c 192.0.2.1", UNCHANGED) == []


def test_omitted_lines_are_summed_by_user(log, clock):
    for user in (998, 999):
        for _change in range(3 * LINES_PER_PERIOD):
            log.answered(user, "-I", DONE)
    assert log.answered(998, "-I", REFUSED)[0].startswith("<4>")
    clock.now += PERIOD
    assert log.answered(998, "-I", DONE) == [
        f"<6>uid 998: {2 * LINES_PER_PERIOD} more done",
        f"<6>uid 999: {3 * LINES_PER_PERIOD} more done",
        "<6>uid 998: done: -I",
    ]


def test_many_changes_do_not_hide_a_refusal(log):
    for _change in range(9 * LINES_PER_PERIOD):
        log.answered(998, "-I", DONE)
    assert len(log.answered(998, "-I", REFUSED)) == 1


def test_sums_are_returned_once(log):
    for _change in range(LINES_PER_PERIOD + 1):
        log.answered(998, "-I", REFUSED)
    assert log.sums() == ["<6>uid 998: 1 more refused"]
    assert log.sums() == []


def test_collected_rules_are_warnings(log):
    rule = {"destination": "192.0.2.0/24", "protocol": "tcp", "ports": 443, "tproxy_port": 8443, "owner": "ziti:web"}
    garbage, _warnings = rules_from_params([rule])
    lines = log.collected(garbage * (LINES_PER_PERIOD + 5))
    assert len(lines) == LINES_PER_PERIOD
    assert lines[0].startswith("<4>garbage: removed: tcp 192.0.2.0/24")
    assert "owner ziti:web" in lines[0]
    assert log.sums() == ["<6>garbage: 5 more removed"]


@pytest.mark.parametrize("hostile", ["-I\n<0>kernel: panic", "\x1b[2J\r", "\u2028<4>", "x" * 9999])
def test_a_request_cannot_forge_a_line(log, hostile):
    (line,) = log.answered(998, hostile, DONE)
    assert line.isprintable()
    assert line.startswith("<6>uid 998: ")
    assert len(line) < 500
