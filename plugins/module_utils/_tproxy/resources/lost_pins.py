# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Maps that lost their pins while a program on a hook still uses them: `umount -l /sys/fs/bpf`, `rm -r`.

Packets meet the program as before, with all rules, also those of OpenZiti routers, which no state file has. So a run
that would make new maps pins the living ones again. It looks only at interfaces that it is about anyway.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack

from ..constants import FUNCTION
from ..system.bpf import MapInfo
from ..system.system import Bpf, Netlink
from .hooks import is_fail_closed, programs_on, runs
from .pins import Pins

NAME_BYTES = 15  # of a map's name in the kernel, see system/bpf.py


def pin_living_maps(
    bpf: Bpf, netlink: Netlink, pins: Pins, ifindexes: Iterable[int], check_mode: bool = False
) -> list[str]:
    """Pin the maps again that our programs on these interfaces use and that are not pinned; return their names.

    The other missing maps are made anew. Check mode pins nothing, and reads these maps as if they were pinned.
    """
    with ExitStack() as opened:
        living: dict[str, int] = {}
        for ifindex in ifindexes if pins.missing() else ():
            for number in _maps_of(bpf, netlink, ifindex):
                descriptor = bpf.map_by_id(number)
                opened.callback(os.close, descriptor)
                name = _missing_name(bpf.map_info(descriptor), pins)
                if name is not None:
                    living.setdefault(name, descriptor)
        if living and check_mode:
            pins.lend(living)
        elif living:
            pins.ensure(living)
            pins.keep()
        return sorted(living)


def _maps_of(bpf: Bpf, netlink: Netlink, ifindex: int) -> tuple[int, ...]:
    """Return the ids of the maps of our program on the ingress of an interface."""
    for entry in programs_on(bpf, netlink, ifindex, "ingress"):
        if runs(entry, FUNCTION) and not is_fail_closed(entry) and entry.program_id is not None:
            descriptor = bpf.program_by_id(entry.program_id)
            try:
                return bpf.program_info(descriptor).map_ids
            finally:
                os.close(descriptor)
    return ()


def _missing_name(info: MapInfo, pins: Pins) -> str | None:
    """Return the name of the missing pin that this map is, by name and shape, or None."""
    for name in pins.missing():
        if info.name == name[:NAME_BYTES] and tuple(info.shape) == tuple(pins.shapes[name]):
            return name
    return None
