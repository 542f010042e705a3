# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of tproxy_verdict: every fault is named before any test run."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import InvalidInput
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.verdict import ask_verdict
from ansible_collections.netedge.tproxy.tests.support.options import options

FLOW = {"interface": "lan0", "source": "10.1.1.2", "destination": "10.9.0.1", "protocol": "tcp", "port": 80}


def faults_of(*flows: dict) -> list:
    with pytest.raises(InvalidInput) as raised:
        ask_verdict(options("tproxy_verdict", flows=list(flows)), None, False)
    return raised.value.faults


def test_what_is_missing_is_said_to_be_missing():
    places = ("interface", "protocol", "source", "destination", "port")
    assert [fault.partition("; ")[0] for fault in faults_of({})] == [f"flows[0].{place}: missing" for place in places]


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ("splice", "flows[0].expect: 'splice' is none of pass, drop, would_drop, other, arp"),
        (["pass", "ssh"], "flows[0].expect: ['pass', 'ssh'] is neither a word nor a dictionary"),
        ({"verdikt": "pass"}, "flows[0].expect: {'verdikt': 'pass'} is neither a word nor a dictionary"),
        ({"verdict": "ssh", "rule": "web"}, "flows[0].expect.verdict: 'ssh' is none of pass, drop, would_drop"),
        ({"reason": "pass"}, "flows[0].expect.reason: 'pass' is none of other, arp"),
    ],
)
def test_what_no_answer_can_be_is_not_expected(expected, words):
    (fault,) = faults_of({**FLOW, "expect": expected})
    assert fault.startswith(words)
