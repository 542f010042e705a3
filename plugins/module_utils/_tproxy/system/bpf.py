# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Adapter to bpf(2): maps, programs, pins and test runs.

It uses ints, bytes and str, and only the standard library. Commands and attribute layouts are those of
include/uapi/linux/bpf.h. An attribute is zero behind its given bytes, which older and newer kernels accept.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from ..errors import KernelRefused, kernel_refusals
from . import libc

MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, MAP_NEXT_KEY, PROG_LOAD, OBJ_PIN, OBJ_GET = range(8)
PROG_ATTACH, PROG_DETACH, PROG_TEST_RUN = 8, 9, 10
PROG_BY_ID, MAP_BY_ID, OBJ_INFO, PROG_QUERY = 13, 14, 15, 16
LINK_CREATE, LINK_UPDATE = 28, 29
MAP_LOOKUP_BATCH, MAP_UPDATE_BATCH, PROG_BIND_MAP = 24, 26, 35
TCX = {"ingress": 46, "egress": 47}  # BPF_TCX_INGRESS, BPF_TCX_EGRESS
FLAG_REPLACE, FLAG_BEFORE, FLAG_ID = 1 << 2, 1 << 3, 1 << 5

ATTRIBUTE_BYTES = 144
LOG_BYTES = 1 << 20
LOG_KEPT = 4000
LOG_OF_REFUSAL, LOG_SUMMARY = 1, 4  # BPF_LOG_LEVEL1; BPF_LOG_STATS: the summary without the trace
INFO_BYTES = 256
IDS_MAX = 64
BATCH_BYTES = 1 << 18  # of keys and values by one call


class _Batch(NamedTuple):
    """The first `number` keys and values in two buffers."""

    keys: ctypes.Array[ctypes.c_char]
    values: ctypes.Array[ctypes.c_char]
    number: int


class ProgramType(NamedTuple):
    """The BPF_PROG_TYPE_ of a program, and the attach type that it is loaded for, 0 for any."""

    number: int
    attach_type: int = 0


SCHED_CLS, SK_LOOKUP = ProgramType(3), ProgramType(30, 36)


class MapShape(NamedTuple):
    """The fields that a map is created with, sizes in bytes. `type` is a BPF_MAP_TYPE_, `flags` are BPF_F_ bits."""

    type: int
    key_size: int
    value_size: int
    entries: int
    flags: int


Shape = tuple[int, int, int, int, int]  # the fields of MapShape; constants of the ABI and blobs are plain tuples


class MapInfo(NamedTuple):
    """The kernel's description of a map (struct bpf_map_info)."""

    type: int
    id: int
    key_size: int
    value_size: int
    entries: int
    flags: int
    name: str

    @property
    def shape(self) -> MapShape:
        """Return the fields that a map of this shape is created with."""
        return MapShape(self.type, self.key_size, self.value_size, self.entries, self.flags)


class ProgramInfo(NamedTuple):
    """The kernel's description of a program (struct bpf_prog_info). The tag is hexadecimal."""

    type: int
    id: int
    tag: str
    name: str
    map_ids: tuple[int, ...]


class TestRun(NamedTuple):
    """Outcome of BPF_PROG_TEST_RUN: the program's return value, its context after the run, and ns per run."""

    value: int
    context: bytes
    duration: int


class TcxPrograms(NamedTuple):
    """The ids of the TCX programs of a hook, in the order of their execution, and the revision of this list.

    TCX programs run before all filters of the hook. The kernel raises the revision with each change of the list.
    """

    ids: tuple[int, ...]
    revision: int


def raise_memory_limit() -> None:
    """Lift RLIMIT_MEMLOCK. Up to Linux 5.10 maps are charged to it, and their creation fails with EPERM."""
    import resource

    # If the process may not lift the limit, a kernel that needs this refuses the creation of the map.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


# ---- maps ---------------------------------------------------------------------


def create_map(shape: Shape, name: str, inner: int = 0) -> int:
    """Return the descriptor of a new map. `shape` has the fields of MapShape. Raises KernelRefused.

    A map of maps needs `inner`: the descriptor of a map with the shape of its future entries.
    """
    attribute = struct.pack("=5I2I16s", *shape, inner, 0, _object_name(name))
    return _bpf(MAP_CREATE, attribute, "create map", name).result


