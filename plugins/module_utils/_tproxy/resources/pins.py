# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The pinned maps of one program: made whole, checked before each use, removed whole.

A first set is built in a folder aside and renamed, so half a set is never visible. A map that was removed later is made
again, alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import NamedTuple

from ..abi.layout import (
    FLAG_MMAPABLE,
    HIT_COUNTERS,
    IMAGE_PAGES_MIN,
    LAYOUT,
    MAPS,
    PAGE_BYTES,
    TYPE_ARRAY,
    TYPE_ARRAY_OF_MAPS,
)
from ..constants import FLOW_TABLES
from ..errors import LayoutMismatch
from ..system.bpf import Shape
from ..system.system import Bpf, Bpffs
from . import hit_counters

FIELDS = ("type", "key size", "value size", "entries", "flags")
GROWING = ("hits",)  # maps that a run replaces by longer ones
FLOW_PINS = {name: f"flows_{name}" for name in FLOW_TABLES}  # maps whose size is an option
ASIDE = "_new"


def inner_shape(pages: int) -> Shape:
    """Return the shape of the inner map of an image with this many pages."""
    return (TYPE_ARRAY, 4, PAGE_BYTES, pages, FLAG_MMAPABLE)


def has_shape(name: str, found: Shape, wanted: Shape) -> bool:
    """Return whether a map of this name can have this shape."""
    if name in GROWING or name in FLOW_PINS.values():
        fits = name not in GROWING or found[3] >= wanted[3]
        return fits and (*found[:3], *found[4:]) == (*wanted[:3], *wanted[4:])
    return tuple(found) == tuple(wanted)


class OpenMap(NamedTuple):
    """The descriptor of a pinned map, and the inode number of its pin."""

    descriptor: int
    number: int | None


