# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a run at which a test lets it fail. `make test` tries some of them, `make failures` all."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable

STEPS = int(os.environ.get("TPROXY_STEPS", "5"))  # that are tried of a run; 0: all


def tried(steps: Iterable[int], name: str) -> list[int]:
    """Return steps at equal distances. Runs of other names begin with different ones: together they try each kind."""
    among = sorted(steps)
    distance = -(-len(among) // STEPS) if STEPS else 1
    return among[zlib.crc32(name.encode()) % distance :: distance] if among else among
