# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Collect the facts about OpenZiti routers. This file judges nothing: `routers` does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..constants import HELPER_SOCKET_UNIT, SERVICE_NAMES, UNIT_FOLDER
from ..errors import InvalidInput
from ..model.prefix import ADDRESS_BITS, Prefix, endpoint, format_number, parse_address
from ..model.rule import UNKNOWN_LISTENER, Rule, is_routers
from ..resources.interfaces import RECORDED_SCOPES
from ..system.netlink.messages import Link
from ..system.system import ListeningSocket, Netlink, Process, System
from .collect import FAMILIES, WaitingSockets, intercepts_of, subnet_of
from .controllers import controllers
from .refusals import refused_calls
from .routers import IPV6_LOOPBACK, Neighbour, RouterFacts, Unruled

LOOPBACK = Prefix.parse("127.0.0.0/8")[0]
IPV6_LOOPBACK_NUMBER = 1  # ::1
ROUTER = "ziti"  # in the name of the executable, and in the units of the packages
MAIN_TABLE = 254  # RT_TABLE_MAIN: include/uapi/linux/rtnetlink.h


def router_facts(
    system: System,
    netlink: Netlink,
    links: Sequence[Link],
    rules: Sequence[Rule],
    enforcing: Iterable[str],
    fragments: Mapping[str, int],
    sockets: WaitingSockets,
) -> RouterFacts:
    """Return the facts. `enforcing` are the interfaces that enforce rules, `fragments` the dropped ones of each."""
    waiting = {protocol: sockets.of(protocol) or () for protocol in ("tcp", "udp")}
    listeners = _on_loopback(waiting)
    owners = system.processes.owners_of([one.inode for _protocol, one in listeners])
    taken, neighbours = _addresses(system, netlink, links)
    if taken:  # some of the owners may be other proxies, which name no controller
        neighbours += tuple(controllers(system, set(owners.values())))
    return RouterFacts(
        rules=tuple(rules),
        ipv4_only=tuple(_ipv4_only(rules, waiting)),
        enforcing=tuple(enforcing),
        unruled=tuple(_unruled(rules, listeners, owners)),
        refused=tuple(refused_calls(system)),
        taken=taken,
        neighbours=neighbours,
        fragments=dict(fragments),
    )


def service_names(system: System) -> dict[str, str]:
    """Return the names of services by id, from the file that an operator made of the controller's export.

    A file of another form has no names: they only help to read.
    """
    try:
        given = json.loads(system.files.read(SERVICE_NAMES) or "{}")
    except ValueError:
        return {}
    return {str(key): str(name) for key, name in given.items()} if isinstance(given, dict) else {}


def helper_group(system: System) -> str:
    """Return the group that the helper serves, "" without a helper."""
    unit = (system.files.read_bytes(f"{UNIT_FOLDER}/{HELPER_SOCKET_UNIT}") or b"").decode(errors="replace")
    named = re.search(r"(?m)^SocketGroup=(.*)$", unit)
    return named[1].strip() if named else ""


# ---- listeners ---------------------------------------------------------------------------


def _unruled(
    rules: Iterable[Rule], listeners: Sequence[tuple[str, ListeningSocket]], owners: Mapping[int, Process]
) -> list[Unruled]:
    """Return the transparent listeners of routers on the IPv4 loopback to which no rule leads, by process.

    A router listens there for each service and protocol. Its other sockets are elsewhere or not transparent. A process
    is a router if its name or its unit says so, or if a rule of a router leads to it. Other proxies may have listeners
    to which no rule leads.
    """
    all_leads, leads_of_routers = _Leads.of(rules), _Leads.of(rule for rule in rules if is_routers(rule.owner))
    routers = {owner for owner in owners.values() if ROUTER in f"{owner.name} {owner.unit}"}
    led = [one.inode for protocol, one in listeners if leads_of_routers.to(protocol, one)]
    routers |= {owners[inode] for inode in led if inode in owners}
    found: dict[Process, list[str]] = {}
    for protocol, one in sorted(listeners, key=lambda pair: (pair[0], pair[1].port)):
        owner = owners.get(one.inode)
        if owner in routers and not all_leads.to(protocol, one):
            where = f"{protocol} {endpoint(format_number(int.from_bytes(one.address, 'big')), one.port)}"
            found.setdefault(owner, []).append(where)
    return [Unruled(f"{owner.name} ({owner.pid})", owner.unit, tuple(where)) for owner, where in found.items()]


