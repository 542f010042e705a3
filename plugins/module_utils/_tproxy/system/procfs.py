# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Adapter to /proc: kernel settings, rights, packet sockets, processes, and the settings of systemd-networkd."""

from __future__ import annotations

import configparser
import contextlib
import glob
import grp
import os
import pwd
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from ..errors import kernel_refusals
from .daemon import started
from .system import Process

# include/uapi/linux/capability.h
CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_BPF = 12, 21, 39
# include/uapi/linux/if_ether.h
ETH_P_IP = 0x0800
SO_ACCEPTCON = 1 << 16  # include/uapi/linux/net.h: the flag of a listening unix socket

ANY_INTERFACE = 0
INIT = 1
UNITS = (".service", ".scope")  # of processes, as a cgroup names them
SSH_CONNECTION = b"SSH_CONNECTION="
SOCKET = "socket:["  # the target of a descriptor, before the inode
COMM_BYTES = 15  # the kernel keeps this much of a process's name (proc(5))

NETWORKD_FOLDERS = ("/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd")
PROCESS = "systemd-networkd"
OFF = ("no", "false", "off", "0", "n", "f")  # the words of systemd.syntax(7)


# ---- settings and rights -----------------------------------------------------------


def read_int(path: str) -> int | None:
    """Return a setting below /proc/sys, or None on a kernel without it. Raises KernelRefused.

    The path has slashes ("net/ipv4/ip_forward"), because the name of an interface may contain dots.
    """
    text = _read(f"/proc/sys/{path}")
    return None if text is None else int(text)


def interface_setting(interface: str, name: str) -> int | None:
    """Return the effective value of rp_filter, src_valid_mark and the like: the greater of "all" and the interface's.

    Return None without such an interface or setting. Raises KernelRefused. Source:
    Documentation/networking/ip-sysctl.rst, and IN_DEV_MAXCONF, IN_DEV_ORCONF of include/linux/inetdevice.h.
    """
    own, shared = (read_int(f"net/ipv4/conf/{each}/{name}") for each in (interface, "all"))
    return None if own is None or shared is None else max(own, shared)


def kernel_release() -> str:
    """Return the release of the running kernel, as `uname -r` does."""
    return os.uname().release


def capabilities() -> int:
    """Return the effective capabilities of the calling thread as a bit mask."""
    lines = (_read("/proc/thread-self/status") or "").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("CapEff:")), 16)


def has_capability(number: int) -> bool:
    """Return whether the calling thread has a capability in effect."""
    return bool(capabilities() >> number & 1)


def packet_sockets(ifindex: int, protocol: int = ETH_P_IP) -> list[int]:
    """Return the inodes of the packet sockets for an ethertype on an interface, as `ss -0e` shows them.

    A packet socket for ETH_P_IP makes the IP stack clone each packet, and a clone loses the assigned socket. Every
    spliced connection then times out, whether the packet socket is bound to the interface or to none. A packet socket
    for all protocols does no harm (each tried on 6.18). Columns: net/packet/af_packet.c:packet_seq_show.
    """
    listing = _read("/proc/thread-self/net/packet") or ""
    rows = [row.split() for row in listing.splitlines()[1:]]
    return [
        int(inode)
        for _socket, _references, _type, ethertype, bound, running, _memory, _user, inode in rows
        if int(ethertype, 16) == protocol and int(bound) in (ifindex, ANY_INTERFACE) and running == "1"
    ]


def _read(path: str) -> str | None:
    with kernel_refusals("read", path), contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
        return file.read()
    return None


# ---- processes ---------------------------------------------------------------------


class SshConnection(NamedTuple):
    """The ends of an SSH session, as the texts of its variable SSH_CONNECTION (ssh(1))."""

    client: str
    client_port: str
    server: str
    server_port: str


def ssh_connection(process: str = "self") -> SshConnection | None:
    """Return the SSH session that a process belongs to, or None. `process` is a name below /proc.

    sudo hides the variable from its children, so each parent is read in turn. An unreadable process counts as missing.
    """
    while process:
        for entry in _readable_bytes(f"/proc/{process}/environ").split(b"\0"):
            fields = entry[len(SSH_CONNECTION) :].decode(errors="replace").split()
            if entry.startswith(SSH_CONNECTION) and len(fields) == 4:
                return SshConnection(*fields)
        process = _parent(process)
    return None


def is_running(name: str) -> bool:
    """Return whether a process of this name runs. The kernel knows the first 15 bytes of a name."""
    comm = name.encode()[:COMM_BYTES]
    return any(_readable_bytes(path).strip() == comm for path in glob.iglob("/proc/[0-9]*/comm"))


