# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Which rule applies to a packet, without an image: the reference for the verifier (docs/SEMANTICS.md).

The answer is a search by dictionary, one probe for each prefix length in use. It shares nothing with the compiler but
the meaning of a rule, so that one can judge the other.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from ..model.prefix import ADDRESS_BITS, Prefix, family_of
from ..model.rule import Rule

T = TypeVar("T")


class PortMap(NamedTuple):
    """rules[i] applies to ports from starts[i] up to the next start; None means that no rule does."""

    starts: list[int]
    rules: list[Rule | None]


class Reference:
    """The rules of a set, by destination and source."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._destinations: dict[tuple[int, str], _ByPrefix[SourceRules]] = {}
        self._intercepts: dict[int, _ByPrefix[_InterceptRules]] = {4: _ByPrefix(), 6: _ByPrefix()}
        for rule in rules:
            key = rule.destination.family, rule.protocol
            destinations = self._destinations.setdefault(key, _ByPrefix())
            destinations.at(rule.destination, SourceRules).add(rule)
            if rule.action == "tproxy":
                self._intercepts[rule.destination.family].at(rule.destination, _InterceptRules).rules.append(rule)

    def best(
        self, destination: int, source: int, protocol: str, port: int, interface: str | None = None
    ) -> Rule | None:
        """Return the rule for a packet, or None. Addresses are mapped 128-bit numbers.

        `interface` is a name. None is an interface that no rule names.
        """
        return first_match(port_maps(self.around(destination, protocol), source, interface), port)

    def intercept(self, destination: int, interface: str | None = None) -> Rule | None:
        """Return the best rule that intercepts packets to the destination, with any protocol, port and source.

        The longest destination goes first, then the precedence, then tcp before udp.
        """
        around = self._intercepts[family_of(destination)].around(destination)
        return next(filter(None, (rules.best(interface) for rules in around)), None)

    def around(self, destination: int, protocol: str) -> list[SourceRules]:
        """Return the rules of all prefixes around a destination, the longest first, for port_maps()."""
        destinations = self._destinations.get((family_of(destination), protocol))
        return destinations.around(destination) if destinations else []


def port_maps(around: Iterable[SourceRules], source: int, interface: str | None) -> list[PortMap]:
    """Return the port maps for two addresses, the best first, for first_match()."""
    return [rules.port_map(interface) for sources in around for rules in sources.around(source)]


def depend_on_source(around: Iterable[SourceRules]) -> bool:
    """Return whether the port maps are different ones for different sources."""
    return any(rules.have_sources for rules in around)


def first_match(maps: Iterable[PortMap], port: int) -> Rule | None:
    """Return the first rule that applies to the port, or None."""
    for starts, rules in maps:
        rule = rules[bisect_right(starts, port) - 1]
        if rule is not None:
            return rule
    return None


class _ByPrefix(Generic[T]):
    """Values by prefix."""

    def __init__(self) -> None:
        self._tables: dict[int, dict[int, T]] = {}  # bits below the prefix -> {network >> these bits: value}
        self._longest_first: Sequence[tuple[int, dict[int, T]]] = ()

    def at(self, prefix: Prefix, make: Callable[[], T]) -> T:
        """Return the value of a prefix, made if it is missing."""
        below = ADDRESS_BITS - prefix.length
        if below not in self._tables:
            self._tables[below] = {}
            self._longest_first = sorted(self._tables.items())
        networks, network = self._tables[below], prefix.network >> below
        if network not in networks:
            networks[network] = make()
        return networks[network]

    def around(self, address: int) -> list[T]:
        """Return the values of all prefixes around an address, the longest first."""
        longest_first = self._longest_first
        return [value for below, networks in longest_first if (value := networks.get(address >> below)) is not None]


class _InterceptRules:
    """The rules of one destination that intercept."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self._best: dict[str | None, Rule | None] = {}

    def best(self, interface: str | None) -> Rule | None:
        """Return the best rule for an interface. No rule may be added afterwards."""
        if interface not in self._best:
            seen = [rule for rule in self.rules if not rule.interfaces or interface in rule.interfaces]
            self._best[interface] = min(seen, key=lambda rule: (rule.precedence, rule.protocol), default=None)
        return self._best[interface]


class _PortRules:
    """The rules of one destination and source."""

    def __init__(self) -> None:
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
        rules.sort(key=lambda rule: rule.precedence, reverse=True)
        starts = sorted({0, *(rule.low for rule in rules), *(rule.high + 1 for rule in rules)})
        owners: list[Rule | None] = [None] * len(starts)
        for rule in rules:
            first, end = bisect_left(starts, rule.low), bisect_left(starts, rule.high + 1)
            owners[first:end] = [rule] * (end - first)
        return PortMap(starts, owners)


class SourceRules(_ByPrefix[_PortRules]):
    """The rules of one destination, by source."""

    def __init__(self) -> None:
        super().__init__()
        self.have_sources = False  # whether a rule applies to some sources only

    def add(self, rule: Rule) -> None:
        """Add a rule."""
        self.at(rule.source, _PortRules).rules.append(rule)
        self.have_sources = self.have_sources or rule.source.bits > 0
