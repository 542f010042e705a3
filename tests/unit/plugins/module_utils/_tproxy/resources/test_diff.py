# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The difference: applied it gives the wanted content, twice it is empty, and it touches no other entry."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as draw

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.reconcile import diff

TABLES = draw.dictionaries(draw.integers(0, 9), draw.sampled_from([None, 0, "", "a", "b"]))


def applied(changes, have):
    left = {key: value for key, value in have.items() if key not in changes.deletes}
    return {**left, **changes.puts}


@given(TABLES, TABLES)
def test_applied_it_gives_what_was_wanted(have, want):
    assert applied(diff(have, want), have) == want


@given(TABLES, TABLES)
def test_twice_it_is_empty(have, want):
    assert not diff(applied(diff(have, want), have), want)


@given(TABLES, TABLES)
def test_it_is_as_small_as_can_be(have, want):
    changes = diff(have, want)
    assert bool(changes) == (have != want)
    assert set(changes.deletes) == set(have) - set(want)
    assert all(key not in have or have[key] != value for key, value in changes.puts.items())


def test_a_value_that_is_nothing_is_still_a_value():
    assert diff({}, {1: None}).puts == {1: None}
    assert diff({1: None}, {}).deletes == (1,)
