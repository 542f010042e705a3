# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Adapter to bpffs: the folders and names of pins, their owners, and the lock that keeps two runs apart.

It handles folders and names, not the pinned objects. bpffs refuses a dot in a name, and open(2) of a pin (EIO). It
takes flock(2) on a folder.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from ..errors import Conflict, KernelRefused, NotMounted, kernel_refusals
from . import libc
from .files import hold, lock_file

DEFAULT_MOUNT = "/sys/fs/bpf"
LOCK_SECONDS = 120.0
ROOT = 0
FOLDER_MODE = 0o700
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO


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


# ---- the lock ------------------------------------------------------------------------


@contextmanager
def lock(folder: str, lock_folder: str, seconds: float | None = None) -> Iterator[None]:
    """Hold the lock of the bpffs of a folder. Raises Busy after `seconds` (default LOCK_SECONDS).

    The lock is a file of root in `lock_folder`, named by the device number of the bpffs. A lock on the mount point
    would be in reach of other users: flock(2) needs read access only, and `mount -t bpf` gives the mode 1777.
    Release 0.1 locked the mount point. Where only root can open that, it is held besides, so that a process of 0.1
    waits during an upgrade.
    """
    mount_point, patience = _mount_point(folder), LOCK_SECONDS if seconds is None else seconds
    found = os.stat(mount_point)
    name = f"bpffs-{os.major(found.st_dev)}-{os.minor(found.st_dev)}.lock"
    with ExitStack() as held:
        held.enter_context(lock_file(f"{lock_folder}/{name}", patience))
        if not found.st_mode & OPEN_TO_OTHERS:
            held.enter_context(hold(mount_point, patience))
        yield


# ---- owners ----------------------------------------------------------------------------


def refuse_foreign(folder: str) -> None:
    """Raise Conflict if another user than root could replace a pin in a folder. See foreign_parts()."""
    faults = foreign_parts(folder)
    if faults:
        raise Conflict(f"{'; '.join(faults)}; nothing was changed")


def foreign_parts(folder: str) -> list[str]:
    """Return a sentence for each part of the way from the mount point to a folder that another user could replace.

    The owner of a folder, and each user who may write to it, can rename its entries. With the sticky bit only the owner
    of the folder or of the entry can (inode(7)). So each part must belong to root. A folder above may be writable by
    others if it has the sticky bit. The folder itself may not: a new name in it can be a marker. A missing part is no
    fault: make_folder() looks again.
    """
    path = os.path.abspath(folder)
    return [fault for part in _way(path) for fault in [_fault_of(part, os.lstat(part), part != path)] if fault]


def _fault_of(path: str, found: os.stat_result, is_above: bool) -> str:
    """Return the fault of one part, or ""."""
    if found.st_uid not in (ROOT, os.geteuid()):
        return (
            f"expected {path} to belong to root, got uid {found.st_uid}, which could replace the pins below it: look"
            f" at it, remove it as root (`rm -r {path}`), or use another pin_dir"
        )
    is_safe = stat.S_ISLNK(found.st_mode) or not found.st_mode & WRITABLE_BY_OTHERS
    if is_safe or (is_above and found.st_mode & stat.S_ISVTX):
        return ""
    return (
        f"expected {path} to be writable by root alone, got mode {stat.S_IMODE(found.st_mode):04o}: another user could"
        f" replace the pins below it; run `chmod go-w {path}`"
    )


def _way(path: str) -> list[str]:
    """Return the existing parts from the mount point to a folder, and the folders in it, which have pins too."""
    mount_point, way = _mount_point(path), _parents(path)
    if mount_point in way:
        way = way[way.index(mount_point) :]
    with suppress(OSError):
        way += [entry.path for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
    return [part for part in way if os.path.lexists(part)]


# ---- names -------------------------------------------------------------------------------


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


def folders_with(name: str, folder: str) -> list[str]:
    """Return the other folders in the bpffs of a folder that have an entry of this name."""
    found = []
    for path, _folders, files in os.walk(_mount_point(folder)):
        if name in files and os.path.abspath(folder) != path:
            found.append(path)
    return found


def number(path: str) -> int | None:
    """Return the inode number of a pin, or None without such a pin. Raises KernelRefused.

    Another object that is pinned at the same path has another number.
    """
    with kernel_refusals("look at", path), suppress(FileNotFoundError):
        return os.stat(path).st_ino
    return None


def make_folder(folder: str) -> None:
    """Make a folder and the missing ones above it, with access for root only. Raises KernelRefused, Conflict.

    Another user may make one of them first where the mount point has mode 1777.
    """
    missing = [path for path in _parents(folder) if not os.path.lexists(path)]
    for path in missing:
        with kernel_refusals("make folder", path), suppress(FileExistsError):
            os.mkdir(path, FOLDER_MODE)
    refuse_foreign(folder)


def _parents(folder: str) -> list[str]:
    """Return a folder and all above it, the uppermost first."""
    parents = [os.path.abspath(folder)]
    while os.path.dirname(parents[0]) != parents[0]:
        parents.insert(0, os.path.dirname(parents[0]))
    return parents


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
