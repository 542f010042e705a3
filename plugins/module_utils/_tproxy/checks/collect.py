# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Collect facts about this machine. This file judges nothing: `findings` does."""

from __future__ import annotations

import errno
import socket
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import NamedTuple

from ..constants import (
    BOOT_UNIT,
    FUNCTION,
    HANDLE,
    HELPER_SOCKET,
    HELPER_SOCKET_UNIT,
    PRIORITY,
    STATE_FILE,
    TRACKER,
    UNIT_FOLDER,
    WATCH_UNIT,
    WATCHER_LOCK,
)
from ..errors import KernelRefused
from ..model.policy import Mark, Policy
from ..model.prefix import MAPPED_BITS, Prefix, endpoint, family_of, mask, parse_address
from ..model.rule import UNKNOWN_LISTENER, Rule, is_routers
from ..program.blob import Attached
from ..resources.attachments import hook_of, is_moving, point_at
from ..resources.current_state import CurrentState, DriftEntry
from ..resources.hooks import TCX, HookProgram, has_tcx, is_fail_closed, programs_on, runs
from ..resources.interfaces import RECORDED_SCOPES
from ..resources.lock import missing_capabilities, pending_change
from ..resources.trackers import egress_of, tracker_of
from ..system.netlink.messages import Address, Link
from ..system.system import ListeningSocket, Netlink, Sockets, System
from .drift import InterfaceStatus
from .facts import Daemons, Delivery, Facts, Interface, Listener
from .findings import KERNEL_REUSEPORT, kernel_version

SYSTEMD = "/run/systemd/system"  # sd_booted(3)
FAMILIES = (socket.AF_INET, socket.AF_INET6)
WATCHDOG_NS = 10 * 10**9  # after the deadline, in which a watchdog waits for a run and rolls back
ANYWHERE = {4: Prefix.any_of(4).network, 6: 0}
NO_LISTING = (errno.EOPNOTSUPP, errno.ENOENT, errno.EPROTONOSUPPORT)


def machine(system: System, pin_dir: str) -> Facts:
    """Return the facts about the whole machine."""
    mounted, foreign = system.bpffs.is_mounted(pin_dir), tuple(system.bpffs.foreign_parts(pin_dir))
    return Facts(system.sysctl.kernel_release(), tuple(missing_capabilities(system)), pin_dir, mounted, foreign)


def daemons(system: System) -> Daemons:
    """Return the facts about the saved state and the processes. Without systemd, no unit is expected.

    A unit is expected to run if a link in /etc enables it (systemd.unit(5)).
    """
    exists, saved = system.files.exists, system.files.exists(STATE_FILE)
    boots = exists(f"{UNIT_FOLDER}/sysinit.target.wants/{BOOT_UNIT}") if exists(SYSTEMD) else None
    watches = exists(f"{UNIT_FOLDER}/multi-user.target.wants/{WATCH_UNIT}")
    helps = exists(f"{UNIT_FOLDER}/sockets.target.wants/{HELPER_SOCKET_UNIT}")
    return Daemons(
        saved,
        boots,
        system.files.is_shown(WATCHER_LOCK) if watches else None,
        system.processes.listens(HELPER_SOCKET) if helps and boots is not None else None,
    )


def ahead(link: Link, direction: str, others: Iterable[HookProgram]) -> tuple[DriftEntry, ...]:
    """Return each program that sees the packets of a hook before ours; `others` are those of the hook itself."""
    found = [DriftEntry("xdp_ahead", f"XDP program {link.xdp}")] if link.xdp and direction == "ingress" else []
    found += [DriftEntry("tcx_ahead" if entry.kind == TCX else "filter_ahead", str(entry)) for entry in others]
    return tuple(found)


def overtaken(others: Iterable[HookProgram]) -> tuple[DriftEntry, ...]:
    """Return each foreign filter that runs behind our TCX program."""
    return tuple(DriftEntry("filter_overtaken", str(entry)) for entry in others if entry.kind != TCX)


