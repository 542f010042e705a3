# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The door to bpffs: where pins live, and the lock that keeps two runs apart.

It knows folders and names, not what is pinned. bpffs refuses dots in names, opens no pin (EIO), but takes flock on a
folder.
"""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import contextmanager

from ..errors import KernelRefused, NotMounted
from .files import hold

DEFAULT_MOUNT = "/sys/fs/bpf"
LOCK_SECONDS = 120

_libc = ctypes.CDLL(None, use_errno=True)


def is_mounted(folder: str) -> bool:
    """Whether `folder` lies (or would lie) in a bpffs, by the device number in /proc/self/mountinfo (proc(5)).

    By number, not by path: a mount may be hidden under another.
    """
    device = os.stat(_nearest(folder)).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        rows = [line.split(" ") for line in table]
    return any(row[2] == number and row[row.index("-") + 1] == "bpf" for row in rows)


def refuse_unmountable(folder: str) -> None:
    """Raise NotMounted when `folder` would not lie in the bpffs that mount() makes."""
    if not os.path.abspath(folder).startswith(DEFAULT_MOUNT + "/"):
        raise NotMounted(f"{folder} is in no bpffs: mount one there, or use a folder under {DEFAULT_MOUNT}")


def mount() -> None:
    """Mount a bpffs at /sys/fs/bpf."""
    if _libc.mount(b"bpf", DEFAULT_MOUNT.encode(), b"bpf", 0, b"mode=0700"):
        raise KernelRefused(ctypes.get_errno(), "mount a bpffs at", DEFAULT_MOUNT)


def _nearest(folder: str) -> str:
    """Return the folder itself, or the nearest one above it that exists."""
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
def lock(folder: str, seconds: float | None = None):
    """Hold the bpffs that `folder` lies in, for one run at a time. Raises Busy after `seconds` (LOCK_SECONDS).

    The lock is on the mount point: it exists before the first pin and after the last.
    """
    with hold(_mount_point(folder), LOCK_SECONDS if seconds is None else seconds):
        yield


def names(folder: str) -> list:
    """Return the names in a folder, sorted; [] when there is no such folder."""
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as refusal:
        if refusal.errno == errno.EPERM and "." in folder:
            raise NotMounted(f"bpffs takes no name with a dot in it, as in {folder}: use another folder") from refusal
        raise KernelRefused(refusal.errno, "list the pins in", folder) from refusal


def number(path: str) -> int | None:
    """Return the inode number of a pin, None where there is none. Another object under its name has another one."""
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return None
    except OSError as refusal:
        raise KernelRefused(refusal.errno, "look at", path) from refusal


def make_folder(folder: str) -> None:
    """Make a folder and those above it, for root alone."""
    _guard("make folder", folder, os.makedirs, folder, 0o700, True)


def remove_folder(folder: str) -> None:
    """Remove a folder if it is there and empty."""
    try:
        os.rmdir(folder)
    except OSError as refusal:
        if refusal.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise KernelRefused(refusal.errno, "remove folder", folder) from refusal


def unpin(path: str) -> None:
    """Remove a pin if it is there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as refusal:
        raise KernelRefused(refusal.errno, "remove pin", path) from refusal


def rename(source: str, target: str) -> None:
    """Put a pin or folder in the place of another, in one step."""
    _guard("rename pin to", target, os.rename, source, target)


def _guard(operation: str, subject: str, call, *arguments) -> None:
    try:
        call(*arguments)
    except OSError as refusal:
        raise KernelRefused(refusal.errno, operation, subject) from refusal


def is_folder(path: str) -> bool:
    """Whether `path` is a folder."""
    return os.path.isdir(path)
