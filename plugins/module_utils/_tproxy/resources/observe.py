# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The whole state of our own program, as it is in force: read by the tables that the other stories write by."""

from __future__ import annotations

from dataclasses import replace

from ..constants import FUNCTION
from ..model.policy import Mark, Policy
from ..model.saved_state import SavedAttachment, SavedRoute, SavedState
from ..system.system import System
from .attachments import is_fail_closed, users
from .interfaces import AddressTable, PolicyTable, kernel_addresses
from .pins import splicer_pins
from .programs import Programs
from .routes import FAMILIES, RULE, RouteTable
from .rule_changes import rule_table

FAMILY_NAMES = {number: name for name, number in FAMILIES.items()}


def observe_state(system: System, netlink, pin_dir: str) -> SavedState:
    """Return what is in force, within the caller's turn. It changes nothing.

    The blob is "" where none is kept; then nothing that is attached can be put back from this state alone.
    """
    with splicer_pins(system.bpf, system.bpffs, pin_dir) as pins:
        pins.check()
        blob = Programs(system.bpf, pins).blob()
        rules = rule_table(system, pins).observe().values()
        return SavedState(
            pin_dir,
            blob.to_json() if blob else "",
            tuple(sorted(rules, key=lambda rule: rule.identity)),
            _attachments(system, netlink, pins),
            _routes(system, netlink),
        )


def _attachments(system: System, netlink, pins) -> tuple:
    policies = PolicyTable(system.bpf, pins).observe()
    recorded = AddressTable(system.bpf, pins).observe()
    found = []
    for link, _direction, entry in users(netlink, Programs(system.bpf, pins), FUNCTION):
        if is_fail_closed(entry):
            continue
        policy = replace(policies.get(link.ifindex, Policy()), layer3=False, loopback=False, deadline=0, generation=0)
        addresses = recorded[link.ifindex].addresses if link.ifindex in recorded else None
        follows = addresses == tuple(sorted(set(kernel_addresses(netlink, link))))
        found.append(SavedAttachment(link.name, entry.priority, entry.handle, policy, addresses, follows))
    return tuple(sorted(found, key=lambda entry: entry[:3]))


def _routes(system: System, netlink) -> tuple:
    keys = [key for key in RouteTable(netlink, system.route_rule, []).observe() if key[0] == RULE]
    return tuple(sorted(_route(key) for key in keys))


def _route(key: tuple) -> SavedRoute:
    _kind, family, interface, priority, mark, mask, table = key
    return SavedRoute(FAMILY_NAMES[family], interface, priority, Mark(mark, mask), table)
