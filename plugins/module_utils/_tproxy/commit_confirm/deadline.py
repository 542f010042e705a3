# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The confirm deadline (a dead man's switch): past it the program itself uses the previous policies and rules.

1. Arming copies the state in force to the second half of `policy` and to slot 1 of `image`, and only then sets the
   deadline. Until something changes, both halves are the same.
2. Where no program of ours is attached yet, the previous policy lets everything pass.
3. A process that dies at any step leaves the state before, or one that falls back to it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import replace

from ..model.policy import UNFILTERED, Policy
from ..resources.interfaces import PolicyTable
from ..resources.pins import Pins
from ..resources.reconcile import reconcile
from ..resources.rule_table import RuleTable
from ..system.system import Bpf

LONG_PAST = 1
PREVIOUS = 1


def arm(bpf: Bpf, pins: Pins, table: RuleTable, attached: Container[int], deadline: int) -> None:
    """Set the deadline, in ns of the monotonic clock. `attached` are the ifindexes with a program of ours."""
    if not pins.complete:
        return
    table.keep_previous()
    policies = PolicyTable(bpf, pins)
    snapshot = policies.load()
    for ifindex, policy in snapshot.entries.items():
        previous = replace(policy, deadline=0, generation=PREVIOUS) if ifindex in attached else UNFILTERED
        policies.write_previous(snapshot.slots[ifindex], ifindex, previous)
    _set_deadline(policies, lambda policy: deadline)


def trip(bpf: Bpf, pins: Pins) -> None:
    """Let the deadline pass at once, so that the program uses the previous policies and rules."""
    if pins.complete:
        _set_deadline(PolicyTable(bpf, pins), lambda policy: LONG_PAST if policy.deadline else 0)


def disarm(bpf: Bpf, pins: Pins, table: RuleTable) -> None:
    """Remove the deadline, and the previous policies and rules."""
    if not pins.complete:
        return
    policies = PolicyTable(bpf, pins)
    _set_deadline(policies, lambda policy: 0)
    policies.forget_previous()
    table.forget_previous()


def _set_deadline(policies: PolicyTable, deadline_of: Callable[[Policy], int]) -> None:
    """Write the deadline to each policy. A damaged policy is written as it is read, so that a change can repair it."""

    def desired(have: Mapping[int, Policy]) -> dict[int, Policy]:
        return {
            ifindex: replace(policy, deadline=deadline_of(policy), damaged=False) for ifindex, policy in have.items()
        }

    reconcile(policies, desired)
