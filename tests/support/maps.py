# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The maps of a program, made as the product makes them, without pins."""

from __future__ import annotations

import os

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import layout
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.program.blob import Blob
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources import hit_counters
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.pins import inner_shape
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf


def new_maps(blob: Blob, pages: int = layout.IMAGE_PAGES_MIN) -> dict:
    """Return {name: descriptor} of maps for a program; an image may have so many pages."""
    bpf.raise_memory_limit()
    template = bpf.create_map(inner_shape(pages), "pages")
    found = {
        name: new_map(name, shape, template)
        for name, shape in {**blob.maps, **(blob.tracker.maps if blob.tracker else {})}.items()
    }
    os.close(template)
    return found


def new_map(name: str, shape: tuple, template: int) -> int:
    """Return the descriptor of a map; a map of maps holds maps like `template`."""
    if name == "hits":
        return hit_counters.create(bpf, name, shape, layout.HIT_COUNTERS)
    return bpf.create_map(shape, name, template if shape[0] == layout.TYPE_ARRAY_OF_MAPS else 0)
