# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter to bpf(2) on maps that no operation uses."""

from __future__ import annotations

import os

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import TYPE_ARRAY
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.structs import key
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf


# one call; several calls with a last one that is not full; a number of entries that is a multiple of that of a call
@pytest.mark.parametrize(("size", "entries"), [(8, 100), (1568, 512), (bpf.BATCH_BYTES // 8 - 4, 32)])
def test_the_values_of_an_array_come_in_the_order_of_its_keys(size, entries):
    bpf.raise_memory_limit()
    descriptor = bpf.create_map((TYPE_ARRAY, 4, size, entries, 0), "test")
    try:
        for index in (0, 3, entries - 1):
            bpf.update(descriptor, key(index), index.to_bytes(4, "little") * (size // 4))
        assert bpf.values(descriptor, 4, size) == [bpf.lookup(descriptor, key(index), size) for index in range(entries)]
    finally:
        os.close(descriptor)
