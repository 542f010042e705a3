# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Adapter to ordinary files: read, written as a whole, removed; and the lock on their folder.

A text is UTF-8. Each function raises KernelRefused unless its docstring says otherwise.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..errors import Busy, KernelRefused, kernel_refusals

LOCK_SECONDS = 120.0
POLL_SECONDS = 0.05
PRIVATE_FOLDER, PUBLIC_FOLDER = 0o700, 0o755
FILE_MODE = 0o600
READ_BY_OTHERS = 0o004


# ---- contents ----------------------------------------------------------------------


def read(path: str) -> str | None:
    """Return the text of a file, or None without such a file. U+FFFD replaces bytes that are not UTF-8."""
    content = read_bytes(path)
    return content if content is None else content.decode(errors="replace")


def read_bytes(path: str) -> bytes | None:
    """Return the content of a file, or None without such a file."""
    with kernel_refusals("read", path), suppress(FileNotFoundError), open(path, "rb") as file:
        return file.read()
    return None


def write(path: str, text: str) -> None:
    """Write a text as a whole, with access for root only."""
    write_bytes(path, text.encode(), FILE_MODE)


def write_bytes(path: str, content: bytes, mode: int) -> None:
    """Write a file as a whole: a reader finds the old contents or the new ones, before and after a crash.

    A missing folder is created. It is private unless all users may read the file.
    """
    aside = f"{path}.new"
    try:
        _make_folder(os.path.dirname(path), PUBLIC_FOLDER if mode & READ_BY_OTHERS else PRIVATE_FOLDER)
        _write_and_sync(aside, content, mode)
        os.rename(aside, path)
        _sync_folder(os.path.dirname(path))
    except OSError as refusal:
        with suppress(OSError):
            os.unlink(aside)
        raise KernelRefused.of(refusal, "write", path) from refusal


def _make_folder(folder: str, mode: int) -> None:
    """Create a folder with exactly this mode, and its missing parents with PUBLIC_FOLDER. The umask has no effect."""
    if not folder or os.path.isdir(folder):
        return
    _make_folder(os.path.dirname(folder), PUBLIC_FOLDER)
    with suppress(FileExistsError):  # another run created it
        os.mkdir(folder, PRIVATE_FOLDER)
        os.chmod(folder, mode)


def _write_and_sync(path: str, content: bytes, mode: int) -> None:
    """Write a new file. An existing one is from a killed run, or a trap of another user, so it is removed first."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)


def _sync_folder(folder: str) -> None:
    """Write the names of a folder to the disk. A rename is not durable before that (fsync(2))."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- names -------------------------------------------------------------------------


def remove(path: str, with_folder: bool = False) -> bool:
    """Remove a file, and with `with_folder` its folder if that is empty then. Return whether the file existed."""
    try:
        os.unlink(path)
        _sync_folder(os.path.dirname(path))
    except FileNotFoundError:
        return False
    except OSError as refusal:
        raise KernelRefused.of(refusal, "remove", path) from refusal
    if with_folder:
        with suppress(OSError):
            os.rmdir(os.path.dirname(path))
    return True


def exists(path: str) -> bool:
    """Return whether a file exists."""
    return os.path.exists(path)


def is_regular(path: str) -> bool:
    """Return whether a regular file exists. To read another kind may block."""
    return os.path.isfile(path)


def mode_of(path: str) -> int | None:
    """Return the permission bits of a file, or None without such a file."""
    with kernel_refusals("look at", path), suppress(FileNotFoundError):
        return os.stat(path).st_mode & 0o7777
    return None


def changed_at(path: str) -> int | None:
    """Return the time of the last change of a file, in ns since 1970, or None without such a file."""
    with kernel_refusals("look at", path), suppress(FileNotFoundError):
        return os.stat(path).st_mtime_ns
    return None


def target_of(path: str) -> str | None:
    """Return the target of a symbolic link, "" for another kind of file, or None without such a file."""
    if not os.path.lexists(path):
        return None
    return os.readlink(path) if os.path.islink(path) else ""


def link(path: str, target: str) -> None:
    """Make a symbolic link, and its folder if that is missing. It never replaces an existing file."""
    with kernel_refusals("link", path):
        _make_folder(os.path.dirname(path), PUBLIC_FOLDER)
        os.symlink(target, path)


def names(folder: str) -> list[str]:
    """Return the sorted names in a folder; [] without such a folder."""
    with kernel_refusals("list", folder), suppress(FileNotFoundError, NotADirectoryError):
        return sorted(os.listdir(folder))
    return []


# ---- locks -------------------------------------------------------------------------


@contextmanager
def lock(folder: str, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock of a folder. A missing folder needs no lock. Raises Busy after `seconds`."""
    if os.path.isdir(folder):
        with hold(folder, seconds):
            yield
    else:
        yield


@contextmanager
def hold(folder: str, seconds: float) -> Iterator[None]:
    """Hold the lock of an existing folder (flock(2)). Raises Busy if another run holds it for over `seconds`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _acquire(descriptor, folder, seconds, seconds)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def lock_file(path: str, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock of a file that root alone can open; it is created. Raises Busy as hold() does, KernelRefused.

    Its folder becomes private. A file of another user is from a time when the folder was not, so it is removed.
    """
    deadline = time.monotonic() + seconds
    while True:
        with kernel_refusals("open the lock", path):
            descriptor = _open_lock(path)
        try:
            _acquire(descriptor, path, deadline - time.monotonic(), seconds)
            if _is_at(path, descriptor):
                yield
                return
        finally:
            os.close(descriptor)


def _open_lock(path: str) -> int:
    folder = os.path.dirname(path)
    _make_folder(folder, PRIVATE_FOLDER)
    if os.stat(folder).st_mode & 0o077:
        os.chmod(folder, PRIVATE_FOLDER)
    with suppress(FileNotFoundError):
        if os.lstat(path).st_uid != os.geteuid():
            os.unlink(path)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)


def _is_at(path: str, descriptor: int) -> bool:
    """Return whether an open file is still the one at its path. Another run may have removed or replaced it."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _acquire(descriptor: int, folder: str, patience: float, seconds: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Busy(
                    f"another run holds {folder} for over {seconds:g} s; find it with `fuser {folder}`"
                ) from None
            time.sleep(POLL_SECONDS)


@contextmanager
def show_running(path: str) -> Iterator[None]:
    """Hold a shared lock of a file, so that other processes see by is_shown() that this one runs.

    The kernel releases the lock with the process. On a disk without room the process runs unseen.
    """
    descriptor = -1
    with suppress(OSError):
        _make_folder(os.path.dirname(path), PRIVATE_FOLDER)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    try:
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def is_shown(path: str) -> bool:
    """Return whether a process runs within show_running(). A file without its process does not count."""
    with kernel_refusals("open", path), suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False
