# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The changes of rules that can decide about packets to an own address of this host, such as those of an SSH session.

A removed rule with another action than pass cannot: packets that it took meet the next rule or the default action.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..model.prefix import ADDRESS_BITS
from ..model.rule import Identity, Rule
from ..resources.current_state import CurrentState
from ..resources.interfaces import RECORDED_SCOPES
from ..resources.reconcile import Changes


def may_touch_own_addresses(
    current: CurrentState, before: Mapping[Identity, Rule], changes: Changes[Identity, Rule]
) -> bool:
    """Return whether a change of rules can drop packets to an own address, or give them to a proxy.

    These rules can: a new `drop` rule, a new `tproxy` rule for that very address, and a `pass` rule that goes or gets
    another action. If a `pass` rule is narrowed, it goes and a narrower one comes.
    """
    if not changes:
        return False
    recorded = {
        int.from_bytes(address, "big") for entry in current.addresses.entries.values() for address in entry.addresses
    }
    own = recorded | set(_of_interfaces(current))
    if any(_takes(rule, own) for rule in _new(before, changes)):
        return True
    return any(rule.destination.contains(address) for rule in _withdrawn(before, changes) for address in own)


def _of_interfaces(current: CurrentState) -> Iterator[int]:
    """Yield the addresses of all interfaces but lo. OpenZiti routers put the address of each service on lo."""
    loopback = {link.ifindex for link in current.links if link.loopback}
    for entry in current.netlink.addresses():
        if entry.scope in RECORDED_SCOPES and entry.ifindex not in loopback:
            yield int.from_bytes(entry.address, "big")


def _new(before: Mapping[Identity, Rule], changes: Changes[Identity, Rule]) -> Iterator[Rule]:
    """Yield each new rule, and each rule that changes more than its name."""
    for identity, rule in changes.puts.items():
        if identity not in before or before[identity]._replace(name=rule.name) != rule:
            yield rule


def _takes(rule: Rule, own: set[int]) -> bool:
    """Return whether a rule decides about packets to an own address, and does not pass them."""
    if rule.action == "pass":
        return False
    if rule.action == "tproxy":
        return rule.destination.length == ADDRESS_BITS and rule.destination.network in own
    return any(map(rule.destination.contains, own))


def _withdrawn(before: Mapping[Identity, Rule], changes: Changes[Identity, Rule]) -> Iterator[Rule]:
    """Yield each `pass` rule that is removed, or that has another action from now on."""
    gone = [before[identity] for identity in changes.deletes]
    changed = [
        before[identity] for identity, rule in changes.puts.items() if identity in before and rule.action != "pass"
    ]
    yield from (rule for rule in (*gone, *changed) if rule.action == "pass")
