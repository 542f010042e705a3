# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The audit trail: one line in the journal for each change of the router. Check mode and a no-op leave none.

A line names the user, the module or command, the parts that changed, and where there are any the generation of the
rules and the token of the pending change.
"""

from __future__ import annotations

from typing import NamedTuple

from ..resources.lock import PENDING
from ..resources.operation import Answer, Options, Result, RuleChanges
from ..system.system import Journal, System

OWNERS_NAMED = 5


def audit(name: str, options: Options, result: Result, system: System) -> None:
    """Leave the line of one run. `name` is the module or command."""
    if not result.changed:
        return
    login = system.journal.login_user()
    who = system.background.who() + (f" (login uid {login})" if login is not None else "")
    shown = result.data.get("confirm")
    generation = result.rule_changes.generation if result.rule_changes else None
    token = shown["token"] if shown else options.get("confirm_token")
    leave_line(system.journal, Line(who, name, _described(options, result), generation, token))


class Line(NamedTuple):
    """One line of the trail."""

    who: str
    operation: str
    change: str
    generation: int | None = None
    token: str | None = None


def leave_line(journal: Journal, line: Line) -> None:
    """Write one line, with its parts as fields."""
    ends = [f"{name} {value}" for name, value in (("generation", line.generation), ("token", line.token)) if value]
    text = "; ".join([f"{line.operation} by {line.who}: {line.change}", *ends])
    fields = {f"TPROXY_{name.upper()}": str(value) for name, value in line._asdict().items() if value}
    journal.record(text, fields)


def describe_rules(changes: RuleChanges) -> str:
    """Return the number of changed rules, and their owners."""
    named = changes.owners[:OWNERS_NAMED]
    more = len(changes.owners) - len(named)
    owners = ", ".join(named) + (f" and {more} more" if more else "")
    counts = f"{changes.added} added, {changes.changed} changed, {changes.removed} removed"
    return f"rules of {owners}: {counts}" if owners else "rules compiled anew for the interfaces of now"


def _described(options: Options, result: Result) -> str:
    """Return the parts that changed."""
    found = [describe_rules(result.rule_changes)] if result.rule_changes else []
    if "changes" in result.data:  # a restoration or the end of a pending change
        found += [f"{len(result.data['changes'])} parts put back"] if result.data["changes"] else []
    elif result.diff and not found:
        found.append(_of_diff(options, *result.diff))
    shown = result.data.get("confirm")
    if shown:
        seconds = f", {shown['seconds']} s to confirm it" if shown["state"] == PENDING else ""
        found.append(f"the change is {shown['state'].replace('_', ' ')}{seconds}")
    return ", ".join(found) or "changed"


def _of_diff(options: Options, before: str | Answer, after: str | Answer) -> str:
    """Return the interfaces that a run names, and the size of a difference of texts or the values that differ."""
    given = [options["interface"]] if options.get("interface") else options.get("interfaces") or []
    names = [str(each["name"]) if isinstance(each, dict) else each for each in given]
    if isinstance(before, str) or isinstance(after, str):
        had, has = str(before).splitlines(), str(after).splitlines()
        what = f"{len(set(has) - set(had))} lines added, {len(set(had) - set(has))} removed"
    else:
        what = ", ".join(key for key in {**before, **after} if before.get(key) != after.get(key))
    return f"{', '.join(names)}: {what}" if names else what
