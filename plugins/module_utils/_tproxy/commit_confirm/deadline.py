# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The dead-man switch: the program itself goes back to what was before, when nobody confirms in time.

1. Arming copies what is in force to the second half of `policy` and to slot 1 of `image`, and only then sets the
   deadline. Until something changes, both halves say the same.
2. Where no program of ours stands yet, the previous policy lets everything pass.
3. A process that dies anywhere leaves what was, or what falls back to it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import replace

from ..model.policy import UNFILTERED, Policy
from ..resources.interfaces import PolicyTable
from ..resources.reconcile import reconcile
from ..resources.rules import RuleTable

LONG_PAST = 1
PREVIOUS = 1


def arm(bpf, pins, table: RuleTable, attached: Container[int], deadline: int) -> None:
    """Let all that is in force now return at the deadline; `attached` are the interfaces with a filter of ours."""
    if not pins.complete:
        return
    table.keep_previous()
    policies = PolicyTable(bpf, pins)
    slots = policies.slots()
    for ifindex, policy in policies.observe().items():
        cache = replace(policy, deadline=0, generation=PREVIOUS)
        policies.write_previous(slots[ifindex], ifindex, cache if ifindex in attached else UNFILTERED)
    _set_deadline(policies, lambda policy: deadline)


def trip(bpf, pins) -> None:
    """Return to what was before at once."""
    if pins.complete:
        _set_deadline(PolicyTable(bpf, pins), lambda policy: LONG_PAST if policy.deadline else 0)


def disarm(bpf, pins, table: RuleTable) -> None:
    """Let what is in force stay, and forget what was before."""
    if not pins.complete:
        return
    policies = PolicyTable(bpf, pins)
    _set_deadline(policies, lambda policy: 0)
    policies.forget_previous()
    table.forget_previous()


def _set_deadline(policies: PolicyTable, deadline_of: Callable[[Policy], int]) -> None:
    def intend(have: Mapping) -> dict:
        return {ifindex: replace(policy, deadline=deadline_of(policy)) for ifindex, policy in have.items()}

    reconcile(policies, intend, False)
