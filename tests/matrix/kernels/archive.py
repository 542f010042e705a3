# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cpio archive in the "newc" format (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst).

The kernel unpacks one archive after the other from one initrd, so an archive is a list of parts that are simply joined.
"""

from __future__ import annotations

import importlib.util
import marshal
import pathlib
import stat
import warnings

DIRECTORY, FILE, LINK = stat.S_IFDIR | 0o755, stat.S_IFREG, stat.S_IFLNK | 0o777
ALIGNMENT = 4
UNCHECKED_HASH = 1  # PEP 552: such a .pyc is valid whatever became of its source


class Archive:
    """An archive that grows file by file, each folder before its files. All belongs to root."""

    def __init__(self):
        self._chunks, self._folders = [], {"/", "."}

    def add(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Add a file; a Python source is joined by its bytecode, which takes an emulated processor long to make."""
        self._make_room(path)
        self._entry(path, FILE | mode, data)
        if path.endswith(".py"):
            self._add_bytecode(path, data)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self._make_room(path)
        self._entry(path, LINK, target.encode())

    def folder(self, path: str) -> None:
        """Add a folder and those above it."""
        self._make_room(f"{path}/anything")

    def closed(self) -> bytes:
        """Return the whole archive."""
        self._entry("TRAILER!!!", 0, b"")
        return b"".join(self._chunks)

    def _make_room(self, path: str) -> None:
        for above in reversed(pathlib.PurePosixPath(path).parents):
            if str(above) not in self._folders:
                self._folders.add(str(above))
                self._entry(str(above), DIRECTORY, b"")

    def _add_bytecode(self, path: str, source: bytes) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                code = compile(source, path, "exec", dont_inherit=True)
            except (SyntaxError, ValueError):  # some libraries carry templates
                return
        head = importlib.util.MAGIC_NUMBER + UNCHECKED_HASH.to_bytes(4, "little") + bytes(8)
        kept = importlib.util.cache_from_source(path)
        self._make_room(kept)
        self._entry(kept, FILE | 0o644, head + marshal.dumps(code))

    def _entry(self, path: str, mode: int, data: bytes) -> None:
        name = path.lstrip("/").encode() + b"\0"
        # inode, mode, uid, gid, links, mtime, size, four device numbers, length of the name, checksum (unused)
        fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
        self._chunks += [_padded(head), _padded(data)]


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)
