# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The story of tc_bpf_attach with state absent: our filter goes, and with the last one everything of ours."""

from __future__ import annotations

from contextlib import ExitStack

from ..resources.attachments import Hook, users
from ..resources.hook import HookContext, drop_clsacts, remove_filter, state
from ..resources.interfaces import AddressTable, PolicyTable
from ..resources.migrate import drop_older_pins, older_attachments
from ..resources.reconcile import reconcile, restore_table


def detach(context: HookContext, check: bool) -> dict:
    """Remove our filter from one interface. Returns what tc_bpf_attach returns."""
    link = context.netlink.link(context.options["interface"])
    ifindex = link.ifindex if link else None
    had = context.policies().get(ifindex)
    places = _places(context, ifindex) if link else []
    others = [hook for hook in _users(context) if hook not in places]
    last = not others and bool(context.pins.names())
    changed = last or bool(places) or any(cache is not None for cache in (had, _recorded(context, ifindex)))
    stood = [(hook, context.at(hook).table(ifindex).observe().get(hook)) for hook in places]
    rules = _rules(context) if last and context.is_splicer else []
    if changed and not check:
        _remove(context, link, places, last)
    return {
        "changed": changed,
        "attachment": None,
        "program": None,
        "policy": None,
        "warnings": [],
        "left": [context.options["interface"]],
        "diff": {
            "before": {**state(link, *(stood or [(None, None)])[0], had), **({"rules": rules} if rules else {})},
            "after": state(link, None, None, None),
        },
    }


def _places(context: HookContext, ifindex: int) -> list:
    """Return the hooks to be left: the one that the options name, if our filter is there, and what places() says.

    Left elsewhere without the policy that goes, our own program would close the interface.
    """
    asked = context.hook(ifindex)
    found = [asked] if context.table(ifindex).filter() is not None else []
    return list(dict.fromkeys(found + context.places(ifindex)))


def _rules(context: HookContext) -> list:
    """Return the rules that go with the last filter, as lines."""
    table = context.rule_table()
    table.ignore_damage = True
    return [str(rule) for rule in sorted(table.observe().values(), key=lambda rule: rule.identity)]


def _recorded(context: HookContext, ifindex: int | None):
    """Return what is recorded of the interface's addresses."""
    return AddressTable(context.system.bpf, context.pins).observe().get(ifindex) if context.is_splicer else None


def _users(context: HookContext) -> list:
    """Return the hooks on which the program runs, or that of an older release."""
    found = users(context.netlink, context.programs, context.options["function"])
    if context.is_splicer:
        found += older_attachments(context.system, context.netlink, context.options["pin_dir"])
    return [Hook(link.ifindex, direction, entry.priority, entry.handle) for link, direction, entry in found]


def _remove(context: HookContext, link, places: list, last: bool) -> None:
    """Filter first: without its policy the program would close the interface."""
    with ExitStack() as done, ExitStack() as undo:
        if link is not None:
            for hook in places or [context.hook(link.ifindex)]:
                remove_filter(context.at(hook), link, done, undo)
            if context.is_splicer:
                _forget(context, link.ifindex, undo)
        if last:
            drop_clsacts(context)
            context.pins.retire()
        undo.pop_all()
    if context.is_splicer:
        drop_older_pins(context.system, context.netlink, context.options["pin_dir"])
    if last:
        context.pins.sweep()


def _forget(context: HookContext, ifindex: int, undo: ExitStack) -> None:
    """Remove what was recorded for the interface."""
    for kind in (PolicyTable, AddressTable):
        table = kind(context.system.bpf, context.pins)
        undo.callback(restore_table, table, table.observe())
        reconcile(table, lambda have: {key: value for key, value in have.items() if key != ifindex}, False)
