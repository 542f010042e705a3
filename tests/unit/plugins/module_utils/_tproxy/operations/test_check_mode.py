# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode gives the answer of the real run, whatever state the machine is in, and changes nothing."""

from __future__ import annotations

import copy

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.install import INSTALL
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.router import MANAGE_ROUTER
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import TproxyError
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.addresses import RECORD_ADDRESSES
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.attach import ATTACH
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.confirm import CONFIRM_CHANGE
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.route import MANAGE_ROUTE
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.rules import APPLY_RULES
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.state import SAVE_STATE
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import Machine
from ansible_collections.netedge.tproxy.tests.support.hostile_machines import STATES
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.scenarios import (
    CLOSED,
    MAIL,
    NO_LAN,
    OPEN,
    OPEN_LAN,
    WEB,
    attaching,
    detaching,
    installing,
    lasting,
    recording,
    routing,
    rule,
    ruling,
    saving,
    steering,
)

OPERATIONS = {
    operation.function: operation
    for operation in (
        *(ATTACH, APPLY_RULES, RECORD_ADDRESSES, MANAGE_ROUTE, SAVE_STATE, CONFIRM_CHANGE, INSTALL, MANAGE_ROUTER),
    )
}


def confirming(state: str, **given) -> tuple:
    """Return a run of tproxy_confirm."""
    return CONFIRM_CHANGE.function, options("tproxy_confirm", state=state, **given)


ON_BOTH = {"confirm_timeout": 60, "confirm_token": "0123"}
RUNS = {
    "attach to lan0": attaching("lan0", policy=CLOSED),
    "attach to lan0 a newer source": attaching("lan0", "version 2", policy=OPEN),
    "attach to lan1": attaching("lan1", policy=OPEN),
    "attach to lan0 on clsact": attaching("lan0", hook="clsact", priority=10),
    "attach to lan0 on TCX": attaching("lan0", hook="tcx"),
    "attach to lan0 before a program": attaching("lan0", before="theirs"),
    "attach to an interface that is not there": attaching("later0"),
    "attach to lan0 by force": attaching("lan0", force=True),
    "attach to lan0 with a confirmation": attaching("lan0", policy=CLOSED, **ON_BOTH),
    "attach the program of another": attaching("lan0", "a table", function="count_packets", priority=20),
    "detach from lan0": detaching("lan0"),
    "detach from lan1": detaching("lan1"),
    "rules": ruling(WEB, MAIL, rule("10.1.0.1", 22)),
    "rules with a confirmation": ruling(rule("10.1.0.0/16", 22, action="drop"), **ON_BOTH),
    "rules purged": ruling(MAIL, purge=True),
    "rules removed": ruling(WEB, state="absent"),
    "addresses of all": recording(),
    "addresses of lan0": recording("lan0", purge=True),
    "addresses by hand": recording("lan0", addresses=["10.1.0.9"]),
    "addresses forgotten": recording("lan0", state="absent"),
    "routes": routing("lan0", "lan1"),
    "routes of another table": routing("lan0", mark="0x2/0x2", table=7),
    "routes removed": routing("lan0", "lan1", state="absent"),
    "save": saving(failure="fail_closed"),
    "save no more": saving(state="absent"),
    "install": installing(),
    "install no more": installing(state="absent"),
    "begin a change": confirming("begun", confirm_timeout=60, token="mine"),
    "confirm": confirming("confirmed"),
    "confirm another's change": confirming("confirmed", token="theirs"),
    "roll back": confirming("rolled_back"),
    "a router merged": steering(WEB, MAIL),
    "a router that lasts": lasting(WEB, helper={"group": "ziti"}),
    "a router with a confirmation": lasting(WEB, interfaces=(OPEN_LAN,), **ON_BOTH),
    "a router replaced": lasting(MAIL, state="replaced", interfaces=("lan1",)),
    "a router on TCX": steering(interfaces=({"name": "lan0", "hook": "tcx", "policy": CLOSED},)),
    "a router at another priority": steering(interfaces=({"name": "lan0", "hook": "clsact", "priority": 20},)),
    "a router without lan0": lasting(interfaces=(NO_LAN,), purge=True),
    "a router gathered": steering(state="gathered"),
    "a router no more": steering(state="absent"),
}
# The numbers of objects that the kernel makes, and the change of a run. The action plugin confirms it, and then runs
# the module again for the deferred parts.
UNKNOWN = ("program_id", "tag", "confirm", "deferred")


def answer(machine: Machine, run: tuple, check: bool) -> tuple:
    """Return the outcome of a run: its kind, and its values or its message."""
    function, given = run
    try:
        result = OPERATIONS[function].execute(given, machine.system(), check)
    except TproxyError as refusal:
        return type(refusal).__name__, str(refusal), refusal.details
    told = {name: value for name, value in result.as_dict().items() if name not in UNKNOWN}
    if told.get("attachment"):
        told["attachment"] = {name: value for name, value in told["attachment"].items() if name not in UNKNOWN}
    return "done", told


@pytest.mark.parametrize("state", STATES)
def test_check_mode_is_the_real_run(state):
    machine = STATES[state].machine()
    before, differing = machine.everything(), {}
    for name, run in RUNS.items():
        tried = copy.deepcopy(machine)
        predicted = answer(tried, run, check=True)
        assert tried.everything() == before, f"check mode changed something: {name}"
        real = answer(copy.deepcopy(machine), run, check=False)
        if predicted != real:
            differing[name] = (predicted, real)
    assert not differing
