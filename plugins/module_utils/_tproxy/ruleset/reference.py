# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Rule sets: which slot each rule has, and which rule answers a packet.

The answer here is a look-up by dictionary, one probe for each prefix length in use. It shares nothing with the
compiler but the meaning of a rule, so that one can judge the other. It never touches an image.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping

from ..abi.layout import RULES
from ..errors import LimitExceeded
from ..model.prefix import ADDRESS_BITS, family_of
from ..model.rule import Rule


def assign_slots(rules: Iterable[Rule], previous: Mapping) -> dict:
    """Return {identity: slot}, slots 1 to RULES. Raises LimitExceeded.

    An identity keeps its slot, so that its counters go on. A new one gets the lowest slot that `previous` does not use:
    packets are counted under the old image until the new one is in force. Only when those run out are slots reused
    that this very change sets free.
    """
    identities = [rule.identity for rule in rules]
    if len(identities) > RULES:
        raise LimitExceeded("rules", len(identities), RULES, "nothing was changed")
    slots = {identity: previous[identity] for identity in identities if identity in previous}
    free = _free_slots(set(previous.values()), set(slots.values()))
    for identity in identities:
        if identity not in slots:
            slots[identity] = next(free)
    return slots


def _free_slots(used: set, kept: set) -> Iterable[int]:
    """Yield slots that nobody uses, then those that lose their rule now; lowest first."""
    yield from (slot for slot in range(1, RULES + 1) if slot not in used)
    yield from sorted(used - kept)


class Index:
    """Return the best rule for a packet, or for a fragment (docs/SEMANTICS.md, "Precedence" and "Intercept lookup")."""

    def __init__(self, rules: Iterable[Rule]):
        self._protocols = {}  # (family, protocol) -> _Longest of destinations, whose values are _Longest of sources
        self._intercepts = {4: _Longest(), 6: _Longest()}  # of destinations, whose values are _Intercepts
        for rule in rules:
            key = rule.destination.family, rule.protocol
            destinations = self._protocols.setdefault(key, _Longest())
            sources = destinations.at(rule.destination, _Longest)
            sources.at(rule.source, _Ports).rules.append(rule)
            if rule.action == "tproxy":
                self._intercepts[rule.destination.family].at(rule.destination, _Intercepts).rules.append(rule)

    def best(self, destination: int, source: int, protocol: str, port: int, interface: str | None = None):
        """Return the Rule that holds, or None. Addresses are mapped 128-bit numbers.

        `interface` is a name; None stands for an interface that no rule names.
        """
        return first_owner(chain(self.around(destination, protocol), source, interface), port)

    def cover(self, destination: int, interface: str | None = None) -> Rule | None:
        """Return the best Rule that intercepts something at the destination, whatever protocol, port and source.

        The longest destination goes first, then the precedence, then tcp before udp.
        """
        around = self._intercepts[family_of(destination)].around(destination)
        return next(filter(None, (intercepts.best(interface) for intercepts in around)), None)

    def around(self, destination: int, protocol: str) -> list:
        """Return what all prefixes around a destination hold, the longest first; for chain()."""
        destinations = self._protocols.get((family_of(destination), protocol))
        return destinations.around(destination) if destinations else []


def chain(around: list, source: int, interface: str | None) -> list:
    """Return what decides about the ports of two addresses, best first: [(starts, owners)]; for first_owner().

    owners[i] is the Rule for ports from starts[i] up to the next start, or None.
    """
    return [ports.view(interface) for sources in around for ports in sources.around(source)]


def first_owner(chain: list, port: int) -> Rule | None:
    """Return the first rule in a chain that owns the port, or None."""
    for starts, owners in chain:
        rule = owners[bisect_right(starts, port) - 1]
        if rule is not None:
            return rule
    return None


class _Longest:
    """Values by prefix; asked for an address it gives those of all prefixes around it, the longest first."""

    def __init__(self):
        self._tables = {}  # bits below the prefix -> {network >> these bits: value}
        self._longest_first = []  # the same, as pairs

    def at(self, prefix, make):
        """Return the value of a prefix, made if it is not there."""
        below = ADDRESS_BITS - prefix.length
        if below not in self._tables:
            self._tables[below] = {}
            self._longest_first = sorted(self._tables.items())
        networks, network = self._tables[below], prefix.network >> below
        if network not in networks:
            networks[network] = make()
        return networks[network]

    def around(self, address: int) -> list:
        """Return the values of all prefixes that hold the address."""
        longest_first = self._longest_first
        return [value for below, networks in longest_first if (value := networks.get(address >> below)) is not None]


class _Intercepts:
    """The rules of one destination that splice, as seen on an interface."""

    def __init__(self):
        self.rules = []
        self._best = {}

    def best(self, interface: str | None) -> Rule | None:
        """Return the best rule that the interface sees. The rules must be complete by now."""
        if interface not in self._best:
            seen = [rule for rule in self.rules if not rule.interfaces or interface in rule.interfaces]
            self._best[interface] = min(seen, key=lambda rule: (rule.precedence, rule.protocol), default=None)
        return self._best[interface]


class _Ports:
    """The rules of one destination and source: who owns which ports, as seen on an interface."""

    def __init__(self):
        self.rules = []
        self._views = {}

    def view(self, interface: str | None) -> tuple:
        """Return (starts, owners) for an interface; see chain(). The rules must be complete by now."""
        view = self._views.get(interface)
        if view is None:
            named = any(interface in rule.interfaces for rule in self.rules)
            view = self._paint(interface) if named or interface is None else self.view(None)
            self._views[interface] = view
        return view

    def _paint(self, interface: str | None) -> tuple:
        """Paint the ports of each rule over those of worse ones."""
        rules = [rule for rule in self.rules if not rule.interfaces or interface in rule.interfaces]
        rules.sort(key=lambda rule: rule.precedence, reverse=True)
        starts = sorted({0, *(rule.low for rule in rules), *(rule.high + 1 for rule in rules)})
        owners = [None] * len(starts)
        for rule in rules:
            first, end = bisect_left(starts, rule.low), bisect_left(starts, rule.high + 1)
            owners[first:end] = [rule] * (end - first)
        return starts, owners
