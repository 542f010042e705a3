# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The rules in force, compiled anew when interfaces that they name have come, gone, or another index.

An image knows interfaces by their index. A rule may name one that is not there yet; whoever attaches a program sees to
it that it applies from the first packet.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, NamedTuple

from ._apply_rules import rule_table
from ._diff import Changes
from ._doors import Doors
from ._rule_table import RuleTable

NO_CHANGES = Changes({}, ())


class Rebinding(NamedTuple):
    """The same rules for the interfaces of today: the words in force and those to come."""

    table: RuleTable
    before: Any
    words: Any

    def apply(self, undo: ExitStack) -> None:
        """Put them in force; `undo` learns how to go back."""
        undo.callback(self.table.commit, self.before)
        self.table.apply(NO_CHANGES, {})


def rebinding(doors: Doors, pins) -> Rebinding | None:
    """Return what binds the rules to the interfaces of today; None where they are, or cannot be read.

    Raises LimitExceeded, VerificationFailed; changes nothing.
    """
    table = rule_table(doors, pins)
    table.salvage = True
    contents = table.contents()
    if table.bindings(contents.rules) == contents.bindings:
        return None
    same = {rule.identity: rule for rule, _slot in contents.rules}
    return Rebinding(table, table.words(), table.compile(same))
