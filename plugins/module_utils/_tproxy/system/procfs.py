# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The door to other processes: by which SSH session this one was started, and which daemons run.

It reads /proc alone, and what it may not read is as if it were not there.
"""

from __future__ import annotations

import configparser
import contextlib
import glob
import os

from ..errors import KernelRefused

INIT = 1
SSH_CONNECTION = b"SSH_CONNECTION="


def ssh_connection(process: str = "self") -> tuple | None:
    """Return (client, its port, our address, our port) of the SSH session that this process belongs to, or None.

    sudo hides the variable from its children, so every parent is asked in turn.
    """
    while process:
        for entry in _bytes(f"/proc/{process}/environ").split(b"\0"):
            words = entry[len(SSH_CONNECTION) :].decode(errors="replace").split()
            if entry.startswith(SSH_CONNECTION) and len(words) == 4:
                return tuple(words)
        process = _parent(process)
    return None


def is_running(name: str) -> bool:
    """Whether a process of this name runs; the kernel knows the first 15 bytes of it."""
    return any(_bytes(path).strip() == name.encode()[:15] for path in glob.iglob("/proc/[0-9]*/comm"))


def _parent(process: str) -> str:
    """Return the number of a process's parent, "" behind the first one."""
    for line in _bytes(f"/proc/{process}/status").splitlines():
        if line.startswith(b"PPid:"):
            number = int(line.split()[1])
            return str(number) if number > INIT else ""
    return ""


def _bytes(path: str) -> bytes:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read()
    return b""


# include/uapi/linux/capability.h
CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_BPF = 12, 21, 39
# include/uapi/linux/if_ether.h
ETH_P_IP = 0x0800

ANY_INTERFACE = 0


def read_int(path: str) -> int | None:
    """Return a setting below /proc/sys, None where the kernel has no such setting. Raises KernelRefused.

    The path has slashes ("net/ipv4/ip_forward"): the name of an interface may hold dots.
    """
    text = _read(f"/proc/sys/{path}")
    return None if text is None else int(text)


def interface_setting(interface: str, name: str) -> int | None:
    """Return what is in force of rp_filter, src_valid_mark and the like: the greater of "all" and the interface's own.

    Source: Documentation/networking/ip-sysctl.rst, and IN_DEV_MAXCONF, IN_DEV_ORCONF of include/linux/inetdevice.h.
    None where there is no such interface or setting.
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


def packet_sockets(ifindex: int, protocol: int = ETH_P_IP) -> list:
    """Return the inodes of the packet sockets that take this ethertype from this interface, as `ss -0e` shows them.

    One for ETH_P_IP makes the IP stack clone each packet, and a clone loses the socket that was assigned: every spliced
    connection times out, whether the packet socket is bound to the interface or to none. One for all protocols does
    no harm (each tried on 6.18). Columns: net/packet/af_packet.c:packet_seq_show.
    """
    listing = _read("/proc/thread-self/net/packet") or ""
    rows = [row.split() for row in listing.splitlines()[1:]]
    return [
        int(inode)
        for _socket, _references, _type, ethertype, bound, running, _memory, _user, inode in rows
        if int(ethertype, 16) == protocol and int(bound) in (ifindex, ANY_INTERFACE) and running == "1"
    ]


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as refusal:
        raise KernelRefused(refusal.errno, "read", path) from refusal


FOLDERS = ("/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd")
PROCESS = "systemd-networkd"
OFF = ("no", "false", "off", "0", "n", "f")


def keeps_foreign_rules(folders: tuple = FOLDERS) -> bool:
    """Whether ManageForeignRoutingPolicyRules is off; else networkd deletes policy rules that it did not make.

    Those of protocol kernel it leaves alone in any case.
    """
    settings = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    for path in _files(folders):
        try:
            settings.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # networkd warns and goes on as well
    value = settings.get("Network", "ManageForeignRoutingPolicyRules", fallback="yes") or "yes"
    return value.strip().lower() in OFF


def _files(folders: tuple) -> list:
    """Return the files that count, in the order in which each overrides the one before."""
    main = [path for path in (f"{folder}/networkd.conf" for folder in folders) if os.path.exists(path)][:1]
    parts = {}
    for folder in (f"{each}/networkd.conf.d" for each in folders):
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            if name.endswith(".conf"):
                parts.setdefault(name, f"{folder}/{name}")
    return main + [parts[name] for name in sorted(parts)]
