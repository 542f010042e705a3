# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One loaded program for all tests here. Needs root and BCC; the host's namespace ends with the tests."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import sys

import pytest

_HERE = pathlib.Path(__file__).resolve().parent


def _register_collection() -> None:
    """Run checkout.py, which cannot be imported by its full name yet."""
    spec = importlib.util.spec_from_file_location("checkout", _HERE / "checkout.py")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


if "ansible_collections" not in sys.modules:
    _register_collection()


@pytest.fixture(scope="session")
def trial():
    """Return program and model, side by side."""
    from ansible_collections.netedge.tproxy.plugins.module_utils._errors import MissingLibrary
    from ansible_collections.netedge.tproxy.tests.fuzz.trial import Trial

    if os.geteuid() != 0:
        pytest.skip("needs root")
    try:
        made = Trial()
    except MissingLibrary as missing:
        pytest.skip(f"NOTHING OF THE PROGRAM WAS TESTED: {missing}")
    yield made
    made.close()
