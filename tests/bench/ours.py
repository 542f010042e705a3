# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The product's maps, filled by its own modules: the image of a rule set, and one interface with a policy."""

from __future__ import annotations

import struct

from programs import Bench

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import structs as codec
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import (
    ADDRESS_OWN,
    HIT_COUNTERS,
    IMAGE_PAGES_MIN,
    MAPS,
    PAGE_BYTES,
    PAGE_WORDS,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.policy import InterfaceAddresses, Policy
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import parse_address
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources import hit_counters
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.host_addresses import KIND
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.interfaces import (
    encode_addresses,
    encode_policy,
    home_slot,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.pins import inner_shape
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.compile import compile_image
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf

OWN_ADDRESSES = {4: "192.0.2.2", 6: "2001:db8::2"}
BESIDE_THE_IMAGE = tuple(name for name in MAPS if name not in ("image", "meta", "hits"))


def fill_image(bench: Bench, slotted: list) -> None:
    """Compile [(Rule, slot)] and put the image in force, in a map of the product's shape."""
    words = compile_image(slotted, {}, 1)
    pages = IMAGE_PAGES_MIN
    while pages < len(words) // PAGE_WORDS:
        pages *= 2
    inner = bench.adopt(bpf.create_map(inner_shape(pages), "pages"))
    with bpf.mapped_memory(inner, pages * PAGE_BYTES, True) as memory:
        memory[: 4 * len(words)] = words.tobytes()
    bench.maps["image"] = bench.adopt(bpf.create_map(MAPS["image"][1], "image", inner))
    bpf.update(bench.maps["image"], codec.key(0), struct.pack("=I", inner), "image")


def fill_interface(bench: Bench, ifindex: int, name: str, track: str = "none") -> None:
    """Make the other maps: the interface drops by default and has a recorded address of each family."""
    for needed in BESIDE_THE_IMAGE:
        bench.add_map(needed, MAPS[needed][1])
    bench.maps["hits"] = bench.adopt(hit_counters.create(bpf, "hits", MAPS["hits"][1], 2 * HIT_COUNTERS))
    addresses = tuple(map(parse_address, OWN_ADDRESSES.values()))
    entries = {
        "policy": encode_policy(ifindex, Policy(track=track)),
        "ifindex_ip_map": encode_addresses(ifindex, InterfaceAddresses(name, addresses)),
    }
    for map_name, entry in entries.items():
        bpf.update(bench.maps[map_name], codec.key(home_slot(ifindex)), entry, map_name)
    for address in addresses:
        bpf.update(bench.maps["own_addresses"], address, KIND.pack(ADDRESS_OWN), "own_addresses")


def counted(bench: Bench, ifindex: int, reason: int, verdict: int) -> int:
    """Return how many packets of the interface the product counted under a reason and verdict."""
    size = codec.size_of("interface_counters") * bpf.possible_cpus()
    raw = bpf.lookup(bench.maps["reasons"], codec.key(home_slot(ifindex)), size)
    return codec.sum_outcomes(raw)[reason, verdict]["packets"]
