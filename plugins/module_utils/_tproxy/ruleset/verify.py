# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The compiler's work, judged before it is put in force.

At the corners of every rule the walk of the image must give the rule that an independent look-up gives
(_ruleset.Index), seen from an interface of every class. The corners are first and last address of destination and
source, with first and last port and the ports just outside; and the addresses just outside, with the first port. At
the corners of every rule that splices, and just outside, the walk of the cover must give what the look-up gives. A
destination where a class has no rule of its own, and its walk stands where that of class 0 does, is judged once.

The room reads the image through _walk only. It repairs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..errors import VerificationFailed
from ..model.prefix import ADDRESS_BITS, Prefix, family_of, format_number
from ..model.rule import PORT_MAX, Rule
from .lookup import DESTINATION_END, PORT_FIELD, STEPS, Walker, fields_of
from .records import decode_action
from .reference import Index, chain, first_owner


def verify_image(image, slotted: list, ifindexes: Mapping) -> int:
    """Judge an image of [(Rule, slot)], compiled for {name: ifindex}; return how many points were looked at.

    Raises VerificationFailed, naming the rule and the point.
    """
    walker = Walker(image)
    _verify_actions(walker, slotted)
    judge = _Judge(walker, slotted)
    views = (judge.view(interface, number) for interface, number in _views(walker, slotted, ifindexes))
    return sum(judge.flows(view) + judge.covers(view) for view in views)


def _verify_actions(walker: Walker, slotted: list) -> None:
    for rule, slot in slotted:
        found = decode_action(walker.action(slot))
        if found != (rule.action, rule.tproxy_ip, rule.tproxy_port, rule.on_missing):
            raise VerificationFailed(f"{rule}: the image has the action {found} in slot {slot}")


def _views(walker: Walker, slotted: list, ifindexes: Mapping) -> list:
    """Return [(interface, class)], one interface for each class; None is one that no rule names."""
    named = {}
    for rule, slot in slotted:
        for name in rule.interfaces:
            if name in ifindexes:
                named.setdefault(name, set()).add(slot)
    bound = walker.bound()
    if set(bound) != {ifindexes[name] for name in named}:
        raise VerificationFailed(f"the image binds the interfaces {sorted(bound)}, the rules name {sorted(named)}")
    views = {frozenset(): (None, 0)}
    for name, slots in sorted(named.items()):
        number = walker.class_of(ifindexes[name])
        if views.setdefault(frozenset(slots), (name, number))[1] != number:
            raise VerificationFailed(f"interface {name} is in class {number}, which has other rules than it should")
    return list(views.values())


class _View(NamedTuple):
    """What is judged at a time: a class, as an interface sees it, and the rules that name this interface."""

    interface: str | None
    number: int
    own: Index


