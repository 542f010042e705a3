# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The verification of an image before it is put in force.

At the corners of every rule the lookup in the image must find the rule that the reference finds, for an interface of
each group. The corners are first and last address of destination and source, with first and last port and the ports
just outside; and the addresses just outside, with the first port. At the edges of every rule that intercepts, the
intercept lookup must find what the reference finds.

These answers follow from others, so they are not looked up again:

1. If no node behind a port node compares the source, and the reference has the same rules for two sources, the answer
   for the port is the same for both.
2. If the lookups of two addresses of a destination reach the same node with the same steps left, and the reference has
   the same rules around both, their answers are the same. finish() proves that no node behind that one compares the
   destination.
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
from ..model.rule import PORT_MAX, Rule
from .lookup import ALL_FIELDS, DESTINATION_FIELDS, PORT_FIELD, SOURCE_FIELDS, Lookup, Position, fields_of
from .records import SlottedRule, decode_action
from .reference import PortMap, Reference, SourceRules, depend_on_source, first_match, port_maps

Ports = list[int]
Questions = list[tuple[int, Ports]]  # source addresses, and ports


def verify_image(image: array[int], rules: Sequence[SlottedRule], ifindexes: Mapping[str, int]) -> int:
    """Verify an image of rules that was compiled for {name: ifindex}; return the number of points.

    Raise VerificationFailed, which names the rule and the point.
    """
    lookup = Lookup(image)
    for rule, slot in rules:
        action = decode_action(lookup.action(slot))
        if action != (rule.action, rule.tproxy_ip, rule.tproxy_port, rule.on_missing):
            raise VerificationFailed(f"{rule}: the image has the action {action} in slot {slot}")
    verifier = _Verifier(lookup, rules)
    return sum(verifier.verify(interface, group) for interface, group in _interfaces(lookup, rules, ifindexes))


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
    """A group as an interface in it sees it, and the rules that name this interface."""

    interface: str | None
    group: int
    named: Reference


class _Answers(NamedTuple):
    """The answers for a destination depend on the position of its lookup and on the rules around it."""

    position: Position
    around: list[SourceRules]


