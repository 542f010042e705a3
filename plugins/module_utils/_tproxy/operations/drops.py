# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The drop log as front ends show it: tproxy_info, and the command drops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone

from ..errors import InvalidInput
from ..model.protocol import protocol_name
from ..model.rule import Rule
from ..resources.drop_log import Drop, read_drops
from ..resources.lock import refuse_without_capabilities
from ..resources.operation import Answer, Options
from ..resources.pins import Pins, splicer_pins
from ..resources.rules import RuleReader
from ..system.system import Netlink, System


def _is_any(_drop: Drop) -> bool:
    return True


def drops_of(options: Options, system: System, is_asked: Callable[[Drop], bool] = _is_any) -> list[Answer]:
    """Return those of the last entries that are asked for. Raise Unsupported, LayoutMismatch, KernelRefused."""
    refuse_without_capabilities(system)
    system.bpffs.refuse_foreign(options["pin_dir"])
    with system.netlink() as netlink, splicer_pins(system.bpf, system.bpffs, options["pin_dir"]) as pins:
        pins.check()
        return entries(system, netlink, pins, options["limit"], lambda: _rules(system, pins), is_asked)


def entries(
    system: System,
    netlink: Netlink,
    pins: Pins,
    limit: int,
    rules: Callable[[], Iterable[tuple[Rule, int]]],
    is_asked: Callable[[Drop], bool] = _is_any,
) -> list[Answer]:
    """Return those of the last `limit` entries that are asked for as values for people, the last seen one first.

    `rules` returns the rules in force with their slots: to read them costs more than the rest, so it is called only if
    an entry has a rule. Raise InvalidInput, KernelRefused.
    """
    if limit < 0:
        raise InvalidInput([f"drops: expected a number of entries, 0 or more, got {limit}"])
    drops = list(filter(is_asked, read_drops(system.bpf, pins)[:limit])) if limit else []
    if not drops:
        return []
    links = {link.ifindex: link.name for link in netlink.interfaces()}
    names = {slot: str(rule) for rule, slot in rules()} if any(drop.rule for drop in drops) else {}
    realtime = system.background.realtime_ns() - system.background.monotonic_ns()
    return [_shown(drop, links, names, realtime) for drop in drops]


def _rules(system: System, pins: Pins) -> Iterable[tuple[Rule, int]]:
    return RuleReader(system.bpf, pins, system.ifindex_of).load().contents.rules


def _shown(drop: Drop, links: Mapping[int, str], rules: Mapping[int, str], realtime: int) -> Answer:
    """Return the values of an entry. `realtime` is the time of day when the monotonic clock was 0, in ns."""
    return {
        "interface": links.get(drop.ifindex, str(drop.ifindex)),
        "verdict": drop.verdict,
        "reason": drop.reason,
        "rule": rules.get(drop.rule, ""),
        "protocol": protocol_name(drop.protocol) if drop.source else "",
        "source": drop.source,
        "destination": drop.destination,
        "port": drop.port,
        "packets": drop.packets,
        "answers": drop.answers,
        "refusals": drop.refusals,
        "first_seen": time_of_day(realtime + drop.first_seen),
        "last_seen": time_of_day(realtime + drop.last_seen),
    }


def time_of_day(nanoseconds: int) -> str:
    """Return a time in UTC as RFC 3339 writes it, to the second."""
    return datetime.fromtimestamp(nanoseconds // 10**9, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
