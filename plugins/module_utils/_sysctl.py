# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The door to /proc: settings, rights and packet sockets that a preflight check asks for.

It only reads, knows no verdict about what it read, and sees the network namespace of the calling thread.
"""

from __future__ import annotations

import os

from ._errors import KernelRefused

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
