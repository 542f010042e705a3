# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import random

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import Prefix
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule import Rule
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule_options import rules_from_params
from ansible_collections.netedge.tproxy.tests.support import precedence, rule_sets

WEB = Rule(
    destination=Prefix.parse("10.0.0.0/8")[0],
    source=Prefix.any_of(4),
    protocol="tcp",
    low=80,
    high=443,
    interfaces=("eth0", "eth1"),
    action="tproxy",
    tproxy_ip="127.0.0.1",
    tproxy_port=8080,
    on_missing="pass",
    name="web",
)


def test_identity_leaves_out_what_the_rule_does():
    changed = WEB._replace(action="drop", tproxy_ip="", tproxy_port=0, on_missing="", name="")
    assert changed != WEB
    assert changed.identity == WEB.identity


@pytest.mark.parametrize(
    "change",
    [
        {"owner": "ziti:a"},
        {"destination": Prefix.parse("10.0.0.0/9")[0]},
        {"source": Prefix.parse("10.0.0.0/9")[0]},
        {"protocol": "udp"},
        {"low": 79},
        {"high": 444},
        {"interfaces": ()},
    ],
)
def test_identity_holds_everything_else(change):
    assert WEB._replace(**change).identity != WEB.identity


def test_rule_is_frozen_and_hashable():
    assert len({WEB, WEB._replace()}) == 1
    with pytest.raises(AttributeError):
        WEB.low = 1


# Each line loses to the one before it, for the reason that stands beside it.
RANKED = [
    {"destination": "10.1.0.0/16", "ports": "0-65535"},
    {"destination": "10.0.0.0/8", "source": "192.0.2.0/24", "ports": "0-65535"},  # shorter destination
    {"destination": "10.0.0.0/8", "source": "192.0.0.0/16", "ports": "80"},  # shorter source
    {"destination": "10.0.0.0/8", "ports": "79-80", "interfaces": ["eth0"]},  # any source
    {"destination": "10.0.0.0/8", "ports": "80-81", "interfaces": ["eth0"]},  # higher low port
    {"destination": "10.0.0.0/8", "ports": "79-81", "interfaces": ["eth1"]},  # wider range
    {"destination": "10.0.0.0/8", "ports": "79-81", "interfaces": ["eth2"]},  # later name
    {"destination": "10.0.0.0/8", "ports": "79-81", "interfaces": ["eth\u00e4"]},  # later in bytes
    {"destination": "10.0.0.0/8", "ports": "79-81", "interfaces": ["eth0", "eth1"]},  # more names
    {"destination": "10.0.0.0/8", "ports": "79-81", "owner": "a"},  # all interfaces
    {"destination": "10.0.0.0/8", "ports": "79-81", "owner": "ab"},  # later owner
    {"destination": "10.0.0.0/8", "ports": "79-81", "owner": "b"},
    {"destination": "0.0.0.0/0", "source": "192.0.2.1", "ports": "80"},  # shorter destination
]


def test_precedence_word_by_word():
    rules, _warnings = rules_from_params([{"protocol": "tcp", "action": "drop", **options} for options in RANKED])
    mixed = random.Random(1).sample(rules, len(rules))
    assert sorted(mixed, key=lambda rule: rule.precedence) == rules


@pytest.mark.parametrize("seed", range(5))
def test_precedence_agrees_with_brute_force(seed):
    plain = rule_sets.draw_rules(seed, 80, families=(4,))
    rules = [rule_sets.to_rule(rule) for rule in plain]
    for index in range(len(plain) - 1):
        expected = precedence.rank(plain[index]) < precedence.rank(plain[index + 1])
        assert (rules[index].precedence < rules[index + 1].precedence) == expected


def test_params():
    assert WEB.to_params() == {
        "destination": "10.0.0.0/8",
        "source": "0.0.0.0/0",
        "protocol": "tcp",
        "ports": "80-443",
        "interfaces": ["eth0", "eth1"],
        "action": "tproxy",
        "tproxy_ip": "127.0.0.1",
        "tproxy_port": 8080,
        "tproxy_user": "",
        "on_missing": "pass",
        "fragments": "on_demand",
        "name": "web",
        "owner": "ansible",
    }


@pytest.mark.parametrize("seed", range(3))
def test_params_make_the_same_rules(seed):
    rules = [rule_sets.to_rule(plain, number) for number, plain in enumerate(rule_sets.draw_rules(seed, 100))]
    through_json = json.loads(json.dumps([rule.to_params() for rule in rules]))
    assert rules_from_params(through_json)[0] == rules


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {},
            "tcp 10.0.0.0/8 ports 80-443 on eth0,eth1: tproxy 127.0.0.1:8080, pass without a listener"
            " (web, owner ansible)",
        ),
        (
            {"interfaces": (), "high": 80, "source": Prefix.parse("192.0.2.0/24")[0], "on_missing": "drop", "name": ""},
            "tcp 10.0.0.0/8 ports 80 from 192.0.2.0/24: tproxy 127.0.0.1:8080, drop without a listener (owner ansible)",
        ),
        (
            {"destination": Prefix.parse("fd00::/8")[0], "source": Prefix.any_of(6), "tproxy_ip": "::1", "name": ""},
            "tcp fd00::/8 ports 80-443 on eth0,eth1: tproxy [::1]:8080, pass without a listener (owner ansible)",
        ),
        (
            {"interfaces": (), "high": 80, "name": "", "user": 0},
            "tcp 10.0.0.0/8 ports 80: tproxy 127.0.0.1:8080 of user 0, pass without a listener (owner ansible)",
        ),
        (
            {"action": "drop", "tproxy_ip": "", "tproxy_port": 0, "on_missing": "", "interfaces": ()},
            "tcp 10.0.0.0/8 ports 80-443: drop (web, owner ansible)",
        ),
    ],
)
def test_text(change, text):
    assert str(WEB._replace(**change)) == text
