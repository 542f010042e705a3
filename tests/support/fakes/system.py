# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fake adapters to a kernel of dictionaries. The head of kernel.py describes their limits."""

from __future__ import annotations

import errno
import functools
import struct
import zlib
from contextlib import contextmanager

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import (
    TYPE_ARRAY,
    TYPE_ARRAY_OF_MAPS,
    TYPE_HASH,
    TYPE_PERCPU_ARRAY,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.checks.test_run import CB_OFFSET
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import HELPER_SOCKET, HELPER_SOCKET_UNIT
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import Busy, Conflict, KernelRefused
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.bpf import (
    MapInfo,
    ProgramInfo,
    TcxPrograms,
    TestRun,
)

from .kernel import Kernel, Map, Program, map_loads

CPUS = 2
FOLDER = "folder"
LINK = "link to"


def step(changes: bool):
    """Make the method of an adapter one counted step, so that a test can make it fail."""

    def decorate(method):
        @functools.wraps(method)
        def call(self, *arguments):
            self.kernel.enter(method.__name__, changes)
            return method(self, *arguments)

        return call

    return decorate


reads, writes = step(False), step(True)


@functools.cache  # the tests read tables of interfaces many thousand times
def array_keys(entries):
    """Return the keys of an array with so many entries."""
    return [struct.pack("=I", index) for index in range(entries)]


class Adapter:
    """An adapter to a kernel of dictionaries."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel


class FakeBpf(Adapter):
    """As bpf."""

    def raise_memory_limit(self):
        pass

    def possible_cpus(self):
        return CPUS

    @reads
    def tcx_programs(self, ifindex, direction):
        if not self.kernel.has_tcx:
            return None
        hook = ifindex, direction
        ids = tuple(program.id for program in self.kernel.tcx.get(hook, ()))
        return TcxPrograms(ids, self.kernel.revisions.get(hook, 1))

    @writes
    def attach_tcx(self, ifindex, direction, program, revision, replaced=0, before=0):
        chain = self._tcx_chain(ifindex, direction, revision)
        found = self.kernel.get(program)
        if found in chain:
            raise KernelRefused(errno.EEXIST, "attach", "TCX program")
        if replaced:
            chain[self._in_chain(chain, self.kernel.get(replaced).id)] = found
        else:
            chain.insert(self._in_chain(chain, before) if before else len(chain), found)
        self.kernel.set_tcx(ifindex, direction, chain)

    @writes
    def detach_tcx(self, ifindex, direction, program, revision):
        chain = self._tcx_chain(ifindex, direction, revision)
        del chain[self._in_chain(chain, self.kernel.get(program).id)]
        self.kernel.set_tcx(ifindex, direction, chain)

    def _tcx_chain(self, ifindex, direction, revision):
        """Return a copy of the list of TCX programs. The kernel refuses a change for another revision."""
        if not self.kernel.has_tcx:
            raise KernelRefused(errno.EINVAL, "attach", "TCX program")
        if revision != self.kernel.revisions.get((ifindex, direction), 1):
            raise KernelRefused(errno.ESTALE, "attach", "TCX program")
        return list(self.kernel.tcx.get((ifindex, direction), ()))

    @staticmethod
    def _in_chain(chain, number):
        for index, program in enumerate(chain):
            if program.id == number:
                return index
        raise KernelRefused(errno.ENOENT, "find", f"TCX program {number}")

    @writes
    def create_map(self, shape, name, inner=0):
        if (shape[0] == TYPE_ARRAY_OF_MAPS) != bool(inner):
            raise KernelRefused(errno.EINVAL, "create map", name)
        return self.kernel.make(Map, shape, name)

    @reads
    def is_map(self, descriptor):
        return isinstance(self.kernel.get(descriptor), Map)

    @reads
    def map_info(self, descriptor):
        found = self.kernel.get(descriptor)
        kind, key, value, entries, flags = found.shape
        return MapInfo(kind, found.id, key, value, entries, flags, found.name)

    def lookup(self, descriptor, key, size):
        found = self.kernel.read(descriptor)
        if found.shape[0] == TYPE_ARRAY_OF_MAPS:
            return struct.pack("=I", found.entries[key].id) if key in found.entries else None
        has = found.shape[2] * (CPUS if found.shape[0] == TYPE_PERCPU_ARRAY else 1)
        assert size >= has  # the kernel fills the begin of a larger buffer
        value = found.entries.get(key, None if found.shape[0] == TYPE_HASH else bytes(has))
        return value if value is None else value.ljust(size, b"\0")

    @writes
    def update(self, descriptor, key, value, subject="map"):
        found = self.kernel.get(descriptor)
        if found.shape[0] == TYPE_ARRAY_OF_MAPS:
            value = self.kernel.get(struct.unpack("=I", value)[0])
        found.entries[key] = value

    @writes
    def delete(self, descriptor, key, subject="map"):
        self.kernel.get(descriptor).entries.pop(key, None)

    def keys(self, descriptor, size, entries):
        return list(self.kernel.read(descriptor).entries)

    def entries(self, descriptor, key_size, value_size):
        return list(self.kernel.read(descriptor).entries.items())

    @writes
    def update_entries(self, descriptor, wanted):
        self.kernel.get(descriptor).entries.update(wanted)

    def values(self, descriptor, key_size, value_size):
        found = self.kernel.read(descriptor)
        if found.shape[0] != TYPE_ARRAY:
            return list(found.entries.values())
        assert value_size == found.shape[2]
        nothing = bytes(value_size)
        return [found.entries.get(key, nothing) for key in array_keys(found.shape[3])]

    @reads
    def map_by_id(self, number):
        return self.kernel.give(self.kernel.by_id(number))

    @reads
    def mapped_memory(self, descriptor, size, writable):
        found = self.kernel.get(descriptor)
        if not found.memory:
            found.memory.extend(bytes(size))
        return found.memory

    @writes
    def bind_map(self, program, descriptor):
        bound = self.kernel.get(descriptor)
        self.kernel.get(program).maps.setdefault(bound.name, bound)

    @writes
    def load_program(self, instructions, name, function="", kind=None):
        used = [struct.unpack_from("=i", instructions, at + 4)[0] for at in map_loads(instructions)]
        return self.kernel.make(Program, instructions, name, [self.kernel.get(descriptor) for descriptor in used])

    @reads
    def test_run(self, program, packet, context=b"", repeat=1):
        """The program answers each packet with the kernel's `fate`: (reason, verdict)."""
        reason, verdict = self.kernel.fate
        left = bytearray(context)
        struct.pack_into("=I", left, CB_OFFSET, reason | verdict << 8)
        return TestRun(0, bytes(left), 0)

    @reads
    def program_by_id(self, number):
        return self.kernel.give(self.kernel.by_id(number))

    @reads
    def program_info(self, descriptor):
        found = self.kernel.get(descriptor)
        return ProgramInfo(3, found.id, found.tag, found.name, tuple(each.id for each in found.maps.values()))

    @writes
    def pin(self, descriptor, path):
        folder = path.rpartition("/")[0]
        if path in self.kernel.files or self.kernel.files.get(folder) != FOLDER:
            raise KernelRefused(errno.EEXIST if path in self.kernel.files else errno.ENOENT, "pin", path)
        self.kernel.files[path] = self.kernel.get(descriptor)

    @reads
    def open_pin(self, path):
        found = self.kernel.files.get(path)
        return None if found is None else self.kernel.give(found)


class FakeBpffs(Adapter):
    """As bpffs, mounted at /sys/fs/bpf."""

    def is_mounted(self, folder):
        return self.kernel.mounted

    def refuse_unmountable(self, folder):
        pass

    @writes
    def mount(self):
        self.kernel.mounted = True

    def foreign_parts(self, folder):
        return list(self.kernel.foreign_parts)

    def refuse_foreign(self, folder):
        if self.kernel.foreign_parts:
            raise Conflict("; ".join(self.kernel.foreign_parts))

    @contextmanager
    def lock(self, folder, lock_folder, seconds=None):
        if self.kernel.lock and self.kernel.is_meanwhile:
            raise Busy(f"another run holds {folder}")
        assert self.kernel.mounted and not self.kernel.lock
        self.kernel.lock = True
        try:
            yield
        finally:
            self.kernel.lock = False

    def names(self, folder):
        begin = f"{folder}/"
        inside = [path[len(begin) :] for path in self.kernel.files if path.startswith(begin)]
        return sorted(name for name in inside if "/" not in name)

    def is_folder(self, path):
        return self.kernel.files.get(path) == FOLDER

    def folders_with(self, name, folder):
        found = [path.rpartition("/")[0] for path in self.kernel.files if path.endswith(f"/{name}")]
        return [each for each in found if each != folder]

    def number(self, path):
        return self.kernel.files.get(path)

    @writes
    def make_folder(self, folder):
        while folder.startswith("/sys/fs/bpf/"):
            self.kernel.files.setdefault(folder, FOLDER)
            folder = folder.rpartition("/")[0]

    @writes
    def remove_folder(self, folder):
        if self.is_folder(folder) and not self.names(folder):
            del self.kernel.files[folder]

    @writes
    def unpin(self, path):
        self.kernel.files.pop(path, None)

    @writes
    def rename(self, source, target):
        moved = {path: thing for path, thing in self.kernel.files.items() if f"{path}/".startswith(f"{source}/")}
        for path, thing in moved.items():
            del self.kernel.files[path]
            self.kernel.files[target + path[len(source) :]] = thing


class FakeRequests(Adapter):
    """As unix_socket, for clients: the kernel's `helper` returns the answer. It is None without a helper.

    `reached` is the end of a self-test.
    """

    def ask(self, path, words, unit):
        return self.kernel.helper and self.kernel.helper(path, words)

    def reach(self, path, seconds):
        return self.kernel.reached


class FakeBackground(Adapter):
    """As daemon, with a stopped clock. A test runs the work of a watchdog itself: see kernel.guards."""

    def monotonic_ns(self):
        return self.kernel.clock

    def realtime_ns(self):
        return 1_700_000_000 * 10**9 + self.kernel.clock

    def boot_id(self):
        return "boot"

    def new_token(self):
        return f"token {self.kernel.clock}"

    def who(self):
        return "alice from 192.0.2.9"

    @writes
    def spawn(self, prepare):
        before = len(self.kernel.still_open())
        self.kernel.guards.append(prepare())
        self.kernel.guarded.update(list(self.kernel.open)[before:])
        return len(self.kernel.guards), 0

    def started(self, pid):
        """The number of guards that wait is the highest number of a living one. `starts` has other processes."""
        return self.kernel.starts.get(pid, 0 if pid <= len(self.kernel.guards) else None)

    @writes
    def wake(self, pid, start):
        self.kernel.woken.append(pid)
        return True

    def sleep_until(self, deadline):
        self.kernel.clock = max(self.kernel.clock, deadline + 1)

    def log(self, text):
        self.kernel.journal.append(text)


class FakeJournal(Adapter):
    """As journal. The kernel's `trail` has the lines, each with its fields."""

    def record(self, text, fields):
        self.kernel.trail.append((text, dict(fields)))

    def login_user(self):
        return 1000


class FakeFiles(Adapter):
    """As files. Only a real disk shows whether a file is written as a whole."""

    @reads
    def read(self, path):
        return self.kernel.disk.get(path)

    @writes
    def write(self, path, text):
        if self.kernel.full and path.startswith(self.kernel.full):
            raise KernelRefused(errno.ENOSPC, "write", path)
        self.kernel.disk[path] = text

    @reads
    def read_bytes(self, path):
        return self.kernel.disk.get(path)

    @writes
    def write_bytes(self, path, content, mode):
        self.kernel.disk[path] = content

    @writes
    def remove(self, path, with_folder=False):
        return self.kernel.disk.pop(path, None) is not None

    @reads
    def exists(self, path):
        return path in self.kernel.disk

    @reads
    def is_regular(self, path):
        return path in self.kernel.disk

    @reads
    def mode_of(self, path):
        return 0o755 if path in self.kernel.disk else None

    @reads
    def changed_at(self, path):
        text = self.kernel.disk.get(path)
        return None if text is None else zlib.crc32(repr(text).encode())

    @reads
    def target_of(self, path):
        found = self.kernel.disk.get(path)
        return found[LINK] if isinstance(found, dict) else None if found is None else ""

    @writes
    def link(self, path, target):
        self.kernel.disk[path] = {LINK: target}

    @reads
    def names(self, folder):
        inside = [path[len(folder) + 1 :] for path in self.kernel.disk if path.startswith(f"{folder}/")]
        return sorted({path.split("/")[0] for path in inside})

    @contextmanager
    def lock(self, folder):
        yield

    @contextmanager
    def lock_file(self, path, seconds=120.0):
        if path in self.kernel.locked_files and self.kernel.is_meanwhile:
            raise Busy(f"another run holds {path}")
        assert path not in self.kernel.locked_files, f"{path} is held already, and flock(2) would wait for ever"
        self.kernel.locked_files.add(path)
        try:
            yield
        finally:
            self.kernel.locked_files.discard(path)

    @contextmanager
    def show_running(self, path):
        self.kernel.shown.append(path)
        try:
            yield
        finally:  # the lock ends with a killed process, too
            self.kernel.shown.remove(path)

    def is_shown(self, path):
        return path in self.kernel.shown


class FakeServices(Adapter):
    """As systemd. `kernel.units` are the active units."""

    @reads
    def is_present(self):
        return True

    @reads
    def is_active(self, unit):
        return unit in self.kernel.units

    @writes
    def reload(self):
        pass

    @writes
    def start(self, unit):
        self.kernel.units.add(unit)
        if unit == HELPER_SOCKET_UNIT:
            self.kernel.processes.sockets.add(HELPER_SOCKET)

    @writes
    def stop(self, unit):
        self.kernel.units.discard(unit)
        if unit == HELPER_SOCKET_UNIT:
            self.kernel.processes.sockets.discard(HELPER_SOCKET)