class _Verifier:
    """Compares lookups with the reference, group 0 first."""

    def __init__(self, lookup: Lookup, rules: Sequence[SlottedRule]) -> None:
        self._lookup = lookup
        self._rules: dict[int, Rule | None] = {0: None, **{slot: rule for rule, slot in rules}}
        self._reference = Reference(rule for rule, _slot in rules)
        self._positions: dict[tuple[str, int], Position] = {}  # (protocol, destination) -> that of group 0
        self._intercepts: dict[int, int] = {}  # destination -> slot in group 0
        intercepted = dict.fromkeys(rule.destination for rule, _slot in rules if rule.action == "tproxy")
        self._edges = dict.fromkeys(address for prefix in intercepted for address in _edges(prefix))
        # {(protocol, destination): {source: ports, the first one inside of the rules}}
        self._sources: dict[tuple[str, Prefix], dict[Prefix, Ports]] = {}
        for rule, _slot in rules:
            ports = self._sources.setdefault((rule.protocol, rule.destination), {}).setdefault(rule.source, [])
            ports += (rule.low, rule.high, max(rule.low - 1, 0), min(rule.high + 1, PORT_MAX))
        for sources in self._sources.values():
            for source, ports in sources.items():
                sources[source] = list(dict.fromkeys(ports))

    def verify(self, interface: str | None, group: int) -> int:
        """Verify a group as an interface in it sees it; return the number of points."""
        rules = (rule for rule in self._rules.values() if rule)
        view = _View(interface, group, Reference(rule for rule in rules if interface in rule.interfaces))
        points = sum(self._destination(view, *key, sources) for key, sources in self._sources.items())
        return points + sum(self._intercept(view, address) for address in self._edges)

    def _destination(self, view: _View, protocol: str, destination: Prefix, sources: Mapping[Prefix, Ports]) -> int:
        """Verify the flows at the corners of a destination, and beside it; return the number of points."""
        corners, beside, outside = _questions(sources)
        points, verified = 0, None
        # The first address is asked all questions that the others are asked.
        asked = {destination.network: corners + beside}
        if _is_of(destination.last, destination):
            asked.setdefault(destination.last, corners)
        asked.update(dict.fromkeys(_neighbours(destination), outside))
        for address, questions in asked.items():
            answers = self._answers(view, protocol, address)
            if answers is None:
                continue
            if answers != verified:
                self._flows(view, protocol, address, answers, questions)
            verified = verified or answers
            points += sum(len(ports) for _source, ports in questions)
        return points

    def _answers(self, view: _View, protocol: str, address: int) -> _Answers | None:
        """Return the position and the rules of a destination, None if its answers are those of group 0."""
        root = self._lookup.root(view.group, protocol, address)
        position = self._lookup.follow(root, fields_of(address, 0, 0), DESTINATION_FIELDS[family_of(address)])
        known = self._positions.setdefault((protocol, address), position)
        if view.group and position == known and not view.named.around(address, protocol):
            return None
        return _Answers(position, self._reference.around(address, protocol))

    def _flows(self, view: _View, protocol: str, address: int, answers: _Answers, questions: Questions) -> None:
        """Verify the flows to a destination."""
        family = family_of(address)
        port_field, source_fields = PORT_FIELD[family], SOURCE_FIELDS[family]
        mask = ALL_FIELDS & ~DESTINATION_FIELDS[family]
        is_same = not depend_on_source(answers.around)
        known: list[PortMap] | None = None
        verified: set[int] = set()  # ports whose answer does not depend on the source, with the port maps `known`
        for source, ports in questions:
            fields = fields_of(address, source, 0)
            maps = known if known and is_same else port_maps(answers.around, source, view.interface)
            if maps != known:
                known, verified = maps, set()
            for port in ports:
                if port in verified:
                    continue
                fields[port_field] = port
                slot, _steps, compared = self._lookup.finish(answers.position, fields, mask)
                expected = first_match(maps, port)
                if slot not in self._rules or self._rules[slot] is not expected:
                    point = f"{protocol} {format_number(address)} port {port} from {format_number(source)}"
                    raise self._difference(view, point, slot, expected)
                if not compared & source_fields:
                    verified.add(port)

    def _intercept(self, view: _View, address: int) -> int:
        """Verify the intercept lookup of a destination; return the number of points."""
        slot = self._lookup.intercept(view.group, address)
        known = self._intercepts.setdefault(address, slot)
        if view.group and slot == known and not view.named.intercept(address, view.interface):
            return 0
        expected = self._reference.intercept(address, view.interface)
        if slot not in self._rules or self._rules[slot] is not expected:
            raise self._difference(view, f"the intercept lookup of {format_number(address)}", slot, expected)
        return 1

    def _difference(self, view: _View, point: str, slot: int, expected: Rule | None) -> VerificationFailed:
        where = f"{view.interface or 'an interface that no rule names'} (group {view.group})"
        return VerificationFailed(
            f"{point} on {where} belongs to {expected or 'no rule'}, the image gives slot {slot}"
            f" ({self._rules.get(slot) or 'no rule'}); nothing was put in force, please report it"
        )


def _questions(sources: Mapping[Prefix, Ports]) -> tuple[Questions, Questions, Questions]:
    """Return the questions inside of source prefixes, beside them, and beside the destination.

    Beside a prefix the first port is enough: no rule of the prefix may answer there.
    """
    corners, beside, outside = [], [], []
    for source, ports in sources.items():
        first = ports[:1]
        corners += [(address, ports) for address in sorted({source.network, source.last})]
        beside += [(address, first) for address in _neighbours(source)]
        outside.append((source.network, first))
    return corners, beside, outside


def _edges(prefix: Prefix) -> list[int]:
    """Return the first and the last address of a prefix, and those just outside."""
    inside = {prefix.network, prefix.last}
    return [*(address for address in inside if _is_of(address, prefix)), *_neighbours(prefix)]


def _neighbours(prefix: Prefix) -> list[int]:
    """Return the addresses of the same family just before and just after a prefix."""
    around = (prefix.network - 1, prefix.last + 1)
    return [address for address in around if 0 <= address < 1 << ADDRESS_BITS and _is_of(address, prefix)]


def _is_of(address: int, prefix: Prefix) -> bool:
    """Return whether the families are the same. The last address of for example ::/80 is an IPv4 address."""
    return family_of(address) == prefix.family