def interface(system: System, link: Link, mark: Mark | None = None) -> Interface:
    """Return the facts about an interface. With a mark they include the settings that decide about delivery."""
    delivery = None
    if mark is not None:
        settings = (system.sysctl.interface_setting(link.name, name) for name in ("rp_filter", "src_valid_mark"))
        delivery = Delivery(mark, *settings)
    return Interface(
        link.name,
        len(system.sysctl.packet_sockets(link.ifindex)),
        delivery=delivery,
        hardware=link.hardware,
        layer3=link.layer3,
        is_port=link.port,
        vrf=link.vrf,
    )


class _OwnAddress(NamedTuple):
    network: Prefix
    address: int


def with_networks(
    netlink: Netlink,
    links: Iterable[Link],
    interfaces: Iterable[Interface],
    filtered: Container[int],
) -> tuple[Interface, ...]:
    """Return the interfaces with their networks and addresses.

    `filtered` has the ifindex of each interface that runs the program.
    """
    own, indexes = _own_addresses(netlink), {link.name: link.ifindex for link in links}
    return tuple(
        _with_own(each, own.get(indexes[each.name], ()), indexes[each.name] in filtered) for each in interfaces
    )


def _with_own(interface: Interface, own: Iterable[_OwnAddress], is_filtered: bool) -> Interface:
    addresses = tuple(entry.address for entry in own)
    return interface._replace(
        networks=tuple(entry.network for entry in own),
        addresses=addresses,
        exposed=addresses if is_filtered else (),
    )


def _own_addresses(netlink: Netlink) -> dict[int, list[_OwnAddress]]:
    """Return the addresses of all interfaces, by ifindex."""
    found: dict[int, list[_OwnAddress]] = {}
    for entry in netlink.addresses():
        if entry.scope in RECORDED_SCOPES:
            number = int.from_bytes(entry.address, "big")
            found.setdefault(entry.ifindex, []).append(_OwnAddress(subnet_of(entry), number))
    return found


def subnet_of(entry: Address) -> Prefix:
    """Return the subnet that an address of an interface belongs to."""
    length = entry.prefix_length + (MAPPED_BITS if entry.family == socket.AF_INET else 0)
    return Prefix(int.from_bytes(entry.address, "big") & mask(length), length)


# ---- policy routing ---------------------------------------------------------------------


def with_routing(facts: Facts, system: System, netlink: Netlink) -> Facts:
    """Return the facts with the policy rules of the machine, its input chains, and what systemd-networkd deletes."""
    rules = tuple(rule for family in FAMILIES for rule in netlink.rules(family))
    tables = {(rule.table, rule.family) for rule in rules if rule.mask}
    local = frozenset(key for key in tables if netlink.local_default(*key))
    prunes = system.processes.is_running(system.networkd.PROCESS) and not system.networkd.keeps_foreign_rules()
    chains = tuple(system.nftables.input_chains())
    return facts._replace(policy_rules=rules, local_tables=local, networkd_prunes=prunes, input_chains=chains)


# ---- proxies ----------------------------------------------------------------------------


class _Target(NamedTuple):
    """The address of a proxy."""

    protocol: str
    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.protocol} {endpoint(self.address, self.port)}"

    def accepts(self, socket_: ListeningSocket) -> bool:
        """Return whether the kernel would find this socket, which has the right port, for the address."""
        number = int.from_bytes(parse_address(self.address), "big")
        bound = int.from_bytes(socket_.address, "big")
        return bound in (number, ANYWHERE[family_of(number)]) or (socket_.dual and not bound)


class WaitingSockets:
    """The sockets that wait for clients, at this moment. Each protocol is listed once."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        self._listed: dict[str, Sequence[ListeningSocket] | None] = {}

    def of(self, protocol: str) -> Sequence[ListeningSocket] | None:
        """Return the sockets of a protocol, or None if the kernel cannot list them."""
        if protocol not in self._listed:
            self._listed[protocol] = self._list(protocol)
        return self._listed[protocol]

    def _list(self, protocol: str) -> Sequence[ListeningSocket] | None:
        try:
            return self._sockets.listeners(protocol)
        except KernelRefused as refusal:
            if refusal.errno in NO_LISTING:
                return None
            raise


def intercepts_of(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Return the rules that splice."""
    return tuple(rule for rule in rules if rule.action == "tproxy")


