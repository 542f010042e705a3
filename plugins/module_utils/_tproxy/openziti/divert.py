# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The operation for a call of an OpenZiti router. The change is in force when the call returns.

It compiles the whole rule set for one change, as tproxy_rule does. A call waits for no run and for no pending change:
it changes the image in force, and the image to which a pending change returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ..checks.listeners import Listeners
from ..commit_confirm.change import finish_before_call
from ..errors import KernelRefused, Unsupported
from ..model.rule import Identity, Rule, is_routers, reading_order
from ..operations.execute import execute_unsaved
from ..operations.rules import change_rules_of_calls
from ..resources.in_force import AttachedInterfaces
from ..resources.lock import CAPABILITIES, missing_capabilities
from ..resources.lost_pins import living_pins
from ..resources.operation import Operation, Options, Result
from ..system.system import System
from .diverter_args import Request, flow_of, removed_by
from .spared_ports import spared

Rules = Mapping[Identity, Rule]


def divert(options: Options, system: System, check: bool) -> Result:
    """Insert, delete or flush. `not_enforced_reason` says why an insert is not in force, or is "".

    Raises Conflict when a delete cannot know which service it is for, Unsupported without the capabilities, and the
    errors of tproxy_rule.
    """
    _refuse_without_rights(system)
    request, pin_dir = options["request"], options["pin_dir"]
    if not request.rules and request.operation != "flush":  # its warnings say why there is nothing to store
        return Result(False, {"not_enforced_reason": ""})
    finish_before_call(pin_dir, system)
    result = change_rules_of_calls(_intention(request, system), pin_dir, system, check, request.operation == "insert")
    if request.operation != "insert":
        return replace(result, data={"not_enforced_reason": ""}, diff=None)
    with system.netlink() as netlink, living_pins(system, lambda: netlink, pin_dir) as pins:
        why = "; ".join(result.warnings) or AttachedInterfaces().not_enforced_reason(request.rules, pins, system)
        why = "; ".join(filter(None, [why, spared(request.rules, system.bpf, pins)]))
    return replace(result, data={"not_enforced_reason": why}, diff=None, warnings=())


def _refuse_without_rights(system: System) -> None:
    """Raise Unsupported if capabilities are missing. The message says how a router gets them."""
    try:
        missing = missing_capabilities(system)
    except KernelRefused:  # a profile of AppArmor hides them, and allows no more than they would
        missing = list(CAPABILITIES)
    if missing:
        raise Unsupported(
            f"{' and '.join(missing)} missing: call it as root, or as a member of the helper's group"
            " (tproxy_splicer_helper_group of the role); nothing was changed"
        )


def _intention(request: Request, system: System) -> Callable[[Rules], Rules]:
    listeners = Listeners(system.sockets)

    def intend(have: Rules) -> Rules:
        if request.operation == "flush":
            return {key: rule for key, rule in have.items() if not is_routers(rule.owner)}
        want = _with_listeners(have, listeners)
        users = _users(have)
        for one in request.rules:
            for rule in removed_by(one, users.get(flow_of(one), []), listeners.has):
                del want[rule.identity]
            if isinstance(one, Rule):
                want[one.identity] = listeners.identify(one)
        return want

    return intend


def _with_listeners(have: Rules, listeners: Listeners) -> dict[Identity, Rule]:
    """Return the rules. Those that still had no listener have the one of this moment."""
    return {identity: listeners.identify_unknown(rule) or rule for identity, rule in have.items()}


def _users(have: Rules) -> dict[Identity, list[Rule]]:
    """Return the rules of routers by flow."""
    found: dict[Identity, list[Rule]] = {}
    for rule in have.values():
        if is_routers(rule.owner):
            found.setdefault(flow_of(rule), []).append(rule)
    return found


def collect(options: Options, system: System, check: bool) -> Result:
    """Remove the rules of routers that have no listener, in one commit. `removed` has the rules."""
    gone: dict[Identity, Rule] = {}

    def intend(have: Rules) -> Rules:
        listeners = Listeners(system.sockets)
        gone.update((rule.identity, rule) for rule in left_behind(have.values(), listeners))
        return {key: rule for key, rule in _with_listeners(have, listeners).items() if key not in gone}

    finish_before_call(options["pin_dir"], system)
    result = change_rules_of_calls(intend, options["pin_dir"], system, check, False)
    removed = [rule.to_params() for rule in sorted(gone.values(), key=reading_order)]
    return replace(result, data={"removed": removed}, diff=None)


def left_behind(rules: Iterable[Rule], listeners: Listeners) -> list[Rule]:
    """Return the splicing rules of routers that have no listener. Other rules need none, and stay."""
    return [rule for rule in rules if is_routers(rule.owner) and not listeners.has(rule)]


DIVERT = Operation("divert", divert, execute_unsaved)
COLLECT = Operation("gc", collect, execute_unsaved)
