# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The rules in force, compiled anew when interfaces that they name have come, gone, or another index.

An image knows interfaces by their index. A rule may name one that is not there yet; whoever attaches a program sees to
it that it applies from the first packet.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Callable, NamedTuple

from ..constants import FUNCTION
from ..model.rule import sorted_rules
from ..system.system import System
from .attachments import MOVING, move_to_image
from .interfaces import AddressTable, PolicyTable
from .lock import lock_for_change
from .migrate import migration_warnings, pins_in_force
from .programs import Programs
from .reconcile import Changes, Outcome, reconcile
from .rules import RuleTable

NO_CHANGES = Changes({}, ())


class GroupRefresh(NamedTuple):
    """The same rules for the interfaces of today: the words in force and those to come."""

    table: RuleTable
    before: Any
    words: Any

    def apply(self, undo: ExitStack) -> None:
        """Put them in force; `undo` learns how to go back."""
        undo.callback(self.table.commit, self.before)
        self.table.apply(NO_CHANGES, {})


def group_refresh(system: System, pins) -> GroupRefresh | None:
    """Return what binds the rules to the interfaces of today; None where they are, or cannot be read.

    Raises LimitExceeded, VerificationFailed; changes nothing.
    """
    table = rule_table(system, pins)
    table.ignore_damage = True
    contents = table.contents()
    if table.bindings(contents.rules) == contents.bindings:
        return None
    same = {rule.identity: rule for rule, _slot in contents.rules}
    return GroupRefresh(table, table.words(), table.compile(same))


def change_rules(
    intend: Callable,
    pin_dir: str,
    system: System,
    check: bool,
    adds: bool,
    token: str | None = None,
    open_table: Callable = lambda pins, table: None,
) -> dict:
    """Put in force what `intend` makes of {identity: Rule}. Returns what tproxy_rule does.

    `adds` says that maps are needed; `open_table` is told of pins and table before anything is looked at.
    """
    with lock_for_change(system, pin_dir, check, adds, token), pins_in_force(system, pin_dir, check) as pins:
        pins.check()
        table = rule_table(system, pins)
        open_table(pins, table)
        outcome, had, moved = commit(table, system, pins, intend, check)
        pins.keep()
        if not check:
            with ExitStack() as undo:
                undo.callback(reconcile, table, lambda _have: outcome.before, False)
                _leave_no_empty_maps(outcome, pins, system)
                undo.pop_all()
            pins.sweep()
        warnings = migration_warnings(system, pin_dir)
    return {**_answer(outcome, had.generation, moved), "warnings": warnings}


def commit(table: RuleTable, system: System, pins, intend: Callable[[Mapping], Mapping], check: bool) -> tuple:
    """Put a rule set in force. Returns (outcome, contents before, whether the same rules had to be compiled anew)."""
    had, edited = table.reading()
    moved = _finish_move(system, pins, check)
    outcome = reconcile(table, intend, check)
    if not outcome.changed and (edited or had.interrupted or table.bindings(had.rules) != had.bindings):
        moved = True
        table.prepare(outcome.changes, outcome.after)
        if not check:
            table.apply(outcome.changes, outcome.after)
    return outcome, had, moved


def rule_table(system: System, pins) -> RuleTable:
    """Return the table of rules, which moves attached programs when its image must grow."""

    return RuleTable(system.bpf, pins, system.ifindex_of, lambda image: _move(system, pins, image))


def _move(system: System, pins, image: int) -> None:
    """Pin a bigger image map; where a program runs, move it over."""
    programs = Programs(system.bpf, pins)
    if programs.blob() is None:
        pins.replace("image", image)
        return
    with system.netlink() as netlink:
        move_to_image(system.bpf, netlink, programs, FUNCTION, image)


def _finish_move(system: System, pins, check: bool) -> bool:
    """Finish what a run began that was killed while it moved programs; return whether there was such a run."""
    if not pins.has_marker(MOVING):
        return False
    if not check:
        _move(system, pins, pins.fd("image"))
    return True


def _leave_no_empty_maps(outcome: Outcome, pins, system: System) -> None:
    """Remove the maps when the last rule went and no program uses them."""
    if outcome.after or not pins.names() or "program" in pins.names():
        return
    if AddressTable(system.bpf, pins).observe() or PolicyTable(system.bpf, pins).observe():
        return
    pins.retire()


def _answer(outcome: Outcome, generation: int, moved: bool) -> dict:
    """Return the module's answer; `moved` says that interfaces changed, or a run was killed: compiled anew."""
    puts = outcome.changes.puts
    changed = [key for key in puts if key in outcome.before]
    note = "(compiled and bound anew for the interfaces of today)\n" if moved else ""
    return {
        "changed": outcome.changed or moved,
        "rules": [rule.to_params() for rule in sorted_rules(outcome.after)],
        "added": len(puts) - len(changed),
        "changed_rules": len(changed),
        "removed": len(outcome.changes.deletes),
        "generation": generation + (outcome.changed or moved),
        "diff": {"before": _text(outcome.before), "after": _text(outcome.after) + note},
    }


def _text(rules: Mapping) -> str:
    return "".join(f"{rule}\n" for rule in sorted_rules(rules))
