# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One loaded program for all tests here. Needs root and BCC; the host's namespace ends with the tests."""

from __future__ import annotations

import os

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import MissingLibrary
from ansible_collections.netedge.tproxy.tests.fuzz.trial import Trial


@pytest.fixture(scope="session")
def trial():
    """Return program and model, side by side."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    try:
        made = Trial()
    except MissingLibrary as missing:
        pytest.skip(f"NOTHING OF THE PROGRAM WAS TESTED: {missing}")
    yield made
    made.close()
