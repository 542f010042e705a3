# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The door to bpf(2): maps, programs, pins, test runs.

It speaks ints, bytes and str, needs nothing but the standard library, and knows neither rules nor Ansible. Commands
and attribute layouts are those of include/uapi/linux/bpf.h; each attribute buffer is zero beyond what is set, which
older and newer kernels alike accept.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import struct
from functools import cache
from typing import NamedTuple

from ..errors import KernelRefused, Unsupported

MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, PROG_LOAD, OBJ_PIN, OBJ_GET, PROG_TEST_RUN = 0, 1, 2, 3, 5, 6, 7, 10
PROG_BY_ID, MAP_BY_ID, OBJ_INFO, PROG_QUERY = 13, 14, 15, 16
PROG_TYPE_SCHED_CLS = 3
ATTACH_TCX_INGRESS, ATTACH_TCX_EGRESS = 46, 47

# Numbers of bpf(2): arch/*/include/**/unistd*.h
SYSCALL = {
    "x86_64": 321,
    "aarch64": 280,
    "riscv64": 280,
    "loongarch64": 280,
    "armv7l": 386,
    "ppc64le": 361,
    "s390x": 351,
}

ATTRIBUTE_BYTES = 144
LOG_BYTES = 1 << 20
LOG_KEPT = 4000

_libc = ctypes.CDLL(None, use_errno=True)


class MapInfo(NamedTuple):
    """What the kernel says of a map (BPF_OBJ_GET_INFO_BY_FD)."""

    type: int
    id: int
    key_size: int
    value_size: int
    entries: int
    flags: int
    name: str

    @property
    def shape(self) -> tuple:
        """Return (type, key size, value size, entries, flags)."""
        return (self.type, self.key_size, self.value_size, self.entries, self.flags)


class ProgramInfo(NamedTuple):
    """What the kernel says of a program."""

    type: int
    id: int
    tag: str
    name: str
    map_ids: tuple


class TestRun(NamedTuple):
    """Outcome of BPF_PROG_TEST_RUN: the program's return value, its context afterwards, ns per run."""

    value: int
    context: bytes
    duration: int


def _pointer(buffer) -> int:
    return ctypes.addressof(buffer)


def _bytes(data: bytes):
    return (ctypes.c_char * len(data)).from_buffer_copy(data)


def _call(command: int, attribute: bytes) -> tuple:
    """Return (result, attribute as the kernel left it); OSError on refusal."""
    number = SYSCALL.get(platform.machine())
    if number is None:
        raise Unsupported(f"bpf(2) has no known number on {platform.machine()}")
    buffer = ctypes.create_string_buffer(attribute, ATTRIBUTE_BYTES)
    result = _libc.syscall(number, command, buffer, ATTRIBUTE_BYTES)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result, buffer.raw


def _bpf(command: int, attribute: bytes, operation: str, subject: str) -> tuple:
    try:
        return _call(command, attribute)
    except OSError as refusal:
        raise KernelRefused(refusal.errno, operation, subject) from refusal


def raise_memory_limit() -> None:
    """Lift RLIMIT_MEMLOCK: up to Linux 5.10 maps are charged to it and creation fails with EPERM."""
    import resource

    # Where it is not ours to lift, a kernel that needs it says so at map creation.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


# ---- maps ---------------------------------------------------------------------


def create_map(shape: tuple, name: str, inner: int = 0) -> int:
    """Return the descriptor of a new map of (type, key size, value size, entries, flags).

    `inner` is the descriptor of a map like those that a map of maps will hold. Raises KernelRefused.
    """
    attribute = struct.pack("=5I2I16s", *shape, inner, 0, name.encode()[:15])
    return _bpf(MAP_CREATE, attribute, "create map", name)[0]