class _Judge:
    """Compares walks with an Index, class 0 first."""

    def __init__(self, walker: Walker, slotted: list):
        self._walker = walker
        self._rules = {0: None, **{slot: rule for rule, slot in slotted}}
        self._index = Index(rule for rule, _slot in slotted)
        self._ports = {}  # (family, protocol) -> {destination: {source: ports of the corners, the first one inside}}
        self._starts = {}  # (protocol, destination address) -> where its walk stands in class 0, all of which was right
        self._covers = {}  # destination address -> its cover in class 0, which was right
        intercepts = dict.fromkeys(rule.destination for rule, _slot in slotted if rule.action == "tproxy")
        self._edges = dict.fromkeys(address for prefix in intercepts for address in _edges(prefix))
        for rule, _slot in slotted:
            table = rule.destination.family, rule.protocol
            sources = self._ports.setdefault(table, {}).setdefault(rule.destination, {})
            ports = sources.setdefault(rule.source, {})
            for port in (rule.low, rule.high, max(rule.low - 1, 0), min(rule.high + 1, PORT_MAX)):
                ports[port] = None

    def view(self, interface: str | None, number: int) -> _View:
        """Return class `number` as `interface` sees it."""
        rules = filter(None, self._rules.values())
        return _View(interface, number, Index(rule for rule in rules if interface in rule.interfaces))

    def flows(self, view: _View) -> int:
        """Judge which rule each flow has; return how many points were looked at."""
        points = 0
        for (_family, protocol), destinations in self._ports.items():
            for destination, sources in destinations.items():
                for address, questions in _questions(destination, sources).items():
                    points += self._compare(protocol, view, address, questions)
        return points

    def _compare(self, protocol: str, view: _View, destination: int, questions: list) -> int:
        """Judge [(source, ports)] at one destination, which is walked and looked up once for all of them."""
        family, follow = family_of(destination), self._walker.follow
        root = self._walker.root(view.number, protocol, destination)
        start = follow(root, fields_of(destination, 0, 0), STEPS[family], DESTINATION_END[family])
        known = self._starts.setdefault((protocol, destination), start)
        if view.number and start == known and not view.own.around(destination, protocol):
            return 0
        around = self._index.around(destination, protocol)
        for source, ports in questions:
            fields = fields_of(destination, source, 0)
            owners = chain(around, source, view.interface)
            for port in ports:
                fields[PORT_FIELD[family]] = port
                slot, want = follow(start[0], fields, start[1])[0], first_owner(owners, port)
                if slot not in self._rules or self._rules[slot] is not want:
                    point = f"{protocol} {format_number(destination)} port {port} from {format_number(source)}"
                    raise self._difference(view, point, slot, want)
        return sum(len(ports) for _source, ports in questions)

    def covers(self, view: _View) -> int:
        """Judge which destinations lie in an intercept; return how many were looked at."""
        points = 0
        for address in self._edges:
            slot = self._walker.cover(view.number, address)
            known = self._covers.setdefault(address, slot)
            if view.number and slot == known and not view.own.cover(address, view.interface):
                continue
            want = self._index.cover(address, view.interface)
            if slot not in self._rules or self._rules[slot] is not want:
                raise self._difference(view, f"the cover of {format_number(address)}", slot, want)
            points += 1
        return points

    def _difference(self, view: _View, point: str, slot: int, want: Rule | None) -> VerificationFailed:
        where = f"{view.interface or 'an interface that no rule names'} (class {view.number})"
        return VerificationFailed(
            f"{point} on {where} belongs to {want or 'no rule'}, the image gives slot {slot}"
            f" ({self._rules.get(slot) or 'no rule'}); nothing was put in force, please report it"
        )


def _questions(destination: Prefix, sources: Mapping) -> dict:
    """Return {destination address: [(source address, ports)]}: the corners of {source prefix: ports}, and beside them.

    Beside a prefix the first port is enough: there no rule of that prefix may answer.
    """
    corners, beside, outside = [], [], []
    for source, ports in sources.items():
        one = tuple(ports)[:1]
        corners += [(address, ports) for address in sorted({source.network, source.last})]
        beside += [(address, one) for address in _neighbours(source)]
        outside.append((source.network, one))
    return {
        **dict.fromkeys(_neighbours(destination), outside),
        **({destination.last: corners} if _is_of(destination.last, destination) else {}),
        destination.network: corners + beside,
    }


def _edges(prefix: Prefix) -> list:
    """Return the first and the last address of a prefix, and those just outside."""
    inside = {prefix.network, prefix.last}
    return [*(address for address in inside if _is_of(address, prefix)), *_neighbours(prefix)]


def _neighbours(prefix: Prefix) -> list:
    """Return the addresses of the same family just before and just after a prefix."""
    around = (prefix.network - 1, prefix.last + 1)
    return [address for address in around if 0 <= address < 1 << ADDRESS_BITS and _is_of(address, prefix)]


def _is_of(address: int, prefix: Prefix) -> bool:
    """Say whether the families are the same; the last address of e.g. ::/80 names an IPv4 address."""
    return family_of(address) == prefix.family
