# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Make rules from OpenZiti services, as options of tproxy_rule.

Every address of a service becomes rules or is reported. A reported source never becomes a rule for all sources.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any, Callable, NamedTuple

from ..abi.layout import RULES
from ..errors import InvalidInput, LimitExceeded
from ..model.prefix import Prefix
from ..model.rule import Identity, Rule, ports_text
from ..model.rule_options import NAME_BYTES, rules_from_params
from .export import Entity, Intercept, label, read_intercept

RuleOptions = dict[str, Any]
PROTOCOLS = ("tcp", "udp")  # that a router intercepts
PortOf = Callable[[Entity], object]  # the port of the proxy of a service, or InvalidInput; the rule checks it later
LookUp = Callable[[str], Iterable[str]]  # the addresses or prefixes of a name, none if it is not known


class Unresolved(NamedTuple):
    """An address that makes no rule."""

    service: str
    id: str
    option: str
    address: str
    reason: str

    def __str__(self) -> str:
        return f"service {self.service!r}: {self.option} has {self.address!r}: {self.reason}"


class Fault(NamedTuple):
    """A reason why a service, or a flow of it, makes no rule."""

    service: Entity
    sentence: str

    def __str__(self) -> str:
        return f"{label(self.service)}{self.sentence}"

    def as_unresolved(self) -> Unresolved:
        """Return it as an entry of the list of addresses without a rule. It is about no single address."""
        return Unresolved(self.service["name"], self.service["id"], "", "", self.sentence.lstrip(": "))


class Made(NamedTuple):
    """The rules of services as options of tproxy_rule, the addresses without a rule, and the faults of services.

    `skipped` has a sentence for each protocol that a router does not intercept.
    """

    rules: list[RuleOptions]
    unresolved: list[Unresolved]
    faults: list[Fault]
    skipped: list[str]


class _Held(NamedTuple):
    rule: Rule
    service: Entity


def rules_of(services: Iterable[Entity], port_of: PortOf, look_up: LookUp, owner: str | None) -> Made:
    """Return the rules of services of read_export. A service with a fault makes no rule, and stops no other one.

    A service that a router would not intercept makes no rule.
    """
    made: dict[Identity, _Held] = {}
    unresolved: list[Unresolved] = []
    faults: list[Fault] = []
    skipped: list[str] = []
    for service in services:
        own_faults: list[str] = []
        intercept = read_intercept(service, own_faults)
        if intercept and not own_faults:
            intercept = _with_known_protocols(intercept, skipped)
            rows = _rows(intercept, port_of, look_up, owner, unresolved, own_faults)
            faults += _add(made, _checked(rows, own_faults), service)
        faults += [Fault(service, f": {sentence}") for sentence in dict.fromkeys(own_faults)]
    return Made([_params(held.rule, owner) for held in made.values()], unresolved, faults, skipped)


def _with_known_protocols(intercept: Intercept, skipped: list[str]) -> Intercept:
    """Return the intercept without the protocols that a router skips. Add a sentence for each of these."""
    known = [name for name in intercept.protocols if name in PROTOCOLS]
    others = [name for name in dict.fromkeys(intercept.protocols) if name not in PROTOCOLS]
    skipped += [f"{label(intercept.service)}: protocols has {name!r}, which no router intercepts" for name in others]
    return intercept._replace(protocols=known)


def _rows(
    intercept: Intercept,
    port_of: PortOf,
    look_up: LookUp,
    owner: str | None,
    unresolved: list[Unresolved],
    faults: list[str],
) -> list[RuleOptions]:
    """Return the unchecked options of each rule of one service. Add a fault where they are too many."""
    if intercept.interfaces == []:
        return []
    service = intercept.service
    try:
        port = port_of(service)
    except InvalidInput as wrong:
        faults += wrong.faults
        return []
    always = {
        "tproxy_port": port,
        "name": service["name"].encode("utf-8", "replace")[:NAME_BYTES].decode("utf-8", "ignore"),
        "interfaces": intercept.interfaces,
        "owner": owner,
    }
    pairs = _pairs(intercept, look_up, unresolved)
    protocols, ports = dict.fromkeys(intercept.protocols), dict.fromkeys(intercept.ports)
    wanted = len(pairs) * len(protocols) * len(ports)
    if wanted > RULES:
        faults.append(str(LimitExceeded("rules", wanted, RULES, "it makes none")))
        return []
    return [
        {"destination": str(destination), "source": source, "protocol": protocol, "ports": low_high, **always}
        for (destination, source), protocol, low_high in product(pairs, protocols, ports)
    ]


def _pairs(
    intercept: Intercept, look_up: LookUp, unresolved: list[Unresolved]
) -> dict[tuple[Prefix, str | None], None]:
    """Return an ordered set of (destination, source or None for any), in the order of the configuration."""
    destinations, report = _resolved(intercept, "addresses", intercept.addresses, look_up)
    sources, more = _resolved(intercept, "allowedSourceAddresses", intercept.sources or [], look_up)
    unresolved += report + more
    if intercept.sources is None:
        return dict.fromkeys((prefix, None) for prefixes in destinations.values() for prefix in prefixes)
    allowed = [prefix for prefixes in sources.values() for prefix in prefixes]
    pairs: dict[tuple[Prefix, str | None], None] = {}
    for address, prefixes in destinations.items():
        found = [(prefix, _text(source)) for prefix in prefixes for source in allowed if _meet(prefix, source)]
        pairs.update(dict.fromkeys(found))
        if allowed and not found:
            reason = "no allowed source is of its address family, so no packet can reach it"
            unresolved.append(_report(intercept, "addresses", address, reason))
    return pairs


