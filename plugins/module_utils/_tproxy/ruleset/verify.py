# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The verification of an image before it is put in force.

At the corners of every rule the lookup in the image must find the rule that the reference finds, for an interface of
each group. The corners are first and last address of destination and source, with first and last port and the ports
just outside; and the addresses just outside, with the first port. At the edges of every rule that splices or
drops, the cover lookup must find what the reference finds.

The prefixes of a table divide its destinations into intervals, which are verified in their order, at the first and at
the last address of each. Each address above is one of these. So only the rules around one interval are in memory.

These answers follow from others, so they are not looked up again:

1. If no node behind a port node compares the source, and the reference has the same rules for two sources, the answer
   for the port is the same for both.
2. If the lookups of both ends of an interval reach the same node with the same steps left, their answers are the same.
   finish() proves that no node behind that one compares the destination.
3. If a group has no rule of its own around a destination, and its lookup reaches the node that the lookup of group 0
   reaches, the answers are those of group 0.

This module reads the image through lookup.py only, and repairs nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..errors import VerificationFailed
from ..model.prefix import ADDRESS_BITS, Prefix, family_of, format_number
from ..model.protocol import PORTLESS, PROTOCOLS, TABLES, protocol_name
from ..model.rule import PORT_MAX, Rule
from .lookup import ALL_FIELDS, DESTINATION_FIELDS, PORT_FIELD, SOURCE_FIELDS, Lookup, Position, fields_of
from .records import SlottedRule, decode_action, encode_action
from .reference import DestinationRules, Destinations, Interval, PortMap, best_cover, covers, first_match, port_maps

Ports = list[int]
Questions = list[tuple[int, Ports]]  # source addresses, and ports
FAMILIES = (4, 6)
_NONE: Questions = []
_UNKNOWN = object()  # no rule has this slot


def verify_image(image: array[int], rules: Sequence[SlottedRule], ifindexes: Mapping[str, int]) -> int:
    """Verify an image of rules that was compiled for {name: ifindex}; return the number of points.

    Raise VerificationFailed, which names the rule and the point.
    """
    lookup = Lookup(image)
    for rule, slot in rules:
        if lookup.action(slot) != encode_action(rule):
            action = decode_action(lookup.action(slot))
            raise VerificationFailed(f"{rule}: the image has the action {action} in slot {slot}")
    verifier = _Verifier(lookup, rules, _interfaces(lookup, rules, ifindexes))
    points = sum(verifier.flows(family, table) for family in FAMILIES for table in TABLES)
    return points + sum(verifier.covers(family, protocol) for family in FAMILIES for protocol in PROTOCOLS)


def _interfaces(
    lookup: Lookup, rules: Sequence[SlottedRule], ifindexes: Mapping[str, int]
) -> list[tuple[str | None, int]]:
    """Return [(interface, group)], one interface for each group. None is an interface that no rule names."""
    named: dict[str, set[int]] = {}
    for rule, slot in rules:
        for name in rule.interfaces:
            if name in ifindexes:
                named.setdefault(name, set()).add(slot)
    grouped = lookup.grouped()
    if set(grouped) != {ifindexes[name] for name in named}:
        raise VerificationFailed(f"the image groups the interfaces {sorted(grouped)}, the rules name {sorted(named)}")
    found: dict[frozenset[int], tuple[str | None, int]] = {frozenset(): (None, 0)}
    for name, slots in sorted(named.items()):
        group = lookup.group_of(ifindexes[name])
        if found.setdefault(frozenset(slots), (name, group))[1] != group:
            raise VerificationFailed(f"interface {name} is in group {group}, which has other rules")
    return list(found.values())


class _View(NamedTuple):
    """A group as an interface in it sees it."""

    interface: str | None
    group: int


class _Asked(NamedTuple):
    """The questions inside of the sources of a destination, beside them, and beside the destination."""

    corners: Questions
    beside: Questions
    outside: Questions


