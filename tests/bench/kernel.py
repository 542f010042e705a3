# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of bpf(2) that the collection's adapter lacks: XDP programs, live frames, run statistics.

Numbers and layouts are those of include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import struct

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import Unsupported
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import libc

PROG_LOAD, PROG_TEST_RUN, OBJ_INFO, ENABLE_STATS = 5, 10, 15, 32
PROG_TYPE_XDP = 6
LIVE_FRAMES = 1 << 1
BATCH = 64
INFO_BYTES, RUN_TIME_OFFSET = 256, 192


def load_xdp(instructions: bytes, name: str) -> int:
    """Return the descriptor of an XDP program."""
    code = ctypes.create_string_buffer(instructions, len(instructions))
    licence, log = ctypes.create_string_buffer(b"GPL"), ctypes.create_string_buffer(1 << 20)
    pointers = [ctypes.addressof(buffer) for buffer in (code, licence)]
    attribute = struct.pack("=IIQQ", PROG_TYPE_XDP, len(instructions) // 8, *pointers)
    attribute += struct.pack("=IIQII16s", 1, len(log), ctypes.addressof(log), 0, 0, name.encode()[:15])
    try:
        return _bpf(PROG_LOAD, attribute)
    except OSError as refusal:
        raise RuntimeError(f"the kernel refuses {name}: {log.value.decode()[-1000:]}") from refusal


def inject(generator: int, frame: bytes, ifindex: int, count: int) -> None:
    """Let `count` frames into the stack of an interface of the namespace we are in. Raises Unsupported.

    They are received in this very thread: no sender and no softirq of another processor takes part.
    """
    data = ctypes.create_string_buffer(frame, len(frame))
    # struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
    context = ctypes.create_string_buffer(struct.pack("=6I", 0, len(frame), 0, ifindex, 0, 0), 24)
    attribute = struct.pack("=IIIIQQ", generator, 0, len(frame), 0, ctypes.addressof(data), 0)
    attribute += struct.pack("=IIIIQQ", count, 0, 24, 0, ctypes.addressof(context), 0)
    try:
        _bpf(PROG_TEST_RUN, attribute + struct.pack("=IIIxxxx", LIVE_FRAMES, 0, BATCH))
    except OSError as refusal:
        raise Unsupported(f"this kernel takes no live frames, as Linux 5.18 and later do: {refusal}") from refusal


def run_lookup(program: int, context: bytes, count: int) -> tuple[bool, bool]:
    """Run a program for socket lookups `count` times; return whether it passes, and whether it finds a socket."""
    given, left = (ctypes.create_string_buffer(context, len(context)) for _buffer in range(2))
    attribute = struct.pack("=IIIIQQII", program, 0, 0, 0, 0, 0, count, 0)
    attribute += struct.pack("=IIQQ", len(context), len(context), ctypes.addressof(given), ctypes.addressof(left))
    passed = ctypes.create_string_buffer(attribute, 144)
    libc.bpf(PROG_TEST_RUN, passed)
    return bool(struct.unpack_from("=I", passed, 4)[0]), any(left.raw[:8])


def enable_statistics() -> int:
    """Have the kernel time every run of every program until the returned descriptor is closed (Linux 5.8)."""
    return _bpf(ENABLE_STATS, struct.pack("=I", 0))


def run_statistics(program: int) -> tuple:
    """Return (ns, runs) that the kernel has counted."""
    info = ctypes.create_string_buffer(INFO_BYTES)
    _bpf(OBJ_INFO, struct.pack("=IIQ", program, INFO_BYTES, ctypes.addressof(info)))
    return struct.unpack_from("=QQ", info, RUN_TIME_OFFSET)


def _bpf(command: int, attribute: bytes) -> int:
    return libc.bpf(command, ctypes.create_string_buffer(attribute, 144))
