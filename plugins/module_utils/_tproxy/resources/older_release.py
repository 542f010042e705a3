# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The pins and filters of an older release. Its maps have another layout.

Filters run the old program on the old maps until tc_bpf_attach replaces them. The old folder stays until no filter
uses it. Until then an operator can go back to the old release, which finds its pins unchanged.
"""

from __future__ import annotations

import os
import re

from ..abi.layout import LAYOUT, MAPS
from ..constants import FUNCTION
from ..errors import LayoutMismatch
from ..system.system import Netlink, System
from .attachments import Attachment, users
from .current_state import CurrentState
from .pins import Pins, splicer_pins
from .programs import Programs

OLDER_LAYOUTS = (2,)  # of release 0.1
READ = ("image", "policy", "ifindex_ip_map")  # the maps that are read; their shapes are ours


def older_pins(system: System, pin_dir: str) -> Pins | None:
    """Return the pins of the newest older release that are there, or None."""
    names = system.bpffs.names(pin_dir) if system.bpffs.is_mounted(pin_dir) else []
    found = [layout for layout in OLDER_LAYOUTS if layout < LAYOUT and f"v{layout}" in names]
    if not found:
        return None
    shapes = {name: MAPS[name][1] for name in READ}
    return Pins(system.bpf, system.bpffs, f"{pin_dir}/v{max(found)}", shapes)


def older_attachments(system: System, netlink: Netlink, pin_dir: str) -> list[Attachment]:
    """Return each attachment that still runs on the maps of an older release."""
    older = older_pins(system, pin_dir)
    if older is None:
        return []
    with older:
        return users(netlink, Programs(system.bpf, older), FUNCTION)


def older_release_warnings(system: System, pin_dir: str) -> list[str]:
    """Return a warning while filters run by the rules of an older release."""
    if older_pins(system, pin_dir) is None:
        return []
    with system.netlink() as netlink:
        names = sorted({each.link.name for each in older_attachments(system, netlink, pin_dir)})
    if not names:
        return []
    found = "the program of an older release still runs here with its old rules; run tc_bpf_attach to replace it"
    return [f"{', '.join(names)}: {found}"]


def refuse_older_release(system: System, pin_dir: str) -> None:
    """Raise LayoutMismatch while filters run on maps of an older release: no roll-back could restore these maps."""
    found = older_release_warnings(system, pin_dir)
    if found:
        raise LayoutMismatch(
            f"{found[0]}; a change could not be rolled back to that: nothing was changed; run tc_bpf_attach without"
            " confirm_timeout first"
        )


def pins_to_read(system: System, netlink: Netlink, pin_dir: str) -> Pins:
    """Return the pins in force, to read: those of an older release before its migration, else ours."""
    pins, older = splicer_pins(system.bpf, system.bpffs, pin_dir), older_pins(system, pin_dir)
    if older is None:
        return pins
    source = CurrentState(system, lambda: netlink, older)
    if migration_is_due(source, pins):
        return older
    older.close()
    return pins


def migration_is_due(source: CurrentState, pins: Pins) -> bool:
    """Return whether the older release is in force, and not maps that an earlier migration made of it.

    Our pins are outdated after a return to the older release: no filter uses them, and they were not made of the rules
    that are in force now.
    """
    if not pins.names():
        return True
    if pins.has_marker(migration_marker(source)):
        return False
    with pins:
        return not users(source.netlink, Programs(source.system.bpf, pins), FUNCTION)


def migration_marker(source: CurrentState) -> str:
    """Return the marker that names the image from which a set of maps was made."""
    return f"taken_{os.path.basename(source.pins.folder)}_{source.rules.contents.generation}"


def drop_older_pins(system: System, pin_dir: str) -> None:
    """Remove the pins of an older release when no filter uses them any more."""
    older = older_pins(system, pin_dir)
    if older is None:
        return
    with system.netlink() as netlink:
        if older_attachments(system, netlink, pin_dir):
            return
    pins = splicer_pins(system.bpf, system.bpffs, pin_dir)
    for marker in (name for name in pins.names() if re.fullmatch("taken_v[0-9]+_[0-9]+", name)):
        pins.clear_marker(marker)
    older.remove()
