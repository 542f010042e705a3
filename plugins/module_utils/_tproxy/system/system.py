# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The machine as operations see it: one interface for each adapter, and System, which holds the adapters.

The adapters of this package and the fakes of the tests implement the interfaces. Parameters are positional, so an
implementation may name them as it likes. A module implements a protocol by its functions.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from .bpf import MapInfo, ProgramInfo, ProgramType, Shape, TcxPrograms, TestRun
    from .netlink.messages import Address, Filter, Link, Route, RouteRule
    from .netlink.path import Ends, InboundPolicy, InputChain, WireGuardDevice

# Interpreters of a distribution, which may have libraries that the running one lacks.
INTERPRETERS = ("/usr/bin/python3", "/usr/libexec/platform-python")


class Bpf(Protocol):
    """bpf(2). Each method raises KernelRefused when the kernel refuses the call."""

    def raise_memory_limit(self) -> None: ...

    def possible_cpus(self) -> int: ...

    def tcx_programs(self, ifindex: int, direction: str, /) -> TcxPrograms | None: ...

    def attach_tcx(
        self, ifindex: int, direction: str, program: int, revision: int, replaced: int = 0, before: int = 0, /
    ) -> None: ...

    def detach_tcx(self, ifindex: int, direction: str, program: int, revision: int, /) -> None: ...

    def create_map(self, shape: Shape, name: str, inner: int = 0, /) -> int: ...

    def is_map(self, descriptor: int, /) -> bool: ...

    def map_info(self, descriptor: int, /) -> MapInfo: ...

    def lookup(self, descriptor: int, key: bytes, size: int, /) -> bytes | None: ...

    def update(self, descriptor: int, key: bytes, value: bytes, subject: str = "map", /) -> None: ...

    def delete(self, descriptor: int, key: bytes, subject: str = "map", /) -> None: ...

    def keys(self, descriptor: int, size: int, entries: int, /) -> Sequence[bytes]: ...

    def values(self, descriptor: int, key_size: int, value_size: int, /) -> Sequence[bytes]: ...

    def entries(self, descriptor: int, key_size: int, value_size: int, /) -> Sequence[tuple[bytes, bytes]]: ...

    def update_entries(self, descriptor: int, wanted: Sequence[tuple[bytes, bytes]], /) -> None: ...

    def map_by_id(self, number: int, /) -> int: ...

    def mapped_memory(self, descriptor: int, size: int, writable: bool, /) -> Any:
        """Return the memory of an array: an mmap, which has no type that a protocol can describe."""

    def load_program(self, instructions: bytes, name: str, function: str = "", kind: ProgramType = ..., /) -> int: ...

    def attach_sk_lookup(self, program: int, /) -> int: ...

    def update_link(self, link: int, program: int, /) -> None: ...

    def linked_program(self, link: int, /) -> int: ...

    def bind_map(self, program: int, descriptor: int, /) -> None: ...

    def test_run(self, program: int, packet: bytes, context: bytes = b"", repeat: int = 1, /) -> TestRun: ...

    def program_by_id(self, number: int, /) -> int: ...

    def program_info(self, descriptor: int, /) -> ProgramInfo: ...

    def pin(self, descriptor: int, path: str, /) -> None: ...

    def open_pin(self, path: str, /) -> int | None: ...


class Bpffs(Protocol):
    """Folders and pins in a bpffs, and the lock for one run at a time."""

    def is_mounted(self, folder: str, /) -> bool: ...

    def refuse_unmountable(self, folder: str, /) -> None: ...

    def mount(self) -> None: ...

    def foreign_parts(self, folder: str, /) -> Sequence[str]: ...

    def refuse_foreign(self, folder: str, /) -> None: ...

    def lock(self, folder: str, lock_folder: str, seconds: float | None = None, /) -> AbstractContextManager[None]: ...

    def names(self, folder: str, /) -> Sequence[str]: ...

    def is_folder(self, path: str, /) -> bool: ...

    def folders_with(self, name: str, folder: str, /) -> Sequence[str]: ...

    def number(self, path: str, /) -> int | None: ...

    def make_folder(self, folder: str, /) -> None: ...

    def remove_folder(self, folder: str, /) -> None: ...

    def unpin(self, path: str, /) -> None: ...

    def rename(self, source: str, target: str, /) -> None: ...


