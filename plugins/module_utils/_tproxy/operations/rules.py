# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The operation of tproxy_rule, and the change of rules that other operations share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from ..abi.layout import RULES
from ..constants import ALL, CHANGED, NONE
from ..errors import InvalidInput, LimitExceeded
from ..model.layers import OPTIONS, Read, layer_items, read_layers
from ..model.prefix import Prefix
from ..model.rule import Identity, Rule, sorted_rules
from ..model.rule_options import WARNED, Users, grouped, identities_from_params, rules_from_params, shared_flows
from ..resources.host_state import HostState, Remains, RulePlan, TransactionPlan
from ..resources.in_force import ANY, Waiting, enforcing_interfaces, waiting_rules
from ..resources.lost_pins import living_pins
from ..resources.older_release import older_release_warnings
from ..resources.operation import Answer, Diff, Operation, Options, Result, RuleChanges
from ..resources.session import lazy_netlink, open_call, open_transaction
from ..resources.transaction import Transaction
from ..system.open_checks import open_for_checks
from ..system.system import System
from .execute import execute

RulesByIdentity = Mapping[Identity, Rule]
LOST = (
    "the rules in force were damaged and are compiled anew; rules that cannot be read are replaced by those of this run"
)
RECOMPILED = "(compiled and bound anew for the interfaces of today)\n"
SHOWN_WHOLE = 1000  # the diff of a larger set has only the rules that differ


def apply_rules(options: Options, system: System, check_mode: bool) -> Result:
    """Add, change and remove rules in one commit. Return the values of tproxy_rule.

    Raises InvalidInput, LimitExceeded, Refused, VerificationFailed; then nothing was changed.
    """
    wish = _wish(options, system.processes.user_number)
    touches_own = []

    def preflight(transaction: Transaction, planned: RulePlan) -> list[str]:
        near = near_matches(wish.unwanted, transaction.current.rules.rules)
        if planned.compiled is None:  # the image stays
            return near
        from ..checks.findings import enforce
        from ..checks.own_addresses import may_touch_own_addresses
        from ..checks.preflight import findings_of_rules

        touches_own.append(may_touch_own_addresses(transaction.current, planned.plan.before, planned.plan.changes))
        return near + enforce(findings_of_rules(transaction, planned), bool(options.get("force")))

    is_present = options["state"] == "present"
    result = change_rules(
        wish.desired,
        options["pin_dir"],
        system,
        check_mode,
        adds=is_present,
        token=options.get("confirm_token"),
        ignore_damage=is_present,
        preflight=preflight,
        wants_diff=bool(options.get("wants_diff", True)),
        returns=options.get("return_rules", CHANGED),
    )
    waiting = _waiting(wish.rules, options["pin_dir"], system)
    if waiting:
        from ..checks.findings import format_finding, not_in_force

        result = result.with_warnings(format_finding(not_in_force(each)) for each in waiting)
    result = result.with_data(waits_for=[each.interface or ANY for each in waiting])
    return replace(result, warnings=(*wish.warnings, *result.warnings), may_cut_off=any(touches_own))


def _waiting(rules: list[Rule], pin_dir: str, system: System) -> tuple[Waiting, ...]:
    """Return those of the rules that are not in force, by the interface that they wait for."""
    if not rules:
        return ()
    with ExitStack() as held:
        netlink = lazy_netlink(system, held)
        pins = held.enter_context(living_pins(system, netlink, pin_dir))
        return waiting_rules(rules, enforcing_interfaces(rules, system, netlink, pins))


def near_matches(unwanted: Sequence[Identity], have: RulesByIdentity) -> list[str]:
    """Return a warning for each unwanted rule that is not there, if another one has its destination and protocol."""
    missing = [identity for identity in unwanted if identity not in have]
    near: dict[tuple[Prefix, str], list[Identity]] = {(each.destination, each.protocol): [] for each in missing}
    for other in have if missing else ():
        if (found := near.get((other.destination, other.protocol))) is not None:
            found.append(other)
    told = [identity for identity in missing if near[identity.destination, identity.protocol]]
    # The nearest of them costs a comparison with each, so only those in the message are looked for.
    warnings = [_near_match(each, near[each.destination, each.protocol]) for each in told[:WARNED]]
    return grouped(warnings, "rules that are not there", more=len(told[WARNED:]))


