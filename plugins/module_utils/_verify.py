# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The compiler's work, judged before it is put in force.

At the corners of every rule the walk of the image must give the rule that an independent look-up gives
(_ruleset.Index), seen from an interface of every class. The corners are first and last address of destination and
source, with first and last port and the ports just outside; and the addresses just outside, with the first port.

The room reads the image through _walk only. It repairs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ._action import decode_action
from ._errors import VerificationFailed
from ._prefix import ADDRESS_BITS, Prefix, family_of, format_number
from ._rule import PORT_MAX
from ._ruleset import Index, first_owner
from ._walk import PORT_FIELD, STEPS, Walker, fields_of


def verify_image(image, slotted: list, ifindexes: Mapping) -> int:
    """Judge an image of [(Rule, slot)], compiled for {name: ifindex}; return how many points were looked at.

    Raises VerificationFailed, naming the rule and the point.
    """
    walker = Walker(image)
    _verify_actions(walker, slotted)
    judge = _Judge(walker, slotted).judge
    return sum(judge(interface, number) for interface, number in _views(walker, slotted, ifindexes))


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


class _Judge:
    """Compares walks with an Index, class by class."""

    def __init__(self, walker: Walker, slotted: list):
        self._walker = walker
        self._rules = {0: None, **{slot: rule for rule, slot in slotted}}
        self._index = Index(rule for rule, _slot in slotted)
        self._ports = {}  # (family, protocol) -> {(destination, source): ports of the corners, the first one inside}
        self._names = {}  # (family, protocol) -> names of interfaces in these rules
        for rule, _slot in slotted:
            key = rule.destination.family, rule.protocol
            ports = self._ports.setdefault(key, {}).setdefault((rule.destination, rule.source), {})
            for port in (rule.low, rule.high, max(rule.low - 1, 0), min(rule.high + 1, PORT_MAX)):
                ports[port] = None
            self._names.setdefault(key, set()).update(rule.interfaces)

    def judge(self, interface: str | None, number: int) -> int:
        """Judge class `number` as `interface` sees it; return how many points were looked at."""
        points = 0
        for (family, protocol), pairs in self._ports.items():
            if number and self._is_class_0(interface, number, (family, protocol)):
                continue
            view = protocol, interface, number
            for (destination, source), ports in pairs.items():
                for corner in _corners(destination, source):
                    points += self._compare(view, corner, ports)
                for corner in _outside(destination, source):
                    points += self._compare(view, corner, list(ports)[:1])
        return points

    def _is_class_0(self, interface: str, number: int, table: tuple) -> bool:
        """Say whether a class shares, and should share, a root with class 0, which is judged first."""
        shared = self._walker.directory(number, *table) == self._walker.directory(0, *table)
        return shared and interface not in self._names[table]

    def _compare(self, view: tuple, corner: tuple, ports: Iterable[int]) -> int:
        """Judge these ports at (destination, source). The walk of the destination serves all of them."""
        protocol, interface, number = view
        destination, source = corner
        family = family_of(destination)
        field, fields = PORT_FIELD[family], fields_of(destination, source, 0)
        follow = self._walker.follow
        word, steps = follow(self._walker.root(number, protocol, destination), fields, STEPS[family], field)
        chain = self._index.chain(destination, source, protocol, interface)
        for port in ports:
            fields[field] = port
            slot = follow(word, fields, steps)[0]
            want = first_owner(chain, port)
            if slot not in self._rules or self._rules[slot] is not want:
                raise VerificationFailed(self._difference(view, corner, port, (slot, want)))
        return len(ports)

    def _difference(self, view: tuple, corner: tuple, port: int, answers: tuple) -> str:
        protocol, interface, number = view
        destination, source = (format_number(address) for address in corner)
        slot, want = answers
        return (
            f"{protocol} {destination} port {port} from {source} on {interface or 'any other interface'}"
            f" (class {number}) belongs to {want or 'no rule'}, the image gives slot {slot}"
            f" ({self._rules.get(slot) or 'no rule'}); nothing was put in force, please report it"
        )


def _corners(destination: Prefix, source: Prefix) -> set:
    """Return the outermost addresses, (destination, source)."""
    corners = {(destination.network, source.network), (destination.last, source.last)}
    if source.bits:
        corners |= {(destination.network, source.last), (destination.last, source.network)}
    return corners


def _outside(destination: Prefix, source: Prefix) -> list:
    """Return the addresses next to a prefix, each with an address inside the other one."""
    beside = [(address, source.network) for address in _neighbours(destination)]
    return beside + [(destination.network, address) for address in _neighbours(source)]


def _neighbours(prefix: Prefix) -> list:
    """Return the addresses of the same family just before and just after a prefix."""
    around = (prefix.network - 1, prefix.last + 1)
    return [address for address in around if 0 <= address < 1 << ADDRESS_BITS and family_of(address) == prefix.family]
