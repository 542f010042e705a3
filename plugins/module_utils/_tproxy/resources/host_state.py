# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The state of a router that an operation wants, and the plan that leads to it: values of transaction.py."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..model.policy import InterfaceAddresses, Policy
from ..model.rule import Identity, Rule
from ..program.blob import Attached, Wanted
from .hooks import Hook, Order
from .interfaces import InterfaceSnapshot, InterfaceWrites
from .reconcile import Changes, Plan, diff
from .routes import LocalKey, RouteKey, Routes, RouteSnapshot
from .rule_table import CompiledRules
from .rules import RuleSnapshot

Entry = TypeVar("Entry")


class Remains(enum.Enum):
    """The pinned objects that stay after a transaction."""

    EVERYTHING = "the maps and the program"
    MAPS = "the maps"
    NOTHING = "nothing"


@dataclass(frozen=True)
class HostState:
    """The state that an operation wants. A part that is None stays as it is and is not read.

    `rules`, `routes`, `addresses` (by ifindex) and `policies` (by ifindex) are whole parts: entries that they lack are
    removed. `rules` are compiled again when the image in force is damaged, interrupted or stale.
    `attachments` names hooks: with an Attached, our program must stand there; with None, none of ours. Other hooks
    stay. `orders` has the order of TCX programs for these hooks. `program` is the program of these attachments. With
    `pins_program` it is pinned again, too, if another one is pinned.
    `flow_tables` has wanted sizes of tables of tracked flows by name; other tables keep theirs.
    `can_do_without_trackers`: a tracker that has no place on its hook is left out, and no reason to refuse.
    `previous_rules` changes the rules of the previous image too, while a change waits for confirmation.
    """

    rules: Mapping[Identity, Rule] | None = None
    routes: Routes | None = None
    addresses: Mapping[int, InterfaceAddresses] | None = None
    policies: Mapping[int, Policy] | None = None
    attachments: Mapping[Hook, Attached | None] = field(default_factory=dict)
    orders: Mapping[Hook, Order] = field(default_factory=dict)
    program: Wanted | None = None
    pins_program: bool = False
    flow_tables: Mapping[str, int] = field(default_factory=dict)
    remains: Remains = Remains.EVERYTHING
    can_do_without_trackers: bool = False
    previous_rules: Callable[[Mapping[Identity, Rule]], Mapping[Identity, Rule]] | None = None


@dataclass(frozen=True)
class RulePlan:
    """The plan of the rules. `refresh`: the same rules are compiled again. `moving`: a killed move is finished."""

    plan: Plan[RuleSnapshot, Identity, Rule, CompiledRules]
    refresh: bool
    moving: bool

    @property
    def snapshot(self) -> RuleSnapshot:
        """Return the image in force before."""
        return self.plan.snapshot

    @property
    def compiled(self) -> CompiledRules | None:
        """Return the image to come, None where the image stays."""
        return self.plan.work

    @property
    def recompiled(self) -> bool:
        """Return whether the image changes although no rule changes."""
        return self.moving or (self.refresh and not self.plan.changed)

    @property
    def changed(self) -> bool:
        """Return whether anything has to be done."""
        return self.plan.changed or self.recompiled


@dataclass(frozen=True)
class InterfacePlan(Generic[Entry]):
    """The plan of a table of interfaces: `first` before attachments are removed, `after` when they are gone."""

    first: Plan[InterfaceSnapshot[Entry], int, Entry, InterfaceWrites[Entry]]
    after: Mapping[int, Entry]

    @property
    def before(self) -> Mapping[int, Entry]:
        """Return the entries before the transaction."""
        return self.first.before

    @property
    def changes(self) -> Changes[int, Entry]:
        """Return the changes of both steps."""
        return diff(self.before, self.after)


@dataclass(frozen=True)
class TransactionPlan:
    """The plan of each part; None for a part that the wanted state leaves as it is.

    `puts` are the hooks that get the program, `removes` the hooks that lose ours. `flow_tables` has the size before
    and the wanted size of each table that gets another one. `repaired` are the maps whose lost pins this run has put
    back; check mode has only read them.
    """

    desired: HostState
    rules: RulePlan | None
    routes: Plan[RouteSnapshot, RouteKey | LocalKey, bool, Changes[RouteKey | LocalKey, bool]] | None
    addresses: InterfacePlan[InterfaceAddresses] | None
    policies: InterfacePlan[Policy] | None
    puts: tuple[Hook, ...]
    removes: tuple[Hook, ...]
    flow_tables: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    repaired: tuple[str, ...] = ()

    @property
    def remains(self) -> Remains:
        """Return the pins that stay. Maps stay for rules that came after the plan was made."""
        has_rules = self.rules is not None and bool(self.rules.plan.after)
        return Remains.MAPS if has_rules and self.desired.remains is Remains.NOTHING else self.desired.remains

    @property
    def changed(self) -> bool:
        """Return whether anything changes. Pins that are removed count for the operation that removes them."""
        return bool(
            (self.rules is not None and self.rules.changed)
            or (self.routes is not None and self.routes.changed)
            or (self.addresses is not None and self.addresses.changes)
            or (self.policies is not None and self.policies.changes)
            or self.puts
            or self.removes
            or self.flow_tables
            or self.repaired
        )
