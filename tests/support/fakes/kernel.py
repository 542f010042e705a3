# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel of dictionaries for the operations. system.py has the adapters to it.

It can prove: the calls of an operation and their order, the state after a refusal or a kill at any of them, that a
second run and check mode change nothing, and that descriptors are closed.
It cannot prove: that the real kernel accepts these calls, the verifier's answer, the effect on a packet during a write,
and that the lock keeps two runs apart. tests/kernel proves these.

1. It grows only for an operation that needs it. tests/kernel compares each assumption with the real kernel.
2. An object lives while a pin, a filter, a program, an outer map or a descriptor holds it, as in the kernel.
3. Descriptors are real numbers (of /dev/null), because operations close them by os.close.
"""

from __future__ import annotations

import copy
import errno
import os
import struct
import zlib

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import (
    HEADER_PAGES,
    REASON_MANAGEMENT,
    TYPE_ARRAY_OF_MAPS,
    TYPE_HASH,
    VERDICT_PASS,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import KernelRefused

LD_IMM64, MAP_DESCRIPTOR = 0x18, 1


class Killed(BaseException):
    """The process ended here: no undo of the operation may have an effect after this."""


class Memory(bytearray):
    """The mapped memory of an array. As of mmap, a part of it is bytes."""

    def __getitem__(self, place):
        return bytes(memoryview(self)[place]) if isinstance(place, slice) else super().__getitem__(place)

    def __enter__(self):
        return self

    def __exit__(self, *_fault):
        pass

    def close(self):
        """Do as mmap.close()."""


class Map:
    """A map: entries by key, or one memory for an image."""

    def __init__(self, number: int, shape: tuple, name: str):
        self.id, self.shape, self.name, self.entries = number, tuple(shape), name, {}
        self.memory = Memory()

    def __deepcopy__(self, memo):
        """Return a copy. Keys and values are bytes; deepcopy() would look at each of many thousand."""
        copied = memo[id(self)] = Map(self.id, self.shape, self.name)
        is_outer = self.shape[0] == TYPE_ARRAY_OF_MAPS
        copied.entries = copy.deepcopy(self.entries, memo) if is_outer else dict(self.entries)
        copied.memory = Memory(self.memory)
        return copied

    def bytes(self) -> dict:
        """Return the entries that are not zero, and all of a hash. An image is the digest of its used pages."""
        if self.shape[0] == TYPE_ARRAY_OF_MAPS:
            return {key: inner.digest() for key, inner in self.entries.items()}
        return {key: value for key, value in self.entries.items() if any(value) or self.shape[0] == TYPE_HASH}

    def holds(self) -> list:
        """Return the maps inside."""
        return list(self.entries.values()) if self.shape[0] == TYPE_ARRAY_OF_MAPS else []

    def digest(self) -> int:
        """Return a number for the contents of an image, independent of its map."""
        pages = struct.unpack_from("=I", self.memory, 4 * HEADER_PAGES)[0]
        return zlib.crc32(memoryview(self.memory)[: pages * self.shape[2]])


class Program:
    """A loaded program and the maps that it uses."""

    def __init__(self, number: int, instructions: bytes, name: str, maps: list):
        self.id, self.name, self.maps = number, name, {each.name: each for each in maps}
        plain = bytearray(instructions)
        for at in map_loads(instructions):
            plain[at + 4 : at + 8] = bytes(4)
        self.tag = f"{zlib.crc32(plain):016x}"

    def holds(self) -> list:
        """Return its maps."""
        return list(self.maps.values())


def map_loads(instructions: bytes) -> list:
    """Return the offset of each instruction that loads a map's descriptor."""
    places = range(0, len(instructions), 8)
    return [at for at in places if (instructions[at], instructions[at + 1] >> 4) == (LD_IMM64, MAP_DESCRIPTOR)]


class Kernel:
    """The state that the adapters share. A step fails at `refuse_at`, or the process ends at `kill_at` (1, 2, ...).

    `changes` is {step: method} of the steps that changed something. `meanwhile` is (step, the action of another process
    before it).
    """

    def __init__(self):
        self.mounted, self.lock = True, False
        self.foreign_parts: tuple[str, ...] = ()
        self.fate = REASON_MANAGEMENT, VERDICT_PASS
        self.files, self.open, self.made = {}, {}, 0
        self.disk: dict = {}
        self.locked_files: set = set()
        self.full = ""  # paths that begin so have no room
        self.clock, self.guards, self.guarded, self.woken, self.journal = 10**9, [], set(), [], []
        self.trail: list = []
        self.shown: list = []  # locks of running processes
        self.start_over()

    def start_over(self, refuse_at: int = 0, kill_at: int = 0, meanwhile: tuple = (0, None)) -> None:
        """Restart the count of steps and changes."""
        self.changes, self.steps, self.refused = {}, 0, None
        self.refuse_at, self.kill_at = refuse_at, kill_at
        self.meanwhile, self.is_meanwhile = meanwhile, False
        self._table = None

    def enter(self, name: str, changes: bool) -> None:
        """Count a step, and fail if a test wants this one to fail."""
        self.steps += 1
        self._table = None
        if self.steps == self.meanwhile[0]:
            self.is_meanwhile = True
            self.meanwhile[1]()
            self.is_meanwhile = False
        if self.kill_at and self.steps >= self.kill_at:
            raise Killed
        if self.steps == self.refuse_at:
            self.refused = name, changes
            raise KernelRefused(errno.EIO, name, "on purpose")
        if changes:
            self.changes[self.steps] = name

    def read(self, descriptor: int):
        """Return the map of a descriptor. Successive reads of one map are one step."""
        if self._table is None or self._table[0] != descriptor:
            self.enter("lookup", False)
            self._table = descriptor, self.get(descriptor)
        return self._table[1]

    def give(self, thing) -> int:
        """Return a new descriptor of an object."""
        descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self.open[descriptor] = thing
        return descriptor

    def get(self, descriptor: int):
        """Return the object behind a descriptor."""
        try:
            os.fstat(descriptor)
        except OSError as refusal:
            raise KernelRefused(errno.EBADF, "use", f"descriptor {descriptor}") from refusal
        return self.open[descriptor]

    def still_open(self) -> list:
        """Return the objects that descriptors hold."""
        for descriptor in list(self.open):
            try:
                os.fstat(descriptor)
            except OSError:
                del self.open[descriptor]
        return list(self.open.values())

    def make(self, kind, *arguments) -> int:
        """Make an object; return its descriptor."""
        self.made += 1
        return self.give(kind(self.made, *arguments))

    def by_id(self, number: int):
        """Return a living object."""
        for holders in (lambda: [*self.files.values(), *self.attached()], self.still_open):
            living = holders()
            for thing in living:
                if getattr(thing, "id", None) == number:
                    return thing
                living.extend(thing.holds() if hasattr(thing, "holds") else ())
        raise KernelRefused(errno.ENOENT, "open", f"id {number}")

    def attached(self) -> list:
        """Return the programs that filters hold."""
        return []
