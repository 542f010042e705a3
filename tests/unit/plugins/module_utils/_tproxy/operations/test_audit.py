# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit trail: one line for each change, none for a no-op and in check mode."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli import main as cli
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import TproxyError
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.divert import COLLECT
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.addresses import RECORD_ADDRESSES
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.attach import ATTACH
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.confirm import CONFIRM_CHANGE
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.restore import RESTORE
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.route import MANAGE_ROUTE
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.rules import APPLY_RULES
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.state import SAVE_STATE
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import Machine
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.saved_machines import SERVICE
from ansible_collections.netedge.tproxy.tests.support.scenarios import OPEN, WEB, attaching, prepared, ruling

ALICE = "alice from 192.0.2.9 (login uid 1000)"


def lines(machine: Machine, operation, given: dict, check: bool = False) -> list:
    """Return the lines that a run leaves."""
    before = len(machine.trail)
    operation.execute(given, machine.system(), check)
    return [text for text, _fields in machine.trail[before:]]


RUNS = {
    "rules": (APPLY_RULES, ruling(WEB)[1], "tproxy_rule by {}: rules of ansible: 1 added, 0 changed, 0 removed"),
    "attach": (ATTACH, attaching("lan0")[1], "tc_bpf_attach by {}: lan0: filter"),
    "addresses": (RECORD_ADDRESSES, options("ifindex_ip", interfaces=["lan0"]), "ifindex_ip by {}: lan0: 1 lines add"),
    "route": (MANAGE_ROUTE, options("tproxy_route", interfaces=["lan0"]), "tproxy_route by {}: lan0: "),
    "state": (SAVE_STATE, options("tproxy_state"), "tproxy_state by {}: "),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_change_leaves_one_line_and_a_no_op_or_check_mode_none(name):
    machine, (operation, given, begin) = prepared(), RUNS[name]
    assert lines(machine, operation, given, check=True) == []
    found = lines(machine, operation, given)
    assert len(found) == 1
    assert found[0].startswith(begin.format(ALICE))
    assert lines(machine, operation, given) == []


def test_a_line_names_the_generation_and_has_its_parts_as_fields():
    machine = prepared()
    assert lines(machine, *RUNS["rules"][:2])[0].endswith("removed; generation 1")
    assert machine.trail[-1][1] == {
        "TPROXY_WHO": ALICE,
        "TPROXY_OPERATION": "tproxy_rule",
        "TPROXY_CHANGE": "rules of ansible: 1 added, 0 changed, 0 removed",
        "TPROXY_GENERATION": "1",
    }


@pytest.mark.parametrize("state", ["confirmed", "rolled_back"])
def test_a_pending_change_leaves_a_line_at_its_start_and_at_its_end(state):
    machine = prepared(attaching("lan0"))
    given = {**attaching("lan0", policy=OPEN)[1], "confirm_timeout": 60}
    start = lines(machine, ATTACH, given)
    assert len(start) == 1
    assert "lan0: policy, the change is pending, 60 s to confirm it; token token " in start[0]
    end = lines(machine, CONFIRM_CHANGE, options("tproxy_confirm", state=state))
    assert len(end) == 1
    assert f"the change is {state.replace('_', ' ')}; token token " in end[0]
    assert lines(machine, CONFIRM_CHANGE, options("tproxy_confirm", state=state)) == []


def test_a_run_that_fails_leaves_no_line():
    machine = prepared()
    with pytest.raises(TproxyError):
        APPLY_RULES.execute(ruling({**WEB, "ports": "0-99999"})[1], machine.system(), False)
    assert machine.trail == []


def test_a_restoration_leaves_a_line():
    machine = prepared(attaching("lan0"))
    SAVE_STATE.execute(options("tproxy_state"), machine.system(), False)
    machine.lose_filters()
    given = {**options("tproxy_state"), "interface": None}
    assert lines(machine, RESTORE, given) == [f"restore by {ALICE}: 1 parts put back"]


def test_the_commands_of_routers_leave_a_line(monkeypatch):
    machine = prepared()
    monkeypatch.setattr(cli, "_system", machine.system)
    flow = ["-c", "172.16.9.0", "-m", "24", "-p", "tcp", "-l", "80", "-h", "80", "-t", "33401", "-s", "farm"]
    for _once_more in range(2):
        cli.main(["tproxy-splicer", "-I", *flow])
    cli.main(["map_update", "192.0.2.0", "24", "53", "53", "4000", "17"])
    assert [text for text, _fields in machine.trail] == [
        f"divert by {ALICE}: rules of ziti:farm: 1 added, 0 changed, 0 removed; generation 1",
        f"map_update by {ALICE}: rules of map_update: 1 added, 0 changed, 0 removed; generation 2",
    ]


def test_the_collection_of_rules_leaves_a_line():
    machine = prepared(ruling(SERVICE))
    found = lines(machine, COLLECT, {"pin_dir": options("tproxy_rule")["pin_dir"]})
    assert found == [f"gc by {ALICE}: rules of ziti:service: 0 added, 0 changed, 1 removed; generation 2"]
