# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The keyed difference between what is and what shall be. Pure: two mappings in, changes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Changes:
    """What must be done: `puts` new or changed entries by key, `deletes` the keys that go."""

    puts: Mapping
    deletes: tuple

    def __bool__(self) -> bool:
        return bool(self.puts) or bool(self.deletes)


def diff(have: Mapping, want: Mapping) -> Changes:
    """Return what turns `have` into `want`. Applied to `have` it gives `want`; twice it is empty."""
    puts = {key: value for key, value in want.items() if key not in have or have[key] != value}
    deletes = tuple(key for key in have if key not in want)
    return Changes(puts, deletes)
