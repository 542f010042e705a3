# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The story of tproxy_rule: from options to the rule set in force."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ..abi.layout import RULES
from ..checks.findings import enforce
from ..checks.preflight import findings_of_rules
from ..errors import InvalidInput, LimitExceeded
from ..model.rule_options import identities_from_params, rules_from_params
from ..resources.reconcile import Changes
from ..resources.rule_changes import change_rules
from ..resources.rules import RuleTable
from ..system.system import System

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


def apply_rules(options: Mapping, system: System, check: bool) -> dict:
    """Add, change and remove rules in one commit. Returns what tproxy_rule returns."""
    intend, warnings = _intention(options)
    is_present, token = options["state"] == "present", options.get("confirm_token")

    def judge(pins, table: RuleTable, changes: Changes, words) -> None:
        warnings.extend(enforce(findings_of_rules(system, pins, table, changes, words), bool(options.get("force"))))

    def open_table(pins, table: RuleTable) -> None:
        table.judge, table.ignore_damage = partial(judge, pins, table), is_present
        fault = table.reading()[1] if is_present else ""
        if fault:
            warnings.append(f"{LOST} ({fault})")

    answer = change_rules(intend, options["pin_dir"], system, check, is_present, token, open_table)
    return {**answer, "warnings": warnings + answer["warnings"]}


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