def _near_match(wanted: Identity, found: Sequence[Identity]) -> str:
    """Return the warning for one rule that is not there."""
    nearest = min(found, key=partial(_distance, wanted))
    more = f" and {len(found) - 1} more" if found[1:] else ""
    return (
        f"expected the rule {wanted} of owner {wanted.owner!r}, got none; near it is {nearest} of owner"
        f" {nearest.owner!r}{more}; to remove that, give its owner, source, ports and interfaces"
    )


def _distance(wanted: Identity, other: Identity) -> tuple[int, int]:
    """Return the number of parts in which two rules differ, and how far their ports are apart."""
    parts = sum(mine != theirs for mine, theirs in zip(wanted, other))
    return parts, abs(wanted.low - other.low) + abs(wanted.high - other.high)


class _Wish(NamedTuple):
    """The options, read. `desired` returns the wanted rules from the stored ones, `rules` are those of the options."""

    desired: Callable[[RulesByIdentity], RulesByIdentity]
    rules: list[Rule]
    unwanted: list[Identity]
    warnings: list[str]


def _wish(options: Options, users: Users) -> _Wish:
    """Read the options. `users` returns the number of a user by name. Raises InvalidInput with every fault."""
    single = options["destination"] is not None or (options["rules"] is None and options.get("layers") is None)
    items = [{name: options[name] for name in OPTIONS}] if single else options["rules"]
    owner, layers = options["owner"], options.get("layers")
    count = len(items or ()) + layer_items(layers)
    if count > RULES:
        raise LimitExceeded("rules", count, RULES, "nothing was changed")
    owner_of_rules = None if items is None else owner
    if options["state"] == "absent":
        if options["purge"]:
            raise InvalidInput(["purge: goes with state=present only; it removes the rules that `rules` does not list"])
        identities, warnings = _both(items or [], single, owner, layers, owner_of_rules, identities_from_params)
        gone = set(identities)
        return _Wish(
            lambda have: {key: rule for key, rule in have.items() if key not in gone}, [], identities, warnings
        )
    read = partial(rules_from_params, users=users)
    rules, warnings = _both(items or [], single, owner, layers, owner_of_rules, read)
    wanted = {rule.identity: rule for rule in rules}
    purged = {*(layers or ()), *([] if owner_of_rules is None else [owner])} if options["purge"] else set()
    return _Wish(lambda have: {**_kept(have, purged), **wanted}, rules, [], warnings)


def _both(
    items: list[Any],
    single: bool,
    owner: str,
    layers: object,
    owner_of_rules: str | None,
    read: Callable[[list[Any], bool, str | None], tuple[list[Read], list[str]]],
) -> tuple[list[Read], list[str]]:
    """Return what `read` makes of the items and of all layers, and warnings. Raise InvalidInput with every fault."""
    faults: list[str] = []
    found: list[Read] = []
    warnings: list[str] = []
    try:
        found, warnings = read(items, single, owner)
    except InvalidInput as wrong:
        faults += wrong.faults
    try:
        in_layers, warned = read_layers(layers, read, owner_of_rules)
        found += in_layers
        warnings += warned
        if in_layers:
            warnings += shared_flows(found)
    except InvalidInput as wrong:
        faults += wrong.faults
    if faults:
        raise InvalidInput(faults)
    return found, warnings


def _kept(have: Mapping[Identity, Rule], purged: Collection[str]) -> dict[Identity, Rule]:
    """Return the rules that stay although they are not listed: those of owners whose rules are not purged."""
    return {key: rule for key, rule in have.items() if rule.owner not in purged}


# ---- the change that other operations share ----------------------------------------------


def no_preflight(_transaction: Transaction, _planned: RulePlan) -> list[str]:
    """Return no warnings."""
    return []


