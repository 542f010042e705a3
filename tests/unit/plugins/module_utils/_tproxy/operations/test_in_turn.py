# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The run of a module while the change of another run waits for confirmation: it waits for the end of that change."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import ChangePending
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.confirm import CONFIRM_CHANGE
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.in_turn import run_in_turn
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.rules import APPLY_RULES
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.scenarios import BOTH, MAIL, WEB, prepared

SECOND = 10**9


@pytest.fixture
def machine():
    """Return a machine on which a change waits for a minute."""
    found = prepared(*BOTH)
    begin(found, "first")
    return found


def begin(machine, token: str) -> None:
    given = options("tproxy_confirm", state="begun", confirm_timeout=60, token=token)
    CONFIRM_CHANGE.execute(given, machine.system(), False)


def end(machine, state: str) -> None:
    CONFIRM_CHANGE.execute(options("tproxy_confirm", state=state), machine.system(), False)


def rule(machine, check: bool = False):
    return run_in_turn(APPLY_RULES, options("tproxy_rule", rules=[WEB]), machine.system(), check)


def after_seconds(machine, monkeypatch, seconds: int, act) -> None:
    """Act once when the machine's clock has run so long: a run that waits moves it."""
    system, start = machine.system(), machine.clock
    background, acted = type(system.background), []
    sleep = background.sleep_until

    def sleeping(self, deadline):
        sleep(self, deadline)
        if self.kernel.clock >= start + seconds * SECOND and not acted:
            acted.append(True)
            act()

    monkeypatch.setattr(background, "sleep_until", sleeping)


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(("state", "words"), [("confirmed", "was confirmed"), ("rolled_back", "was rolled back")])
def test_it_waits_for_the_end_and_says_so(machine, monkeypatch, check, state, words):
    after_seconds(machine, monkeypatch, 12, lambda: end(machine, state))
    result = rule(machine, check)
    assert result.changed
    assert result.warnings[-1] == f"this run waited 12 s for a change by alice from 192.0.2.9, which {words}"


def test_its_own_change_does_not_hide_the_end_of_the_other(machine, monkeypatch):
    after_seconds(machine, monkeypatch, 12, lambda: end(machine, "confirmed"))
    given = options("tproxy_rule", rules=[WEB], confirm_timeout=60, confirm_token="mine")
    result = run_in_turn(APPLY_RULES, given, machine.system(), False)
    assert result.pending and result.warnings[-1].endswith("which was confirmed")


def test_without_a_pending_change_it_waits_for_nothing(machine, monkeypatch):
    end(machine, "confirmed")
    before = machine.clock
    assert rule(machine).warnings == ()
    assert machine.clock == before


def test_a_change_whose_time_is_over_and_whose_watchdog_is_dead_is_rolled_back(machine):
    before = machine.clock
    assert rule(machine).changed
    assert 60 <= (machine.clock - before) // SECOND <= 75


def test_after_the_first_deadline_it_does_not_wait_for_another_change(machine, monkeypatch):
    def another():
        end(machine, "confirmed")
        begin(machine, "second")

    after_seconds(machine, monkeypatch, 50, another)
    with pytest.raises(ChangePending, match=r"waits for confirmation.*This run has waited [0-9]+ s for a change by"):
        rule(machine)


def test_a_run_with_the_token_does_not_wait(machine):
    before = machine.clock
    given = options("tproxy_rule", rules=[MAIL], confirm_token="first")
    assert run_in_turn(APPLY_RULES, given, machine.system(), False).changed
    assert machine.clock == before