def _resolved(
    intercept: Intercept, option: str, addresses: Iterable[str], look_up: LookUp
) -> tuple[dict[str, list[Prefix]], list[Unresolved]]:
    """Return the prefixes of each address that has any, and a report of each other address."""
    found: dict[str, list[Prefix]] = {}
    unresolved = []
    for address in dict.fromkeys(addresses):
        prefixes, reason = prefixes_of(address, look_up)
        if prefixes:
            found[address] = prefixes
        else:
            unresolved.append(_report(intercept, option, address, reason))
    return found, unresolved


def _report(intercept: Intercept, option: str, address: str, reason: str) -> Unresolved:
    return Unresolved(intercept.service["name"], intercept.service["id"], option, address, reason)


def _meet(destination: Prefix, source: Prefix) -> bool:
    return source.bits == 0 or source.family == destination.family


def _text(source: Prefix) -> str | None:
    return str(source) if source.bits else None


def _checked(rows: list[RuleOptions], faults: list[str]) -> list[Rule]:
    """Return the rules of options, or [] after adding the faults that tproxy_rule would report."""
    try:
        rules: list[Rule] = rules_from_params(rows, single=True)[0]
        return rules
    except InvalidInput as wrong:
        faults += wrong.faults
        return []


def _add(made: dict[Identity, _Held], rules: Iterable[Rule], service: Entity) -> list[Fault]:
    """Add the rules of a service. Return a fault for each flow that another service intercepts with another proxy.

    Two services with the same proxy may share a flow: the first one names the rule.
    """
    faults = []
    for rule in rules:
        held = made.setdefault(rule.identity, _Held(rule, service))
        if held.rule.tproxy_port != rule.tproxy_port:
            flow = f"intercepts {rule.identity}, and so does {label(held.service)} with another proxy"
            faults.append(Fault(service, f" {flow}; choose one of them"))
    return faults


def _params(rule: Rule, owner: str | None) -> RuleOptions:
    """Return the options of a rule without defaults, so that a playbook can combine its own options with them."""
    options: RuleOptions = {
        "name": rule.name,
        "destination": str(rule.destination),
        "protocol": rule.protocol,
        "ports": ports_text(rule.low, rule.high),
        "tproxy_port": rule.tproxy_port,
    }
    if rule.source.bits:
        options["source"] = str(rule.source)
    if rule.interfaces:
        options["interfaces"] = list(rule.interfaces)
    return {**options, "owner": owner} if owner else options


_LABEL = r"[^\W_](?:[\w-]{0,61}\w)?"
# Resolvers read a name that ends in a number as an address in an old notation: 127.1, 010.0.0.1, 0x7f.1.
_HOST_NAME = re.compile(rf"(?:{_LABEL}\.)*(?!0x)(?![0-9]+\Z){_LABEL}")


def prefixes_of(address: str, look_up: LookUp) -> tuple[list[Prefix], str]:
    """Return the prefixes of an address, a host name or a wildcard; without any, the reason."""
    try:
        return [Prefix.parse(address)[0]], ""
    except InvalidInput as wrong:
        name = canonical_name(address)
        known = look_up(name) if is_host_name(name) or is_wildcard(name) else []
        found = {Prefix.parse(text)[0] for text in known}
        return sorted(found), "" if found else _reason(name, wrong)


def canonical_name(name: str) -> str:
    """Return a name in its canonical form, which comparisons use: in lower case, an IDN as punycode (RFC 5890).

    Python's own codec follows IDNA 2003, where a router's DNS library follows IDNA 2008.
    """
    plain = unicodedata.normalize("NFKC", name).lower().rstrip(".")
    return ".".join(_as_ascii(part) for part in plain.split("."))


def _as_ascii(part: str) -> str:
    """Return a label of a name as punycode, if it is not ASCII."""
    return part if part.isascii() else f"xn--{part.encode('punycode').decode('ascii')}"


def is_host_name(name: str) -> bool:
    """Return whether a resolver may look up the name. It would read some other texts as addresses."""
    return bool(_HOST_NAME.fullmatch(name))


def is_wildcard(name: str) -> bool:
    """Return whether a name means all names of a domain."""
    return name == "*" or name.startswith("*.")


def read_names(given: Mapping[object, Any]) -> dict[str, list[str]]:
    """Return the texts of option `resolve` by canonical name. Raise InvalidInput with every fault."""
    faults: list[str] = []
    names = {}
    for name, value in given.items():
        texts = value if isinstance(value, list) else [value]
        names[canonical_name(str(name))] = texts
        for text in texts:
            try:
                Prefix.parse(text)
            except InvalidInput as wrong:
                faults += [f"resolve[{name!r}]: {sentence}" for sentence in wrong.faults]
    if faults:
        raise InvalidInput(faults)
    return names


def _reason(name: str, wrong: InvalidInput) -> str:
    if is_wildcard(name):
        return "a wildcard has no addresses; list it in `resolve` with the prefix of its names"
    if is_host_name(name):
        return "its addresses are unknown; list them in `resolve`"
    return wrong.message
