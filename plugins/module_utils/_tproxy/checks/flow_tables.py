# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The tables of tracked flows: how many live flows each has, and how many fit."""

from __future__ import annotations

from ..abi import structs as codec
from ..resources.pins import FLOW_PINS, Pins
from ..system.system import System
from .facts import FlowTable


def flow_tables(system: System, pins: Pins) -> list[FlowTable]:
    """Return the tables that are pinned. Raise KernelRefused."""
    now, sizes = system.background.monotonic_ns(), (codec.size_of("flow_key"), codec.size_of("flow_state"))
    found = []
    for name, pin in FLOW_PINS.items():
        if pins.has(pin):
            descriptor = pins.fd(pin)
            states = (codec.decode("flow_state", each) for each in system.bpf.values(descriptor, *sizes))
            flows = sum(state["expires"] > now for state in states)
            found.append(FlowTable(name, flows, system.bpf.map_info(descriptor).entries))
    return found