def is_map(descriptor: int) -> bool:
    """Return whether a descriptor is one of a map. bpf(2) answers for programs and links too, in other structs."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as fields:
        return any(line.startswith("map_type:") for line in fields)


def map_info(descriptor: int) -> MapInfo:
    """Return the kernel's description of a map. Raises KernelRefused."""
    info = _info(descriptor)
    kind, number, key, value, entries, flags = struct.unpack_from("=6I", info)
    return MapInfo(kind, number, key, value, entries, flags, _c_string(info[24:40]))


def lookup(descriptor: int, key: bytes, size: int) -> bytes | None:
    """Return the value of `size` bytes, or None without such an entry. Raises KernelRefused.

    For a per-CPU map `size` is the size of one value, rounded up to 8, times possible_cpus().
    """
    key_buffer, value = _buffer(key), ctypes.create_string_buffer(size)
    try:
        _call(MAP_LOOKUP, struct.pack("=IxxxxQQQ", descriptor, _pointer(key_buffer), _pointer(value), 0))
    except OSError as refusal:
        if refusal.errno == errno.ENOENT:
            return None
        raise KernelRefused.of(refusal, "look up", f"key {key.hex()}") from refusal
    return value.raw


def update(descriptor: int, key: bytes, value: bytes, subject: str = "map") -> None:
    """Set one entry. For a map of maps this returns after the last packet has left the replaced map.

    Raises KernelRefused, with `subject` as the name of the map.
    """
    key_buffer, value_buffer = _buffer(key), _buffer(value)
    attribute = struct.pack("=IxxxxQQQ", descriptor, _pointer(key_buffer), _pointer(value_buffer), 0)
    _bpf(MAP_UPDATE, attribute, "update", subject)


def delete(descriptor: int, key: bytes, subject: str = "map") -> None:
    """Remove one entry of a hash or of a map of maps, if it exists. Raises KernelRefused."""
    key_buffer = _buffer(key)
    try:
        _call(MAP_DELETE, struct.pack("=IxxxxQQQ", descriptor, _pointer(key_buffer), 0, 0))
    except OSError as refusal:
        if refusal.errno != errno.ENOENT:
            raise KernelRefused.of(refusal, "delete an entry of", subject) from refusal


def keys(descriptor: int, size: int, entries: int) -> list[bytes]:
    """Return the keys, `size` bytes each, of a hash with room for so many entries. Raises KernelRefused.

    Programs and other processes can change the map meanwhile. After the removal of a key the kernel begins again, so
    the number of steps is limited.
    """
    found: dict[bytes, None] = {}
    key: bytes | None = None
    for _step in range(2 * entries):
        key = _next_key(descriptor, key, size)
        if key is None:
            break
        found[key] = None
    return list(found)


def _next_key(descriptor: int, key: bytes | None, size: int) -> bytes | None:
    """Return the key that follows another one, or None. None, or a key that is not there, leads to the first one."""
    key_buffer, following = _buffer(key or b""), ctypes.create_string_buffer(size)
    pointer = 0 if key is None else _pointer(key_buffer)
    try:
        _call(MAP_NEXT_KEY, struct.pack("=IxxxxQQQ", descriptor, pointer, _pointer(following), 0))
    except OSError as refusal:
        if refusal.errno == errno.ENOENT:
            return None
        raise KernelRefused.of(refusal, "list the keys of", "map") from refusal
    return following.raw


def values(descriptor: int, key_size: int, value_size: int) -> list[bytes]:
    """Return the values of a hash, or of an array in the order of its keys. Raises KernelRefused."""
    batches = _batches(descriptor, key_size, value_size)
    return [value for batch in batches for value in _pieces(batch.values, batch.number, value_size)]


def entries(descriptor: int, key_size: int, value_size: int) -> list[tuple[bytes, bytes]]:
    """Return keys and values of a hash, or of an array in the order of its keys. Raises KernelRefused."""
    found: list[tuple[bytes, bytes]] = []
    for batch in _batches(descriptor, key_size, value_size):
        found += zip(_pieces(batch.keys, batch.number, key_size), _pieces(batch.values, batch.number, value_size))
    return found


