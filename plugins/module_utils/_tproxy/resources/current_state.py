# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The state of the router as the kernel has it: rules, routes, recorded addresses, policies and attachments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

from ..abi.layout import FLOWS
from ..constants import FUNCTION, HANDLE, PRIORITY, TRACKER
from ..model.policy import InterfaceAddresses, Mark, Policy
from ..model.saved_state import SavedAttachment, SavedRoute, SavedState
from ..program.blob import Blob
from ..ruleset.records import ImageContents
from ..system.netlink.messages import Link
from ..system.system import Netlink, System
from .attachments import Attachment, users
from .hooks import TCX, Hook, HookProgram, is_fail_closed, tcx_chain
from .interfaces import AddressTable, InterfaceSnapshot, PolicyTable, kernel_addresses
from .pins import FLOW_PINS, Pins
from .programs import Programs
from .routes import FAMILY_NAMES, RouteKey, RouteSnapshot, RouteTable
from .rules import EMPTY, RuleReader, RuleSnapshot


class DriftEntry(NamedTuple):
    """A drift code of checks/drift.py, and the detail that its sentence names: a filter, an address, a map."""

    code: str
    detail: str


class CurrentState:
    """The state of the kernel for one program and its pins. Each part is read once, at its first use.

    `route_tables` are looked at for local routes beside the tables of our rules. `ignore_damage`: an image that cannot
    be read counts as none. `empty` are the contents of pins without an image.
    """

    def __init__(
        self,
        system: System,
        netlink: Callable[[], Netlink],
        pins: Pins,
        function: str = FUNCTION,
        route_tables: Iterable[int] = (),
        ignore_damage: bool = False,
        empty: ImageContents = EMPTY,
    ) -> None:
        self.system, self.pins, self.function = system, pins, function
        self._netlink, self._route_tables = netlink, route_tables
        self.programs = Programs(system.bpf, pins)
        self.rule_reader = RuleReader(system.bpf, pins, system.ifindex_of, ignore_damage, empty)
        self.address_table, self.policy_table = AddressTable(system.bpf, pins), PolicyTable(system.bpf, pins)

    @property
    def netlink(self) -> Netlink:
        """The netlink adapter, opened at its first use."""
        return self._netlink()

    @cached_property
    def route_table(self) -> RouteTable:
        """The table of policy routes."""
        return RouteTable(self.netlink, self._route_tables)

    @cached_property
    def links(self) -> tuple[Link, ...]:
        """The interfaces."""
        return tuple(self.netlink.interfaces())

    @cached_property
    def names(self) -> dict[int, str]:
        """The names of the interfaces by ifindex."""
        return {link.ifindex: link.name for link in self.links}

    @cached_property
    def rules(self) -> RuleSnapshot:
        """The image in force."""
        return self.rule_reader.load()

    @cached_property
    def routes(self) -> RouteSnapshot:
        """Our policy rules and local routes."""
        return self.route_table.load()

    @cached_property
    def addresses(self) -> InterfaceSnapshot[InterfaceAddresses]:
        """The recorded addresses."""
        return self.address_table.load()

    @cached_property
    def policies(self) -> InterfaceSnapshot[Policy]:
        """The policies."""
        return self.policy_table.load()

    @cached_property
    def attachments(self) -> tuple[Attachment, ...]:
        """The attachments of the program on these pins."""
        return tuple(users(self.netlink, self.programs, self.function, self.links))

    @cached_property
    def trackers(self) -> tuple[Attachment, ...]:
        """The attachments of the tracker on these pins; none for a program of others."""
        if self.function != FUNCTION:
            return ()
        return tuple(users(self.netlink, self.programs, TRACKER, self.links, ("egress",)))

    @cached_property
    def flow_tables(self) -> dict[str, int]:
        """The sizes of the tables of tracked flows, by name. One that is not pinned will have the default."""
        bpf, pins = self.system.bpf, self.pins
        there = {name: pin for name, pin in FLOW_PINS.items() if pins.has(pin)}
        return {name: bpf.map_info(pins.fd(there[name])).entries if name in there else FLOWS for name in FLOW_PINS}

    @cached_property
    def blob(self) -> Blob | None:
        """The blob of the pinned program."""
        return self.programs.blob()


# ---- the whole state ---------------------------------------------------------------------


def observe_state(current: CurrentState, pin_dir: str) -> SavedState:
    """Return the state in force, within the caller's lock. Change nothing.

    The blob is "" where none is kept. Then no attachment can be restored from this state alone.
    """
    current.pins.check()
    rules = current.rules.rules.values()
    return SavedState(
        pin_dir,
        current.blob.to_json() if current.blob else "",
        tuple(sorted(rules, key=lambda rule: rule.identity)),
        _attachments(current),
        tuple(sorted(_route(key) for key in current.routes.rules)),
        recorded=_recorded(current),
        flow_tables=current.flow_tables,
    )


def _recorded(current: CurrentState) -> tuple[InterfaceAddresses, ...]:
    """Return the recorded addresses of interfaces without the program."""
    attached = {each.link.ifindex for each in current.attachments}
    found = [
        entry
        for ifindex, entry in current.addresses.entries.items()
        if ifindex not in attached and current.names.get(ifindex) == entry.name
    ]
    return tuple(sorted(found, key=lambda entry: entry.name))


def _attachments(current: CurrentState) -> tuple[SavedAttachment, ...]:
    policies, recorded = current.policies.entries, current.addresses.entries
    found = []
    for link, hook, entry in current.attachments:
        if is_fail_closed(entry):
            continue
        policy = plain_policy(policies.get(link.ifindex, Policy()))
        addresses = recorded[link.ifindex].addresses if link.ifindex in recorded else None
        follows = addresses == tuple(sorted(set(kernel_addresses(current.netlink, link))))
        priority, handle = (PRIORITY, HANDLE) if hook.kind == TCX else (hook.priority, hook.handle)
        behind = _behind(current, hook, entry)
        found.append(SavedAttachment(link.name, priority, handle, policy, addresses, follows, hook.kind, behind))
    return tuple(sorted(found, key=lambda entry: entry[:3]))


def plain_policy(policy: Policy) -> Policy:
    """Return a policy without the fields of the moment and of the interface."""
    return replace(policy, layer3=False, loopback=False, port=False, deadline=0, generation=0)


def _behind(current: CurrentState, hook: Hook, entry: HookProgram) -> tuple[str, ...]:
    """Return the names of the TCX programs that get the packets after ours."""
    if hook.kind != TCX:
        return ()
    chain = tcx_chain(current.system.bpf, hook.ifindex, hook.direction)
    names = [each.name for each in chain]
    return tuple(names[names.index(entry.name) + 1 :]) if entry.name in names else ()


def _route(key: RouteKey) -> SavedRoute:
    return SavedRoute(FAMILY_NAMES[key.family], key.interface, key.priority, Mark(key.mark, key.mask), key.table)