def with_listeners(facts: Facts, system: System, rules: Iterable[Rule], sockets: WaitingSockets) -> Facts:
    """Return the facts with the rules that splice, and with the sockets that listen at their proxy addresses."""
    intercepts = intercepts_of(rules)
    targets: dict[_Target, list[Rule]] = {}
    for rule in intercepts:
        targets.setdefault(_Target(rule.protocol, rule.tproxy_ip, rule.tproxy_port), []).append(rule)
    waiting = {protocol: _by_port(sockets.of(protocol)) for protocol in {target.protocol for target in targets}}
    reads_reuseport = kernel_version(facts.release) < KERNEL_REUSEPORT
    listeners = [
        _listener(system, waiting[target.protocol], target, group, reads_reuseport) for target, group in targets.items()
    ]
    return facts._replace(intercepts=intercepts, listeners=tuple(listeners))


def _by_port(listed: Sequence[ListeningSocket] | None) -> dict[int, list[ListeningSocket]] | None:
    """Return sockets by port, or None if the kernel cannot list them."""
    if listed is None:
        return None
    found: dict[int, list[ListeningSocket]] = {}
    for entry in listed:
        found.setdefault(entry.port, []).append(entry)
    return found


def _listener(
    system: System,
    waiting: Mapping[int, Sequence[ListeningSocket]] | None,
    target: _Target,
    rules: Sequence[Rule],
    reads_reuseport: bool,
) -> Listener:
    names = tuple(rule.name or str(rule.identity) for rule in rules)
    found = Listener(str(target), names, routers=sum(is_routers(rule.owner) for rule in rules))
    if waiting is None:
        return found
    there = [entry for entry in waiting.get(target.port, ()) if target.accepts(entry)]
    found = found._replace(lost=len(_lost(rules, {entry.cookie for entry in there})))
    if not there:
        return found._replace(there=False)
    known = [entry.transparent for entry in there if entry.transparent is not None]
    shared = any(system.sockets.has_reuseport(entry.inode) for entry in there) if reads_reuseport else None
    named = {rule.user for rule in rules if rule.user is not None}
    strangers = tuple(sorted({(entry.user, user) for entry in there for user in named if entry.user != user}))
    transparent = all(known) if known else None
    return found._replace(there=True, transparent=transparent, shared=shared, strangers=strangers)


def _lost(rules: Sequence[Rule], cookies: set[int]) -> list[Rule]:
    """Return the rules of routers whose listener is not among the sockets with these cookies."""
    routers = [rule for rule in rules if is_routers(rule.owner)]
    if not cookies:
        return routers
    return [rule for rule in routers if rule.listener not in (None, UNKNOWN_LISTENER) and rule.listener not in cookies]


# ---- status of interfaces ----------------------------------------------------------------


def collect_status(current: CurrentState, older: Container[int] = ()) -> list[InterfaceStatus]:
    """Return the status of each interface that has our filter or a policy.

    The filters of the interfaces in `older`, given by ifindex, are of an older release.
    """
    netlink, recorded = current.netlink, current.addresses.entries
    policies, slots = current.policies.entries, current.policies.slots
    found = []
    for link in current.links:
        entries = programs_on(current.system.bpf, netlink, link.ifindex, "ingress")
        ours = next((entry for entry in entries if runs(entry, FUNCTION)), None)
        policy = policies.get(link.ifindex)
        if ours is None and policy is None:
            continue
        place = (ours.priority, ours.handle) if ours else (PRIORITY, HANDLE)
        status = InterfaceStatus(
            link,
            ours,
            policy,
            slots.get(link.ifindex),
            recorded.get(link.ifindex),
            _kernel_addresses(netlink, link),
            ahead(link, "ingress", _before(entries, ours, place[0])),
            has_hook=ours is not None or _has_hook(current, link),
            is_older=link.ifindex in older,
        )
        if ours is None:
            foreign = [each for each in entries if each.kind != TCX and (each.priority, each.handle) == place]
            status = status._replace(
                foreign="".join(f"{each.kind} filter {each.name}".rstrip() for each in foreign[:1])
            )
        else:
            status = status._replace(
                behind=_behind(entries, ours, policy),
                copies=sum(runs(entry, FUNCTION) for entry in entries),
                runs_its_program=current.programs.runs_its_name(ours.name, ours.tag),
                is_bound=current.programs.is_bound(ours.program_id),
                is_fail_closed=is_fail_closed(ours),
                lost_tracker=_lost_tracker(current, link, ours, policy),
            )
        found.append(status)
    return found


