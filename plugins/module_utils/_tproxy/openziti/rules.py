# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""OpenZiti services to rules, as options of tproxy_rule.

Every address of a service becomes rules or is reported. A source that is reported never widens the rules to any source.
"""

from __future__ import annotations

import re
from itertools import product
from typing import Callable, NamedTuple

from ..abi.layout import RULES
from ..errors import InvalidInput, LimitExceeded
from ..model.prefix import Prefix
from ..model.rule import Rule, ports_text
from ..model.rule_options import NAME_BYTES, rules_from_params
from .export import Intercept, label, read_intercept


class Unresolved(NamedTuple):
    """An address that makes no rule."""

    service: str
    id: str
    option: str
    address: str
    reason: str

    def __str__(self) -> str:
        return f"service {self.service!r}: {self.option} has {self.address!r}: {self.reason}"


def rules_of(services: list, port_of: Callable, look_up: Callable, owner: str | None) -> tuple:
    """Return (rules as options of tproxy_rule, [Unresolved], faults) of services of read_export.

    `port_of` returns the port on which the proxy of a service listens, `look_up` what names stand for (_ziti_names).
    Services that a router would not intercept make no rule. Raises LimitExceeded.
    """
    made, unresolved, faults = {}, [], []
    for service in services:
        said = []
        intercept = read_intercept(service, said)
        if intercept and not said:
            rows = _rows(intercept, port_of, look_up, owner, unresolved)
            faults += _enter(made, _judged(rows, said), service)
        faults += [f"{label(service)}: {sentence}" for sentence in dict.fromkeys(said)]
    return [_params(rule, owner) for rule, _service in made.values()], unresolved, faults


def _rows(intercept: Intercept, port_of: Callable, look_up: Callable, owner: str | None, unresolved: list) -> list:
    """Return the options of each rule of one service, nothing of them judged yet."""
    if intercept.interfaces == []:
        return []
    service = intercept.service
    always = {
        "tproxy_port": port_of(service),
        "name": service["name"].encode("utf-8", "replace")[:NAME_BYTES].decode("utf-8", "ignore"),
        "interfaces": intercept.interfaces,
        "owner": owner,
    }
    pairs = _pairs(intercept, look_up, unresolved)
    protocols, ports = dict.fromkeys(intercept.protocols), dict.fromkeys(intercept.ports)
    wanted = len(pairs) * len(protocols) * len(ports)
    if wanted > RULES:
        raise LimitExceeded(f"rules of {label(service)}", wanted, RULES, "nothing was changed")
    return [
        {"destination": str(destination), "source": source, "protocol": protocol, "ports": low_high, **always}
        for (destination, source), protocol, low_high in product(pairs, protocols, ports)
    ]


def _pairs(intercept: Intercept, look_up: Callable, unresolved: list) -> dict:
    """Return {(destination prefix, source as text or None for any)} in the order of the configuration."""
    destinations, report = _resolved(intercept, "addresses", intercept.addresses, look_up)
    sources, more = _resolved(intercept, "allowedSourceAddresses", intercept.sources or [], look_up)
    unresolved += report + more
    if intercept.sources is None:
        return dict.fromkeys((prefix, None) for prefixes in destinations.values() for prefix in prefixes)
    allowed = [prefix for prefixes in sources.values() for prefix in prefixes]
    pairs = {}
    for address, prefixes in destinations.items():
        found = [(prefix, _text(source)) for prefix in prefixes for source in allowed if _meet(prefix, source)]
        pairs.update(dict.fromkeys(found))
        if allowed and not found:
            reason = "no allowed source has its family, so no packet could reach it"
            unresolved.append(_report(intercept, "addresses", address, reason))
    return pairs


def _resolved(intercept: Intercept, option: str, addresses: list, look_up: Callable) -> tuple:
    """Return ({address: its prefixes}, [Unresolved])."""
    found, unresolved = {}, []
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


def _judged(rows: list, faults: list) -> list:
    """Return the rules of options, or [] after noting what tproxy_rule would say of them."""
    try:
        return rules_from_params(rows, single=True)[0]
    except InvalidInput as wrong:
        faults += wrong.faults
        return []


def _enter(made: dict, rules: list, service: dict) -> list:
    """Add rules to {identity: (rule, service)}. Return a fault for each flow that another service has already.

    Two services may share a flow when they share the proxy: the first one names the rule.
    """
    faults = []
    for rule in rules:
        earlier, holder = made.setdefault(rule.identity, (rule, service))
        if earlier.tproxy_port != rule.tproxy_port:
            what = f"intercepts {rule.identity}, and so does {label(holder)} with another proxy"
            faults.append(f"{label(service)} {what}; choose one of them")
    return faults


def _params(rule: Rule, owner: str | None) -> dict:
    """Return the options that say something, so that a playbook can combine its own with them."""
    options = {
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


def prefixes_of(address: str, look_up: Callable) -> tuple:
    """Return (prefixes, reason): the prefixes that an address stands for, or why there are none.

    `look_up` returns the addresses or prefixes, as texts, of a host name or wildcard; [] for one it does not know.
    """
    try:
        return [Prefix.parse(address)[0]], ""
    except InvalidInput as wrong:
        name = canonical_name(address)
        known = look_up(name) if is_host_name(name) or is_wildcard(name) else []
        found = {Prefix.parse(text)[0] for text in known}
        return sorted(found), "" if found else _reason(name, wrong)


def canonical_name(name: str) -> str:
    """Return a name as look-ups compare it."""
    return name.lower().rstrip(".")


def is_host_name(name: str) -> bool:
    """Say whether a resolver may be asked: one never should be for what it would take for an address."""
    return bool(_HOST_NAME.fullmatch(name))


def is_wildcard(name: str) -> bool:
    """Say whether a name stands for the names of a domain."""
    return name == "*" or name.startswith("*.")


def read_names(given) -> dict:
    """Return {canonical name: [texts]} of option `resolve`. Raises InvalidInput with every fault."""
    faults, names = [], {}
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
        return "a wildcard has no addresses; list it in `resolve` with the prefix that its names get"
    if is_host_name(name):
        return "its addresses are not known; list them in `resolve`"
    return wrong.message