class _Verifier:
    """Compares lookups with the reference, interval by interval, group 0 first."""

    def __init__(
        self, lookup: Lookup, rules: Sequence[SlottedRule], interfaces: Sequence[tuple[str | None, int]]
    ) -> None:
        self._lookup, self._slotted = lookup, rules
        self._rules: dict[int, Rule | None] = {0: None, **{slot: rule for rule, slot in rules}}
        self._views = [_View(*each) for each in interfaces]
        self._asked: dict[Prefix, _Asked] = {}  # of the destinations at the ends of an interval

    # ---- flows ------------------------------------------------------------------------------

    def flows(self, family: int, table: str) -> int:
        """Verify the flows of a table; return the number of points."""
        rules = (rule for rule, _slot in self._slotted if rule.table == table)
        destinations = Destinations(family, (rule for rule in rules if rule.destination.family == family))
        roots = [self._lookup.directory(view.group, family, table) for view in self._views]
        points = 0
        for interval in destinations.intervals():
            points += self._interval(table, interval, self._at_ends(family, interval), roots)
            for rules_before in interval.before:
                self._asked.pop(rules_before.prefix, None)
        self._asked.clear()
        return points

    def _at_ends(self, family: int, interval: Interval) -> list[tuple[int, Questions, Questions]]:
        """Return [(address, questions, questions)] of the ends of an interval.

        The second questions are those that the first end is asked, too.
        """
        first: Questions = []
        for rules in interval.begin:
            asked = self._questions(rules)
            first += asked.corners + asked.beside
        for rules in interval.before:
            first += self._questions(rules).outside
        last: Questions = []
        again: Questions = []
        for rules in interval.end:
            (again if rules in interval.begin else last).extend(self._questions(rules).corners)
        for rules in interval.behind:
            last += self._questions(rules).outside
        if interval.first == interval.last:
            ends = [(interval.first, first + last, _NONE)]
        else:
            ends = [(interval.first, first, _NONE), (interval.last, last, again)]
        # An IPv6 prefix may begin or end inside of ::ffff:0:0/96, where no IPv6 packet can be.
        return [end for end in ends if (end[1] or end[2]) and family_of(end[0]) == family]

    def _questions(self, rules: DestinationRules) -> _Asked:
        """Return the questions about a destination."""
        asked = self._asked.get(rules.prefix)
        if asked is None:
            asked = self._asked[rules.prefix] = _questions(rules.rules)
        return asked

    def _interval(
        self,
        table: str,
        interval: Interval,
        ends: Sequence[tuple[int, Questions, Questions]],
        roots: Sequence[int],
    ) -> int:
        """Verify the flows to the ends of an interval; return the number of points."""
        points, around = 0, interval.around
        known: dict[int, Position] = {}
        for view, root in zip(self._views, roots):
            has_rules = not view.group or any(rules.names(view.interface) for rules in around)
            maps = around[0].maps_of_any_source(view.interface, around[1:]) if around else []
            verified: Position | None = None
            for address, questions, again in ends:
                position = self._lookup.destination(family_of(address), root, address)
                if known.setdefault(address, position) == position and not has_rules:
                    continue
                if position != verified:
                    questions = questions + again
                self._flows(view, table, address, position, around, maps, questions)
                verified = position
                points += sum(len(ports) for _source, ports in questions)
        return points

    def _flows(
        self,
        view: _View,
        table: str,
        address: int,
        position: Position,
        around: Sequence[DestinationRules],
        maps_of_any_source: list[PortMap] | None,
        questions: Questions,
    ) -> None:
        """Verify the flows to a destination."""
        family = family_of(address)
        port_field, source_fields = PORT_FIELD[family], SOURCE_FIELDS[family]
        mask, rules = ALL_FIELDS & ~DESTINATION_FIELDS[family], self._rules
        known = maps_of_any_source
        verified: set[int] = set()  # ports whose answer does not depend on the source, with the port maps `known`
        for source, ports in questions:
            maps = maps_of_any_source
            if maps is None:
                maps = port_maps(around, source, view.interface)
                if maps != known:
                    known, verified = maps, set()
            asked = [port for port in ports if port not in verified] if verified else ports
            if not asked:
                continue
            answers = self._lookup.slots(position, fields_of(address, source, 0), port_field, asked, mask)
            for port, (slot, compared) in zip(asked, answers):
                expected = first_match(maps, port)
                if rules.get(slot, _UNKNOWN) is not expected:
                    point = f"{_flow(table, address, port)} from {format_number(source)}"
                    raise self._difference(view, point, slot, expected)
                if not compared & source_fields:
                    verified.add(port)

    # ---- covers -----------------------------------------------------------------------------

    def covers(self, family: int, protocol: str) -> int:
        """Verify the cover lookups of a family and protocol; return the number of points."""
        rules = (rule for rule, _slot in self._slotted if rule.protocol == protocol and covers(rule))
        destinations = Destinations(family, (rule for rule in rules if rule.destination.family == family))
        points = 0
        for interval in destinations.intervals():
            ends = [interval.first] if interval.begin or interval.before else []
            if (interval.end or interval.behind) and interval.last not in ends:
                ends.append(interval.last)
            points += sum(self._cover(interval, protocol, address) for address in ends if family_of(address) == family)
        return points

    def _cover(self, interval: Interval, protocol: str, address: int) -> int:
        """Verify the cover lookup of a destination; return the number of points."""
        points, known = 0, 0
        for view in self._views:
            slot = self._lookup.cover(view.group, protocol, address)
            if not view.group:
                known = slot
            elif slot == known and not any(rules.names(view.interface) for rules in interval.around):
                continue
            expected = best_cover(interval.around, view.interface)
            if self._rules.get(slot, _UNKNOWN) is not expected:
                raise self._difference(view, f"the cover lookup of {protocol} {format_number(address)}", slot, expected)
            points += 1
        return points

    def _difference(self, view: _View, point: str, slot: int, expected: Rule | None) -> VerificationFailed:
        where = f"{view.interface or 'an interface that no rule names'} (group {view.group})"
        return VerificationFailed(
            f"{point} on {where} belongs to {expected or 'no rule'}, the image gives slot {slot}"
            f" ({self._rules.get(slot) or 'no rule'}); nothing was put in force, please report it"
        )


