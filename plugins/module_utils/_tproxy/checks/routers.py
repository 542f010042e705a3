# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Findings about OpenZiti routers: lost calls, and intercepts that cannot work. Pure: `router_facts` collects.

A router makes each call once and logs no refusal. So these findings are the only signs of a service without a rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ..constants import HELPER_SOCKET_UNIT
from ..model.prefix import Prefix
from ..model.rule import OWNER_PREFIX, Identity, Rule, is_routers
from ..resources.in_force import ANY, waits_for
from .findings import Finding, finding, listed

IPV6_LOOPBACK = "::1"


class Unruled(NamedTuple):
    """Transparent listeners of one process, to which no rule leads. `process` and `unit` are "" if they are unknown."""

    process: str
    unit: str
    listeners: tuple[str, ...]


class Refused(NamedTuple):
    """The calls of a running router that were refused since it started, and the answer to the last of them."""

    process: str
    unit: str
    calls: int
    last: str


class Neighbour(NamedTuple):
    """An address or a subnet that must stay reachable, in words, and its prefix."""

    words: str
    prefix: Prefix


class RouterFacts(NamedTuple):
    """Facts about the OpenZiti routers of this machine.

    `rules` are the rules of all owners, `ipv4_only` those of routers whose proxy listens at the same port of the IPv4
    loopback only. `enforcing` are the interfaces that enforce rules. `taken` are the prefixes on lo. `fragments` counts
    dropped fragments by interface. `missing_group` is the group of the helper if it does not exist. `names` are the
    names of services by id.
    """

    rules: tuple[Rule, ...] = ()
    ipv4_only: tuple[Rule, ...] = ()
    enforcing: tuple[str, ...] = ()
    unruled: tuple[Unruled, ...] = ()
    refused: tuple[Refused, ...] = ()
    taken: tuple[Prefix, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    fragments: Mapping[str, int] = {}
    missing_group: str = ""
    names: Mapping[str, str] = {}


def findings_of_routers(facts: RouterFacts) -> list[Finding]:
    """Return the findings about OpenZiti routers."""
    checks = (_unruled, _refused, _taken, _shared, _ipv4_only, _fragments, _not_in_force, _group)
    return [each for check in checks for each in check(facts)]


def service_of(owner: str, names: Mapping[str, str]) -> str:
    """Return the name of the service of an owner, "" if it is not known or if the owner is no router."""
    return names.get(owner[len(OWNER_PREFIX) :], "") if is_routers(owner) else ""


def owner_text(owner: str, names: Mapping[str, str]) -> str:
    """Return an owner with the name of its service, if that is known."""
    name = service_of(owner, names)
    return f"{owner} ({name})" if name else owner


def _unruled(facts: RouterFacts) -> Iterator[Finding]:
    for process, unit, listeners in facts.unruled:
        found = (
            f"{process or 'a process'} listens transparently on {listed(listeners)}, and no rule leads there: a call"
            " of its diverter was lost or refused"
        )
        remedy = (
            f"{_restart(unit)}: it makes all calls again; if the finding stays, the service names no interface of this"
            " machine, or no source that can reach it"
        )
        yield finding("warning", "listener_without_rule", found, remedy)


def _refused(facts: RouterFacts) -> Iterator[Finding]:
    for process, unit, calls, last in facts.refused:
        found = f"{calls} calls of {process} were refused since it started, the last one: {last}"
        remedy = f"mend the reason, then {_restart(unit)}, because a router never repeats a call"
        yield finding("warning", "calls_refused", found, remedy)


def _restart(unit: str) -> str:
    return f"run `systemctl restart {unit}`" if unit else "restart that process"


def _taken(facts: RouterFacts) -> Iterator[Finding]:
    """Yield an error for each prefix on lo that takes the packets to neighbours. Such packets stay on this host."""
    for taken in facts.taken:
        covered = [each.words for each in facts.neighbours if _covers(taken, each.prefix)]
        if covered:
            owners = sorted(
                {rule.owner for rule in facts.rules if rule.destination == taken and is_routers(rule.owner)}
            )
            whose = f", for {listed([owner_text(owner, facts.names) for owner in owners])}," if owners else ""
            found = f"{taken} on lo{whose} covers {listed(covered)}: packets of this host to it never leave"
            remedy = (
                "take the neighbours out of the addresses of the service; if the prefix then stays, run"
                f" `ip address del {taken} dev lo`"
            )
            yield finding("error", "lo_covers", found, remedy, "lo")


def _covers(taken: Prefix, neighbour: Prefix) -> bool:
    return taken.length <= neighbour.length and taken.contains(neighbour.network)


def _shared(facts: RouterFacts) -> Iterator[Finding]:
    """Yield a finding with each flow of two owners, one of them a router. The lower owner has it."""
    users: dict[Identity, list[Rule]] = {}
    for rule in facts.rules:
        users.setdefault(rule.identity._replace(owner=""), []).append(rule)
    shared = [rules for rules in users.values() if len(rules) > 1 and any(is_routers(rule.owner) for rule in rules)]
    if shared:
        texts = []
        for rules in shared:
            first, *others = (
                owner_text(rule.owner, facts.names) for rule in sorted(rules, key=lambda one: one.precedence)
            )
            texts.append(f"{rules[0].identity}: {first} has it, and {' and '.join(others)} gets nothing")
        remedy = "change the addresses or ports of one of them; among equal flows the owner that sorts first has them"
        yield finding("warning", "flow_shared", f"{len(shared)} flows have two owners: {listed(texts, '; ')}", remedy)


def _ipv4_only(facts: RouterFacts) -> Iterator[Finding]:
    if facts.ipv4_only:
        owners = sorted({owner_text(rule.owner, facts.names) for rule in facts.ipv4_only})
        found = f"OpenZiti routers listen on IPv4 only, so IPv6 addresses of {listed(owners)} get no answer"
        remedy = "remove the IPv6 addresses from the service; tproxy-splicer gc removes their rules"
        yield finding("warning", "router_ipv4_only", found, remedy)


def _fragments(facts: RouterFacts) -> Iterator[Finding]:
    if not any(is_routers(rule.owner) and rule.protocol == "udp" for rule in facts.rules):
        return
    for name, count in facts.fragments.items():
        found = f"{count} fragments were dropped on {name}, and a router intercepts UDP: large datagrams get lost"
        remedy = (
            "let the watcher run, which attaches a program for socket lookups (Linux 5.17), or let clients send no"
            " datagram beyond the MTU (1,472 bytes of data)"
        )
        yield finding("warning", "fragments_dropped", found, remedy, name)


def _not_in_force(facts: RouterFacts) -> Iterator[Finding]:
    """Yield a note for rules of routers that no interface enforces. The diverter told the router the same."""
    waiting = [
        rule
        for rule in facts.rules
        if is_routers(rule.owner) and waits_for(rule, facts.enforcing) == (list(rule.interfaces) or [ANY])
    ]
    if waiting:
        where = sorted({name for rule in waiting for name in rule.interfaces})
        found = (
            f"{len(waiting)} rules of OpenZiti routers are stored and not in force: no program on"
            f" {listed(where or ['any interface'])}"
        )
        remedy = "run tc_bpf_attach for the interfaces of the clients, or name other interfaces in the service"
        yield finding("note", "service_not_in_force", found, remedy)


def _group(facts: RouterFacts) -> Iterator[Finding]:
    if facts.missing_group:
        group = facts.missing_group
        found = f"the helper is for the group {group}, which does not exist, so its socket cannot listen"
        remedy = f"run `groupadd --system {group}` and `systemctl restart {HELPER_SOCKET_UNIT}`"
        yield finding("error", "helper_group_missing", found, remedy)
