# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of one table: load, compare, prepare, (check mode stops here), apply, verify, or restore."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import (
    KernelRefused,
    LimitExceeded,
    VerificationFailed,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.reconcile import (
    plan,
    reconcile,
    restore_entries,
)


class Shelf:
    """A table that notes its calls, and can be made to fail or to forget."""

    def __init__(self, entries, fails_at="", forgets=(), applies=99):
        self.content, self.calls = dict(entries), []
        self._fails_at, self._forgets, self._applies = fails_at, forgets, applies

    def load(self):
        self.calls.append("load")
        return dict(self.content)

    def entries(self, snapshot):
        return snapshot

    def prepare(self, snapshot, changes, want):
        self.calls.append("prepare")
        if self._fails_at == "prepare":
            raise LimitExceeded("entries", len(want), 0)
        return changes

    def apply(self, changes):
        self.calls.append("apply")
        for number, (key, value) in enumerate(changes.puts.items()):
            if self._fails_at == "apply" and number >= self._applies:
                raise KernelRefused(5, "put", key)
            if key not in self._forgets:
                self.content[key] = value
        for key in changes.deletes:
            del self.content[key]

    def restore(self, snapshot):
        self.calls.append("restore")
        self.content = dict(snapshot)


def to(want):
    return lambda _have: want


def planned(table, desired):
    """Return the plan, as check mode makes it."""
    snapshot = table.load()
    return plan(table, snapshot, desired(table.entries(snapshot)))


EACH_WAY = pytest.mark.parametrize("way", [reconcile, planned])
HAVE, WANT = {"a": 1, "b": 2}, {"b": 3, "c": 4}


def test_a_change_is_prepared_applied_and_read_back():
    shelf = Shelf(HAVE)
    outcome = reconcile(shelf, to(WANT))
    assert shelf.calls == ["load", "prepare", "apply", "load"]
    assert (outcome.changed, outcome.before, outcome.after, shelf.content) == (True, HAVE, WANT, WANT)


def test_check_mode_foretells_it_and_stops_before_the_first_change():
    shelf = Shelf(HAVE)
    predicted = planned(shelf, to(WANT))
    assert shelf.calls == ["load", "prepare"]
    done = reconcile(Shelf(HAVE), to(WANT))
    assert (predicted.before, predicted.after, predicted.changes) == (done.before, done.after, done.changes)
    assert shelf.content == HAVE


@EACH_WAY
def test_nothing_to_do_is_nothing_done(way):
    shelf = Shelf(HAVE)
    outcome = way(shelf, to(HAVE))
    assert not outcome.changed
    assert shelf.calls == ["load"]


@EACH_WAY
def test_what_cannot_be_is_refused_in_check_mode_too(way):
    shelf = Shelf(HAVE, fails_at="prepare")
    with pytest.raises(LimitExceeded):
        way(shelf, to(WANT))
    assert shelf.content == HAVE


def test_the_intention_sees_what_is_there():
    shelf = Shelf(HAVE)
    reconcile(shelf, lambda have: {**have, "c": len(have)})
    assert shelf.content == {**HAVE, "c": 2}


def test_a_refusal_half_way_brings_back_what_was():
    shelf = Shelf(HAVE, fails_at="apply", applies=1)
    with pytest.raises(KernelRefused):
        reconcile(shelf, to(WANT))
    assert shelf.calls[-1] == "restore"
    assert shelf.content == HAVE


def test_what_reads_back_otherwise_is_brought_back_and_said_with_its_figures():
    shelf = Shelf(HAVE, forgets={"c"})
    with pytest.raises(
        VerificationFailed, match=r"^Shelf reads back other than written \(1 entries differ, 0 too many\)"
    ):
        reconcile(shelf, to(WANT))
    assert shelf.content == HAVE


def test_a_bug_of_ours_is_not_hidden_by_a_restoration():
    with pytest.raises(ZeroDivisionError):
        reconcile(Shelf(HAVE), lambda _have: 1 // 0)


# ---- restore_entries: the restoration of tables that change entry by entry -----------------------------------


def test_entries_are_put_back_one_by_one():
    shelf = Shelf({"b": 3, "c": 4})
    restore_entries(shelf, HAVE)
    assert shelf.content == HAVE


@pytest.mark.parametrize("fails_at", ["prepare", "apply"])
def test_a_refusal_on_the_way_back_hides_no_first_error(fails_at):
    restore_entries(Shelf({}, fails_at=fails_at, applies=0), HAVE)
