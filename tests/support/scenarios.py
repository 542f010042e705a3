# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of the operations that change something, each from a state that earlier runs have made.

A run is (operation, options). The same table serves for check mode, a second run, and a failure at every step.
"""

from __future__ import annotations

import copy
import re
from typing import NamedTuple

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.install import install
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.router import manage_router
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import STATE_FILE
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.addresses import record_addresses
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.attach import attach
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.info import inspect
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.route import manage_route
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.rules import apply_rules
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.state import save_state
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.persistence.restore import restore_state
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.operation import Result

from .fakes.machine import Machine
from .options import options

OTHER = "count_packets"


class Scenario(NamedTuple):
    """The test judges `run`. The runs in `before` go first, on a kernel with TCX or without."""

    name: str
    before: tuple
    run: tuple
    has_tcx: bool = False

    def machine(self) -> Machine:
        """Return a machine in the state before the run, with the clock at zero."""
        machine = Machine(self.has_tcx)
        for run in self.before:
            play(machine, run)
        machine.start_over()
        return machine

    def machines(self):
        """Yield machines in the state before the run, without end."""
        first = self.machine()
        first.still_open()
        while True:
            yield copy.deepcopy(first)


def play(machine: Machine, run: tuple, check: bool = False) -> dict:
    """Run an operation on a machine; return its answer."""
    return answer_of(result_of(machine, run, check))


def result_of(machine: Machine, run: tuple, check: bool = False):
    """Run an operation on a machine; return its Result."""
    operation, given = run
    return operation(given, machine.system(), check)


def answer_of(result) -> dict:
    """Return the values that a front end shows."""
    return result.as_dict() if isinstance(result, Result) else result


def prepared(*runs: tuple, has_tcx: bool = False) -> Machine:
    """Return a machine on which these runs were made."""
    machine = Machine(has_tcx)
    for run in runs:
        play(machine, run)
    machine.start_over()
    return machine


def readable(machine: Machine) -> dict:
    """Return the answer of tproxy_info without counters, ids, processes and the pending change."""
    machine.start_over()
    answer = play(machine, (inspect, options("tproxy_info")))
    for name in ("generation", "image", "program", "findings", "daemons", "pending_change"):
        answer.pop(name)
    for entry in answer["attachments"]:
        entry.pop("program_id"), entry.pop("reasons")
    for rule in answer["rules"]:
        rule.pop("hits")
    return answer


def attaching(interface: str, text: str = "version 1", **given) -> tuple:
    """Return a run that attaches our program, of a source that is this text."""
    source = {"source": "a.c", "source_files": {"a.c": text}}
    return attach, options("tc_bpf_attach", interface=interface, **source, **given)


def detaching(interface: str, **given) -> tuple:
    """Return a run that takes a program away."""
    return attach, options("tc_bpf_attach", interface=interface, state="absent", **given)


def ruling(*rules: dict, **given) -> tuple:
    """Return a run of tproxy_rule with a list."""
    return apply_rules, options("tproxy_rule", rules=list(rules), **{"return_rules": "all", **given})


def recording(*interfaces: str, **given) -> tuple:
    """Return a run of ifindex_ip."""
    return record_addresses, options("ifindex_ip", interfaces=list(interfaces) or None, **given)


def routing(*interfaces: str, **given) -> tuple:
    """Return a run of tproxy_route."""
    return manage_route, options("tproxy_route", interfaces=list(interfaces), **given)


def saving(**given) -> tuple:
    """Return a run of tproxy_state."""
    return save_state, options("tproxy_state", **given)


def installing(**given) -> tuple:
    """Return a run of tproxy_cli."""
    return install, options("tproxy_cli", **given)


def restoring(interface: str | None = None) -> tuple:
    """Return a run that restores the saved state."""
    return restore_state, {"path": STATE_FILE, "interface": interface}


def befalling(what: str) -> tuple:
    """Return a run that is no operation: an event of the machine."""
    return (lambda _options, system, _check: getattr(system.bpf.kernel, what)()), {}


def steering(*rules: dict, interfaces: tuple = ("lan0", "lan1"), text: str = "version 1", **given) -> tuple:
    """Return a run of tproxy_router: our program with these rules on these interfaces."""
    source = {"source": "a.c", "source_files": {"a.c": text}}
    listed = [each if isinstance(each, dict) else {"name": each, "policy": CLOSED} for each in interfaces]
    given = {"persist": False, "cli": False, "interfaces": listed, "rules": list(rules), **source, **given}
    return manage_router, options("tproxy_router", **given)


def lasting(*rules: dict, **given) -> tuple:
    """Return a run of tproxy_router that saves the state and installs the command line."""
    return steering(*rules, **{"persist": True, "cli": True, **given})


def rule(destination: str, port: int = 443, **given) -> dict:
    """Return a rule for TCP that splices, unless told otherwise."""
    outcome = {"action": "tproxy", "tproxy_port": 8443} if "action" not in given else {}
    return {"destination": destination, "protocol": "tcp", "ports": str(port), **outcome, **given}


WEB, MAIL = rule("192.0.2.0/24"), rule("198.51.100.7", 25, action="drop")
# three classes of interfaces, each with roots for both protocols: 1536 pages, more than a fresh image map holds
MANY_ROOTS = [
    rule("203.0.113.0/24", 80, protocol=protocol, interfaces=[name])
    for protocol in ("tcp", "udp")
    for name in ("lan0", "lan1")
]
CLOSED = {"default_action": "drop", "management": [{"source": "10.9.0.0/24", "port": 22}]}
OPEN = {"default_action": "pass", "allow_ssh": False}
BOTH = (attaching("lan0", policy=CLOSED), attaching("lan1", policy=OPEN))
AWAITED = (BOTH[0], ruling(WEB, rule("203.0.113.0/24", 80, interfaces=["later0"])), befalling("plug_later"))
ALL = (*BOTH, recording(), ruling(WEB, MAIL), routing("lan0", "lan1"))
SAVED = (*ALL, saving(failure="fail_closed"))
OPEN_SAVED = (*ALL, saving(failure="fail_open"))
FOREIGN = attaching("lan0", "a table", function=OTHER, priority=20)

SIZES = {"own": 4096, "forwarded": 1 << 20}
SIZED = (steering(WEB, flow_tables=SIZES), saving(failure="fail_open"))

OPEN_LAN, NO_LAN = {"name": "lan0", "policy": OPEN}, {"name": "lan0", "state": "absent"}

ON_CLSACT = attaching("lan0", policy=CLOSED, hook="clsact")

# On a kernel of either kind
ANY_KERNEL = (
    Scenario("attach to a bare machine", (), attaching("lan0", policy=CLOSED)),
    Scenario("attach to a second interface", BOTH[:1], BOTH[1]),
    Scenario("attach where rules are already", (ruling(WEB),), attaching("lan0")),
    Scenario("attach to an interface that rules wait for", AWAITED, attaching("later0", policy=CLOSED)),
    Scenario("attach elsewhere when it has come", AWAITED, attaching("lan0", policy=CLOSED)),
    Scenario("attach where the route is already", (routing("lan0", mark="0x2/0x2"),), attaching("lan0")),
    Scenario("attach a newer source", BOTH, attaching("lan0", "version 2")),
    Scenario("attach another policy", BOTH, attaching("lan0", policy=OPEN)),
    Scenario("attach a newer source and another policy", BOTH, attaching("lan1", "version 2", policy=CLOSED)),
    Scenario("attach at another priority", (*BOTH, recording()), attaching("lan0", priority=20, policy=OPEN)),
    Scenario("detach from whatever priority", (*BOTH, recording()), detaching("lan0", priority=20)),
    Scenario("attach somebody's own program", BOTH, FOREIGN),
    Scenario("attach somebody's newer program", (FOREIGN,), attaching("lan0", "table 2", function=OTHER, priority=20)),
    Scenario("detach one of two", (*BOTH, recording(), ruling(WEB)), detaching("lan0")),
    Scenario("detach the last", (BOTH[0], recording(), ruling(WEB)), detaching("lan0")),
    Scenario("detach somebody's own program", (*BOTH, FOREIGN), detaching("lan0", function=OTHER, priority=20)),
    Scenario("rules for a bare machine", (), ruling(WEB, MAIL)),
    Scenario("one more rule", (*BOTH, ruling(WEB)), ruling(MAIL)),
    Scenario("another action for a rule", (*BOTH, ruling(WEB, MAIL)), ruling({**WEB, "tproxy_port": 9443})),
    Scenario("purge to one rule", (*BOTH, ruling(WEB, MAIL)), ruling(MAIL, purge=True)),
    Scenario("take a rule away", (*BOTH, ruling(WEB, MAIL)), ruling(WEB, state="absent")),
    Scenario("take the last rule away", (ruling(WEB),), ruling(WEB, state="absent")),
    Scenario("an image that outgrows its map", (*BOTH, ruling(WEB, MAIL)), ruling(*MANY_ROOTS)),
    Scenario("addresses of all that have the program", BOTH, recording()),
    Scenario("addresses on a bare machine", (), recording("lan0", "lan1")),
    Scenario("addresses given by hand", (*BOTH, recording()), recording("lan0", addresses=["10.1.0.9"], purge=True)),
    Scenario("forget addresses", (*BOTH, recording()), recording("lan0", state="absent")),
    Scenario("a route for two interfaces", BOTH, routing("lan0", "lan1")),
    Scenario("another mark", (*BOTH, routing("lan0", "lan1")), routing("lan0", mark="0x2/0x2", table=7)),
    Scenario("install the command line", (), installing()),
    Scenario("remove the command line", (installing(),), installing(state="absent")),
    Scenario("save", ALL, saving(failure="fail_closed")),
    Scenario("save another failure policy", SAVED, saving()),
    Scenario("save no more", SAVED, saving(state="absent")),
    Scenario("restore after a boot", (*OPEN_SAVED, befalling("reboot")), restoring()),
    Scenario("restore one interface after a boot", (*OPEN_SAVED, befalling("reboot")), restoring("lan0")),
    Scenario("restore an interface that was made anew", (*OPEN_SAVED, befalling("replug")), restoring("lan0")),
    Scenario("restore what was deleted", (*OPEN_SAVED, befalling("lose_filters")), restoring()),
    Scenario(
        "restore an older policy and program", (*OPEN_SAVED, attaching("lan0", "version 2", policy=OPEN)), restoring()
    ),
    Scenario("a whole router", (), steering(WEB, MAIL)),
    Scenario("a whole router over single parts", ALL, steering(WEB, state="replaced", interfaces=("lan1",))),
    Scenario("another policy and rule of a router", (steering(WEB),), steering(MAIL, interfaces=(OPEN_LAN,))),
    Scenario("one interface of a router less", (steering(WEB),), steering(interfaces=(NO_LAN,), purge=True)),
    Scenario("a router that grows out of its image", (steering(WEB),), steering(*MANY_ROOTS, text="version 2")),
    Scenario("smaller and larger tables of a router", (steering(WEB),), steering(WEB, flow_tables=SIZES)),
    Scenario("restore other sizes of tables after a boot", (*SIZED, befalling("reboot")), restoring()),
    Scenario("no router any more", (steering(WEB),), steering(state="absent")),
    Scenario("no route any more", (*BOTH, routing("lan0", "lan1")), routing("lan0", "lan1", state="absent")),
)

# With files of ours: a run that fails after its change in the kernel leaves the change in force.
ROUTERS = (
    Scenario("a whole router that lasts", (), lasting(WEB, MAIL)),
    Scenario("a router that lasts over single parts", SAVED, lasting(WEB, state="replaced", interfaces=("lan1",))),
    Scenario("one interface of a router that lasts less", (lasting(WEB),), lasting(WEB, interfaces=(NO_LAN,))),
    Scenario("another failure policy of a router", (lasting(WEB),), lasting(WEB, failure="fail_closed")),
    Scenario("a router with a helper", (lasting(WEB),), lasting(WEB, helper={"group": "ziti"})),
    Scenario("a helper for another group", (lasting(helper={"group": "a"}),), lasting(helper={"group": "b"})),
    Scenario("a router without its helper", (lasting(helper={"group": "a"}),), lasting(helper={"group": ""})),
    Scenario("a router that no boot restores", (lasting(WEB),), steering(WEB)),
    Scenario("a lasting router no more", (lasting(WEB, helper={"group": "a"}),), steering(state="absent")),
    Scenario("single parts no more", SAVED, steering(state="absent")),
)

ON_TCX = tuple(
    Scenario(*given, has_tcx=True)
    for given in (
        ("move from clsact to TCX with a newer source", (ON_CLSACT, BOTH[1]), attaching("lan0", "version 2")),
        ("move from clsact to TCX on request", (ON_CLSACT, BOTH[1]), attaching("lan0", hook="tcx")),
        ("move from TCX to clsact on request", BOTH, attaching("lan0", hook="clsact", priority=20)),
        ("detach from clsact", (ON_CLSACT, BOTH[1], recording()), detaching("lan0")),
        ("restore clsact after a boot", (ON_CLSACT, *OPEN_SAVED[1:], befalling("reboot")), restoring()),
    )
)
# A run that changes an attachment, or moves it to another image, is judged on both kinds of kernel.
HOOKED = re.compile("attach|detach|restore|image|router")
SCENARIOS = (
    *ANY_KERNEL,
    *(each._replace(name=f"{each.name} by TCX", has_tcx=True) for each in ANY_KERNEL if HOOKED.search(each.name)),
    *ON_TCX,
)