def listens(path: str) -> bool:
    """Return whether a process listens at a unix socket. This connects to nothing, so it starts no service.

    Columns: net/unix/af_unix.c:unix_seq_show.
    """
    rows = (line.split(maxsplit=7) for line in (_read("/proc/thread-self/net/unix") or "").splitlines()[1:])
    return any(row[7:] == [path] and int(row[3], 16) & SO_ACCEPTCON for row in rows)


def has_group(name: str) -> bool:
    """Return whether this machine knows a group, from its files or from a directory service."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def user_number(name: str) -> int | None:
    """Return the number of a user, from the files of this machine or from a directory service. None: there is none."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def owners_of(inodes: Iterable[int]) -> dict[int, Process]:
    """Return a process of each socket that has one, by the inode of the socket. It reads the descriptors of all."""
    found: dict[int, Process] = {}
    for inode, pid, _descriptor in descriptors_of(inodes):
        owner = _process(pid) if inode not in found else None
        if owner is not None:
            found[inode] = owner
    return found


def descriptors_of(inodes: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    """Yield the inode, the process and the descriptor of each open descriptor of these sockets, of any process."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    for link in glob.iglob("/proc/[0-9]*/fd/*") if wanted else ():
        with contextlib.suppress(OSError):  # the process has ended, or closed it
            inode = wanted.get(os.readlink(link))
            if inode is not None:
                _root, _proc, pid, _fd, descriptor = link.split("/")
                yield inode, int(pid), int(descriptor)


def sockets_of(names: Collection[str]) -> set[int] | None:
    """Return the inodes of the sockets that processes of these names hold. None: one of them cannot be read."""
    comms = {name.encode() for name in names}
    found: set[int] = set()
    for path in glob.iglob("/proc/[0-9]*/comm"):
        if _readable_bytes(path).strip() not in comms:
            continue
        try:
            found.update(_sockets_below(f"{os.path.dirname(path)}/fd"))
        except PermissionError:
            return None
    return found


def _sockets_below(folder: str) -> Iterator[int]:
    """Yield the inodes of the sockets among the descriptors of a process, which can end meanwhile."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for name in os.listdir(folder):
            target = os.readlink(f"{folder}/{name}")
            if target.startswith(SOCKET):
                yield int(target[len(SOCKET) : -1])


def parent_of(pid: int) -> Process | None:
    """Return the parent of a process. Return None for a child of the first process, and without a visible process."""
    parent = _parent(str(pid))
    return _process(int(parent)) if parent else None


def _process(pid: int) -> Process | None:
    start = None
    with contextlib.suppress(PermissionError):  # a profile of AppArmor hides other processes
        start = started(pid)
    if start is None:
        return None
    name = _readable_bytes(f"/proc/{pid}/comm").decode(errors="replace").strip()
    groups = _readable_bytes(f"/proc/{pid}/cgroup").decode(errors="replace").splitlines()
    parts = [part for group in groups for part in group.split("/") if part.endswith(UNITS)]
    return Process(pid, start, name, parts[-1] if parts else "")


def _parent(process: str) -> str:
    """Return the number of the parent process, "" for a child of the first process."""
    for line in _readable_bytes(f"/proc/{process}/status").splitlines():
        if line.startswith(b"PPid:"):
            number = int(line.split()[1])
            return str(number) if number > INIT else ""
    return ""


def _readable_bytes(path: str) -> bytes:
    """Return the content of a file, b"" if the process cannot read it."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read()
    return b""


# ---- systemd-networkd --------------------------------------------------------------


def keeps_foreign_rules(folders: Sequence[str] = NETWORKD_FOLDERS) -> bool:
    """Return whether ManageForeignRoutingPolicyRules is off. If it is on, networkd deletes foreign policy rules.

    networkd never deletes policy rules of protocol kernel.
    """
    settings = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    for path in _networkd_files(folders):
        try:
            settings.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # networkd warns about such a file and reads the next one
    value = settings.get("Network", "ManageForeignRoutingPolicyRules", fallback="yes") or "yes"
    return value.strip().lower() in OFF


def _networkd_files(folders: Sequence[str]) -> list[str]:
    """Return the files of networkd's settings. A later one overrides the earlier ones."""
    main = [path for path in (f"{folder}/networkd.conf" for folder in folders) if os.path.exists(path)][:1]
    drop_ins: dict[str, str] = {}
    for folder in (f"{each}/networkd.conf.d" for each in folders):
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            if name.endswith(".conf"):
                drop_ins.setdefault(name, f"{folder}/{name}")
    return main + [drop_ins[name] for name in sorted(drop_ins)]
