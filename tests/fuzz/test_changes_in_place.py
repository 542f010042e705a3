# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images that change in place, through the loaded program. TPROXY_LIVE_SEED asks for other changes; "random" is one."""

from __future__ import annotations

import os
import random

import pytest

from ansible_collections.netedge.tproxy.tests.fuzz.live import CHANGES, PACKETS_PER_CHANGE, LiveTrial, try_changes

GIVEN = os.environ.get("TPROXY_LIVE_SEED", "pytest")
SEED = str(random.SystemRandom().randrange(1 << 32)) if GIVEN == "random" else GIVEN


@pytest.fixture(scope="module")
def live(trial):
    """Return a trial of its own; the other one's namespace is entered again when it is over."""
    made = LiveTrial()
    yield made
    made.close()


@pytest.mark.parametrize("number", range(6))
def test_program_and_model_agree_after_each_change_in_place(live, number):
    assert sum(try_changes(live, f"{SEED}:{number}").values()) == CHANGES * PACKETS_PER_CHANGE


def test_most_changes_are_made_in_place(live):
    """Else the others would prove little. This setup is the same each time."""
    try_changes(live, "in place")
    assert live.program.anew < CHANGES // 2