class _Leads(NamedTuple):
    """The sockets to which rules lead: cookies of listeners, and ports of rules that name no known listener."""

    cookies: frozenset[int | None]
    ports: frozenset[tuple[str, int]]

    @classmethod
    def of(cls, rules: Iterable[Rule]) -> _Leads:
        """Return those of rules."""
        splicing = intercepts_of(rules)
        any_socket = [rule for rule in splicing if rule.listener in (None, UNKNOWN_LISTENER)]
        return cls(
            frozenset(rule.listener for rule in splicing),
            frozenset((rule.protocol, rule.tproxy_port) for rule in any_socket),
        )

    def to(self, protocol: str, one: ListeningSocket) -> bool:
        """Return whether one of the rules leads to a socket."""
        return one.cookie in self.cookies or (protocol, one.port) in self.ports


def _on_loopback(waiting: Mapping[str, Sequence[ListeningSocket]]) -> list[tuple[str, ListeningSocket]]:
    """Return the transparent listeners on the IPv4 loopback, each with its protocol."""
    return [
        (protocol, one)
        for protocol, sockets in waiting.items()
        for one in sockets
        if one.transparent and _is_loopback(one.address)
    ]


def _is_loopback(address: bytes) -> bool:
    return bool(LOOPBACK.contains(int.from_bytes(address, "big")))


def _ipv4_only(rules: Iterable[Rule], waiting: Mapping[str, Sequence[ListeningSocket]]) -> list[Rule]:
    """Return the IPv6 rules of routers whose port has a listener of IPv4 and none of IPv6."""
    ports = {
        (protocol, one.port, _is_loopback(one.address)) for protocol, sockets in waiting.items() for one in sockets
    }
    return [
        rule
        for rule in rules
        if is_routers(rule.owner)
        and rule.tproxy_ip == IPV6_LOOPBACK
        and (rule.protocol, rule.tproxy_port, True) in ports
        and (rule.protocol, rule.tproxy_port, False) not in ports
    ]


# ---- addresses ---------------------------------------------------------------------------


def _addresses(
    system: System, netlink: Netlink, links: Iterable[Link]
) -> tuple[tuple[Prefix, ...], tuple[Neighbour, ...]]:
    """Return the prefixes on lo, and the neighbours that must stay reachable."""
    by_index = {link.ifindex: link for link in links}
    taken, neighbours = [], []
    for entry in netlink.addresses():
        link = by_index.get(entry.ifindex)
        prefix = subnet_of(entry)
        if link is None:
            continue
        if not link.loopback:
            if entry.scope in RECORDED_SCOPES and prefix.length < ADDRESS_BITS:
                neighbours.append(Neighbour(f"the subnet {prefix} of {link.name}", prefix))
        elif prefix.bits and not LOOPBACK.contains(prefix.network) and prefix.network != IPV6_LOOPBACK_NUMBER:
            taken.append(prefix)
    names = {link.ifindex: link.name for link in by_index.values()}
    neighbours += [
        Neighbour(f"the gateway {format_number(hop)} of {names[route.oif]}", Prefix(hop, ADDRESS_BITS))
        for family in FAMILIES
        for route in (netlink.routes(MAIN_TABLE, family) if taken else ())
        for hop in [int.from_bytes(route.gateway, "big")]
        if route.gateway and route.oif in names
    ]
    return tuple(dict.fromkeys(taken)), tuple(dict.fromkeys([*neighbours, *_peers(system)]))


def _peers(system: System) -> list[Neighbour]:
    """Return the peer of the SSH session of this run."""
    session = system.processes.ssh_connection()
    try:
        number = int.from_bytes(parse_address(session[0].partition("%")[0]), "big") if session else None
    except InvalidInput:
        return []
    return (
        []
        if number is None
        else [Neighbour(f"{format_number(number)}, the peer of this SSH", Prefix(number, ADDRESS_BITS))]
    )