def change_rules(
    desired: Callable[[RulesByIdentity], RulesByIdentity],
    pin_dir: str,
    system: System,
    check_mode: bool,
    adds: bool,
    token: str | None = None,
    ignore_damage: bool = False,
    preflight: Callable[[Transaction, RulePlan], list[str]] = no_preflight,
    wants_diff: bool = True,
    returns: str = NONE,
) -> Result:
    """Put in force the rules that `desired` returns for the rules in force. Return the values of tproxy_rule.

    `adds`: maps are needed. `preflight` returns warnings, or raises before anything is changed. `wants_diff`: the texts
    of many rules take a second, and only --diff shows them. `returns` is one of RETURN_RULES.
    """
    with open_transaction(
        system, pin_dir, check_mode, mount=adds, token=token, ignore_damage=ignore_damage
    ) as transaction:
        transaction.pins.check()
        had = transaction.current.rules
        warnings = [f"{LOST} ({had.damage})"] if had.damage and ignore_damage else []
        rules = desired(had.rules)
        planned = transaction.plan(HostState(rules=rules, remains=_remains(rules, transaction)))
        if planned.rules is None:
            raise AssertionError("the plan of a rule change has no rules")
        warnings += preflight(transaction, planned.rules)
        written = planned if check_mode else transaction.apply(planned)
        warnings += older_release_warnings(system, pin_dir)
    return _result(written, warnings, wants_diff, returns)


def change_rules_of_calls(
    desired: Callable[[RulesByIdentity], RulesByIdentity], pin_dir: str, system: System, check_mode: bool, adds: bool
) -> Result:
    """Change rules as change_rules() does, for a call of an OpenZiti router: beside runs and pending changes.

    `desired` changes rules of OpenZiti routers only. It is applied to the previous image of a pending change, too.
    """
    with open_call(system, pin_dir, check_mode, adds) as transaction:
        transaction.pins.check()
        rules = desired(transaction.current.rules.rules)
        state = HostState(rules=rules, remains=_remains(rules, transaction), previous_rules=desired)
        planned = transaction.plan(state)
        if planned.rules is None:
            raise AssertionError("the plan of a rule change has no rules")
        written = planned if check_mode else transaction.apply(planned)
        warnings = older_release_warnings(system, pin_dir)
    return _result(written, warnings)


def _remains(rules: RulesByIdentity, transaction: Transaction) -> Remains:
    """Return NOTHING when the last rule is removed and no program uses the maps, otherwise EVERYTHING."""
    current, names = transaction.current, transaction.pins.names()
    is_used = rules or not names or "program" in names or current.addresses.entries or current.policies.entries
    return Remains.EVERYTHING if is_used else Remains.NOTHING


def _result(written: TransactionPlan, warnings: list[str], wants_diff: bool = True, returns: str = NONE) -> Result:
    planned = written.rules
    if planned is None:
        raise AssertionError("the plan of a rule change has no rules")
    before, changes = planned.plan.before, planned.plan.changes
    replaced = sum(key in before for key in changes.puts)
    counts = RuleChanges(
        owners=tuple(sorted({key.owner for key in (*changes.puts, *changes.deletes)})),
        added=len(changes.puts) - replaced,
        changed=replaced,
        removed=len(changes.deletes),
        generation=planned.snapshot.contents.generation + planned.changed,
    )
    data = {
        **_returned(planned, returns),
        "added": counts.added,
        "changed_rules": counts.changed,
        "removed": counts.removed,
        "generation": counts.generation,
    }
    shown = _diff(planned, written.repaired) if wants_diff else None
    return Result(written.changed, data, shown, tuple(warnings), rule_changes=counts)


def _returned(planned: RulePlan, returns: str) -> Answer:
    """Return the rules that an answer has."""
    before, changes = planned.plan.before, planned.plan.changes
    rules = {CHANGED: changes.puts, ALL: planned.plan.after, NONE: {}}[returns]
    removed = {} if returns == NONE else {key: before[key] for key in changes.deletes}
    return {"rules": _params(rules), "removed_rules": _params(removed)}


def _params(rules: RulesByIdentity) -> list[Answer]:
    return [rule.to_params() for rule in sorted_rules(rules)]


def _diff(planned: RulePlan, repaired: Sequence[str]) -> Diff:
    """Return the rules before and after. Of a large set, return those that differ."""
    before, after, changes = planned.plan.before, planned.plan.after, planned.plan.changes
    if max(len(before), len(after)) > SHOWN_WHOLE:
        before = {key: rule for key, rule in before.items() if key not in after or key in changes.puts}
        after = changes.puts
    pins = f"pins: {', '.join(repaired)} pinned again\n" if repaired else ""
    return Diff(_text(before), _text(after) + (RECOMPILED if planned.recompiled else "") + pins)


def _text(rules: RulesByIdentity) -> str:
    return "".join(f"{rule}\n" for rule in sorted_rules(rules))


APPLY_RULES = Operation("tproxy_rule", apply_rules, execute, confirmable=True, opens=open_for_checks)
