# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Which rule applies to a packet, without an image: the reference for the verifier (docs/SEMANTICS.md).

Reference answers for any packet, by one probe of a dictionary for each prefix length in use. Destinations.intervals()
goes through all destinations in their order, and tells which rules are around each. Both share nothing with the
compiler but the meaning of a rule, so that one can judge the other.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from ..model.prefix import ADDRESS_BITS, Prefix, family_of
from ..model.protocol import has_ports, protocol_number
from ..model.rule import Rule

T = TypeVar("T")

# The first and the last address of a family. The range of IPv6 has the IPv4 addresses inside.
RANGES = {4: (0xFFFF << 32, (0xFFFF << 32) + 0xFFFFFFFF), 6: (0, (1 << ADDRESS_BITS) - 1)}


class PortMap(NamedTuple):
    """rules[i] applies to ports from starts[i] up to the next start; None means that no rule does."""

    starts: list[int]
    rules: list[Rule | None]


class Reference:
    """The rules of a set, by destination and source."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._destinations: dict[tuple[int, str], _ByPrefix[DestinationRules]] = {}
        self._covers: dict[tuple[int, str], _ByPrefix[DestinationRules]] = {}
        for rule in rules:
            destination = rule.destination
            table = self._destinations.setdefault((destination.family, rule.protocol), _ByPrefix())
            table.at(destination, DestinationRules).rules.append(rule)
            if covers(rule):
                cover = self._covers.setdefault((destination.family, rule.protocol), _ByPrefix())
                cover.at(destination, DestinationRules).rules.append(rule)

    def best(
        self, destination: int, source: int, protocol: str, port: int, interface: str | None = None
    ) -> Rule | None:
        """Return the rule for a packet, or None. Addresses are mapped 128-bit numbers.

        A protocol without ports needs no port. `interface` is a name, None an interface that no rule names.
        """
        table = self._destinations.get((family_of(destination), protocol))
        around = table.around(destination) if table else []
        return first_match(
            port_maps(around, source, interface), port if has_ports(protocol) else protocol_number(protocol)
        )

    def cover(self, destination: int, protocol: str, interface: str | None = None) -> Rule | None:
        """Return the best rule that covers fragments of a protocol to the destination, with any port and source."""
        table = self._covers.get((family_of(destination), protocol))
        return best_cover(table.around(destination), interface) if table else None


class DestinationRules:
    """The rules of one destination. No rule may be added once a question was asked."""

    __slots__ = ("_answers", "_covers", "prefix", "rules")

    def __init__(self, prefix: Prefix) -> None:
        self.prefix = prefix
        self.rules: list[Rule] = []
        self._answers: _Answers | None = None
        self._covers: dict[str | None, Rule | None] | None = None

    def maps_of_any_source(self, interface: str | None, around: Sequence[DestinationRules]) -> list[PortMap] | None:
        """Return the port maps of these rules and of those `around` them, None if they depend on the source.

        `around` has the shorter prefixes, which must stay the same until forget().
        """
        known = self._known()
        if interface not in known.maps:
            behind = around[0].maps_of_any_source(interface, around[1:]) if around else []
            depends = known.have_sources or behind is None
            own = self.port_maps(self.rules[0].source.network, interface)
            known.maps[interface] = None if depends else [*own, *(behind or ())]
        return known.maps[interface]

    def names(self, interface: str | None) -> bool:
        """Return whether a rule names an interface."""
        return any(interface in rule.interfaces for rule in self.rules)

    def port_maps(self, source: int, interface: str | None) -> list[PortMap]:
        """Return the port maps for a source, the longest source prefix first."""
        return [rules.port_map(interface) for rules in self._known().sources.around(source)]

    def cover(self, interface: str | None) -> Rule | None:
        """Return the best rule for an interface, of any port and source."""
        if self._covers is None:
            self._covers = {}
        if interface not in self._covers:
            seen = [rule for rule in self.rules if not rule.interfaces or interface in rule.interfaces]
            best = seen[0] if len(seen) == 1 else min(seen, key=_precedence, default=None)
            self._covers[interface] = best
        return self._covers[interface]

    def forget(self) -> None:
        """Forget the answers, which take more memory than the rules."""
        self._answers = self._covers = None

    def _known(self) -> _Answers:
        if self._answers is None:
            self._answers = _Answers(self.rules)
        return self._answers


def _precedence(rule: Rule) -> tuple[object, ...]:
    return rule.precedence


def port_maps(around: Iterable[DestinationRules], source: int, interface: str | None) -> list[PortMap]:
    """Return the port maps for a source, the best first, for first_match()."""
    return [port_map for rules in around for port_map in rules.port_maps(source, interface)]


def first_match(maps: Iterable[PortMap], port: int) -> Rule | None:
    """Return the first rule that applies to the port, or None."""
    for starts, rules in maps:
        rule = rules[bisect_right(starts, port) - 1]
        if rule is not None:
            return rule
    return None


def covers(rule: Rule) -> bool:
    """Return whether a rule covers fragments whose flow is unknown."""
    return has_ports(rule.protocol) and rule.action != "pass"


def best_cover(around: Iterable[DestinationRules], interface: str | None) -> Rule | None:
    """Return the best rule that covers a destination: the longest destination goes first, then the precedence."""
    for rules in around:
        best = rules.cover(interface)
        if best is not None:
            return best
    return None


# ---- all destinations in their order ----------------------------------------------------------


class Interval(NamedTuple):
    """Destinations with the same rules around them, the longest prefix first.

    `begin` and `end` are those that begin with the first address and end with the last one. `before` have ended
    directly before, `behind` begin directly behind.
    """

    first: int
    last: int
    around: list[DestinationRules]
    begin: list[DestinationRules]
    end: list[DestinationRules]
    before: list[DestinationRules]
    behind: list[DestinationRules]


class Destinations:
    """The rules of one table: those of one family and protocol, or those among them that cover fragments."""

    def __init__(self, family: int, rules: Iterable[Rule]) -> None:
        self.family = family
        found: dict[Prefix, DestinationRules] = {}
        for rule in rules:
            known = found.get(rule.destination)
            if known is None:
                known = found[rule.destination] = DestinationRules(rule.destination)
            known.rules.append(rule)
        self._order = [found[prefix] for prefix in sorted(found)]

    def intervals(self) -> Iterator[Interval]:
        """Yield the intervals of the family, ascending. Prefixes divide it at their first and behind their last one."""
        order, (first, last) = self._order, RANGES[self.family]
        around: list[DestinationRules] = []  # the shortest prefix first
        ends: list[int] = []  # their last addresses
        before: list[DestinationRules] = []
        behind, at = _beginning(order, 0, first)
        while first <= last:
            begin = behind
            around += begin
            ends += [rules.prefix.last for rules in begin]
            stop = ends[-1] if ends else last
            if at < len(order):
                stop = min(stop, order[at].prefix.network - 1)
            kept = len(ends)
            while kept and ends[kept - 1] == stop:
                kept -= 1
            end = around[kept:]
            behind, at = _beginning(order, at, stop + 1)
            yield Interval(first, stop, around[::-1], begin, end, before, behind)
            for rules in before:
                rules.forget()
            del around[kept:], ends[kept:]
            first, before = stop + 1, end


def _beginning(order: Sequence[DestinationRules], at: int, address: int) -> tuple[list[DestinationRules], int]:
    """Return those from a position on that begin with an address, and the position behind them."""
    first = at
    while at < len(order) and order[at].prefix.network == address:
        at += 1
    return list(order[first:at]), at


# ---- one destination --------------------------------------------------------------------------


class _Answers:
    """The rules of one destination, by source."""

    __slots__ = ("have_sources", "maps", "sources")

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.sources: _ByPrefix[_PortRules] = _ByPrefix()
        self.have_sources = False
        self.maps: dict[str | None, list[PortMap] | None] = {}  # of any source
        for rule in rules:
            self.sources.at(rule.source, _PortRules).rules.append(rule)
            self.have_sources = self.have_sources or rule.source.bits > 0


class _ByPrefix(Generic[T]):
    """Values by prefix."""

    def __init__(self) -> None:
        self._tables: dict[int, dict[int, T]] = {}  # bits below the prefix -> {network >> these bits: value}
        self._longest_first: Sequence[tuple[int, dict[int, T]]] = ()

    def at(self, prefix: Prefix, make: Callable[[Prefix], T]) -> T:
        """Return the value of a prefix, made if it is missing."""
        below = ADDRESS_BITS - prefix.length
        if below not in self._tables:
            self._tables[below] = {}
            self._longest_first = sorted(self._tables.items())
        networks, network = self._tables[below], prefix.network >> below
        if network not in networks:
            networks[network] = make(prefix)
        return networks[network]

    def around(self, address: int) -> list[T]:
        """Return the values of all prefixes around an address, the longest first."""
        longest_first = self._longest_first
        return [value for below, networks in longest_first if (value := networks.get(address >> below)) is not None]


class _PortRules:
    """The rules of one destination and source."""

    def __init__(self, _source: Prefix) -> None:
        self.rules: list[Rule] = []
        self._maps: dict[str | None, PortMap] = {}

    def port_map(self, interface: str | None) -> PortMap:
        """Return the rule of each port for an interface. No rule may be added afterwards."""
        found = self._maps.get(interface)
        if found is None:
            named = any(interface in rule.interfaces for rule in self.rules)
            found = self._paint(interface) if named or interface is None else self.port_map(None)
            self._maps[interface] = found
        return found

    def _paint(self, interface: str | None) -> PortMap:
        """Paint the ports of each rule over those of worse ones."""
        rules = [rule for rule in self.rules if not rule.interfaces or interface in rule.interfaces]
        if len(rules) == 1:
            low, end = rules[0].low, rules[0].high + 1
            return PortMap([0, low, end], [None, rules[0], None]) if low else PortMap([0, end], [rules[0], None])
        starts = sorted({0, *(rule.low for rule in rules), *(rule.high + 1 for rule in rules)})
        rules.sort(key=lambda rule: rule.precedence, reverse=True)
        owners: list[Rule | None] = [None] * len(starts)
        for rule in rules:
            first, end = bisect_left(starts, rule.low), bisect_left(starts, rule.high + 1)
            owners[first:end] = [rule] * (end - first)
        return PortMap(starts, owners)
