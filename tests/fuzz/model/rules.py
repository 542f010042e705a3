# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The best rule for a flow, by a linear search in order of precedence (docs/SEMANTICS.md, "Rules")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from .packet import Flow
from .policy import BITS, Prefix


@dataclass(frozen=True)
class Rule:
    """A rule. All members but the action are its identity."""

    owner: str
    destination: Prefix
    source: Prefix
    protocol: str | int
    low: int
    high: int
    interfaces: tuple
    action: str
    proxy: tuple = ()  # (address, port)
    on_missing: str = "drop"

    @property
    def identity(self) -> tuple:
        """The members that identify the rule."""
        return (self.owner, self.destination, self.source, self.protocol, self.low, self.high, self.interfaces)

    @property
    def rank(self) -> tuple:
        """Sort key, the best first."""
        longest_destination, longest_source = -self.destination.length, -self.source.length
        narrowest_range = self.high - self.low
        for_all_interfaces = self.interfaces == ()
        names = [name.encode() for name in self.interfaces]
        return (
            longest_destination,
            longest_source,
            narrowest_range,
            self.low,
            for_all_interfaces,
            len(self.interfaces),
            names,
            self.owner.encode(),
        )

    def is_seen_on(self, interface: str) -> bool:
        """Whether it concerns an interface."""
        return not self.interfaces or interface in self.interfaces


def names_listener(rule: Rule) -> bool:
    """Whether a rule leads to one socket alone: those of OpenZiti routers ("Proxy")."""
    return rule.action == "tproxy" and rule.owner.startswith("ziti:")


def rule_from_options(options: Mapping) -> Rule:
    """Return a rule as a user writes it: prefixes as text, `ports` as (low, high), all given but the proxy.

    A protocol without ports is given by its number, with any `ports`.
    """
    splices = options["action"] == "tproxy"
    return Rule(
        owner=options["owner"],
        destination=Prefix.parse(options["destination"]),
        source=Prefix.parse(options["source"]),
        protocol=options["protocol"],
        low=options["ports"][0],
        high=options["ports"][1],
        interfaces=tuple(sorted(options["interfaces"])),
        action=options["action"],
        proxy=(int(ip_address(options["tproxy_ip"])), options["tproxy_port"]) if splices else (),
        on_missing=options["on_missing"] if splices else "drop",
    )


class Rules:
    """A set of rules, to be asked often."""

    def __init__(self, rules: Iterable[Rule]):
        self._ranked = sorted(rules, key=lambda rule: rule.rank)
        self._seen = {}  # (interface, family, protocol, whether covers alone) -> what is tried, in that order

    def best(self, flow: Flow, interface: str) -> Rule | None:
        """Return the rule that holds for the flow, or None."""
        destination, source, port = flow.destination, flow.source, flow.port
        for network, beyond, source_network, source_beyond, low, high, rule in self._tried(
            interface, flow.family, flow.protocol, False
        ):
            if destination >> beyond == network and low <= port <= high and source >> source_beyond == source_network:
                return rule
        return None

    def cover(self, family: int, protocol: str, destination: int, interface: str) -> Rule | None:
        """Return the best rule that splices or drops to the destination, or None ("Cover lookup")."""
        for network, beyond, *_rest, rule in self._tried(interface, family, protocol, True):
            if destination >> beyond == network:
                return rule
        return None

    def _tried(self, interface: str, family: int, protocol: str | int, covers: bool) -> list:
        key = interface, family, protocol, covers
        if key not in self._seen:
            self._seen[key] = [_numbers(rule) for rule in self._ranked if self._is_tried(rule, *key)]
        return self._seen[key]

    @staticmethod
    def _is_tried(rule: Rule, interface: str, family: int, protocol: str | int, covers: bool) -> bool:
        if rule.destination.family != family or not rule.is_seen_on(interface) or rule.protocol != protocol:
            return False
        return not covers or rule.action in ("tproxy", "drop")


def _numbers(rule: Rule) -> tuple:
    """Return the operands of a comparison: the upper bits of the networks, and the number of bits below them."""
    bits = BITS[rule.destination.family]
    beyond, source_beyond = bits - rule.destination.length, bits - rule.source.length
    networks = rule.destination.network >> beyond, beyond, rule.source.network >> source_beyond, source_beyond
    return (*networks, rule.low, rule.high, rule)
