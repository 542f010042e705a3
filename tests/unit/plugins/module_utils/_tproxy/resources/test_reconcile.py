# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one story: observe, intend, compare, prepare, (check mode stops here), apply, verify, or bring back."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import (
    KernelRefused,
    LimitExceeded,
    VerificationFailed,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.reconcile import reconcile, restore_table


class Shelf:
    """A table that notes what is asked of it, and can be made to fail or to forget."""

    def __init__(self, entries, fails_at="", forgets=(), applies=99):
        self.entries, self.calls = dict(entries), []
        self._fails_at, self._forgets, self._applies = fails_at, forgets, applies

    def observe(self):
        self.calls.append("observe")
        return dict(self.entries)

    def prepare(self, changes, want):
        self.calls.append("prepare")
        if self._fails_at == "prepare":
            raise LimitExceeded("entries", len(want), 0)

    def apply(self, changes, want):
        self.calls.append("apply")
        for number, (key, value) in enumerate(changes.puts.items()):
            if self._fails_at == "apply" and number >= self._applies:
                raise KernelRefused(5, "put", key)
            if key not in self._forgets:
                self.entries[key] = value
        for key in changes.deletes:
            del self.entries[key]

    def restore(self, have):
        self.calls.append("restore")
        self.entries = dict(have)


def to(want):
    return lambda _have: want


HAVE, WANT = {"a": 1, "b": 2}, {"b": 3, "c": 4}


def test_a_change_is_prepared_applied_and_read_back():
    shelf = Shelf(HAVE)
    outcome = reconcile(shelf, to(WANT), False)
    assert shelf.calls == ["observe", "prepare", "apply", "observe"]
    assert (outcome.changed, outcome.before, outcome.after, shelf.entries) == (True, HAVE, WANT, WANT)


def test_check_mode_foretells_it_and_stops_before_the_first_change():
    shelf = Shelf(HAVE)
    outcome = reconcile(shelf, to(WANT), True)
    assert shelf.calls == ["observe", "prepare"]
    assert outcome == reconcile(Shelf(HAVE), to(WANT), False)
    assert shelf.entries == HAVE


@pytest.mark.parametrize("check", [False, True])
def test_nothing_to_do_is_nothing_done(check):
    shelf = Shelf(HAVE)
    outcome = reconcile(shelf, to(HAVE), check)
    assert not outcome.changed
    assert shelf.calls == ["observe"]


@pytest.mark.parametrize("check", [False, True])
def test_what_cannot_be_is_refused_in_check_mode_too(check):
    shelf = Shelf(HAVE, fails_at="prepare")
    with pytest.raises(LimitExceeded):
        reconcile(shelf, to(WANT), check)
    assert shelf.entries == HAVE


def test_the_intention_sees_what_is_there():
    shelf = Shelf(HAVE)
    reconcile(shelf, lambda have: {**have, "c": len(have)}, False)
    assert shelf.entries == {**HAVE, "c": 2}


def test_a_refusal_half_way_brings_back_what_was():
    shelf = Shelf(HAVE, fails_at="apply", applies=1)
    with pytest.raises(KernelRefused):
        reconcile(shelf, to(WANT), False)
    assert shelf.calls[-1] == "restore"
    assert shelf.entries == HAVE


def test_what_reads_back_otherwise_is_brought_back_and_said_with_its_figures():
    shelf = Shelf(HAVE, forgets={"c"})
    with pytest.raises(
        VerificationFailed, match=r"^Shelf reads back other than written \(1 entries differ, 0 too many\)"
    ):
        reconcile(shelf, to(WANT), False)
    assert shelf.entries == HAVE


def test_a_bug_of_ours_is_not_hidden_by_a_restoration():
    with pytest.raises(ZeroDivisionError):
        reconcile(Shelf(HAVE), lambda _have: 1 // 0, False)


# ---- put_back: the restoration of tables that change entry by entry -----------------------------------


def test_entries_are_put_back_one_by_one():
    shelf = Shelf({"b": 3, "c": 4})
    restore_table(shelf, HAVE)
    assert shelf.entries == HAVE


@pytest.mark.parametrize("fails_at", ["prepare", "apply"])
def test_a_refusal_on_the_way_back_hides_no_first_error(fails_at):
    restore_table(Shelf({}, fails_at=fails_at, applies=0), HAVE)