def is_map(descriptor: int) -> bool:
    """Whether it is a map: bpf(2) itself answers for programs and links alike, in other structs."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as facts:
        return any(line.startswith("map_type:") for line in facts)


def map_info(descriptor: int) -> MapInfo:
    """Return what the kernel says of the map behind a descriptor."""
    raw = _info(descriptor)
    kind, number, key, value, entries, flags = struct.unpack_from("=6I", raw)
    return MapInfo(kind, number, key, value, entries, flags, raw[24:40].split(b"\0")[0].decode())


def lookup(descriptor: int, key: bytes, size: int):
    """Return the value of `size` bytes, or None. For a per-CPU map `size` is size * possible_cpus()."""
    key_buffer, value = _bytes(key), ctypes.create_string_buffer(size)
    try:
        _call(MAP_LOOKUP, struct.pack("=IxxxxQQQ", descriptor, _pointer(key_buffer), _pointer(value), 0))
    except OSError as refusal:
        if refusal.errno == errno.ENOENT:
            return None
        raise KernelRefused(refusal.errno, "look up", f"key {key.hex()}") from refusal
    return value.raw


def update(descriptor: int, key: bytes, value: bytes, subject: str = "map") -> None:
    """Set one entry. In a map of maps this returns only after every packet has left the map it replaced."""
    at, new = _bytes(key), _bytes(value)
    _bpf(MAP_UPDATE, struct.pack("=IxxxxQQQ", descriptor, _pointer(at), _pointer(new), 0), "update", subject)


def delete(descriptor: int, key: bytes, subject: str = "map") -> None:
    """Remove one entry of a map of maps, if it is there."""
    gone = _bytes(key)
    try:
        _call(MAP_DELETE, struct.pack("=IxxxxQQQ", descriptor, _pointer(gone), 0, 0))
    except OSError as refusal:
        if refusal.errno != errno.ENOENT:
            raise KernelRefused(refusal.errno, "delete an entry of", subject) from refusal


def map_by_id(number: int) -> int:
    """Return a new descriptor of the map with this id."""
    return _bpf(MAP_BY_ID, struct.pack("=III", number, 0, 0), "open map", f"id {number}")[0]


@cache
def possible_cpus() -> int:
    """Return how many values a per-CPU entry holds."""
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as listing:
        return int(listing.read().strip().split("-")[-1].split(",")[-1]) + 1


def window(descriptor: int, size: int, writable: bool) -> mmap.mmap:
    """Map the `size` bytes of an array with BPF_F_MMAPABLE into memory (Linux 5.5)."""
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    try:
        return mmap.mmap(descriptor, size, mmap.MAP_SHARED, protection)
    except OSError as refusal:
        raise KernelRefused(refusal.errno, "map into memory", f"{size} bytes of an array") from refusal


# ---- programs ------------------------------------------------------------------


def load_program(instructions: bytes, name: str) -> int:
    """Load a SCHED_CLS program under the licence GPL; return its descriptor.

    Raises KernelRefused with the verifier's last words in details["log"].
    """
    code, licence = _bytes(instructions), _bytes(b"GPL\0")
    head = struct.pack("=IIQQ", PROG_TYPE_SCHED_CLS, len(instructions) // 8, _pointer(code), _pointer(licence))
    tail = struct.pack("=II16s", 0, 0, name.encode()[:15])
    try:
        return _call(PROG_LOAD, head + struct.pack("=IIQ", 0, 0, 0) + tail)[0]
    except OSError as refusal:
        log = _verifier_log(head, tail)
        raise KernelRefused(refusal.errno, "load program", name, {"log": log}) from refusal


def _verifier_log(head: bytes, tail: bytes) -> str:
    """Load once more for the log alone: asking for it each time would cost milliseconds."""
    log = ctypes.create_string_buffer(LOG_BYTES)
    try:
        descriptor, _left = _call(PROG_LOAD, head + struct.pack("=IIQ", 1, LOG_BYTES, _pointer(log)) + tail)
        os.close(descriptor)
    except OSError:
        pass
    return log.value.decode(errors="replace")[-LOG_KEPT:]


def verified_instructions(instructions: bytes, name: str) -> str:
    """Return the verifier's summary line of a program that loads (for the kernel matrix)."""
    code, licence, log = _bytes(instructions), _bytes(b"GPL\0"), ctypes.create_string_buffer(LOG_BYTES)
    # Level 4 is BPF_LOG_STATS: the summary without the trace.
    attribute = struct.pack("=IIQQ", PROG_TYPE_SCHED_CLS, len(instructions) // 8, _pointer(code), _pointer(licence))
    attribute += struct.pack("=IIQII16s", 4, LOG_BYTES, _pointer(log), 0, 0, name.encode()[:15])
    os.close(_bpf(PROG_LOAD, attribute, "load program", name)[0])
    return log.value.decode(errors="replace").strip().splitlines()[-1]


def program_by_id(number: int) -> int:
    """Return a new descriptor of the program with this id."""
    return _bpf(PROG_BY_ID, struct.pack("=III", number, 0, 0), "open program", f"id {number}")[0]


def program_info(descriptor: int) -> ProgramInfo:
    """Return what the kernel says of the program behind a descriptor."""
    ids = (ctypes.c_uint32 * 64)()
    raw = _info(descriptor, struct.pack("=52xIQ", 64, _pointer(ids)))
    kind, number = struct.unpack_from("=II", raw)
    used = struct.unpack_from("=I", raw, 52)[0]
    return ProgramInfo(kind, number, raw[8:16].hex(), raw[64:80].split(b"\0")[0].decode(), tuple(ids[:used]))


def test_run(program: int, packet: bytes, context: bytes = b"", repeat: int = 1) -> TestRun:
    """Run a SCHED_CLS program on a packet that is on no wire. Socket look-ups see the caller's namespace.

    No room for the packet afterwards is given: a buffer with size 0 would mean "unlimited" and be overrun.
    """
    data, given = _bytes(packet), ctypes.create_string_buffer(context, max(len(context), 1))
    left = ctypes.create_string_buffer(max(len(context), 1))
    attribute = struct.pack("=IIIIQQII", program, 0, len(packet), 0, _pointer(data), 0, repeat, 0)
    if context:
        attribute += struct.pack("=IIQQ", len(context), len(context), _pointer(given), _pointer(left))
    _result, raw = _bpf(PROG_TEST_RUN, attribute, "test-run program", f"descriptor {program}")
    value, duration = struct.unpack_from("=i", raw, 4)[0], struct.unpack_from("=I", raw, 36)[0]
    return TestRun(value, left.raw[: len(context)], duration)


def tcx_programs(ifindex: int, direction: str) -> tuple:
    """Return the ids of the TCX programs of a hook, which run before every filter; () below Linux 6.6."""
    ids = (ctypes.c_uint32 * 64)()
    kind = ATTACH_TCX_INGRESS if direction == "ingress" else ATTACH_TCX_EGRESS
    try:
        _result, raw = _call(PROG_QUERY, struct.pack("=IIIIQI", ifindex, kind, 0, 0, _pointer(ids), 64))
    except OSError as refusal:
        if refusal.errno in (errno.EINVAL, errno.ENODEV):
            return ()
        raise KernelRefused(refusal.errno, "query TCX programs", f"interface {ifindex}") from refusal
    return tuple(ids[: struct.unpack_from("=I", raw, 24)[0]])


# ---- pins ------------------------------------------------------------------------


def pin(descriptor: int, path: str) -> None:
    """Give an object a name in bpffs."""
    name = _bytes(path.encode() + b"\0")
    _bpf(OBJ_PIN, struct.pack("=QII", _pointer(name), descriptor, 0), "pin", path)


def open_pin(path: str):
    """Return a descriptor of the pinned object, or None when there is no such pin."""
    name = _bytes(path.encode() + b"\0")
    try:
        return _call(OBJ_GET, struct.pack("=QII", _pointer(name), 0, 0))[0]
    except OSError as refusal:
        if refusal.errno == errno.ENOENT:
            return None
        raise KernelRefused(refusal.errno, "open pin", path) from refusal


def _info(descriptor: int, wanted: bytes = b"") -> bytes:
    """Return struct bpf_map_info or bpf_prog_info; `wanted` presets what the caller asks for."""
    info = ctypes.create_string_buffer(wanted, 256)
    _bpf(OBJ_INFO, struct.pack("=IIQ", descriptor, 256, _pointer(info)), "get information", f"descriptor {descriptor}")
    return info.raw