class Netlink(Protocol):
    """rtnetlink: interfaces, addresses, qdiscs, filters, policy rules, local routes."""

    def interfaces(self) -> Sequence[Link]: ...

    def link(self, name: str, /) -> Link | None: ...

    def addresses(self, ifindex: int | None = None, /) -> Sequence[Address]: ...

    def filters(self, ifindex: int, direction: str, /) -> Sequence[Filter]: ...

    def hook_qdisc(self, ifindex: int, /) -> str: ...

    def shared_block(self, ifindex: int, direction: str, /) -> int: ...

    def add_clsact(self, ifindex: int, /) -> bool: ...

    def delete_clsact(self, ifindex: int, /) -> bool: ...

    def replace_filter(
        self, ifindex: int, direction: str, priority: int, handle: int, program_fd: int, name: str, /
    ) -> None: ...

    def delete_filter(self, ifindex: int, direction: str, priority: int, handle: int, /) -> bool: ...

    def rules(self, family: int, /) -> Sequence[RouteRule]: ...

    def add_rule(self, rule: RouteRule, /) -> bool: ...

    def delete_rule(self, rule: RouteRule, /) -> bool: ...

    def route_to(self, destination: str, source: str, mark: int = 0, /) -> Route | None: ...

    def forwarding(self, ifindex: int, /) -> Sequence[bytes]: ...

    def local_default(self, table: int, family: int, /) -> bool: ...

    def foreign_default(self, table: int, family: int, /) -> bool: ...

    def routes(self, table: int, family: int, /) -> Sequence[Route]: ...

    def add_local_default(self, table: int, family: int, /) -> bool: ...

    def delete_local_default(self, table: int, family: int, /) -> bool: ...


class Compiler(Protocol):
    """BCC. Raises MissingLibrary where it is not installed, CompileFailed for a bad source."""

    def version(self) -> str: ...

    def compile(
        self,
        files: Mapping[str, str],
        entry: str,
        function: str,
        defines: Mapping[str, object],
        placeholders: Mapping[int, Sequence[object]],
        /,
    ) -> Mapping[str, object]: ...


class Sysctl(Protocol):
    """Settings of the kernel and rights of this process, from /proc and /sys."""

    def kernel_release(self) -> str: ...

    def has_capability(self, number: int, /) -> bool: ...

    def interface_setting(self, interface: str, name: str, /) -> int | None: ...

    def packet_sockets(self, ifindex: int, /) -> Sequence[int]: ...


class ListeningSocket(NamedTuple):
    """A TCP socket that listens, or a UDP socket without a peer.

    `dual` means that an IPv6 socket takes IPv4 too. `transparent` is None on kernels before 5.10, which do not report
    it. No other socket has the same `cookie` until the next boot. `user` is the number of its user.
    """

    address: bytes
    port: int
    inode: int
    dual: bool
    transparent: bool | None
    cookie: int
    user: int


class SocketOwner(NamedTuple):
    """The cookie of a socket, and the number of its user."""

    cookie: int
    user: int


class Sockets(Protocol):
    """Listening sockets, from sock_diag."""

    def listener_at(self, protocol: str, address: bytes, port: int, /) -> SocketOwner | None: ...

    def listeners(self, protocol: str, port: int = 0, /) -> Sequence[ListeningSocket]: ...

    def has_reuseport(self, inode: int, /) -> bool | None: ...

    def duplicates(self, inodes: Iterable[int], /) -> AbstractContextManager[Mapping[int, int]]: ...


class Files(Protocol):
    """Ordinary files, each written whole or not at all."""

    def read(self, path: str, /) -> str | None: ...

    def write(self, path: str, text: str, /) -> None: ...

    def read_bytes(self, path: str, /) -> bytes | None: ...

    def write_bytes(self, path: str, content: bytes, mode: int, /) -> None: ...

    def remove(self, path: str, with_folder: bool = False, /) -> bool: ...

    def exists(self, path: str, /) -> bool: ...

    def is_regular(self, path: str, /) -> bool: ...

    def mode_of(self, path: str, /) -> int | None: ...

    def changed_at(self, path: str, /) -> int | None: ...

    def target_of(self, path: str, /) -> str | None: ...

    def link(self, path: str, target: str, /) -> None: ...

    def names(self, folder: str, /) -> Sequence[str]: ...

    def lock(self, folder: str, /) -> AbstractContextManager[None]: ...

    def lock_file(self, path: str, seconds: float = 120.0, /) -> AbstractContextManager[None]: ...

    def show_running(self, path: str, /) -> AbstractContextManager[None]: ...

    def is_shown(self, path: str, /) -> bool: ...


class Events(Protocol):
    """Events of rtnetlink and of mounts. `wait` returns whether one came within the seconds; None waits without end."""

    def wait(self, seconds: float | None, /) -> bool: ...


class Process(NamedTuple):
    """A process: its number, its start in clock ticks since boot, its name, and its unit of systemd or ""."""

    pid: int
    start: int
    name: str
    unit: str


class Processes(Protocol):
    """Other processes of this machine."""

    def owners_of(self, inodes: Iterable[int], /) -> Mapping[int, Process]: ...

    def sockets_of(self, names: Collection[str], /) -> Collection[int] | None: ...

    def parent_of(self, pid: int, /) -> Process | None: ...

    def ssh_connection(self) -> Sequence[str] | None: ...

    def is_running(self, name: str, /) -> bool: ...

    def listens(self, path: str, /) -> bool: ...

    def has_group(self, name: str, /) -> bool: ...

    def user_number(self, name: str, /) -> int | None: ...


