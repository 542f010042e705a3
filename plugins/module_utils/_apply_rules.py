# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The story of tproxy_rule: from options to the rule set in force."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Callable

from ._attachments import MOVING, move_to_image
from ._diff import Changes
from ._doors import Doors, turn
from ._errors import InvalidInput, LimitExceeded
from ._findings import settle
from ._interface_tables import AddressTable, PolicyTable
from ._layout import RULES
from ._preflight import findings_of_rules
from ._programs import Programs
from ._reconcile import Outcome, reconcile
from ._rule_options import identities_from_params, rules_from_params
from ._rule_table import RuleTable
from ._splicer import FUNCTION
from ._take_over import pins_in_force, unfinished

RULE_OPTIONS = (
    "destination",
    "source",
    "protocol",
    "ports",
    "interfaces",
    "action",
    "tproxy_ip",
    "tproxy_port",
    "on_missing",
    "name",
    "owner",
)

LOST = "the rules in force were damaged and are compiled anew; those that cannot be read are those of this run now"


def apply_rules(options: Mapping, doors: Doors, check: bool) -> dict:
    """Add, change and remove rules in one commit. Returns what tproxy_rule returns."""
    intend, warnings = _intention(options)
    is_present, token = options["state"] == "present", options.get("confirm_token")

    def judge(pins, table: RuleTable, changes: Changes, words) -> None:
        warnings.extend(settle(findings_of_rules(doors, pins, table, changes, words), bool(options.get("force"))))

    def open_table(pins, table: RuleTable) -> None:
        table.judge, table.salvage = partial(judge, pins, table), is_present
        fault = table.reading()[1] if is_present else ""
        if fault:
            warnings.append(f"{LOST} ({fault})")

    answer = change_rules(intend, options["pin_dir"], doors, check, is_present, token, open_table)
    return {**answer, "warnings": warnings + answer["warnings"]}


def change_rules(
    intend: Callable,
    pin_dir: str,
    doors: Doors,
    check: bool,
    adds: bool,
    token: str | None = None,
    open_table: Callable = lambda pins, table: None,
) -> dict:
    """Put in force what `intend` makes of {identity: Rule}. Returns what tproxy_rule does.

    `adds` says that maps are needed; `open_table` is told of pins and table before anything is looked at.
    """
    with turn(doors, pin_dir, check, adds, token), pins_in_force(doors, pin_dir, check) as pins:
        pins.check()
        table = rule_table(doors, pins)
        open_table(pins, table)
        outcome, had, moved = commit(table, doors, pins, intend, check)
        pins.keep()
        if not check:
            with ExitStack() as undo:
                undo.callback(reconcile, table, lambda _have: outcome.before, False)
                _leave_no_empty_maps(outcome, pins, doors)
                undo.pop_all()
            pins.sweep()
        warnings = unfinished(doors, pin_dir)
    return {**_answer(outcome, had.generation, moved), "warnings": warnings}


def commit(table: RuleTable, doors: Doors, pins, intend: Callable[[Mapping], Mapping], check: bool) -> tuple:
    """Put a rule set in force. Returns (outcome, contents before, whether the same rules had to be compiled anew)."""
    had, edited = table.reading()
    moved = _finish_move(doors, pins, check)
    outcome = reconcile(table, intend, check)
    if not outcome.changed and (edited or had.torn or table.bindings(had.rules) != had.bindings):
        moved = True
        table.prepare(outcome.changes, outcome.after)
        if not check:
            table.apply(outcome.changes, outcome.after)
    return outcome, had, moved


def rule_table(doors: Doors, pins) -> RuleTable:
    """Return the table of rules, which moves attached programs when its image must grow."""

    return RuleTable(doors.bpf, pins, doors.ifindex_of, lambda image: _move(doors, pins, image))


def _move(doors: Doors, pins, image: int) -> None:
    """Pin a bigger image map; where a program runs, move it over."""
    programs = Programs(doors.bpf, pins)
    if programs.blob() is None:
        pins.replace("image", image)
        return
    with doors.netlink() as netlink:
        move_to_image(doors.bpf, netlink, programs, FUNCTION, image)


def _finish_move(doors: Doors, pins, check: bool) -> bool:
    """Finish what a run began that was killed while it moved programs; return whether there was such a run."""
    if not pins.has_marker(MOVING):
        return False
    if not check:
        _move(doors, pins, pins.fd("image"))
    return True


def _intention(options: Mapping) -> tuple:
    """Return (have -> want, warnings). Raises InvalidInput with every fault of the input."""
    single = options["rules"] is None
    if not single and len(options["rules"]) > RULES:
        raise LimitExceeded("rules", len(options["rules"]), RULES, "nothing was changed")
    items = [{name: options[name] for name in RULE_OPTIONS}] if single else options["rules"]
    items = [{**item, "owner": item.get("owner") or options["owner"]} for item in items]
    if options["state"] == "absent":
        if options["purge"]:
            raise InvalidInput(["purge: goes with state=present only; it removes what `rules` does not list"])
        identities, warnings = identities_from_params(items, single)
        gone = set(identities)
        return (lambda have: {key: rule for key, rule in have.items() if key not in gone}), warnings
    rules, warnings = rules_from_params(items, single)
    wanted = {rule.identity: rule for rule in rules}
    return (lambda have: {**_kept(have, options), **wanted}), warnings


def _kept(have: Mapping, options: Mapping) -> dict:
    """Return the rules that stay although nobody listed them: all, or with purge those of other owners."""
    return {key: rule for key, rule in have.items() if not (options["purge"] and rule.owner == options["owner"])}


def _leave_no_empty_maps(outcome: Outcome, pins, doors: Doors) -> None:
    """Remove the maps when the last rule went and no program uses them."""
    if outcome.after or not pins.names() or "program" in pins.names():
        return
    if AddressTable(doors.bpf, pins).observe() or PolicyTable(doors.bpf, pins).observe():
        return
    pins.retire()


def _answer(outcome: Outcome, generation: int, moved: bool) -> dict:
    """Return the module's answer; `moved` says that interfaces changed, or a run was killed: compiled anew."""
    puts = outcome.changes.puts
    changed = [key for key in puts if key in outcome.before]
    note = "(compiled and bound anew for the interfaces of today)\n" if moved else ""
    return {
        "changed": outcome.changed or moved,
        "rules": [rule.to_params() for rule in _sorted(outcome.after)],
        "added": len(puts) - len(changed),
        "changed_rules": len(changed),
        "removed": len(outcome.changes.deletes),
        "generation": generation + (outcome.changed or moved),
        "diff": {"before": _text(outcome.before), "after": _text(outcome.after) + note},
    }


def _sorted(rules: Mapping) -> list:
    return sorted(rules.values(), key=reading_order)


def reading_order(rule) -> tuple:
    """Return the key by which rules are listed for people: by destination, then as they are tried."""
    return (rule.destination, rule.protocol, rule.precedence)


def _text(rules: Mapping) -> str:
    return "".join(f"{rule}\n" for rule in _sorted(rules))