def _batches(descriptor: int, key_size: int, value_size: int) -> Iterator[_Batch]:
    """Yield the entries of a map: one call reads a batch of them (Linux 5.6). Each batch has the same buffers."""
    batch = BATCH_BYTES // (key_size + value_size)
    places, key_buffer = ctypes.create_string_buffer(8), ctypes.create_string_buffer(batch * key_size)
    value_buffer, begun = ctypes.create_string_buffer(batch * value_size), False
    place = _pointer(places)
    while True:
        fields = (place if begun else 0, place, _pointer(key_buffer), _pointer(value_buffer), batch, descriptor)
        attribute = ctypes.create_string_buffer(struct.pack("=4Q2I", *fields), ATTRIBUTE_BYTES)
        is_last = False
        try:
            libc.bpf(MAP_LOOKUP_BATCH, attribute)
        except OSError as refusal:
            is_last = refusal.errno == errno.ENOENT  # the kernel has counted the entries of this batch
            if not is_last:
                raise KernelRefused.of(refusal, "list the values of", "map") from refusal
        (count,) = struct.unpack_from("=I", attribute, 4 * 8)
        yield _Batch(key_buffer, value_buffer, count)
        if is_last:
            return
        begun = True


def _pieces(buffer: ctypes.Array[ctypes.c_char], count: int, size: int) -> list[bytes]:
    """Return the first `count` pieces of a buffer, `size` bytes each."""
    read = ctypes.string_at(buffer, count * size)
    return [read[start : start + size] for start in range(0, count * size, size)]


def update_entries(descriptor: int, wanted: Sequence[tuple[bytes, bytes]]) -> None:
    """Set entries of a hash by batches (Linux 5.6). Raises KernelRefused."""
    length = BATCH_BYTES // sum(map(len, wanted[0])) if wanted else 1
    for start in range(0, len(wanted), length):
        batch = wanted[start : start + length]
        keys_buffer, values_buffer = (_buffer(b"".join(each)) for each in zip(*batch))
        fields = (0, 0, _pointer(keys_buffer), _pointer(values_buffer), len(batch), descriptor)
        _bpf(MAP_UPDATE_BATCH, struct.pack("=4Q2I", *fields), "set entries of", "map")


def map_by_id(number: int) -> int:
    """Return a new descriptor of the map with this id. Raises KernelRefused."""
    return _bpf(MAP_BY_ID, struct.pack("=III", number, 0, 0), "open map", f"id {number}").result


@cache
def possible_cpus() -> int:
    """Return the number of values in an entry of a per-CPU map."""
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as listing:
        return int(listing.read().strip().split("-")[-1].split(",")[-1]) + 1


def mapped_memory(descriptor: int, size: int, writable: bool) -> mmap.mmap:
    """Return the `size` bytes of an array with BPF_F_MMAPABLE as memory (Linux 5.5). Raises KernelRefused."""
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    with kernel_refusals("map into memory", f"{size} bytes of an array"):
        return mmap.mmap(descriptor, size, mmap.MAP_SHARED, protection)


# ---- programs ------------------------------------------------------------------


def load_program(instructions: bytes, name: str, function: str = "", kind: ProgramType = SCHED_CLS) -> int:
    """Load a program under the licence GPL and return its descriptor.

    The kernel keeps the name. Raises KernelRefused, which names the function, if that is given, with the end of the
    verifier's log in details["log"].
    """
    try:
        return _load(instructions, name, kind)
    except OSError as refusal:
        # A second load asks for the log, because each load with a log costs milliseconds.
        log = ctypes.create_string_buffer(LOG_BYTES)
        with contextlib.suppress(OSError):
            os.close(_load(instructions, name, kind, LOG_OF_REFUSAL, log))
        details = {"log": log.value.decode(errors="replace")[-LOG_KEPT:]}
        raise KernelRefused.of(refusal, "load program", function or name, details) from refusal


def bind_map(program: int, descriptor: int) -> None:
    """Keep a map as long as a program lives, although the program never uses it (Linux 5.10). Raises KernelRefused."""
    _bpf(PROG_BIND_MAP, struct.pack("=III", program, descriptor, 0), "bind a map to", f"program {program}")


