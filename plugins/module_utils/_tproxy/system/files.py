# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The door to ordinary files: read, written whole or not at all, removed; and a lock on their folder.

It knows texts and paths, not what they mean. A text is UTF-8.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager, suppress

from ..errors import Busy, KernelRefused

LOCK_SECONDS = 120
PRIVATE_FOLDER, PUBLIC_FOLDER = 0o700, 0o755
FILE_MODE = 0o600
READ_BY_OTHERS = 0o004


def read(path: str) -> str | None:
    """Return a file's text, None where there is no such file. Bytes that are no UTF-8 come as U+FFFD."""
    content = read_bytes(path)
    return content if content is None else content.decode(errors="replace")


def read_bytes(path: str) -> bytes | None:
    """Return what is in a file, None where there is no such file."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as refusal:
        raise KernelRefused(refusal.errno, "read", path) from refusal


def write(path: str, text: str) -> None:
    """Write a text whole, for root alone."""
    write_bytes(path, text.encode(), FILE_MODE)


def write_bytes(path: str, content: bytes, mode: int) -> None:
    """Write a file whole: a reader finds the old contents or the new ones, before and after a crash.

    A missing folder is created. It is private unless all users may read the file.
    """
    aside = f"{path}.new"
    try:
        _make_folder(os.path.dirname(path), PUBLIC_FOLDER if mode & READ_BY_OTHERS else PRIVATE_FOLDER)
        _write_down(aside, content, mode)
        os.rename(aside, path)
        _write_down_folder(os.path.dirname(path))
    except OSError as refusal:
        with suppress(OSError):
            os.unlink(aside)
        raise KernelRefused(refusal.errno, "write", path) from refusal


def remove(path: str, with_folder: bool = False) -> bool:
    """Remove a file, `with_folder` when nothing else is in it; return whether the file was there."""
    try:
        os.unlink(path)
        _write_down_folder(os.path.dirname(path))
    except FileNotFoundError:
        return False
    except OSError as refusal:
        raise KernelRefused(refusal.errno, "remove", path) from refusal
    if with_folder:
        with suppress(OSError):
            os.rmdir(os.path.dirname(path))
    return True


def exists(path: str) -> bool:
    """Whether there is such a file."""
    return os.path.exists(path)


def mode_of(path: str) -> int | None:
    """Return a file's permission bits, None where there is no file."""
    try:
        return os.stat(path).st_mode & 0o7777
    except FileNotFoundError:
        return None
    except OSError as refusal:
        raise KernelRefused(refusal.errno, "look at", path) from refusal


def target_of(path: str) -> str | None:
    """Return what a symbolic link points to, "" for what is no link, None where there is nothing."""
    if not os.path.lexists(path):
        return None
    return os.readlink(path) if os.path.islink(path) else ""


def link(path: str, target: str) -> None:
    """Make a symbolic link where there is nothing."""
    try:
        os.symlink(target, path)
    except OSError as refusal:
        raise KernelRefused(refusal.errno, "link", path) from refusal


@contextmanager
def lock(folder: str, seconds: float = LOCK_SECONDS):
    """Hold a folder, for one run at a time; where there is none, nothing is held. Raises Busy after `seconds`."""
    if os.path.isdir(folder):
        with hold(folder, seconds):
            yield
    else:
        yield


def _make_folder(folder: str, mode: int) -> None:
    """Create a folder with exactly this mode, and its missing parents with PUBLIC_FOLDER, whatever the umask is."""
    if not folder or os.path.isdir(folder):
        return
    _make_folder(os.path.dirname(folder), PUBLIC_FOLDER)
    with suppress(FileExistsError):  # another run created it
        os.mkdir(folder, PRIVATE_FOLDER)
        os.chmod(folder, mode)


def _write_down(path: str, content: bytes, mode: int) -> None:
    """Write a file that is new: what stands there was left by a killed run, or laid there for us to write to."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)


def _write_down_folder(folder: str) -> None:
    """Make the disk know which names a folder has: a rename is not durable before (fsync(2))."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


POLL_SECONDS = 0.05


@contextmanager
def hold(folder: str, seconds: float):
    """Hold a folder. Raises Busy when somebody else holds it for longer than `seconds`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _take(descriptor, folder, seconds)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Busy(
                    f"another run holds {folder} for over {seconds:g} s; find it with `fuser {folder}`"
                ) from None
            time.sleep(POLL_SECONDS)
