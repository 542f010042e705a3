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
from collections.abc import Sequence

from ..abi.layout import LAYOUT, MAPS
from ..constants import FUNCTION
from ..errors import VerificationFailed
from ..system.bpf import MapShape
from ..system.system import Netlink, System
from .attachments import Attachment, point_at, users
from .current_state import CurrentState
from .hooks import BPF_FILTER, Hook, HookProgram
from .lock import OlderFilter, pending_change
from .pins import Pins, splicer_pins
from .programs import Programs

OLDER_LAYOUTS = (2,)  # of release 0.1
READ = ("image", "policy", "ifindex_ip_map")  # the maps that are read
# Bytes of a value, where they differ: 16 management entries and 32 addresses, both at the end. The kernel fills the
# begin of a larger buffer (map_lookup_elem() of kernel/bpf/syscall.c), so the entries that are missing are zeros.
VALUE_BYTES = {"policy": 416, "ifindex_ip_map": 536}


def older_pins(system: System, pin_dir: str) -> Pins | None:
    """Return the pins of the newest older release that are there, or None."""
    names = system.bpffs.names(pin_dir) if system.bpffs.is_mounted(pin_dir) else []
    found = [layout for layout in OLDER_LAYOUTS if layout < LAYOUT and f"v{layout}" in names]
    if not found:
        return None
    ours = {name: MapShape(*MAPS[name][1]) for name in READ}
    shapes = {name: shape._replace(value_size=VALUE_BYTES.get(name, shape.value_size)) for name, shape in ours.items()}
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


def older_filters(system: System, netlink: Netlink, pin_dir: str) -> tuple[OlderFilter, ...]:
    """Return the filters that still run on the maps of an older release, for the record of a change."""
    found = older_attachments(system, netlink, pin_dir)
    return tuple(OlderFilter(*each.hook[:4], each.program.name) for each in found)


def put_older_filters_back(system: System, netlink: Netlink, pin_dir: str, filters: Sequence[OlderFilter]) -> list[str]:
    """Replace our programs by the program of the older release; return one line for each filter.

    Its maps were never written, so it goes on with the rules and policies that it had. Raises VerificationFailed if its
    pins are gone.
    """
    links = {link.ifindex: link.name for link in netlink.interfaces()}
    back = [entry for entry in filters if entry.ifindex in links]
    if not back:
        return []
    older = older_pins(system, pin_dir)
    program = None if older is None else system.bpf.open_pin(older.path("program"))
    if older is None or program is None:
        raise VerificationFailed(f"the program of the older release is no longer pinned below {pin_dir}")
    try:
        with older, splicer_pins(system.bpf, system.bpffs, pin_dir) as pins:
            programs = Programs(system.bpf, pins)
            for entry in back:
                point = point_at(netlink, programs, Hook(*entry[:4]), FUNCTION)
                point.put_back(HookProgram(BPF_FILTER, entry.name, None, None), program)
    finally:
        os.close(program)
    return [f"{links[entry.ifindex]}: filter {entry.name} of the older release put back" for entry in back]


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
    """Remove the pins of an older release when no filter uses them any more, and no roll-back can need them."""
    older = older_pins(system, pin_dir)
    if older is None or pending_change(system, pin_dir) is not None:
        return
    with system.netlink() as netlink:
        if older_attachments(system, netlink, pin_dir):
            return
    pins = splicer_pins(system.bpf, system.bpffs, pin_dir)
    for marker in (name for name in pins.names() if re.fullmatch("taken_v[0-9]+_[0-9]+", name)):
        pins.clear_marker(marker)
    older.remove()