def verified_instructions(instructions: bytes, name: str, kind: ProgramType = SCHED_CLS) -> str:
    """Return the verifier's summary line for a program, for the kernel matrix. Raises KernelRefused."""
    log = ctypes.create_string_buffer(LOG_BYTES)
    with kernel_refusals("load program", name):
        os.close(_load(instructions, name, kind, LOG_SUMMARY, log))
    return log.value.decode(errors="replace").strip().splitlines()[-1]


def _load(
    instructions: bytes, name: str, kind: ProgramType, level: int = 0, log: ctypes.Array[ctypes.c_char] | None = None
) -> int:
    """Load a program with the verifier's log at a level. Raises OSError."""
    code, licence = _buffer(instructions), _buffer(b"GPL\0")
    attribute = struct.pack("=IIQQ", kind.number, len(instructions) // 8, _pointer(code), _pointer(licence))
    attribute += struct.pack("=IIQ", level, len(log), _pointer(log)) if log else bytes(16)
    return _call(PROG_LOAD, attribute + struct.pack("=II16sII", 0, 0, _object_name(name), 0, kind.attach_type)).result


def program_by_id(number: int) -> int:
    """Return a new descriptor of the program with this id. Raises KernelRefused."""
    return _bpf(PROG_BY_ID, struct.pack("=III", number, 0, 0), "open program", f"id {number}").result


def program_info(descriptor: int) -> ProgramInfo:
    """Return the kernel's description of a program. Raises KernelRefused."""
    ids = (ctypes.c_uint32 * IDS_MAX)()
    info = _info(descriptor, struct.pack("=52xIQ", IDS_MAX, _pointer(ids)))
    kind, number = struct.unpack_from("=II", info)
    used = struct.unpack_from("=I", info, 52)[0]
    return ProgramInfo(kind, number, info[8:16].hex(), _c_string(info[64:80]), tuple(ids[:used]))


def test_run(program: int, packet: bytes, context: bytes = b"", repeat: int = 1) -> TestRun:
    """Run a SCHED_CLS program on a packet outside of the network. Raises KernelRefused.

    Its socket lookups use the namespace of the calling thread. The call passes no buffer for the packet after the run,
    because the kernel takes a buffer with size 0 as unlimited and overruns it.
    """
    data, given = _buffer(packet), ctypes.create_string_buffer(context, max(len(context), 1))
    left = ctypes.create_string_buffer(max(len(context), 1))
    attribute = struct.pack("=IIIIQQII", program, 0, len(packet), 0, _pointer(data), 0, repeat, 0)
    if context:
        attribute += struct.pack("=IIQQ", len(context), len(context), _pointer(given), _pointer(left))
    reply = _bpf(PROG_TEST_RUN, attribute, "test-run program", f"descriptor {program}").attribute
    value, duration = struct.unpack_from("=i", reply, 4)[0], struct.unpack_from("=I", reply, 36)[0]
    return TestRun(value, left.raw[: len(context)], duration)


# ---- TCX -------------------------------------------------------------------------


def tcx_programs(ifindex: int, direction: str) -> TcxPrograms | None:
    """Return the TCX programs of a hook ("ingress", "egress"), or None before Linux 6.6. Raises KernelRefused."""
    ids = (ctypes.c_uint32 * IDS_MAX)()
    try:
        reply = _call(PROG_QUERY, struct.pack("=IIIIQI", ifindex, TCX[direction], 0, 0, _pointer(ids), IDS_MAX))
    except OSError as refusal:
        if refusal.errno == errno.EINVAL:
            return None
        if refusal.errno == errno.ENODEV:
            return TcxPrograms((), 0)
        raise KernelRefused.of(refusal, "query TCX programs", f"interface {ifindex}") from refusal
    count, revision = struct.unpack_from("=I", reply.attribute, 24)[0], struct.unpack_from("=Q", reply.attribute, 56)[0]
    return TcxPrograms(tuple(ids[:count]), revision)


def attach_tcx(ifindex: int, direction: str, program: int, revision: int, replaced: int = 0, before: int = 0) -> None:
    """Attach a program without a link, so that it stays as long as the interface. Raises KernelRefused.

    `replaced` is the descriptor of the program whose place it takes, `before` the id of the program that gets packets
    next. Without them the program is the last one. The kernel refuses with ESTALE if the list has another revision.
    """
    flags = (FLAG_REPLACE if replaced else 0) | (FLAG_BEFORE | FLAG_ID if before else 0)
    attribute = struct.pack("=IIIIIIQ", ifindex, program, TCX[direction], flags, replaced, before, revision)
    _bpf(PROG_ATTACH, attribute, "attach", f"TCX program to {direction} of interface {ifindex}")


def detach_tcx(ifindex: int, direction: str, program: int, revision: int) -> None:
    """Detach a program. Raises KernelRefused; the errno is ESTALE if the hook has another revision."""
    attribute = struct.pack("=IIIIIIQ", ifindex, program, TCX[direction], 0, 0, 0, revision)
    _bpf(PROG_DETACH, attribute, "detach", f"TCX program from {direction} of interface {ifindex}")


# ---- socket lookups ----------------------------------------------------------------


def attach_sk_lookup(program: int) -> int:
    """Attach a SK_LOOKUP program to the network namespace of this thread. Return the descriptor of the link.

    The program stays attached as long as a descriptor or a pin of the link exists. Raises KernelRefused.
    """
    with open("/proc/thread-self/ns/net", "rb") as namespace:
        attribute = struct.pack("=IIII", program, namespace.fileno(), SK_LOOKUP.attach_type, 0)
        return _bpf(LINK_CREATE, attribute, "attach", "a program for socket lookups").result


def update_link(link: int, program: int) -> None:
    """Put another program in the place of the one of a link, in one step. Raises KernelRefused."""
    _bpf(LINK_UPDATE, struct.pack("=IIII", link, program, 0, 0), "update", "the link of socket lookups")


def linked_program(link: int) -> int:
    """Return the id of the program of a link (struct bpf_link_info). Raises KernelRefused."""
    program: int = struct.unpack_from("=I", _info(link), 8)[0]
    return program


# ---- pins ------------------------------------------------------------------------


def pin(descriptor: int, path: str) -> None:
    """Pin a map or program in a bpffs. Raises KernelRefused."""
    name = _buffer(path.encode() + b"\0")
    _bpf(OBJ_PIN, struct.pack("=QII", _pointer(name), descriptor, 0), "pin", path)


def open_pin(path: str) -> int | None:
    """Return a descriptor of a pinned object, or None without such a pin. Raises KernelRefused."""
    name = _buffer(path.encode() + b"\0")
    try:
        return _call(OBJ_GET, struct.pack("=QII", _pointer(name), 0, 0)).result
    except OSError as refusal:
        if refusal.errno == errno.ENOENT:
            return None
        raise KernelRefused.of(refusal, "open pin", path) from refusal


# ---- the call ----------------------------------------------------------------------


class _Reply(NamedTuple):
    """The result of bpf(2), and its attribute after the call."""

    result: int
    attribute: bytes


def _info(descriptor: int, preset: bytes = b"") -> bytes:
    """Return struct bpf_map_info or bpf_prog_info. `preset` is its content before the call."""
    info = ctypes.create_string_buffer(preset, INFO_BYTES)
    attribute = struct.pack("=IIQ", descriptor, INFO_BYTES, _pointer(info))
    _bpf(OBJ_INFO, attribute, "get information", f"descriptor {descriptor}")
    return info.raw


def _bpf(command: int, attribute: bytes, operation: str, subject: str) -> _Reply:
    """Call bpf(2). Raises KernelRefused."""
    try:
        return _call(command, attribute)
    except OSError as refusal:
        raise KernelRefused.of(refusal, operation, subject) from refusal


def _call(command: int, attribute: bytes) -> _Reply:
    """Call bpf(2). Raises OSError."""
    buffer = ctypes.create_string_buffer(attribute, ATTRIBUTE_BYTES)
    return _Reply(libc.bpf(command, buffer), buffer.raw)


def _buffer(data: bytes) -> ctypes.Array[ctypes.c_char]:
    return (ctypes.c_char * len(data)).from_buffer_copy(data)


def _pointer(buffer: ctypes.Array[ctypes.c_char] | ctypes.Array[ctypes.c_uint32]) -> int:
    return ctypes.addressof(buffer)


def _object_name(name: str) -> bytes:
    """Return the name of a map or program as the kernel keeps it: 15 bytes and a zero (BPF_OBJ_NAME_LEN)."""
    return name.encode()[:15]


def _c_string(field: bytes) -> str:
    return field.split(b"\0")[0].decode()
