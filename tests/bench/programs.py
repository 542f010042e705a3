# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The measured programs: compiled from bpf/ and c/ by the collection's own compiler, bound to maps, loaded, run.

A program of c/ includes the product's file itself. Its maps beyond the product's are listed here, once: the C side gets
their placeholders as SLOT_ defines.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import targets
from rules import RANGES_MAX

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import FLAG_MMAPABLE, TYPE_ARRAY
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.program.blob import (
    Blob,
    blob_from_object,
    placeholders,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.bcc import Compiler

HERE = Path(__file__).resolve().parent
PRODUCT = HERE.parents[1] / "bpf"
FIRST_SLOT = 0x7E000000  # below the product's own placeholders
TYPE_HASH, NO_PREALLOC = 1, 1
PROGRESS_BYTES = 16
PACKET_BYTES = 72  # struct packet_of_table of c/replay.c
MAPPED_TARGET = struct.Struct("=16s16s2sBBI")  # struct mapped_target of c/images.c
# A change of the product's source that leaves a part out: (file, text, replacement).
UNCACHED = ("tproxy_splicer.c", "forget(skb, lookup_cache(skb, &ctx))", "CACHED_NOTHING")
PLACES_AS_PUBLISHED, PLACES_SHRUNK = 65536, RANGES_MAX

# Shapes as in _layout.MAPS. That of the original's rules depends on its places; see original.py.
SHAPES = {
    "mapped_targets": (TYPE_ARRAY, 4, MAPPED_TARGET.size, targets.COUNT, FLAG_MMAPABLE),
    "targets": (TYPE_ARRAY, 4, targets.RECORD.size, targets.COUNT, FLAG_MMAPABLE),
    "progress": (TYPE_ARRAY, 4, PROGRESS_BYTES, 1, FLAG_MMAPABLE),
    "frames": (TYPE_ARRAY, 4, PACKET_BYTES, targets.COUNT, FLAG_MMAPABLE),
    "either": (TYPE_ARRAY, 4, 8, targets.COUNT, FLAG_MMAPABLE),
    "exact": (TYPE_HASH, 8, 4, targets.COUNT, 0),
    "original": (),
    "original_addresses": (TYPE_ARRAY, 4, 20, 50, 0),
}
SLOTS = {name: FIRST_SLOT + number for number, name in enumerate(SHAPES)}


def compile_all(wanted: Iterable, places: int = PLACES_AS_PUBLISHED, edit: tuple = ()) -> dict:
    """Return {function: Blob} of [(file below c/ or bpf/, function)], compiled side by side, after an edit if given."""
    files, compiler = _edited(_sources(), edit), Compiler()
    defines = {f"SLOT_{name}": slot for name, slot in SLOTS.items()}
    defines.update(TARGETS=targets.COUNT, ORIGINAL_RANGES=RANGES_MAX, ORIGINAL_PLACES=places)
    known = {**placeholders(), **{slot: [name, SHAPES[name]] for name, slot in SLOTS.items()}}

    def compile_one(entry: str, function: str) -> Blob:
        return blob_from_object(compiler.compile(files, entry, function, defines, known), function, "")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = {function: pool.submit(compile_one, entry, function) for entry, function in wanted}
        return {function: blob.result() for function, blob in waiting.items()}


def _edited(files: dict, edit: tuple) -> dict:
    if not edit:
        return files
    path, text, replacement = edit
    if files[path].count(text) != 1:
        raise RuntimeError(f"expected {text!r} once in {path}")
    return {**files, path: files[path].replace(text, replacement)}


def _sources() -> dict:
    """Return {path: text} of the product's C files and of ours below bench/."""
    found = {}
    for folder, prefix in ((PRODUCT, ""), (HERE / "c", "bench/")):
        for path in sorted(folder.rglob("*.[ch]")):
            found[prefix + str(path.relative_to(folder))] = path.read_text(encoding="utf-8")
    return found


class Bench:
    """Maps and loaded programs of one measurement. A context manager: it closes all it made."""

    def __init__(self):
        self.maps = {}
        self._closing = ExitStack()
        bpf.raise_memory_limit()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_fault) -> None:
        self._closing.close()

    def adopt(self, descriptor: int) -> int:
        """Close this descriptor in the end."""
        self._closing.callback(os.close, descriptor)
        return descriptor

    def add_map(self, name: str, shape: tuple = ()) -> int:
        """Make a map; programs loaded from now on see it under its name."""
        self.maps[name] = self.adopt(bpf.create_map(shape or SHAPES[name], name))
        return self.maps[name]

    def mapped_memory(self, name: str):
        """Return a mmapable map of SHAPES as memory."""
        _type, _key, size, entries, _flags = SHAPES[name]
        return self._closing.enter_context(bpf.mapped_memory(self.maps[name], size * entries, True))

    def load(self, blob: Blob) -> int:
        """Return the descriptor of a program bound to the maps of their names."""
        return self.adopt(bpf.load_program(blob.bind(self.maps), blob.function))

    def runner(self, blob: Blob, packet: bytes, context: bytes = b"") -> Callable[[int], None]:
        """Load a program. Return a function that runs it on a packet a given number of times."""
        program = self.load(blob)

        def run(count: int) -> None:
            bpf.test_run(program, packet, context, count)

        return run
