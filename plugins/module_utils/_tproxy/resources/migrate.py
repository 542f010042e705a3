# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The pins of an older release, whose maps have another layout, and how this release takes them over.

1. Rules (of every owner), policies, addresses and notes on clsact qdiscs are copied to a folder of our layout, whole or
   not at all, before the first change. Counters begin anew.
2. Filters go on running the old program on the old maps until tc_bpf_attach puts the new one in their place.
3. The old folder goes when no filter uses it any more. Until then whoever goes back to the old release finds it as it
   was.
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack

from ..abi.layout import LAYOUT, MAPS
from ..constants import FUNCTION
from ..errors import LayoutMismatch
from ..ruleset.records import ImageContents
from .attachments import clsact_marker, clsact_markers, users
from .interfaces import AddressTable, PolicyTable
from .pins import Pins, splicer_pins
from .programs import Programs
from .reconcile import reconcile
from .rules import EMPTY, RuleTable

# The maps that are read, where they have another shape than ours: {layout: {map: entries}}.
OTHER_ENTRIES = {1: {"policy": 256}}
COPIED = ("image", "policy", "ifindex_ip_map")


def pins_in_force(system, pin_dir: str, check: bool) -> Pins:
    """Return our pins, after taking over what an older release left; in check mode those of that release.

    Check mode only reads, and the older maps read as ours do.
    """
    pins, older = splicer_pins(system.bpf, system.bpffs, pin_dir), older_pins(system, pin_dir)
    if older is None:
        return pins
    with ExitStack() as done, system.netlink() as netlink:
        done.enter_context(older)
        if _is_due(system, netlink, pins, older):
            older.check()
            if check:
                done.pop_all()
                return older
            _copy(system, older, pins)
            drop_older_pins(system, netlink, pin_dir)
    return pins


def older_pins(system, pin_dir: str) -> Pins | None:
    """Return the pins of the newest older release that are there, or None."""
    names = system.bpffs.names(pin_dir) if system.bpffs.is_mounted(pin_dir) else []
    there = [layout for layout in OTHER_ENTRIES if layout < LAYOUT and f"v{layout}" in names]
    if not there:
        return None
    shapes = {name: MAPS[name][1] for name in COPIED}
    for name, entries in OTHER_ENTRIES[max(there)].items():
        kind, key, value, _entries, flags = shapes[name]
        shapes[name] = (kind, key, value, entries, flags)
    return Pins(system.bpf, system.bpffs, f"{pin_dir}/v{max(there)}", shapes)


def older_attachments(system, netlink, pin_dir: str) -> list:
    """Return (Link, direction, Filter) of every filter that still runs on the maps of an older release."""
    older = older_pins(system, pin_dir)
    if older is None:
        return []
    with older:
        return users(netlink, Programs(system.bpf, older), FUNCTION)


def migration_warnings(system, pin_dir: str) -> list:
    """Return a warning while filters run by the rules of an older release."""
    if older_pins(system, pin_dir) is None:
        return []
    with system.netlink() as netlink:
        names = sorted({link.name for link, _direction, _entry in older_attachments(system, netlink, pin_dir)})
    if not names:
        return []
    what = "a program of an older release runs here by what it was told, until tc_bpf_attach replaces it"
    return [f"{', '.join(names)}: {what}"]


def refuse_older_release(system, pin_dir: str) -> None:
    """Raise LayoutMismatch while filters run by maps of an older release: nobody could take a change back to them."""
    left = migration_warnings(system, pin_dir)
    if left:
        raise LayoutMismatch(
            f"{left[0]}; a change could not be taken back to that: nothing was changed; run tc_bpf_attach without"
            " confirm_timeout first"
        )


def drop_older_pins(system, netlink, pin_dir: str) -> None:
    """Remove the pins of an older release when no filter uses them any more."""
    older = older_pins(system, pin_dir)
    if older is not None and not older_attachments(system, netlink, pin_dir):
        pins = splicer_pins(system.bpf, system.bpffs, pin_dir)
        for note in _notes(pins):
            pins.clear_marker(note)
        older.remove()


def _is_due(system, netlink, pins: Pins, older: Pins) -> bool:
    """Whether the older release is what is in force, and not what we have made of it already.

    Ours are stale when somebody went back to the older release: no filter uses them, and they were not copied from what
    is there now.
    """
    if not pins.names():
        return True
    if pins.has_marker(_note(system, older)):
        return False
    with pins:
        return not users(netlink, Programs(system.bpf, pins), FUNCTION)


def _copy(system, older: Pins, pins: Pins) -> None:
    """Fill a set of maps aside, and put it in its place."""
    pins.retire()
    pins.sweep()
    aside = Pins(system.bpf, system.bpffs, f"{pins.folder}_new", pins.shapes)
    before = _rules(system, older).contents()
    with aside:
        aside.ensure()
        fresh = EMPTY._replace(generation=before.generation - 1)  # so that the copy has the generation of its original
        _fill(_rules(system, older), _rules(system, aside, fresh))
        for kind in (PolicyTable, AddressTable):
            _fill(kind(system.bpf, older), kind(system.bpf, aside))
        for ifindex in clsact_markers(older):
            aside.set_marker(clsact_marker(ifindex))
        aside.set_marker(_note(system, older))
        aside.close()
        system.bpffs.rename(aside.folder, pins.folder)


def _fill(old, new) -> None:
    have = old.observe()
    reconcile(new, lambda _nothing: have, False)


def _rules(system, pins: Pins, nothing: ImageContents = EMPTY) -> RuleTable:
    return RuleTable(system.bpf, pins, system.ifindex_of, lambda image: pins.replace("image", image), nothing)


def _note(system, older: Pins) -> str:
    """Return the marker that says from what a set of maps was copied."""
    return f"taken_{os.path.basename(older.folder)}_{_rules(system, older).contents().generation}"


def _notes(pins: Pins) -> list:
    return [name for name in pins.names() if re.fullmatch("taken_v[0-9]+_[0-9]+", name)]
