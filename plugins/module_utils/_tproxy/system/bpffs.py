# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Adapter to bpffs: the folders and names of pins, and the lock that keeps two runs apart.

It handles folders and names, not the pinned objects. bpffs refuses a dot in a name, and open(2) of a pin (EIO). It
takes flock(2) on a folder.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..errors import KernelRefused, NotMounted, kernel_refusals
from . import libc
from .files import hold

DEFAULT_MOUNT = "/sys/fs/bpf"
LOCK_SECONDS = 120.0


def is_mounted(folder: str) -> bool:
    """Return whether a folder lies in a bpffs, or would lie in one if it existed.

    The device number decides (/proc/self/mountinfo, proc(5)), not the path, because one mount can hide another.
    """
    device = os.stat(_nearest(folder)).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        rows = [line.split(" ") for line in table]
    return any(row[2] == number and row[row.index("-") + 1] == "bpf" for row in rows)


def refuse_unmountable(folder: str) -> None:
    """Raise NotMounted unless a folder lies in the bpffs that mount() makes."""
    if not os.path.abspath(folder).startswith(DEFAULT_MOUNT + "/"):
        raise NotMounted(f"{folder} is in no bpffs: mount one there, or use a folder under {DEFAULT_MOUNT}")


def mount() -> None:
    """Mount a bpffs at /sys/fs/bpf. Raises KernelRefused."""
    with kernel_refusals("mount a bpffs at", DEFAULT_MOUNT):
        libc.mount("bpf", DEFAULT_MOUNT, "bpf", "mode=0700")


def _nearest(folder: str) -> str:
    """Return the folder, or the nearest existing one above it."""
    path = os.path.abspath(folder)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def _mount_point(folder: str) -> str:
    path = _nearest(folder)
    device = os.stat(path).st_dev
    while os.path.dirname(path) != path and os.stat(os.path.dirname(path)).st_dev == device:
        path = os.path.dirname(path)
    return path


@contextmanager
def lock(folder: str, seconds: float | None = None) -> Iterator[None]:
    """Hold the lock of the bpffs of a folder. Raises Busy after `seconds` (default LOCK_SECONDS).

    The lock is on the mount point, because that exists before the first pin and after the last one.
    """
    with hold(_mount_point(folder), LOCK_SECONDS if seconds is None else seconds):
        yield


def names(folder: str) -> list[str]:
    """Return the names in a folder, sorted; [] without such a folder. Raises NotMounted, KernelRefused."""
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as refusal:
        if refusal.errno == errno.EPERM and "." in folder:
            raise NotMounted(f"bpffs takes no name with a dot in it, as in {folder}: use another folder") from refusal
        raise KernelRefused.of(refusal, "list the pins in", folder) from refusal


def number(path: str) -> int | None:
    """Return the inode number of a pin, or None without such a pin. Raises KernelRefused.

    Another object that is pinned at the same path has another number.
    """
    with kernel_refusals("look at", path), suppress(FileNotFoundError):
        return os.stat(path).st_ino
    return None


def make_folder(folder: str) -> None:
    """Make a folder and the missing ones above it, with access for root only. Raises KernelRefused."""
    with kernel_refusals("make folder", folder):
        os.makedirs(folder, 0o700, exist_ok=True)


def remove_folder(folder: str) -> None:
    """Remove a folder if it exists and is empty. Raises KernelRefused."""
    try:
        os.rmdir(folder)
    except OSError as refusal:
        if refusal.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise KernelRefused.of(refusal, "remove folder", folder) from refusal


def unpin(path: str) -> None:
    """Remove a pin if it exists. Raises KernelRefused."""
    with kernel_refusals("remove pin", path), suppress(FileNotFoundError):
        os.unlink(path)


def rename(source: str, target: str) -> None:
    """Rename a pin or folder. It replaces the target in one step. Raises KernelRefused."""
    with kernel_refusals("rename pin to", target):
        os.rename(source, target)


def is_folder(path: str) -> bool:
    """Return whether a path is a folder."""
    return os.path.isdir(path)