def _flow(table: str, address: int, port: int) -> str:
    """Return a flow to an address. In the table of protocols without ports, `port` is the number of the protocol."""
    if table == PORTLESS:
        return f"{protocol_name(port)} {format_number(address)}"
    return f"{table} {format_number(address)} port {port}"


def _questions(rules: Sequence[Rule]) -> _Asked:
    """Return the questions about a destination with these rules: source by source, the first port inside of a rule.

    Beside a prefix the first port is enough: no rule of the prefix may answer there.
    """
    sources: dict[Prefix, dict[int, None]] = {}
    for rule in rules:
        low, high = rule.low, rule.high
        ports_of_source = sources.setdefault(rule.source, {})
        ports_of_source.update({low: None, high: None, max(low - 1, 0): None, min(high + 1, PORT_MAX): None})
    corners: Questions = []
    beside: Questions = []
    outside: Questions = []
    for source, ports_of_source in sources.items():
        ports = list(ports_of_source)
        first = ports[:1]
        corners += [(address, ports) for address in sorted({source.network, source.last})]
        if source.bits:
            beside += [(address, first) for address in _neighbours(source)]
        outside.append((source.network, first))
    return _Asked(corners, beside, outside)


def _neighbours(prefix: Prefix) -> list[int]:
    """Return the addresses of the same family just before and just after a prefix."""
    around = (prefix.network - 1, prefix.last + 1)
    return [address for address in around if 0 <= address < 1 << ADDRESS_BITS and family_of(address) == prefix.family]
