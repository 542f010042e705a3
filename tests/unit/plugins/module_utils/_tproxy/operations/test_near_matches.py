# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rule to remove that is not there, beside one that the operator may mean."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.tests.support.fakes.machine import Machine
from ansible_collections.netedge.tproxy.tests.support.scenarios import MAIL, WEB, result_of, rule, ruling


@pytest.fixture
def machine():
    """Return a machine with two rules."""
    made = Machine()
    result_of(made, ruling(WEB, MAIL))
    return made


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("item", "owner"),
    [({**WEB, "ports": "1-2"}, "ansible"), (WEB, "another"), ({**WEB, "source": "10.0.0.0/8"}, "ansible")],
)
def test_the_near_rule_is_named(machine, item, owner, check):
    result = result_of(machine, ruling(item, owner=owner, state="absent"), check)
    assert not result.changed
    (warning,) = result.warnings
    assert warning.startswith("expected the rule tcp 192.0.2.0/24 ports ")
    assert f"of owner {owner!r}, got none; near it is tcp 192.0.2.0/24 ports 443 of owner 'ansible'; to" in warning


@pytest.mark.parametrize(
    ("item", "owner", "nearest"),
    [
        (rule("192.0.2.0/24", ports="82-90"), "ansible", "ports 80-90 of owner 'ansible'"),
        (rule("192.0.2.0/24", ports="700"), "another", "ports 700 of owner 'ansible'"),
        (rule("192.0.2.0/24", ports="441"), "ansible", "ports 443 of owner 'ansible'"),
    ],
    ids=["one end of the ports differs", "the owner differs", "the next port"],
)
def test_the_nearest_of_several_is_named(machine, item, owner, nearest):
    result_of(machine, ruling(*(rule("192.0.2.0/24", ports) for ports in ("1", "80-90", "700"))))
    (warning,) = result_of(machine, ruling(item, owner=owner, state="absent")).warnings
    assert f"near it is tcp 192.0.2.0/24 {nearest} and 3 more" in warning


@pytest.mark.parametrize(
    "item",
    [WEB, {**WEB, "destination": "192.0.3.0/24"}, {**WEB, "protocol": "udp"}],
    ids=["the rule itself", "another destination", "another protocol"],
)
def test_nothing_else_is_near(machine, item):
    assert result_of(machine, ruling(item, state="absent")).warnings == ()


def test_a_second_removal_is_silent(machine):
    for _time in range(2):
        assert result_of(machine, ruling(WEB, state="absent")).warnings == ()


def test_many_are_one_warning(machine):
    result_of(machine, ruling(*(rule("192.0.2.0/24", port) for port in range(1000, 1003))))
    (warning,) = result_of(
        machine, ruling(*(rule("192.0.2.0/24", port) for port in range(1, 12)), state="absent")
    ).warnings
    assert warning.count("expected the rule") == 5
    assert " and 3 more; to remove that" in warning
    assert warning.endswith("; and 6 more rules that are not there")
