# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""What the stories of tc_bpf_attach work with, once the doors are open: one hook, its pins and its program."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

from ..constants import FUNCTION
from ..model.policy import Policy
from ..program.blob import Attached
from ..program.select import Wanted
from ..system.system import System
from .attachments import AttachmentTable, Hook, clsact_marker, clsact_markers, users
from .interfaces import PolicyTable
from .migrate import pins_in_force
from .pins import Pins, other_pins
from .programs import Programs
from .reconcile import Changes, reconcile
from .rules import RuleTable


class HookContext(NamedTuple):
    """Options, doors, the open netlink door and the pins that a run is about, and its deadline where it has one."""

    options: Mapping
    system: System
    netlink: Any
    pins: Pins
    deadline: int = 0

    @property
    def is_splicer(self) -> bool:
        """Whether it is about our own program."""
        return self.options["function"] == FUNCTION

    @property
    def programs(self) -> Programs:
        """Return the programs of the pin folder."""
        return Programs(self.system.bpf, self.pins)

    def table(self, ifindex: int, program=None) -> AttachmentTable:
        """Return the table of the one hook that the options name."""
        return AttachmentTable(self.netlink, self.programs, self.hook(ifindex), self.options["function"], program)

    def hook(self, ifindex: int) -> Hook:
        """Return the hook that the options name."""
        return Hook(ifindex, self.options["direction"], self.options["priority"], self.options["handle"])

    def at(self, hook: Hook) -> HookContext:
        """Return the same scene, about another hook."""
        return self._replace(options={**self.options, **hook._asdict()})

    def places(self, ifindex: int) -> list:
        """Return the hooks of the interface on which our own program runs, wherever that is; [] for another program.

        Its policy is the interface's, and two of it would judge each packet twice.
        """
        found = users(self.netlink, self.programs, FUNCTION) if self.is_splicer else []
        return [
            Hook(ifindex, direction, entry.priority, entry.handle)
            for link, direction, entry in found
            if link.ifindex == ifindex
        ]

    def elsewhere(self, ifindex: int) -> list:
        """Return those of them that the options do not name."""
        return [place for place in self.places(ifindex) if place != self.hook(ifindex)]

    def rule_table(self) -> RuleTable:
        """Return the table of rules, to read."""
        return RuleTable(self.system.bpf, self.pins, self.system.ifindex_of, lambda image: None)

    def policies(self) -> dict:
        """Return {ifindex: Policy}; {} for a program that is not ours."""
        return PolicyTable(self.system.bpf, self.pins).observe() if self.is_splicer else {}


def open_pins(options: Mapping, system: System, check: bool) -> Pins:
    """Return the pins of our own program, or those of the other one in a folder of its own."""
    if options["function"] == FUNCTION:
        return pins_in_force(system, options["pin_dir"], check)
    return other_pins(system.bpf, system.bpffs, f"{options['pin_dir']}/{options['function']}")


def shown(policy: Policy | None) -> dict | None:
    """Return a policy as the user reads it."""
    return policy and policy.to_params()


def state(link, hook: Hook | None, attached, policy: Policy | None, rules_bound: bool = True) -> dict:
    """Return one side of the diff. `rules_bound`: to the interfaces of today."""
    return {
        "interface": link and link.name,
        "filter": attached and attached.name,
        "priority": hook.priority if attached else None,
        "handle": hook.handle if attached else None,
        "bound": bool(attached and attached.bound),
        "rules_bound": rules_bound,
        "policy": shown(policy),
    }


def forget_gone(context: HookContext) -> None:
    """Remove the notes on clsact qdiscs that went with their interfaces."""
    for ifindex in clsact_markers(context.pins) - {link.ifindex for link in context.netlink.interfaces()}:
        context.pins.clear_marker(clsact_marker(ifindex))


def put_filter(
    context: HookContext, hook: Hook, wanted: Wanted, program: int, done: ExitStack, undo: ExitStack
) -> None:
    """Make a loaded program the current one, and put it on its hook; `undo` learns how to bring back the old one."""
    bpf, number = context.system.bpf, context.system.bpf.program_info(program).id
    table = context.table(hook.ifindex, lambda: (program, number))
    stood = table.filter() or table.foreign()
    if stood is None:
        undo.callback(table.apply, Changes({}, (hook,)), {})
    else:
        old = bpf.program_by_id(stood.program_id)
        done.callback(os.close, old)
        undo.callback(context.netlink.replace_filter, *hook, old, stood.name)
    context.programs.remember(program, wanted.blob, done, undo)
    reconcile(table, lambda _have: {hook: wanted.attached}, False)


def drop_clsacts(context: HookContext) -> None:
    """Remove what clsact qdiscs of ours are left on other interfaces, from which our filter was taken by hand."""
    for link in context.netlink.interfaces():
        context.table(link.ifindex).drop_clsact()


def remove_filter(context: HookContext, link, done: ExitStack, undo: ExitStack) -> None:
    """Take our filter off the hook that the options name; `undo` learns how to bring it back."""
    table, hook = context.table(link.ifindex), context.hook(link.ifindex)
    stood = table.filter()
    if stood is None:
        table.drop_clsact()  # what a run that was killed may have left
        return
    old = context.system.bpf.program_by_id(stood.program_id)
    done.callback(os.close, old)
    back = context.table(link.ifindex, lambda: (old, stood.program_id))
    undo.callback(back.apply, Changes({hook: Attached(stood.name)}, ()), {})
    reconcile(table, lambda _have: {}, False)
