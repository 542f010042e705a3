# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Maps that lost their pins while a program on a hook still uses them: `umount -l /sys/fs/bpf`, `rm -r`.

Packets meet the program as before, with all rules, also those of OpenZiti routers, which no state file has. So each run
that would make new maps pins the living ones again before it reads. Otherwise it would change maps that no program
reads, and report success. Check mode reads the living maps and pins nothing.

Maps that are pinned in another pin folder are not lost. They stay with that folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from ..constants import FUNCTION, TRACKER
from ..system.bpf import MapInfo
from ..system.system import Bpf, Netlink, System
from .hooks import is_fail_closed, programs_on, runs
from .pins import Pins, has_shape, splicer_pins
from .programs import PROGRAM, TRACKER_PIN, Programs

NAME_BYTES = 15  # of a map's name in the kernel, see system/bpf.py
UNUSED = "meta"  # a program that an earlier build of this release loaded is not bound to it


class _Living(NamedTuple):
    """Descriptors of a program on a hook, of its maps by name, and of the tracker beside it, if there is one."""

    program: int
    maps: Mapping[str, int]
    tracker: int | None


def recover(system: System, netlink: Callable[[], Netlink], pins: Pins, check_mode: bool) -> None:
    """Pin the living maps again that have no pin, and their programs. `pins.repaired` has the names of the maps.

    In check mode `pins` reads them without a pin. The other missing maps are made anew by the run that needs them.
    """
    missing = pins.missing()
    if not missing:
        return
    with ExitStack() as opened:
        living = _find(system, netlink(), pins, opened)
        if living is None:
            return
        lost = {name: descriptor for name, descriptor in living.maps.items() if name in missing}
        if check_mode:
            again = {name: system.bpf.map_by_id(system.bpf.map_info(each).id) for name, each in lost.items()}
            pins.borrow(again, [*lost, PROGRAM, *([] if living.tracker is None else [TRACKER_PIN])])
        else:
            pins.ensure(lost)
            pins.keep()
            _pin_programs(system.bpf, pins, living)
        pins.repaired = tuple(sorted(lost))


def are_lost(system: System, netlink: Callable[[], Netlink], pin_dir: str) -> bool:
    """Return whether a program on a hook uses maps that have no pin. Change nothing."""
    with living_pins(system, netlink, pin_dir) as pins:
        return bool(pins.repaired)


@contextmanager
def living_pins(system: System, netlink: Callable[[], Netlink], pin_dir: str) -> Iterator[Pins]:
    """Yield our pins to read. Living maps without a pin are read too."""
    with splicer_pins(system.bpf, system.bpffs, pin_dir) as pins:
        recover(system, netlink, pins, True)
        yield pins


def _find(system: System, netlink: Netlink, pins: Pins, opened: ExitStack) -> _Living | None:
    """Return the first program of ours that uses maps without a pin. `opened` closes the descriptors."""
    bpf = system.bpf
    for link in netlink.interfaces():
        program = _program_on(bpf, netlink, link.ifindex, "ingress", FUNCTION, opened)
        if program is None:
            continue
        maps = _maps_of(bpf, program, pins, opened)
        is_whole = set(pins.shapes) <= {*maps, UNUSED}  # the program of an older layout lacks some
        if is_whole and set(pins.missing()) & set(maps) and not _is_pinned_elsewhere(system, pins, maps["image"]):
            return _Living(program, maps, _program_on(bpf, netlink, link.ifindex, "egress", TRACKER, opened))
    return None


def _program_on(
    bpf: Bpf, netlink: Netlink, ifindex: int, direction: str, function: str, opened: ExitStack
) -> int | None:
    """Return a descriptor of our program on a hook of an interface, None without one. `opened` closes it."""
    for entry in programs_on(bpf, netlink, ifindex, direction, function):
        if runs(entry, function) and not is_fail_closed(entry) and entry.program_id is not None:
            program = bpf.program_by_id(entry.program_id)
            opened.callback(os.close, program)
            return program
    return None


def _maps_of(bpf: Bpf, program: int, pins: Pins, opened: ExitStack) -> dict[str, int]:
    """Return descriptors of the maps of a program that have a name and a shape of this release."""
    found: dict[str, int] = {}
    for number in bpf.program_info(program).map_ids:
        descriptor = bpf.map_by_id(number)
        opened.callback(os.close, descriptor)
        name = _name_of(bpf.map_info(descriptor), pins)
        if name is not None:
            found[name] = descriptor
    return found


def _name_of(info: MapInfo, pins: Pins) -> str | None:
    """Return the name of the pin that a map can have, by its name and shape, or None."""
    for name, shape in pins.shapes.items():
        if info.name == name[:NAME_BYTES] and has_shape(name, info.shape, shape):
            return name
    return None


def _is_pinned_elsewhere(system: System, pins: Pins, image: int) -> bool:
    """Return whether another pin folder of the same bpffs has this image map."""
    bpf = system.bpf
    for folder in system.bpffs.folders_with("image", pins.folder):
        other = bpf.open_pin(f"{folder}/image")
        if other is None:
            continue
        try:
            if bpf.is_map(other) and bpf.map_info(other).id == bpf.map_info(image).id:
                return True
        finally:
            os.close(other)
    return False


def _pin_programs(bpf: Bpf, pins: Pins, living: _Living) -> None:
    """Pin the program again if the maps name it as the current one, and the tracker beside it."""
    programs = Programs(bpf, pins)
    meta = programs.meta()
    is_current = meta is not None and meta["program_id"] == bpf.program_info(living.program).id
    if is_current and programs.pinned() is None:
        pins.replace(PROGRAM, living.program)
    if is_current and living.tracker is not None and TRACKER_PIN not in pins.names():
        pins.replace(TRACKER_PIN, living.tracker)
