# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Bring a keyed set of the kernel to a wanted content: load, plan, (check mode stops here), apply, verify.

A table is one such set: policies, addresses, routes, rules. Its snapshot is the content as one load found it. A plan
holds what apply() will write, so nothing is read twice between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ..errors import TproxyError, VerificationFailed

Key = TypeVar("Key")
Value = TypeVar("Value")
Snapshot = TypeVar("Snapshot")
Work = TypeVar("Work")


@dataclass(frozen=True)
class Changes(Generic[Key, Value]):
    """The difference of two contents: `puts` has new and changed entries, `deletes` the keys that go."""

    puts: Mapping[Key, Value]
    deletes: tuple[Key, ...]

    def __bool__(self) -> bool:
        return bool(self.puts) or bool(self.deletes)


def diff(have: Mapping[Key, Value], want: Mapping[Key, Value]) -> Changes[Key, Value]:
    """Return the changes that turn `have` into `want`. Applied to `have` they give `want`."""
    puts = {key: value for key, value in want.items() if key not in have or have[key] != value}
    deletes = tuple(key for key in have if key not in want)
    return Changes(puts, deletes)


class Table(Protocol[Snapshot, Key, Value, Work]):
    """A keyed set in the kernel."""

    def load(self) -> Snapshot:
        """Return the content. Change nothing."""

    def entries(self, snapshot: Snapshot) -> Mapping[Key, Value]:
        """Return the entries of a snapshot."""

    def prepare(self, snapshot: Snapshot, changes: Changes[Key, Value], want: Mapping[Key, Value]) -> Work:
        """Return the work for apply(). Raises TproxyError for an impossible content. Change nothing."""

    def apply(self, work: Work) -> None:
        """Write the prepared work."""

    def restore(self, snapshot: Snapshot) -> None:
        """Bring the content of a snapshot back after a failure, as far as the kernel permits."""


@dataclass(frozen=True)
class Plan(Generic[Snapshot, Key, Value, Work]):
    """The way of one table from a snapshot to a wanted content. `work` is None where nothing has to be written."""

    table: Table[Snapshot, Key, Value, Work]
    snapshot: Snapshot
    before: Mapping[Key, Value]
    after: Mapping[Key, Value]
    changes: Changes[Key, Value]
    work: Work | None

    @property
    def changed(self) -> bool:
        """Return whether an entry changes."""
        return bool(self.changes)

    def apply(self, undo: ExitStack | None = None) -> None:
        """Write the work and read it back. `undo` gets the callback that restores the snapshot.

        Raises VerificationFailed when the table reads back otherwise. After a failure the snapshot is restored.
        """
        if self.work is None:
            return
        try:
            self.table.apply(self.work)
            _verify(self.table, self.after)
        except TproxyError:
            self.table.restore(self.snapshot)
            raise
        if undo is not None:
            undo.callback(self.table.restore, self.snapshot)


def plan(
    table: Table[Snapshot, Key, Value, Work], snapshot: Snapshot, want: Mapping[Key, Value], rewrite: bool = False
) -> Plan[Snapshot, Key, Value, Work]:
    """Return the plan to a wanted content; with `rewrite` the same content is written again. Raises as prepare()."""
    have = table.entries(snapshot)
    changes = diff(have, want)
    work = table.prepare(snapshot, changes, want) if changes or rewrite else None
    return Plan(table, snapshot, have, want, changes, work)


def with_changes(have: Mapping[Key, Value], changes: Changes[Key, Value]) -> dict[Key, Value]:
    """Return content after changes."""
    gone = set(changes.deletes)
    return {**{key: value for key, value in have.items() if key not in gone}, **changes.puts}


def reconcile(
    table: Table[Snapshot, Key, Value, Work], desired: Callable[[Mapping[Key, Value]], Mapping[Key, Value]]
) -> Plan[Snapshot, Key, Value, Work]:
    """Bring a table from its content to the desired one; return the plan that was applied. Raises as Plan.apply()."""
    snapshot = table.load()
    applied = plan(table, snapshot, desired(table.entries(snapshot)))
    applied.apply()
    return applied


def restore_entries(table: Table[Snapshot, Key, Value, Work], have: Mapping[Key, Value]) -> None:
    """Undo a failed apply() entry by entry. A refusal on the way does not hide the first error."""
    with suppress(TproxyError):
        back = plan(table, table.load(), have)
        if back.work is not None:
            table.apply(back.work)


def _verify(table: Table[Snapshot, Key, Value, Work], want: Mapping[Key, Value]) -> None:
    rest = diff(table.entries(table.load()), want)
    if rest:
        raise VerificationFailed(
            f"{type(table).__name__} reads back other than written ({len(rest.puts)} entries differ,"
            f" {len(rest.deletes)} too many): is another program writing to the same maps?"
        )
