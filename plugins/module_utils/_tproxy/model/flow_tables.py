# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The tables of tracked flows: their names, and how many flows fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..abi.layout import FLOWS
from ..constants import FLOW_TABLES

SIZES: Mapping[str, int] = dict.fromkeys(FLOW_TABLES, FLOWS)  # the default of each table
# The kernel keeps up to 128 free entries of an LRU map for each CPU (LOCAL_FREE_TARGET in kernel/bpf/bpf_lru_list.c).
SIZE_MIN, SIZE_MAX = 4096, 1 << 22


def sizes_from_params(params: Mapping[str, Any], faults: list[str]) -> dict[str, int]:
    """Return the given sizes of the option `flow_tables`, and add a fault for each that cannot be."""
    found = {name: size for name, size in params.items() if size is not None}
    for name, size in found.items():
        if name not in FLOW_TABLES:
            faults.append(f"flow_tables: expected {', '.join(FLOW_TABLES)}, got {name!r}; remove it")
        elif not SIZE_MIN <= size <= SIZE_MAX:
            faults.append(f"flow_tables.{name}: expected {SIZE_MIN} to {SIZE_MAX} flows, got {size}")
    return found
