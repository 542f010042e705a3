# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rules are in force. The helper asks about an interface once a second, or at each call without the program."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import PIN_DIR
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.in_force import (
    ANY,
    REMEMBERED_NS,
    AttachedInterfaces,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.pins import splicer_pins
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.rule_table import rule_table
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import Machine
from ansible_collections.netedge.tproxy.tests.support.scenarios import attaching, play, rule, ruling

RULE = rule("192.0.2.0/24")


@pytest.fixture
def machine():
    machine = Machine()
    for step in (attaching("lan0"), ruling(RULE)):
        play(machine, step)
    return machine


def asker(machine):
    """Return a function that asks about the stored rules."""
    attached, rules = AttachedInterfaces(), stored(machine)

    def ask():
        with splicer_pins(machine.system().bpf, machine.system().bpffs, PIN_DIR) as pins:
            return attached.waiting_for(rules, pins, machine.system())

    return ask


def stored(machine):
    """Return the rules of the image."""
    with splicer_pins(machine.system().bpf, machine.system().bpffs, PIN_DIR) as pins:
        return list(rule_table(machine.system(), pins).load().rules.values())


def test_an_interface_is_believed_for_a_second(machine):
    ask = asker(machine)
    assert ask() == []
    machine.lose_filters()
    assert ask() == []
    machine.clock += REMEMBERED_NS
    assert ask() == [ANY]


def test_an_interface_without_the_program_is_asked_at_each_call(machine):
    ask = asker(machine)
    machine.lose_filters()
    assert ask() == [ANY]
    play(machine, attaching("lan0"))
    assert ask() == []


# ---- runs of tproxy_rule ---------------------------------------------------------------------------


@pytest.mark.parametrize("has_tcx", [False, True], ids=["clsact", "TCX"])
def test_a_rule_waits_for_each_named_interface_or_for_any(has_tcx):
    machine, named = Machine(has_tcx), rule("198.51.100.0/24", interfaces=["lan0", "lan1", "later0"])
    assert play(machine, ruling(RULE, named))["waits_for"] == [ANY, "lan0", "lan1", "later0"]
    play(machine, attaching("lan0"))
    assert play(machine, ruling(RULE))["waits_for"] == []
    assert play(machine, ruling(RULE, named))["waits_for"] == ["lan1", "later0"]
    machine.lose_filters()
    assert play(machine, ruling(RULE, named))["waits_for"] == [ANY, "lan0", "lan1", "later0"]


def test_a_run_without_changes_needs_no_netlink_where_the_program_is_on_tcx():
    def refuse():
        raise AssertionError("netlink is opened")

    machine = Machine(has_tcx=True)
    for step in (attaching("lan0"), ruling(RULE)):
        play(machine, step)
    operation, given = ruling(RULE)
    answer = operation(given, replace(machine.system(), netlink=refuse), False).as_dict()
    assert (answer["changed"], answer["waits_for"]) == (False, [])
