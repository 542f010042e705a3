# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The program pinned in one pin folder, and the blob that it came from."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from types import MappingProxyType
from typing import Any

from ..abi import structs as codec
from ..abi.layout import BLOB_BYTES, LAYOUT
from ..constants import TRACKER
from ..errors import InvalidInput, KernelRefused, LimitExceeded
from ..program.blob import Blob, blob_from_json, program_name
from ..system.system import Bpf
from .pins import Pins

META = codec.key(0)
TRACKER_PIN = "tracker"
SK_LOOKUP_PIN = "sk_lookup"  # the pin of the link of the program for socket lookups
PROGRAM = "program"  # the pin of the program
NO_OTHERS: Mapping[str, int] = MappingProxyType({})


def pin_of(function: str) -> str:
    """Return the name of the pin of the current program of a function."""
    return TRACKER_PIN if function == TRACKER else PROGRAM


class Programs:
    """The program pinned in one pin folder, and the blob it came from."""

    def __init__(self, bpf: Bpf, pins: Pins) -> None:
        self.bpf, self.pins = bpf, pins

    def meta(self) -> dict[str, Any] | None:
        """Return struct meta, or None before the first load of a program of ours."""
        if "meta" not in self.pins.shapes or "meta" in self.pins.missing():
            return None
        values = codec.decode("meta", self._read_meta())
        return values if values["blob_bytes"] else None

    def blob(self) -> Blob | None:
        """Return the blob of the pinned program, or None where there is none, or one of another release."""
        meta = self.meta()
        if meta is None:
            return None
        try:
            return blob_from_json(meta["blob"][: meta["blob_bytes"]].decode())
        except (InvalidInput, UnicodeDecodeError):
            return None

    def open(self, blob: Blob) -> int:
        """Return a descriptor of this program: the pinned one when it is the same, else newly loaded."""
        meta, pinned = self.meta(), self.pinned()
        is_same = meta is not None and meta["identity"].hex() == blob.identity and meta["program_id"] == pinned
        found = self.bpf.open_pin(self.pins.path(PROGRAM)) if is_same and self.is_bound(pinned) else None
        return self.load(blob) if found is None else found

    def open_tracker(self, blob: Blob) -> int:
        """Return a descriptor of a tracker: the pinned one when it is the same, else newly loaded."""
        found = self.bpf.open_pin(self.pins.path(TRACKER_PIN))
        if found is not None:
            info = self.bpf.program_info(found)
            if info.name == program_name(blob.function, blob.identity) and self.is_bound(info.id, TRACKER_PIN):
                return found
            os.close(found)
        return self.load(blob)

    def load(self, blob: Blob, others: Mapping[str, int] = NO_OTHERS) -> int:
        """Load a blob on the pinned maps, or on `others` in their place, and return its descriptor."""
        descriptors = {name: others[name] if name in others else self.pins.fd(name) for name in blob.maps}
        name = program_name(blob.function, blob.identity)
        program = self.bpf.load_program(blob.bind(descriptors), name, blob.function)
        if "meta" in self.pins.shapes and blob.function != TRACKER:  # maps of now can be replaced beside it
            self._bind_unread(program, self.pins.shapes.keys() - descriptors.keys())
        return program

    def _bind_unread(self, program: int, names: Iterable[str]) -> None:
        """Keep the maps that no packet needs as long as the program. Each would go with its pin otherwise.

        They have the blob of the program, and the recorded addresses.
        """
        try:
            for name in sorted(names):
                self.bpf.bind_map(program, self.pins.fd(name))
        except KernelRefused:
            os.close(program)
            raise

    def remember(self, program: int, blob: Blob, done: ExitStack, undo: ExitStack) -> None:
        """Pin a program as the current one, with the blob to load it again.

        `undo` gets the callbacks that bring the pinned program back, `done` those that close descriptors in any case.
        A run that is killed between the two steps leaves a meta of another program. Then open() loads the blob again.
        """
        self._repin(PROGRAM, program, done, undo)
        if "meta" in self.pins.shapes:
            undo.callback(self._write_meta, self._read_meta())
            self._write_meta(_encode_meta(blob, self.bpf.program_info(program).id))

    def remember_tracker(self, program: int, done: ExitStack, undo: ExitStack) -> None:
        """Pin a tracker as the current one. The stacks are as in remember()."""
        self._repin(TRACKER_PIN, program, done, undo)

    def _repin(self, name: str, program: int, done: ExitStack, undo: ExitStack) -> None:
        old = self.bpf.open_pin(self.pins.path(name))
        if old is None:
            undo.callback(self.pins.unpin, name)
        else:
            done.callback(os.close, old)
            undo.callback(self.pins.replace, name, old)
        self.pins.replace(name, program)

    def forget(self) -> None:
        """Unpin the programs and clear their blob."""
        self.pins.unpin(PROGRAM)
        self.pins.unpin(TRACKER_PIN)
        self._write_meta(bytes(codec.size_of("meta")))

    def _read_meta(self) -> bytes:
        size = codec.size_of("meta")
        return self.bpf.lookup(self.pins.fd("meta"), META, size) or bytes(size)

    def _write_meta(self, raw: bytes) -> None:
        self.bpf.update(self.pins.fd("meta"), META, raw, "meta")

    def pinned(self) -> int | None:
        """Return the id of the pinned program, or None."""
        if PROGRAM not in self.pins.names():
            return None
        descriptor = self.bpf.open_pin(self.pins.path(PROGRAM))
        if descriptor is None:
            return None
        try:
            return self.bpf.program_info(descriptor).id
        finally:
            os.close(descriptor)

    def is_bound(self, program_id: int | None, pin: str = PROGRAM) -> bool:
        """Return whether a loaded program uses only maps that are pinned now. `pin` is the pin of its function."""
        if pin not in self.pins.names() or not self.pins.complete:
            return False
        used = self._maps_of(program_id)
        return used is not None and used <= self.pins.map_ids()

    def runs_its_name(self, name: str, tag: str | None, pin: str = PROGRAM) -> bool:
        """Return whether a filter runs the program of its name, by its tag; True for a program that is not pinned."""
        meta = self.meta()
        if meta is None or pin not in self.pins.names() or not name.endswith(meta["identity"].hex()[:12]):
            return True
        descriptor = self.bpf.open_pin(self.pins.path(pin))
        if descriptor is None:
            return True
        try:
            return tag == self.bpf.program_info(descriptor).tag
        finally:
            os.close(descriptor)

    def shares_maps(self, program_id: int | None) -> bool:
        """Return whether a loaded program uses one of the maps pinned now, or no map at all."""
        used = self._maps_of(program_id)
        return used is not None and (not used or bool(used & self.pins.map_ids()))

    def has_map_of(self, program_id: int | None) -> bool:
        """Return whether a loaded program uses one of the maps pinned now."""
        return bool((self._maps_of(program_id) or set()) & self.pins.map_ids())

    def _maps_of(self, program_id: int | None) -> set[int] | None:
        """Return the ids of a program's maps, or None where there is no such program."""
        if program_id is None:
            return None
        try:
            descriptor = self.bpf.program_by_id(program_id)
        except KernelRefused as refusal:
            if refusal.errno == errno.ENOENT:
                return None  # it was unloaded since the listing
            raise
        try:
            return set(self.bpf.program_info(descriptor).map_ids)
        finally:
            os.close(descriptor)


def _encode_meta(blob: Blob, program_id: int) -> bytes:
    text = blob.to_json().encode()
    if len(text) > BLOB_BYTES:
        raise LimitExceeded("bytes of the program's blob", len(text), BLOB_BYTES)
    return codec.encode(
        "meta",
        {
            "layout": LAYOUT,
            "instructions": blob.count,
            "blob_bytes": len(text),
            "program_id": program_id,
            "identity": bytes.fromhex(blob.identity),
            "source_sha256": bytes.fromhex(blob.source_sha256),
            "blob": text,
        },
    )