class Conntrack(Protocol):
    """Connection tracking. None means that the packets of a connection arrive with the ends of its socket."""

    def original_of(self, connection: Ends, /) -> Ends | None: ...


class Nftables(Protocol):
    """nftables, as far as it decides about packets to this host."""

    def input_chains(self) -> Sequence[InputChain]: ...


class WireGuard(Protocol):
    """WireGuard. None means that the kernel reports no such device."""

    def device(self, ifindex: int, /) -> WireGuardDevice | None: ...


class Ipsec(Protocol):
    """IPsec."""

    def inbound_policies(self) -> Sequence[InboundPolicy]: ...


class Networkd(Protocol):
    """The settings of systemd-networkd."""

    @property
    def PROCESS(self) -> str:  # a constant of the module
        """The name of its process."""

    def keeps_foreign_rules(self) -> bool: ...


class Services(Protocol):
    """The service manager. Each call but `is_active` starts a process."""

    def is_present(self) -> bool: ...

    def is_active(self, unit: str, /) -> bool: ...

    def reload(self) -> None: ...

    def start(self, unit: str, /) -> None: ...

    def stop(self, unit: str, /) -> None: ...


class Background(Protocol):
    """The monotonic clock, the calling user, and processes that outlive their caller."""

    def monotonic_ns(self) -> int: ...

    def realtime_ns(self) -> int: ...

    def boot_id(self) -> str: ...

    def new_token(self) -> str: ...

    def who(self) -> str: ...

    def spawn(self, prepare: Callable[[], Callable[[], None]], /) -> Sequence[int]:
        """Return (pid, start time) of the process that runs the function returned by `prepare`."""

    def started(self, pid: int, /) -> int | None: ...

    def wake(self, pid: int, start: int, /) -> bool: ...

    def sleep_until(self, deadline: int, /) -> None: ...

    def log(self, text: str, /) -> None: ...


class Journal(Protocol):
    """The journal, for the audit trail, and the user that logged in to start this process."""

    def record(self, text: str, fields: Mapping[str, str], /) -> None: ...

    def login_user(self) -> int | None: ...


class Words(Protocol):
    """Stores to a mapped array that packets read at the same time."""

    def store(
        self,
        memory: Any,
        begin: Iterable[tuple[int, int]],
        new_nodes: Iterable[tuple[int, array[int]]],
        publish: Iterable[tuple[int, int]],
        /,
    ) -> None: ...


class Request(Protocol):
    """A request that came over the helper's socket; `data` is None if it was too long or too late: see `refusal`."""

    @property
    def data(self) -> bytes | None: ...

    @property
    def user(self) -> int: ...

    @property
    def refusal(self) -> str: ...

    @property
    def process(self) -> int: ...

    def answer(self, text: str, /) -> None: ...


class Queue(Protocol):
    """The requests of the helper's socket."""

    def next(self, seconds: float, /) -> Request | None: ...


class Requests(Protocol):
    """The helper's socket, from both ends."""

    def ask(self, path: str, words: Iterable[str], unit: str, /) -> tuple[int, str] | None: ...

    def reach(self, path: str, seconds: float, /) -> tuple[str, int, int]: ...

    def inherited(self) -> Queue: ...


class _Absent:
    """The adapter that an operation has not asked for."""

    def __call__(self) -> Any:
        """Raise AssertionError."""
        raise AssertionError("this operation opens no such adapter: name it in its Operation")

    def __getattr__(self, name: str) -> Any:
        return self()


ABSENT: Any = _Absent()


@dataclass(frozen=True)
class System:
    """The interfaces of the machine, or fakes of them.

    `netlink`, `events` and `compiler` are opened at their use: each imports a library or makes a socket. Few operations
    use the adapters from `compiler` on, so these are absent unless the operation asks for them.
    `predicted` keeps what the prediction of a change has computed, for the change itself. None: nothing is predicted.
    """

    bpf: Bpf
    bpffs: Bpffs
    netlink: Callable[[], AbstractContextManager[Netlink]]
    sysctl: Sysctl
    ifindex_of: Callable[[str], int | None]
    files: Files
    processes: Processes
    networkd: Networkd
    background: Background
    journal: Journal
    conntrack: Conntrack = ABSENT
    nftables: Nftables = ABSENT
    wireguard: WireGuard = ABSENT
    ipsec: Ipsec = ABSENT
    compiler: Callable[[], Compiler] = ABSENT
    sockets: Sockets = ABSENT
    events: Callable[[], AbstractContextManager[Events]] = ABSENT
    words: Words = ABSENT
    requests: Requests = ABSENT
    services: Services = ABSENT
    predicted: MutableMapping[str, Any] | None = None