def _lost_tracker(current: CurrentState, link: Link, ours: HookProgram, policy: Policy | None) -> str:
    """Return the name of the tracker that the policy asks for, if it is not beside our program, otherwise ""."""
    if policy is None or policy.track == "none":
        return ""
    hook, wanted = egress_of(hook_of(link.ifindex, "ingress", ours)), tracker_of(Attached(ours.name))
    found = point_at(current.netlink, current.programs, hook, TRACKER).observe()
    if found is not None and not current.pins.complete:
        found = found._replace(bound=True)  # that its maps lost pins is a drift of its own
    return "" if found == wanted else wanted.name


def _has_hook(current: CurrentState, link: Link) -> bool:
    """Return whether a program could be attached to the interface without another qdisc."""
    return has_tcx(current.system.bpf, link.ifindex, "ingress") or bool(current.netlink.hook_qdisc(link.ifindex))


def _before(entries: Sequence[HookProgram], ours: HookProgram | None, priority: int) -> Sequence[HookProgram]:
    """Return the entries that get packets before ours. Without ours, those before a filter of this priority."""
    if ours is not None:
        return entries[: entries.index(ours)]
    return [entry for entry in entries if entry.kind == TCX or entry.priority < priority]


def _behind(entries: Sequence[HookProgram], ours: HookProgram, policy: Policy | None) -> tuple[DriftEntry, ...]:
    """Return the foreign filters that see no packet which our TCX program passes."""
    if ours.kind != TCX or (policy is not None and policy.accept == "unspec"):
        return ()
    return overtaken(entry for entry in entries if not runs(entry, FUNCTION))


def _kernel_addresses(netlink: Netlink, link: Link) -> tuple[bytes, ...]:
    found = {entry.address for entry in netlink.addresses(link.ifindex) if entry.scope in RECORDED_SCOPES}
    return tuple(sorted(found))


def change_drift(system: System, pin_dir: str) -> list[DriftEntry]:
    """Return the drift of a pending change: its watchdog has ended, or has not rolled it back in time."""
    pending = pending_change(system, pin_dir)
    if pending is None:
        return []
    if pending.is_over(system, WATCHDOG_NS):
        return [DriftEntry("change_overdue", f"{pending.who} did not confirm it within {pending.seconds} s")]
    if system.background.started(pending.watchdog.pid) != pending.watchdog.start:
        left = pending.seconds_left(system)
        return [DriftEntry("change_unguarded", f"a change by {pending.who} ends in {left} s")]
    return []


def leftovers(current: CurrentState) -> list[DriftEntry]:
    """Return the drift of the machine: entries of vanished interfaces, missing pins, an unfinished run."""
    found = [
        DriftEntry("policy_stale", f"interface {ifindex}")
        for ifindex in current.policies.entries
        if ifindex not in current.names
    ]
    found += [
        DriftEntry("addresses_stale", f"{entry.name} (interface {ifindex})")
        for ifindex, entry in current.addresses.entries.items()
        if ifindex not in current.names
    ]
    found += [
        DriftEntry("interface_renamed", f"{entry.name} (interface {ifindex}) is {current.names[ifindex]} now")
        for ifindex, entry in current.addresses.entries.items()
        if current.names.get(ifindex, entry.name) != entry.name
    ]
    missing = current.pins.missing()
    if missing and current.pins.names():
        found.append(DriftEntry("pin_missing", ", ".join(missing)))
    if is_moving(current.pins):
        found.append(DriftEntry("move_unfinished", ""))
    return found
