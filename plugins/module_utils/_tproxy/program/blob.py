# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Program blobs: compiled programs in a form that any machine can load without a compiler.

Pure data. A blob is the instructions of one function, the places where a map's descriptor goes, and the maps'
definitions. It has two digests: `source_sha256` covers the input (files, defines, function), `identity` also the
compiler. Programs with the same identity behave alike. The blob of our own program holds those of its tracker and of
its program for socket lookups, which have the same identity.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..abi.layout import LAYOUT, MAPS
from ..constants import FUNCTION, SK_LOOKUP, TRACKER
from ..errors import InvalidInput


def placeholders() -> dict[int, list[Any]]:
    """Return {placeholder: [map name, shape]}. The compiler finds placeholders in place of descriptors."""
    return {slot: [name, list(shape)] for name, (slot, shape) in MAPS.items()}


BLOB_FORMAT = 1
BESIDE = {"tracker": TRACKER, "sk_lookup": SK_LOOKUP}  # the functions beside our own one, by the member of Blob
INSTRUCTION_BYTES = 8
IMMEDIATE_OFFSET = 4
LD_IMM64, PSEUDO_MAP_FD = 0x18, 1


@dataclass(frozen=True)
class Blob:
    """A compiled program. `maps` is {name: (type, key size, value size, entries, flags)}."""

    function: str
    instructions: bytes
    relocations: tuple[tuple[int, str], ...]
    maps: Mapping[str, tuple[int, int, int, int, int]]
    compiler: str
    source_sha256: str
    tracker: Blob | None = None
    sk_lookup: Blob | None = None

    @property
    def identity(self) -> str:
        """Return the hexadecimal SHA-256 of sources, defines, function and compiler."""
        return program_identity(self.source_sha256, self.compiler)

    @property
    def is_splicer(self) -> bool:
        """Whether this is a program of ours: it uses the maps of the layout, and no other."""
        ours = {name: shape for name, (_slot, shape) in MAPS.items()}
        return bool(self.maps) and all(ours.get(name) == shape for name, shape in self.maps.items())

    @property
    def count(self) -> int:
        """Return how many instructions the program has."""
        return len(self.instructions) // INSTRUCTION_BYTES

    def bind(self, descriptors: Mapping[str, int]) -> bytes:
        """Return the instructions with each map's descriptor in place."""
        bound = bytearray(self.instructions)
        for index, name in self.relocations:
            struct.pack_into("=i", bound, index * INSTRUCTION_BYTES + IMMEDIATE_OFFSET, descriptors[name])
        return bytes(bound)

    def in_this_build(self, other: Blob) -> Blob:
        """Return a program beside this one with the identity of this one."""
        return replace(other, source_sha256=self.source_sha256, compiler=self.compiler)

    def to_json(self) -> str:
        """Return the blob as text; from_json() gives it back."""
        body = {
            "format": BLOB_FORMAT,
            "layout": LAYOUT if self.is_splicer else None,
            "function": self.function,
            "compiler": self.compiler,
            "source_sha256": self.source_sha256,
            "identity": self.identity,
            "maps": {name: list(shape) for name, shape in sorted(self.maps.items())},
            "relocations": [list(pair) for pair in self.relocations],
            "instructions": base64.b64encode(self.instructions).decode(),
        }
        for name in BESIDE:
            other: Blob | None = getattr(self, name)
            if other is not None:
                body[name] = other.to_json()
        body["digest"] = _digest(body)
        return json.dumps(body, indent=1, sort_keys=True) + "\n"


