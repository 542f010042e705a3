# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replays what the fuzzer once found, and looks at a few fresh scenes."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.netedge.tproxy.tests.fuzz.fuzz import try_scene
from ansible_collections.netedge.tproxy.tests.fuzz.trial import read_case

CASES = sorted((pathlib.Path(__file__).resolve().parent / "cases").glob("*.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(trial, path):
    scene, arrived, expected = read_case(path)
    trial.tell(scene)
    said, wanted = trial.ask(arrived)
    assert wanted == expected, "the model has changed its mind"
    assert said == wanted


@pytest.mark.parametrize("number", range(12))
def test_scene(trial, number):
    assert sum(try_scene(trial, f"pytest:{number}", 1500).values()) == 1500
