# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The self-test of the diverter on the fake machine: one line for the log of a router, and always status 0."""

from __future__ import annotations

import errno

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import VERSION
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import KernelRefused
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.self_test import Reach
from ansible_collections.netedge.tproxy.tests.support.command_line import CommandLine
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import Machine

UNIT = "add it to RestrictAddressFamilies of the router's unit"
GROUP = "this user is not in its group ziti-router: add it (usermod -aG ziti-router USER) and restart the router"
JOURNAL = "it does not answer within 1.5 s: see journalctl -u tproxy-splicer-helper"


@pytest.fixture
def run(monkeypatch, capsys):
    machine = Machine()
    machine.disk["/etc/group"] = "root:x:0:\nziti-router:x:998:ziti-router\n"
    return CommandLine(machine, monkeypatch, capsys)


def said(run, reached: Reach, privileged: bool = False) -> str:
    run.machine.reached = reached
    run.machine.sysctl.has_capability = lambda _number: privileged
    status, out, err = run("-V")
    assert (status, err, out.count("\n")) == (0, "", 1)
    start, helper, rest = out.partition(", helper: ")
    assert (start, helper) == (f"tproxy-splicer {VERSION}", ", helper: ")
    return rest.strip()


def test_a_helper_that_answers_is_reachable(run):
    assert said(run, Reach("")) == "reachable"
    assert not run.machine.changes


@pytest.mark.parametrize(
    ("reached", "reason"),
    [
        (Reach("socket", errno.EAFNOSUPPORT), f"this process may not use AF_UNIX: {UNIT}"),
        (Reach("connect", errno.ENOENT), "no process listens at /run/tproxy-splicer-helper.sock: install it by the"),
        (Reach("connect", errno.EACCES, 998), GROUP),
        (Reach("connect", errno.EACCES, 77), "this user is not in its group 77"),
        (Reach("connect", errno.ELOOP), "ELOOP at /run/tproxy-splicer-helper.sock"),
    ],
)
def test_a_user_without_the_helper_has_no_effect_unless_it_has_rights(run, reached, reason):
    assert said(run, reached).startswith(f"not reachable, {reason}")
    assert said(run, reached).endswith("; calls of this user are refused")
    assert said(run, reached, privileged=True).endswith("; calls of this user work without it, in some 0.2 s each")


@pytest.mark.parametrize("reached", [Reach("answer", errno.ETIMEDOUT), Reach("connect", errno.EAGAIN)])
def test_a_helper_without_an_answer_blocks_every_user(run, reached):
    assert said(run, reached) == said(run, reached, privileged=True) == f"not reachable, {JOURNAL}"


def test_a_process_that_may_not_read_its_rights_has_none(run):
    """As in a profile of AppArmor."""
    run.machine.reached = Reach("connect", errno.ENOENT)
    run.machine.sysctl.has_capability = refuse
    answer = run("-V")[1]
    assert "not reachable, no process listens" in answer and answer.endswith("; calls of this user are refused\n")


def refuse(_number):
    raise KernelRefused(errno.EACCES, "read", "/proc/thread-self/status")


def test_a_helper_can_be_turned_off(run, monkeypatch):
    monkeypatch.setenv("TPROXY_SPLICER_HELPER", "")
    assert said(run, Reach("")).startswith("not reachable, TPROXY_SPLICER_HELPER turns it off; ")


def test_a_fault_of_the_self_test_stops_no_router(run, monkeypatch):
    def fail(_path):
        raise RuntimeError("broken")

    monkeypatch.setattr(run.machine.sysctl, "has_capability", fail, raising=False)
    run.machine.reached = Reach("connect", errno.ENOENT)
    status, out, _err = run("-V")
    assert status == 0
    assert "the self-test failed: " in out
