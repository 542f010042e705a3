# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The story of tc_bpf_attach with state absent: our filter goes, and with the last one everything of ours."""

from __future__ import annotations

from contextlib import ExitStack

from ..resources.attachments import Hook, users
from ..resources.hook import Scene, drop_clsacts, remove_filter, state
from ..resources.interfaces import AddressTable, PolicyTable
from ..resources.migrate import leave_older, older_users
from ..resources.reconcile import put_back, reconcile


def detach(scene: Scene, check: bool) -> dict:
    """Remove our filter from one interface. Returns what tc_bpf_attach returns."""
    link = scene.netlink.link(scene.options["interface"])
    ifindex = link.ifindex if link else None
    had = scene.policies().get(ifindex)
    places = _places(scene, ifindex) if link else []
    others = [hook for hook in _users(scene) if hook not in places]
    last = not others and bool(scene.pins.names())
    changed = last or bool(places) or any(known is not None for known in (had, _recorded(scene, ifindex)))
    stood = [(hook, scene.at(hook).table(ifindex).observe().get(hook)) for hook in places]
    rules = _rules(scene) if last and scene.is_splicer else []
    if changed and not check:
        _remove(scene, link, places, last)
    return {
        "changed": changed,
        "attachment": None,
        "program": None,
        "policy": None,
        "warnings": [],
        "left": [scene.options["interface"]],
        "diff": {
            "before": {**state(link, *(stood or [(None, None)])[0], had), **({"rules": rules} if rules else {})},
            "after": state(link, None, None, None),
        },
    }


def _places(scene: Scene, ifindex: int) -> list:
    """Return the hooks to be left: the one that the options name, if our filter is there, and what places() says.

    Left elsewhere without the policy that goes, our own program would close the interface.
    """
    asked = scene.hook(ifindex)
    found = [asked] if scene.table(ifindex).filter() is not None else []
    return list(dict.fromkeys(found + scene.places(ifindex)))


def _rules(scene: Scene) -> list:
    """Return the rules that go with the last filter, as lines."""
    table = scene.rule_table()
    table.salvage = True
    return [str(rule) for rule in sorted(table.observe().values(), key=lambda rule: rule.identity)]


def _recorded(scene: Scene, ifindex: int | None):
    """Return what is recorded of the interface's addresses."""
    return AddressTable(scene.doors.bpf, scene.pins).observe().get(ifindex) if scene.is_splicer else None


def _users(scene: Scene) -> list:
    """Return the hooks on which the program runs, or that of an older release."""
    found = users(scene.netlink, scene.programs, scene.options["function"])
    if scene.is_splicer:
        found += older_users(scene.doors, scene.netlink, scene.options["pin_dir"])
    return [Hook(link.ifindex, direction, entry.priority, entry.handle) for link, direction, entry in found]


def _remove(scene: Scene, link, places: list, last: bool) -> None:
    """Filter first: without its policy the program would close the interface."""
    with ExitStack() as done, ExitStack() as undo:
        if link is not None:
            for hook in places or [scene.hook(link.ifindex)]:
                remove_filter(scene.at(hook), link, done, undo)
            if scene.is_splicer:
                _forget(scene, link.ifindex, undo)
        if last:
            drop_clsacts(scene)
            scene.pins.retire()
        undo.pop_all()
    if scene.is_splicer:
        leave_older(scene.doors, scene.netlink, scene.options["pin_dir"])
    if last:
        scene.pins.sweep()


def _forget(scene: Scene, ifindex: int, undo: ExitStack) -> None:
    """Remove what was recorded for the interface."""
    for kind in (PolicyTable, AddressTable):
        table = kind(scene.doors.bpf, scene.pins)
        undo.callback(put_back, table, table.observe())
        reconcile(table, lambda have: {key: value for key, value in have.items() if key != ifindex}, False)
