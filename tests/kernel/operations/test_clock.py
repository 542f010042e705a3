# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pending changes while an operator sets the clock.

Only in a machine of the test's own, which tests/matrix/kernels boots: the clock has no namespace.
"""

from __future__ import annotations

import os
import signal
import time

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.daemon import monotonic_ns
from ansible_collections.netedge.tproxy.tests.kernel.operations.confirming import DROP, LONG, PASS, Confirming
from ansible_collections.netedge.tproxy.tests.support.router import eventually

SECONDS, HOUR, DAY = 20, 3600, 86400
NANO = 10**9


@pytest.fixture
def jump():
    """Return a function that sets the clock forward or back by seconds. In the end it is right again."""
    if os.environ.get("TPROXY_CLOCK") != "free":
        pytest.skip("the clock of this machine is not a test's to set: `make kernels` sets that of its guests")
    ahead = time.time_ns() - monotonic_ns()
    yield lambda seconds: time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns() + seconds * NANO)
    time.clock_settime_ns(time.CLOCK_REALTIME, monotonic_ns() + ahead)


@pytest.fixture
def confirming(jump, splicing):
    """Return a router with pending changes. The flow of PASS passes."""
    splicing.rules(PASS)
    confirming = Confirming(splicing)
    yield confirming
    confirming.forget()


def seen_until(confirming, end: int) -> set:
    """Return the observations up to a time of CLOCK_MONOTONIC: verdict for a packet, and state of the change."""
    found = set()
    while True:
        seen = confirming.verdict(), confirming.outcome()
        if monotonic_ns() > end:
            return found
        found.add(seen)
        time.sleep(0.1)


def test_a_change_goes_back_at_its_time_whatever_the_clock_says(confirming, jump):
    """The watchdog is stopped past that time: the program itself acts first."""
    confirming.rules(DROP, seconds=SECONDS)
    deadline = confirming.latest().deadline
    jump(HOUR)
    assert seen_until(confirming, deadline - SECONDS // 2 * NANO) == {("drop", "pending")}
    jump(-DAY)
    os.kill(confirming.guard()[0], signal.SIGSTOP)
    assert seen_until(confirming, deadline) == {("drop", "pending")}
    assert (confirming.verdict(), confirming.outcome()) == ("pass", "pending")
    os.kill(confirming.guard()[0], signal.SIGCONT)
    eventually(lambda: confirming.outcome() == "rolled_back" and not confirming.is_guarded())
    assert confirming.verdict() == "pass"


def test_a_confirmation_is_in_time_whatever_the_clock_says(confirming, jump):
    token = confirming.rules(DROP, seconds=LONG)["confirm"]["token"]
    jump(LONG + HOUR)
    assert confirming.say("confirmed", token=token)["changed"]
    assert confirming.verdict() == "drop"
