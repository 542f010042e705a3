# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that the action plugins send: the default time limit, and where there is none."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ansible_collections.netedge.tproxy.plugins.plugin_utils import confirmation

MODULES = ("tproxy_router", "tc_bpf_attach", "tproxy_rule", "ifindex_ip")


class Action:
    """An action plugin. Its module records its options and changes nothing."""

    def __init__(self, transport: str = "ssh", seconds_of_async: int = 0):
        self._connection = SimpleNamespace(transport=transport, has_native_async=False)
        self._task = SimpleNamespace(async_val=seconds_of_async)
        self.commands, self.sent = [], None

    def _low_level_execute_command(self, command: str, sudoable: bool) -> None:
        self.commands.append(command)

    def _execute_module(self, module_args: dict, task_vars: object, wrap_async: bool = False) -> dict:
        self.sent = module_args
        return {"changed": False, "confirm": None}


@pytest.fixture
def warned(monkeypatch) -> list:
    found = []
    monkeypatch.setattr(confirmation, "_warn", found.append)
    return found


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("given", [{}, {"confirm_timeout": None}])
def test_a_remote_connection_gets_the_default_of_the_module(module, given, warned):
    action = Action()
    confirmation.run(action, module, {"owner": "a", **given}, None)
    expected = {"tproxy_router": 300, "tc_bpf_attach": 60, "tproxy_rule": 60, "ifindex_ip": 60}[module]
    assert (action.sent["confirm_timeout"], action.sent["confirm_by_default"]) == (expected, True)
    assert action.sent["confirm_token"] and action.sent["owner"] == "a"
    assert warned == []


@pytest.mark.parametrize("value", [0, "0"])
def test_zero_turns_it_off(value, warned):
    action = Action()
    confirmation.run(action, "tproxy_rule", {"confirm_timeout": value}, None)
    assert action.sent == {"confirm_timeout": value}
    assert (action.commands, warned) == ([], [])


def test_a_limit_of_the_task_is_for_every_change_of_it(warned):
    action = Action()
    confirmation.run(action, "tproxy_rule", {"confirm_timeout": 30}, None)
    assert action.sent["confirm_timeout"] == 30
    assert "confirm_by_default" not in action.sent


def test_a_part_of_a_larger_change_has_no_limit_of_its_own(warned):
    action = Action()
    confirmation.run(action, "tc_bpf_attach", {"confirm_token": "0123"}, None)
    assert action.sent == {"confirm_token": "0123"}


def test_a_local_connection_has_no_default(warned):
    action = Action("local")
    confirmation.run(action, "tc_bpf_attach", {"interface": "lan0"}, None)
    assert (action.sent, warned) == ({"interface": "lan0"}, [])


def test_a_limit_over_a_local_connection_is_warned_of(warned):
    action = Action("local")
    confirmation.run(action, "tc_bpf_attach", {"confirm_timeout": 30}, None)
    assert action.sent["confirm_timeout"] == 30
    assert "the connection to this host is local" in warned[0]


def test_async_has_no_default_and_is_warned_of(warned):
    action = Action(seconds_of_async=100)
    confirmation.run(action, "tproxy_rule", {"owner": "a"}, None)
    assert action.sent == {"owner": "a"}
    assert "async cannot confirm a change" in warned[0]


def test_async_with_a_limit_is_refused(warned):
    action = Action(seconds_of_async=100)
    answer = confirmation.run(action, "tproxy_rule", {"confirm_timeout": 30}, None)
    assert answer["failed"] and action.sent is None
    assert "cannot be used with async" in answer["msg"]
