# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The story of tproxy_rule: from options to the rule set in force."""

from __future__ import annotations

from typing import Mapping

from ._attachments import Programs, move_to_image
from ._doors import Doors, turn
from ._errors import InvalidInput
from ._interface_tables import AddressTable, PolicyTable
from ._pins import splicer_pins
from ._reconcile import Outcome, reconcile
from ._rule_options import identities_from_params, rules_from_params
from ._rule_table import RuleTable
from ._splicer import FUNCTION

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


def apply_rules(options: Mapping, doors: Doors, check: bool) -> dict:
    """Add, change and remove rules in one commit. Returns what tproxy_rule returns."""
    intend, warnings = _intention(options)
    with turn(doors, options["pin_dir"], check), splicer_pins(doors.bpf, doors.bpffs, options["pin_dir"]) as pins:
        pins.check()
        table = rule_table(doors, pins)
        generation = table.contents().generation
        outcome = reconcile(table, intend, check)
        if not check:
            _leave_no_empty_maps(outcome, pins, doors)
    return {**_answer(outcome, generation), "warnings": warnings}


def rule_table(doors: Doors, pins) -> RuleTable:
    """Return the table of rules, which moves attached programs when its image must grow."""

    def rebind(image: int) -> None:
        with doors.netlink() as netlink:
            move_to_image(doors.bpf, netlink, Programs(doors.bpf, pins), FUNCTION, image)

    return RuleTable(doors.bpf, pins, doors.ifindex_of, rebind)


def _intention(options: Mapping) -> tuple:
    """Return (have -> want, warnings). Raises InvalidInput with every fault of the input."""
    single = options["rules"] is None
    items = [{name: options[name] for name in RULE_OPTIONS}] if single else options["rules"]
    items = [{**item, "owner": item.get("owner") or options["owner"]} for item in items]
    if options["state"] == "absent":
        if options["purge"]:
            raise InvalidInput(["purge: goes with state=present only; it removes what `rules` does not list"])
        identities, warnings = identities_from_params(items, single)
        return (lambda have: {key: rule for key, rule in have.items() if key not in set(identities)}), warnings
    rules, warnings = rules_from_params(items, single)
    wanted = {rule.identity: rule for rule in rules}
    return (lambda have: {**_kept(have, options), **wanted}), warnings


def _kept(have: Mapping, options: Mapping) -> dict:
    """Return the rules that stay although nobody listed them: all, or with purge those of other owners."""
    return {key: rule for key, rule in have.items() if not (options["purge"] and rule.owner == options["owner"])}


def _leave_no_empty_maps(outcome: Outcome, pins, doors: Doors) -> None:
    """Remove the maps when the last rule went and no program uses them."""
    if outcome.after or "program" in pins.names():
        return
    if AddressTable(doors.bpf, pins).observe() or PolicyTable(doors.bpf, pins).observe():
        return
    pins.remove()


def _answer(outcome: Outcome, generation: int) -> dict:
    puts = outcome.changes.puts
    changed = [key for key in puts if key in outcome.before]
    return {
        "changed": outcome.changed,
        "rules": [rule.to_params() for rule in _sorted(outcome.after)],
        "added": len(puts) - len(changed),
        "changed_rules": len(changed),
        "removed": len(outcome.changes.deletes),
        "generation": generation + outcome.changed,
        "diff": {"before": _text(outcome.before), "after": _text(outcome.after)},
    }


def _sorted(rules: Mapping) -> list:
    return sorted(rules.values(), key=lambda rule: (rule.destination, rule.precedence))


def _text(rules: Mapping) -> str:
    return "".join(f"{rule}\n" for rule in _sorted(rules))
