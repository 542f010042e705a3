# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for the tests against this machine's kernel."""

from __future__ import annotations

import re

import pytest

from ansible_collections.netedge.tproxy.tests.support.fixtures import (  # pylint: disable=unused-import
    bare_router,
    blob,
    client,
    compiler,
    lasting,
    loaded,
    netns,
    program,
    router,
    splicer,
    splicing,
    wires,
)

# Tests that `make kernel-slice` leaves out. Each has a sibling there: the same test with another parameter, or a test
# of the same kind in its file.
LONG = re.compile(
    "|".join(
        (
            r"test_changes\.py::test_(policies_change|rules_are_swapped)",
            r"test_changes_in_place\.py::.*\[[1-5]\]",
            r"test_confirm\.py::test_(an_image|a_first_attach_passes|a_confirmation_that|a_dead_guard)",
            r"test_drift\.py::.*\[.*(could-not|by-hand|spoiled|removed|deleted|detached|anew)",
            r"test_fragments\.py::test_large_pings.*\[IPv4\]",
            r"test_helper\.py::.*\[(shell|perl)\]",
            r"test_hooks\.py::.*\[clsact\]",
            r"test_live\.py::test_a_helper_killed.*\[[1-4]\]",
            r"test_lost_pins\.py::.*(umount|no bpffs)",
            r"test_restore\.py::.*\[(clsact|tc )",
            r"test_trackers\.py::.*\[clsact\]",
            r"test_upgrade\.py::test_(a_removal|a_rule_alone|an_upgrade_that|check_mode|one_interface|rules_|the_role)",
            r"test_upgrade\.py::test_what_the_older",
        )
    )
)


def pytest_configure(config):
    """Register the marker."""
    config.addinivalue_line("markers", "long: runs in `make kernel`, and not in its slice")


def pytest_collection_modifyitems(items):
    """Mark the tests that the slice leaves out."""
    for item in items:
        if LONG.search(item.nodeid):
            item.add_marker(pytest.mark.long)
