# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replay the cases that the fuzzer found, and judge a few new setups."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.netedge.tproxy.tests.fuzz.fuzz import try_setup
from ansible_collections.netedge.tproxy.tests.fuzz.trial import read_case

CASES = sorted((pathlib.Path(__file__).resolve().parent / "cases").glob("*.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(trial, path):
    setup, arrived, expected = read_case(path)
    trial.tell(setup)
    said, wanted = trial.ask(arrived)
    assert wanted == expected, "the model has changed its mind"
    assert said == wanted


@pytest.mark.parametrize("number", range(12))
def test_setup(trial, number):
    assert sum(try_setup(trial, f"pytest:{number}", 1500).values()) == 1500