class Pins:
    """The maps {name: shape} under `folder`, and the other pins and markers of the program there.

    A context manager: a run that made the folder and fails before keep() removes the folder again. `repaired` has the
    names of living maps that had lost their pins, see lost_pins.py.
    """

    def __init__(self, bpf: Bpf, bpffs: Bpffs, folder: str, shapes: Mapping[str, Shape]) -> None:
        self._bpf, self._bpffs = bpf, bpffs
        self.folder, self.shapes = folder, shapes
        self._open: dict[str, OpenMap] = {}
        self._is_new = False
        self._borrowed: frozenset[str] = frozenset()
        self.repaired: tuple[str, ...] = ()

    def __enter__(self) -> Pins:
        return self

    def __exit__(
        self, fault: type[BaseException] | None, _value: BaseException | None, _where: TracebackType | None
    ) -> None:
        self.close()
        if fault and self._is_new:
            self.remove()

    def close(self) -> None:
        """Close every descriptor; the pins stay."""
        for name in list(self._open):
            self._close(name)

    def drop_stale(self) -> None:
        """Close the descriptor of each map if its pin was removed or replaced."""
        for name, opened in list(self._open.items()):
            if self._bpffs.number(self.path(name)) != opened.number:
                self._close(name)

    def keep(self) -> None:
        """Keep the folder although the run may still fail: its work is done."""
        self._is_new = False

    def path(self, name: str) -> str:
        """Return the path of a pin."""
        return f"{self.folder}/{name}"

    def names(self) -> list[str]:
        """Return the names of the pins and markers, with those of borrowed maps; [] where no bpffs is mounted."""
        pinned = self._bpffs.names(self.folder) if self._bpffs.is_mounted(self.folder) else ()
        return sorted({*pinned, *self._borrowed})

    def missing(self) -> list[str]:
        """Return the names of the maps that are not pinned."""
        there = self.names()
        return [name for name in self.shapes if name not in there]

    def has(self, name: str) -> bool:
        """Return whether the program has such a map, and it is pinned."""
        return name in self.shapes and name in self.names()

    @property
    def complete(self) -> bool:
        """Return whether every map is pinned."""
        return not self.missing()

    def fd(self, name: str) -> int:
        """Return the descriptor of a pinned map. Raises LayoutMismatch when the map has another shape or is gone."""
        if name not in self._open:
            if self._bpffs.is_folder(self.path(name)):
                raise self._mismatch(name, "it is a folder")
            descriptor = self._bpf.open_pin(self.path(name))
            if descriptor is None:
                raise LayoutMismatch(f"{self.path(name)} is gone: run tc_bpf_attach again, which makes it anew")
            self._open[name] = OpenMap(descriptor, self._bpffs.number(self.path(name)))
            self._check(name, self.shapes[name], descriptor)
        return self._open[name].descriptor

    def check(self) -> None:
        """Compare every pinned map with its shape. Raises LayoutMismatch."""
        absent = self.missing()
        for name in self.shapes:
            if name not in absent:
                self.fd(name)

    def map_ids(self) -> set[int]:
        """Return the ids of the pinned maps in the kernel."""
        absent = self.missing()
        return {self._bpf.map_info(self.fd(name)).id for name in self.shapes if name not in absent}

    def ensure(self, living: Mapping[str, int] | None = None) -> None:
        """Make and pin the missing maps. Mount a bpffs where there is none.

        `living` has descriptors of maps that lost their pin: they are pinned again.
        """
        if not self._bpffs.is_mounted(self.folder):
            self._bpffs.mount()
        self._bpf.raise_memory_limit()
        self.check()
        living = living or {}
        if not self._bpffs.names(self.folder):
            self._build_aside(living)
        for name in self.missing():
            self._pin_new(name, self.path(name), living)

    def borrow(self, living: Mapping[str, int], names: Iterable[str]) -> None:
        """Read maps that lost their pin as if they were pinned, without a change. `names` has their names, and others.

        The descriptors are closed with the pins.
        """
        self._open.update({name: OpenMap(descriptor, None) for name, descriptor in living.items()})
        self._borrowed = frozenset(names)

    def replace(self, name: str, descriptor: int) -> None:
        """Pin another object under a name in one step; the name may be taken."""
        aside = self.path(f"{name}{ASIDE}")
        self._bpffs.unpin(aside)
        with ExitStack() as undo:
            undo.callback(self._bpffs.unpin, aside)
            self._bpf.pin(descriptor, aside)
            self._bpffs.rename(aside, self.path(name))
            undo.pop_all()
        self._close(name)

    def unpin(self, name: str) -> None:
        """Remove one pin if it is there."""
        self._bpffs.unpin(self.path(name))

    def set_marker(self, name: str) -> None:
        """Make a marker: an empty folder beside the pins, which exists exactly as long as they do."""
        self._bpffs.make_folder(self.path(name))

    def has_marker(self, name: str) -> bool:
        """Return whether there is such a marker."""
        return name in self.names()

    def clear_marker(self, name: str) -> None:
        """Remove a marker."""
        self._bpffs.remove_folder(self.path(name))

    def remove(self) -> None:
        """Remove every pin and the folder, and the folder above when it is empty then."""
        self.retire()
        self.sweep()

    def retire(self) -> None:
        """Rename the folder, so that in one step no run finds it any more."""
        self.close()
        if self._bpffs.is_folder(self.folder):
            self._empty(f"{self.folder}_old")
            self._bpffs.rename(self.folder, f"{self.folder}_old")

    def sweep(self) -> None:
        """Remove the folders that retire() renamed or that a killed run never finished."""
        for leftover in (f"{self.folder}_old", f"{self.folder}_new"):
            if self._bpffs.is_folder(leftover):
                self._empty(leftover)
        if not self._bpffs.is_folder(self.folder):
            self._bpffs.remove_folder(os.path.dirname(self.folder))

    def _build_aside(self, living: Mapping[str, int]) -> None:
        aside = f"{self.folder}_new"
        self._empty(aside)
        with ExitStack() as undo:
            undo.callback(self.sweep)
            self._bpffs.make_folder(aside)
            for name in self.shapes:
                self._pin_new(name, f"{aside}/{name}", living)
            self._bpffs.remove_folder(self.folder)
            self._bpffs.rename(aside, self.folder)
            undo.pop_all()
        self._is_new = True

    def _pin_new(self, name: str, path: str, living: Mapping[str, int]) -> None:
        if name in living:
            self._bpf.pin(living[name], path)
            return
        descriptor = self.create(name)
        try:
            self._bpf.pin(descriptor, path)
        finally:
            os.close(descriptor)

    def create(
        self, name: str, pages: int = IMAGE_PAGES_MIN, slots: int = HIT_COUNTERS, entries: int | None = None
    ) -> int:
        """Return the descriptor of a new map.

        A map of maps will hold arrays of `pages` pages. A map of hits counts rules in `slots` slots. Another map has
        room for `entries` entries, None for as many as its shape names.
        """
        kind, key_size, value_size, size, flags = self.shapes[name]
        shape = (kind, key_size, value_size, size if entries is None else entries, flags)
        if name in GROWING:
            return hit_counters.create(self._bpf, name, shape, slots)
        if shape[0] != TYPE_ARRAY_OF_MAPS:
            return self._bpf.create_map(shape, name)
        template = self._bpf.create_map(inner_shape(pages), "pages")
        try:
            return self._bpf.create_map(shape, name, template)
        finally:
            os.close(template)

    def _close(self, name: str) -> None:
        if name in self._open:
            os.close(self._open.pop(name).descriptor)

    def _empty(self, folder: str) -> None:
        """Remove a folder with all its pins, if it is there."""
        for name in self._bpffs.names(folder):
            path = f"{folder}/{name}"
            if self._bpffs.is_folder(path):
                self._bpffs.remove_folder(path)
            else:
                self._bpffs.unpin(path)
        self._bpffs.remove_folder(folder)

    def _check(self, name: str, wanted: Shape, descriptor: int) -> None:
        if not self._bpf.is_map(descriptor):
            raise self._mismatch(name, "it is a program or a link")
        found = self._bpf.map_info(descriptor).shape
        if not has_shape(name, found, wanted):
            faults = [f"{f} {have} instead of {want}" for f, have, want in zip(FIELDS, found, wanted) if have != want]
            raise self._mismatch(name, ", ".join(faults))

    def _mismatch(self, name: str, fault: str) -> LayoutMismatch:
        path = self.path(name)
        return LayoutMismatch(
            f"{path} is no map of this release: {fault}. Nothing was changed; remove it (`rm -r {path}`) or use another"
            " pin_dir"
        )


def splicer_pins(bpf: Bpf, bpffs: Bpffs, pin_dir: str) -> Pins:
    """Return the pins of our own program under a pin folder."""
    return Pins(bpf, bpffs, f"{pin_dir}/v{LAYOUT}", {name: shape for name, (_slot, shape) in MAPS.items()})


def other_pins(bpf: Bpf, bpffs: Bpffs, folder: str) -> Pins:
    """Return the pins of a program that is not ours: all maps that are pinned in its folder."""
    shapes = {}
    for name in bpffs.names(folder) if bpffs.is_mounted(folder) else []:
        if name in ("program", f"program{ASIDE}") or bpffs.is_folder(f"{folder}/{name}"):
            continue
        descriptor = bpf.open_pin(f"{folder}/{name}")
        if descriptor is None:
            continue
        try:
            shapes[name] = bpf.map_info(descriptor).shape
        finally:
            os.close(descriptor)
    return Pins(bpf, bpffs, folder, shapes)