def blob_from_json(text: str) -> Blob:
    """Return the blob written by to_json(). Raises InvalidInput when it is damaged or of another format."""
    try:
        body = json.loads(text)
        digest = body.pop("digest")
        blob = Blob(
            body["function"],
            base64.b64decode(body["instructions"], validate=True),
            tuple((index, name) for index, name in body["relocations"]),
            {name: tuple(shape) for name, shape in body["maps"].items()},
            body["compiler"],
            body["source_sha256"],
            *(blob_from_json(body[name]) if body.get(name) else None for name in BESIDE),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise InvalidInput([f"blob: this is no program blob ({fault}); build one with `make blob`"]) from fault
    if body.get("format") != BLOB_FORMAT or digest != _digest(body):
        raise InvalidInput(["blob: its digest or format does not fit its contents; build or copy it again"])
    if body.get("layout") not in (None, LAYOUT):
        found = body["layout"]
        raise InvalidInput([f"blob: built for map layout {found}, this release has layout {LAYOUT}; build it again"])
    return blob


def blob_from_object(compiled: Mapping[str, Any], function: str, source_sha256: str) -> Blob:
    """Return the blob from the answer of the compiler's process: {instructions, maps, compiler}.

    `maps` there is {placeholder: [name, shape]}: a placeholder is a number in the instructions in place of a
    descriptor. `tracker` and `sk_lookup` are the answers for these programs, where the source has them.
    """
    instructions = base64.b64decode(compiled["instructions"])
    names = {int(placeholder): name for placeholder, (name, _shape) in compiled["maps"].items()}
    relocations = tuple((index, names[value]) for index, value in map_references(instructions))
    used = {name for _index, name in relocations}
    shapes = {name: tuple(shape) for name, shape in compiled["maps"].values() if name in used}
    others = (
        blob_from_object(compiled[name], its_function, source_sha256) if compiled.get(name) else None
        for name, its_function in BESIDE.items()
    )
    return Blob(function, instructions, relocations, shapes, compiled["compiler"], source_sha256, *others)


def map_references(instructions: bytes) -> Iterator[tuple[int, int]]:
    """Yield (instruction index, immediate) of each load of a map descriptor."""
    for index in range(len(instructions) // INSTRUCTION_BYTES):
        at = index * INSTRUCTION_BYTES
        if instructions[at] == LD_IMM64 and instructions[at + 1] >> 4 == PSEUDO_MAP_FD:
            yield index, struct.unpack_from("=i", instructions, at + IMMEDIATE_OFFSET)[0]


def source_digest(files: Mapping[str, str], entry: str, function: str, defines: Mapping[str, object]) -> str:
    """Return the hexadecimal SHA-256 of everything that goes into a compilation but the compiler."""
    described = {"files": dict(files), "entry": entry, "function": function, "defines": _texts(defines)}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def program_identity(source_sha256: str, compiler: str) -> str:
    """Return the identity of the program that this compiler makes of that source."""
    return hashlib.sha256(f"{source_sha256} {compiler}".encode()).hexdigest()


def _texts(defines: Mapping[str, object]) -> dict[str, str]:
    return {str(name): str(value) for name, value in defines.items()}


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


IDENTITY_DIGITS = 12
OUR_NAME = re.compile(r"(\w+):([0-9a-f]{%d})" % IDENTITY_DIGITS)
# The kernel keeps 15 bytes of a program's name: two letters for the function, and the digits of the identity.
STEMS = {FUNCTION: "tp_", TRACKER: "tt_", SK_LOOKUP: "ts_"}
OTHER_STEM = "tc_"


class Attached(NamedTuple):
    """A program on a hook: its name with the identity, and whether it is that program on the maps pinned now."""

    name: str
    bound: bool = True
    direct_action: bool = True


class Wanted(NamedTuple):
    """The program asked for. `blob` is None when it runs already and none is kept."""

    function: str
    identity: str
    source_sha256: str
    blob: Blob | None
    compiled: bool

    @property
    def attached(self) -> Attached:
        """Return the filter that must be on the hook."""
        return Attached(filter_name(self.function, self.identity))


def of_blob(blob: Blob, compiled: bool) -> Wanted:
    """Return a program that is at hand."""
    return Wanted(blob.function, blob.identity, blob.source_sha256, blob, compiled)


def filter_name(function: str, identity: str) -> str:
    """Return the name that a filter running this program bears."""
    return f"{function}:{identity[:IDENTITY_DIGITS]}"


def program_name(function: str, identity: str) -> str:
    """Return the name under which the kernel keeps this program. It tells the identity, because TCX has no filters."""
    return f"{_stem(function)}{identity[:IDENTITY_DIGITS]}"


def name_from_program(function: str, name: str) -> str | None:
    """Return the filter name for a program's name in the kernel, or None for a program that is not of this function.

    All functions but our own share a stem. Their maps tell them apart.
    """
    stem = _stem(function)
    found = f"{function}:{name[len(stem) :]}"
    return found if name.startswith(stem) and OUR_NAME.fullmatch(found) else None


def _stem(function: str) -> str:
    return STEMS.get(function, OTHER_STEM)
