# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of the command suggest is YAML of the role's variables. Comments tell what was left out."""

from __future__ import annotations

import json

import pytest
import yaml

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli import suggest as suggest_module
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.suggest import print_suggestion

MANAGEMENT = {"source": "2001:db8::/64", "protocol": "tcp", "port": 2022}
RULE = {"destination": "192.0.2.9/32", "protocol": "tcp", "ports": "80,443", "interfaces": ["lan0"], "action": "pass"}
ANSWER = {
    "interfaces": [{"name": "wan0", "management": [{"entry": MANAGEMENT, "packets": 1}]}],
    "rules": [{"entry": RULE, "packets": 1200}],
    "apart": [{"source": "198.51.100.7", "refused": 29, "answered": 1}],
    "replies": ["wan0"],
    "unanswered": 2,
}
EMPTY = {"interfaces": [], "rules": [], "apart": [], "replies": [], "unanswered": 0}


@pytest.fixture
def printed(monkeypatch):
    """Return a function that prints an answer."""

    def text(answer: dict, as_json: bool = False) -> str:
        monkeypatch.setattr(suggest_module, "suggest", lambda _options, _system: answer)
        return "\n".join(print_suggestion({"json": as_json}, None, False))

    return text


def test_the_text_is_yaml_of_the_variables_of_the_role(printed):
    assert yaml.safe_load(printed(ANSWER)) == {
        "tproxy_splicer_interfaces": [{"name": "wan0", "management": [MANAGEMENT]}],
        "tproxy_splicer_rules__observed": [RULE],
    }


def test_comments_tell_packets_and_what_was_left_out(printed):
    text = printed(ANSWER)
    assert "port: 2022} # 1 packet\n" in text
    assert 'action: "pass"} # 1200 packets\n' in text
    assert "all flows of 198.51.100.7, a scanner: 29 were refused, 1 answered." in text
    assert "replies that enter by wan0. `track: all` on all interfaces lets them in." in text
    assert "2 flows have no answer" in text


def test_json_has_the_entries_as_tproxy_router_takes_them(printed):
    answer = json.loads(printed(ANSWER, as_json=True))
    assert answer["interfaces"] == [{"name": "wan0", "management": [MANAGEMENT]}]
    assert answer["rules"] == [RULE]
    assert answer["apart"] == ANSWER["apart"]


def test_without_an_answered_flow_the_text_tells_what_is_needed(printed):
    text = printed(EMPTY)
    assert yaml.safe_load(text) is None
    assert "default_action: audit" in text
