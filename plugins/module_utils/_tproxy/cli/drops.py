# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The command drops: the drop log as a table, or as lines while packets are dropped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from ..operations.drops import drops_of
from ..resources.drop_log import Drop
from ..resources.operation import Answer, Options
from ..system.system import System
from .output import count, table

SECOND = 10**9
HEADS = ("LAST SEEN", "INTERFACE", "VERDICT", "REASON", "PACKETS", "PROTO", "SOURCE", "DESTINATION", "PORT")
COLUMNS = 200  # an entry is one line, for grep; the longest one has two IPv6 addresses


def drops(options: Options, system: System, _check: bool) -> Iterator[str]:
    """Yield the drop log once; with `follow`, a line for each entry that is new or counts more packets, without end."""
    if not options["follow"]:
        entries = drops_of(options, system)
        yield json.dumps({"drops": entries}, indent=2) if options["json"] else _as_table(entries)
        return
    is_new = _News()
    drops_of(options, system, is_new)
    while True:
        system.background.sleep_until(system.background.monotonic_ns() + SECOND)
        for entry in reversed(drops_of(options, system, is_new)):
            yield json.dumps(entry) if options["json"] else _as_line(entry)


class _News:
    """A function that returns whether an entry is new or counts other packets than when it was asked about."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], int] = {}

    def __call__(self, drop: Drop) -> bool:
        before, self._known[drop.identity] = self._known.get(drop.identity, 0), drop.packets
        return before != drop.packets


def _as_table(entries: Sequence[Answer]) -> str:
    if not entries:
        return "The program has dropped no packet, as far as its log goes back."
    notes = [f"rule {entry['rule']}" if entry["rule"] else "" for entry in entries]
    return "\n".join(table(HEADS, [_row(entry) for entry in entries], notes, columns=COLUMNS))


def _row(entry: Answer) -> tuple[str, ...]:
    about = (entry[name] for name in ("last_seen", "interface", "verdict", "reason"))
    flow = (entry[name] for name in ("protocol", "source", "destination"))
    return *about, count(entry["packets"]), *flow, str(entry["port"] or "")


def _as_line(entry: Answer) -> str:
    return "  ".join(filter(None, _row(entry)))
