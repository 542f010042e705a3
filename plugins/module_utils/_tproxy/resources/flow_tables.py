# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The replacement of tables of tracked flows by tables of another size.

The kernel cannot resize a map. So a new map gets the flows, takes the pin, and each program is loaded again on it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from ..abi import structs as codec
from ..system.system import Bpf
from .pins import FLOW_PINS, Pins


class Resize:
    """The replacement of some tables, {name: (size, wanted size)}, by new ones.

    Between `pin` and `finish` the programs move to the new tables. Flows that began meanwhile follow with `finish`.
    """

    def __init__(self, bpf: Bpf, pins: Pins, wanted: Mapping[str, tuple[int, int]]) -> None:
        self._bpf, self._pins, self._wanted = bpf, pins, wanted
        self._moved: dict[str, tuple[int, set[bytes]]] = {}  # by pin: the old table, and the flows that were copied

    def pin(self, done: ExitStack, undo: ExitStack) -> None:
        """Pin new tables with the flows of the old ones.

        `undo` gets the callbacks that pin the old tables again, `done` those that close descriptors in any case.
        """
        for name, (_size, size) in self._wanted.items():
            pin = FLOW_PINS[name]
            old = self._bpf.map_by_id(self._bpf.map_info(self._pins.fd(pin)).id)
            done.callback(os.close, old)
            new = self._pins.create(pin, entries=size)
            done.callback(os.close, new)
            flows = self._flows(old)
            self._bpf.update_entries(new, flows)
            undo.callback(self._pins.replace, pin, old)
            self._pins.replace(pin, new)
            self._moved[pin] = old, {key for key, _state in flows}

    def finish(self) -> None:
        """Add the flows that began while programs still used the old tables.

        A flow that the new table has is newer there. A copied one that it lacks had no room.
        """
        for pin, (old, copied) in self._moved.items():
            new = self._pins.fd(pin)
            there = copied | {key for key, _state in self._flows(new)}
            self._bpf.update_entries(new, [each for each in self._flows(old) if each[0] not in there])

    def _flows(self, table: int) -> Sequence[tuple[bytes, bytes]]:
        return self._bpf.entries(table, codec.size_of("flow_key"), codec.size_of("flow_state"))
