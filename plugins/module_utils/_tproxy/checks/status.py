# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Looks at every interface that has a filter of ours or a policy, and at what is left of those that are gone."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, NamedTuple

from ..constants import FUNCTION, HANDLE, PRIORITY
from ..model.policy import InterfaceAddresses, Policy
from ..resources.attachments import MOVING, is_fail_closed, runs
from ..resources.interfaces import RECORDED_SCOPES, AddressTable, PolicyTable
from ..resources.programs import Programs
from ..system.system import System
from .collect import ahead
from .drift import Hook, address_drift, hook_drift


class InterfaceStatus(NamedTuple):
    """What stands on one interface; `slot` is that of its policy, and so of its counters.

    `there` holds the addresses that the interface has, each as 16 bytes.
    """

    link: Any
    ours: Any
    hook: Hook
    policy: Policy | None
    slot: int | None
    recorded: InterfaceAddresses | None
    there: tuple

    def drift(self) -> list:
        """Return [(word, who)]."""
        found = hook_drift(self.hook, self.policy)
        return found + (address_drift(self.recorded.addresses, self.there) if self.recorded else [])


def collect_status(system: System, netlink, pins, older: Container[int] = ()) -> list:
    """Return a Stand for each interface that has a filter of ours or a policy; on `older` it is of an older release."""
    policies, addresses = PolicyTable(system.bpf, pins), AddressTable(system.bpf, pins).observe()
    had, slots, programs = policies.observe(), policies.slots(), Programs(system.bpf, pins)
    found = []
    for link in netlink.interfaces():
        filters = netlink.filters(link.ifindex, "ingress")
        ours = next((entry for entry in filters if runs(entry, FUNCTION)), None)
        if ours is None and link.ifindex not in had:
            continue
        has_clsact = ours is not None or netlink.has_clsact(link.ifindex)
        hook = _hook(system, programs, link, filters, ours)._replace(
            has_clsact=has_clsact, is_older=link.ifindex in older
        )
        policy, recorded = had.get(link.ifindex), addresses.get(link.ifindex)
        found.append(
            InterfaceStatus(link, ours, hook, policy, slots.get(link.ifindex), recorded, _addresses(netlink, link))
        )
    return found


def _hook(system: System, programs: Programs, link, filters: list, ours) -> Hook:
    place = (ours.priority, ours.handle) if ours else (PRIORITY, HANDLE)
    before = ahead(system, link, "ingress", filters, place[0])
    if ours is None:
        foreign = [f"{one.kind} filter {one.name}".rstrip() for one in filters if (one.priority, one.handle) == place]
        return Hook(foreign="".join(foreign[:1]), has_filter=False, ahead=before)
    return Hook(
        runs_its_program=programs.runs_its_name(ours.name, ours.tag),
        is_bound=programs.is_bound(ours.program_id),
        is_fail_closed=is_fail_closed(ours),
        ahead=before,
    )


def _addresses(netlink, link) -> tuple:
    found = {entry.address for entry in netlink.addresses(link.ifindex) if entry.scope in RECORDED_SCOPES}
    return tuple(sorted(found))


def leftovers(system: System, netlink, pins) -> list:
    """Return [(word, who)] of the machine: interfaces that are gone, pins that are gone, a run that was killed."""
    there = {link.ifindex for link in netlink.interfaces()}
    recorded = AddressTable(system.bpf, pins).observe()
    found = [
        ("policy_stale", f"interface {ifindex}")
        for ifindex in PolicyTable(system.bpf, pins).observe()
        if ifindex not in there
    ]
    found += [
        ("addresses_stale", f"{entry.name} (interface {ifindex})")
        for ifindex, entry in recorded.items()
        if ifindex not in there
    ]
    names = pins.names()
    if names and pins.missing():
        found.append(("pin_missing", ", ".join(pins.missing())))
    if MOVING in names:
        found.append(("move_unfinished", ""))
    return found
