# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How often a run decodes the image in force: it takes some 100 ms for 10,000 rules."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.info import inspect
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources import rules
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.scenarios import (
    BOTH,
    CLOSED,
    MAIL,
    SAVED,
    WEB,
    attaching,
    detaching,
    play,
    prepared,
    recording,
    restoring,
    routing,
    ruling,
)

RULED = (*BOTH, ruling(WEB))
ONCE, TWICE, NEVER = 1, 2, 0


@pytest.fixture
def decodes(monkeypatch):
    """Return a function that counts how often a run decodes an image and computes its digest."""

    def count(machine, run: tuple, check: bool = False) -> tuple:
        counts = {"read_image": 0, "is_edited": 0}
        for name in counts:
            counted(monkeypatch, counts, name)
        play(machine, run, check)
        monkeypatch.undo()
        return counts["read_image"], counts["is_edited"]

    return count


def counted(monkeypatch, counts: dict, name: str) -> None:
    called = getattr(rules, name)

    def call(*arguments):
        counts[name] += 1
        return called(*arguments)

    monkeypatch.setattr(rules, name, call)


@pytest.mark.parametrize(
    ("run", "times"),
    [
        (ruling(WEB), ONCE),
        (ruling(WEB, MAIL), TWICE),
        (ruling(WEB, state="absent"), TWICE),
        (attaching("lan0"), ONCE),
        (attaching("lan0", policy=CLOSED), ONCE),
        (detaching("lan0"), NEVER),
        (recording(), NEVER),
        (routing("lan0"), NEVER),
        ((inspect, options("tproxy_info")), ONCE),
    ],
    ids=["same", "another", "fewer", "attach", "policy", "detach", "addresses", "route", "info"],
)
def test_a_run_decodes_the_image_no_more_than_it_needs(decodes, run, times):
    assert decodes(prepared(*RULED), run) == (times, times)


def test_a_prediction_decodes_the_image_once(decodes):
    assert decodes(prepared(*RULED), ruling(WEB, MAIL), check=True) == (ONCE, ONCE)


def test_a_restoration_that_changes_no_rule_decodes_the_image_once(decodes):
    assert decodes(prepared(*SAVED), restoring()) == (ONCE, ONCE)


def test_info_decodes_the_image_once_where_a_state_is_saved(decodes):
    assert decodes(prepared(*SAVED), (inspect, options("tproxy_info"))) == (ONCE, ONCE)
