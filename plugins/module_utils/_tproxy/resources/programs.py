# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The program pinned in one pin folder: its blob, its identity, and whether what is loaded is bound to our maps.

Doors are handed in. It attaches nothing (_attachments does).
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack

from ..abi import structs as codec
from ..abi.layout import BLOB_BYTES, LAYOUT
from ..errors import InvalidInput, KernelRefused, LimitExceeded
from ..program.blob import Blob, blob_from_json

META = codec.key(0)


class Programs:
    """The program pinned in one pin folder, and the blob it came from."""

    def __init__(self, bpf, pins):
        self._bpf, self.pins = bpf, pins

    def meta(self) -> dict | None:
        """Return struct meta, or None when no program of ours was loaded yet."""
        if "meta" not in self.pins.shapes or "meta" in self.pins.missing():
            return None
        values = codec.decode("meta", self._read_meta())
        return values if values["blob_bytes"] else None

    def blob(self) -> Blob | None:
        """Return the blob of the pinned program, or None where none is kept or another release wrote it."""
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
        if is_same and self.is_bound(pinned):
            return self._bpf.open_pin(self.pins.path("program"))
        return self.load(blob)

    def load(self, blob: Blob, image: int | None = None) -> int:
        """Load a blob on the pinned maps (or on another image map) and return its descriptor."""
        descriptors = {name: self.pins.fd(name) for name in blob.maps}
        if image is not None:
            descriptors["image"] = image
        return self._bpf.load_program(blob.bind(descriptors), blob.function)

    def remember(self, program: int, blob: Blob, done: ExitStack, undo: ExitStack) -> None:
        """Pin a program as the current one, with the blob to load it again.

        `undo` learns how to take it back, `done` what to close afterwards in any case.

        A run that is killed between the two leaves a meta that names another program, which open() then loads anew.
        """
        old = self._bpf.open_pin(self.pins.path("program"))
        if old is None:
            undo.callback(self.pins.unpin, "program")
        else:
            done.callback(os.close, old)
            undo.callback(self.pins.replace, "program", old)
        self.pins.replace("program", program)
        if "meta" in self.pins.shapes:
            undo.callback(self._write_meta, self._read_meta())
            self._write_meta(_encode_meta(blob, self._bpf.program_info(program).id))

    def forget(self) -> None:
        """Unpin the program, and keep no blob of it."""
        self.pins.unpin("program")
        self._write_meta(bytes(codec.size_of("meta")))

    def _read_meta(self) -> bytes:
        return self._bpf.lookup(self.pins.fd("meta"), META, codec.size_of("meta"))

    def _write_meta(self, raw: bytes) -> None:
        self._bpf.update(self.pins.fd("meta"), META, raw, "meta")

    def pinned(self) -> int | None:
        """Return the id of the pinned program, or None."""
        if "program" not in self.pins.names():
            return None
        descriptor = self._bpf.open_pin(self.pins.path("program"))
        try:
            return self._bpf.program_info(descriptor).id
        finally:
            os.close(descriptor)

    def is_bound(self, program_id: int | None) -> bool:
        """Whether a loaded program uses no map but those pinned now."""
        if "program" not in self.pins.names() or not self.pins.complete:
            return False
        used = self._maps_of(program_id)
        return used is not None and used <= self.pins.map_ids()

    def runs_its_name(self, name: str, tag: str | None) -> bool:
        """Whether a filter of this name runs what the name says, by its tag. One of an older program cannot be told."""
        meta = self.meta()
        if meta is None or "program" not in self.pins.names() or not name.endswith(meta["identity"].hex()[:12]):
            return True
        descriptor = self._bpf.open_pin(self.pins.path("program"))
        try:
            return tag == self._bpf.program_info(descriptor).tag
        finally:
            os.close(descriptor)

    def shares_maps(self, program_id: int | None) -> bool:
        """Whether a loaded program uses one of the maps pinned now, or none at all."""
        used = self._maps_of(program_id)
        return used is not None and (not used or bool(used & self.pins.map_ids()))

    def _maps_of(self, program_id: int | None) -> set | None:
        """Return the ids of a program's maps, or None when there is no such program."""
        if program_id is None:
            return None
        try:
            descriptor = self._bpf.program_by_id(program_id)
        except KernelRefused as refusal:
            if refusal.errno == errno.ENOENT:
                return None  # it went between the listing and now
            raise
        try:
            return set(self._bpf.program_info(descriptor).map_ids)
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
