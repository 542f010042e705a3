# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Gathers the facts that a preflight check goes by, through the doors. It judges nothing (`_findings` does)."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Mapping

from ..errors import KernelRefused
from ..model.policy import Mark
from ..model.prefix import MAPPED_BITS, Prefix, endpoint, family_of, mask, parse_address
from ..model.rule import is_routers
from ..resources.interfaces import RECORDED_SCOPES
from ..resources.lock import missing_capabilities
from ..system.system import System
from .drift import Ahead
from .facts import Delivery, Facts, Interface, Listener
from .findings import KERNEL_REUSEPORT, kernel_version

FAMILIES = (socket.AF_INET, socket.AF_INET6)
ANYWHERE = {4: Prefix.any_of(4).network, 6: 0}
NO_LISTING = (errno.EOPNOTSUPP, errno.ENOENT, errno.EPROTONOSUPPORT)


def machine(system: System, pin_dir: str) -> Facts:
    """Return what is true of the whole machine."""
    mounted = system.bpffs.is_mounted(pin_dir)
    return Facts(system.sysctl.kernel_release(), tuple(missing_capabilities(system)), pin_dir, mounted)


def ahead(system: System, link, direction: str, filters: list, priority: int) -> tuple:
    """Return an Ahead for each program that sees the packets of a hook before a filter of this priority."""
    found = [Ahead("xdp_ahead", f"XDP program {link.xdp}")] if link.xdp and direction == "ingress" else []
    found += [
        Ahead("tcx_ahead", f"TCX program {number}") for number in system.bpf.tcx_programs(link.ifindex, direction)
    ]
    for entry in filters:
        if entry.priority < priority:
            who = f"{entry.kind} filter at priority {entry.priority} {entry.name}".rstrip()
            found.append(Ahead("filter_ahead", who))
    return tuple(found)


def interface(system: System, link, mark: Mark | None = None) -> Interface:
    """Return what is true of an interface; with a mark also what decides whether spliced packets are delivered."""
    delivery = None
    if mark is not None:
        settings = (system.sysctl.interface_setting(link.name, name) for name in ("rp_filter", "src_valid_mark"))
        delivery = Delivery(mark, *settings)
    kind = {"hardware": link.hardware, "layer3": link.layer3, "is_port": bool(link.master)}
    return Interface(link.name, len(system.sysctl.packet_sockets(link.ifindex)), delivery=delivery, **kind)


def with_networks(netlink, links: list, interfaces: Iterable[Interface], recorded: Mapping) -> tuple:
    """Return the interfaces with the networks and addresses that they have.

    `recorded` is {ifindex: addresses, each as 16 bytes} of those on which the program runs.
    """
    own, indexes = _own(netlink), {link.name: link.ifindex for link in links}
    return tuple(
        _with_own(each, own.get(indexes[each.name], ()), recorded.get(indexes[each.name])) for each in interfaces
    )


def _with_own(interface: Interface, own: Iterable, recorded: tuple | None) -> Interface:
    addresses = tuple(address for _network, address in own)
    kept = addresses if recorded is None else [int.from_bytes(address, "big") for address in recorded]
    return interface._replace(
        networks=tuple(network for network, _address in own),
        addresses=addresses,
        exposed=tuple(address for address in addresses if address not in kept),
    )


def _own(netlink) -> dict:
    """Return {ifindex: [(network, address)]}."""
    found = {}
    for entry in netlink.addresses():
        if entry.scope in RECORDED_SCOPES:
            number = int.from_bytes(entry.address, "big")
            length = entry.prefix_length + (MAPPED_BITS if entry.family == socket.AF_INET else 0)
            found.setdefault(entry.ifindex, []).append((Prefix(number & mask(length), length), number))
    return found


# ---- policy routing ---------------------------------------------------------------------


def with_routing(facts: Facts, system: System, netlink) -> Facts:
    """Return the facts with the machine's policy rules, and who may delete them."""
    rules = tuple(rule for family in FAMILIES for rule in netlink.rules(family))
    tables = {(rule.table, rule.family) for rule in rules if rule.mask}
    local = frozenset(key for key in tables if netlink.local_default(*key))
    prunes = system.processes.is_running(system.networkd.PROCESS) and not system.networkd.keeps_foreign_rules()
    return facts._replace(policy_rules=rules, local_tables=local, networkd_prunes=prunes)


# ---- proxies ----------------------------------------------------------------------------


def with_listeners(facts: Facts, system: System, rules: Iterable) -> Facts:
    """Return the facts with the rules that splice, and whoever listens where they lead."""
    intercepts = tuple(rule for rule in rules if rule.action == "tproxy")
    targets = {}
    for rule in intercepts:
        targets.setdefault((rule.protocol, rule.tproxy_ip, rule.tproxy_port), []).append(rule)
    waiting = {protocol: _waiting(system, protocol) for protocol in {target[0] for target in targets}}
    ask = kernel_version(facts.release) < KERNEL_REUSEPORT
    listeners = [_listener(system, waiting[target[0]], target, led, ask) for target, led in targets.items()]
    return facts._replace(intercepts=intercepts, listeners=tuple(listeners))


def _waiting(system: System, protocol: str) -> dict | None:
    """Return {port: sockets}, None where the kernel lists none."""
    found = {}
    try:
        listed = system.sockets.listeners(protocol)
    except KernelRefused as refusal:
        if refusal.errno in NO_LISTING:
            return None
        raise
    for entry in listed:
        found.setdefault(entry.port, []).append(entry)
    return found


def _listener(system: System, waiting: dict | None, target: tuple, rules: list, ask: bool) -> Listener:
    protocol, address, port = target
    names = tuple(rule.name or str(rule.identity) for rule in rules)
    routers = sum(is_routers(rule.owner) for rule in rules)
    found = Listener(f"{protocol} {endpoint(address, port)}", names, routers=routers)
    if waiting is None:
        return found
    number = int.from_bytes(parse_address(address), "big")
    there = [entry for entry in waiting.get(port, ()) if _takes(entry, number)]
    if not there:
        return found._replace(there=False)
    cache = [entry.transparent for entry in there if entry.transparent is not None]
    shared = any(system.sockets.has_reuseport(entry.inode) for entry in there) if ask else None
    return found._replace(there=True, transparent=all(cache) if cache else None, shared=shared)


def _takes(entry, number: int) -> bool:
    """Whether a socket would be found for this address."""
    bound = int.from_bytes(entry.address, "big")
    return bound in (number, ANYWHERE[family_of(number)]) or (entry.dual and not bound)
