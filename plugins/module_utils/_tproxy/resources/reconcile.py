# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The one story: observe, intend, compare, prepare, (check mode stops here), apply, verify.

A table is anything that can do what `Table` says. The doors are the tables' affair.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Callable, NamedTuple, Protocol

from ..errors import TproxyError, VerificationFailed


class Table(Protocol):
    """A keyed set in the kernel."""

    def observe(self) -> Mapping:
        """Return what is there now. Changes nothing."""

    def prepare(self, changes: Changes, want: Mapping) -> None:
        """Work out what apply() will write, and refuse what cannot be. Changes nothing; check mode comes here too."""

    def apply(self, changes: Changes, want: Mapping) -> None:
        """Make the changes that were prepared, of which `want` is the whole outcome."""

    def restore(self, have: Mapping) -> None:
        """Bring back `have` after a failed apply(), as far as the kernel lets us."""


class Outcome(NamedTuple):
    """What was, what is (or, in check mode, would be), and what it took."""

    before: Mapping
    after: Mapping
    changes: Changes

    @property
    def changed(self) -> bool:
        """Whether anything had to be done."""
        return bool(self.changes)


def reconcile(table: Table, intend: Callable[[Mapping], Mapping], check: bool) -> Outcome:
    """Bring a table to what `intend` makes of it. Raises VerificationFailed when it does not read back so."""
    have = table.observe()
    want = intend(have)
    changes = diff(have, want)
    if changes:
        table.prepare(changes, want)
    if changes and not check:
        _apply(table, changes, have, want)
    return Outcome(have, want, changes)


def _apply(table: Table, changes: Changes, have: Mapping, want: Mapping) -> None:
    try:
        table.apply(changes, want)
        _verify(table, want)
    except TproxyError:
        table.restore(have)
        raise


def _verify(table: Table, want: Mapping) -> None:
    left = diff(table.observe(), want)
    if left:
        raise VerificationFailed(
            f"{type(table).__name__} reads back other than written ({len(left.puts)} entries differ,"
            f" {len(left.deletes)} too many): is another program writing to the same maps?"
        )


def restore_table(table: Table, have: Mapping) -> None:
    """Undo entry by entry what a failed apply() did; a refusal on the way does not hide the first error."""
    with contextlib.suppress(TproxyError):
        back = diff(table.observe(), have)
        table.prepare(back, have)
        table.apply(back, have)


@dataclass(frozen=True)
class Changes:
    """What must be done: `puts` new or changed entries by key, `deletes` the keys that go."""

    puts: Mapping
    deletes: tuple

    def __bool__(self) -> bool:
        return bool(self.puts) or bool(self.deletes)


def diff(have: Mapping, want: Mapping) -> Changes:
    """Return what turns `have` into `want`. Applied to `have` it gives `want`; twice it is empty."""
    puts = {key: value for key, value in want.items() if key not in have or have[key] != value}
    deletes = tuple(key for key in have if key not in want)
    return Changes(puts, deletes)
