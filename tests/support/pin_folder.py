# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder of the test's own in bpffs, which is cleared and removed only if it is still the folder that was made."""

from __future__ import annotations

import os
import shutil
import tempfile


class NotOurs(AssertionError):
    """The path leads to a folder that this test did not make."""


class PinFolder:
    """A new folder. A test may remove or replace it, and may set `path` by mistake."""

    def __init__(self, parent: str = "/sys/fs/bpf") -> None:
        self.path = tempfile.mkdtemp(prefix="tproxy_test_", dir=parent)
        # While it is open, the kernel gives its inode number to no other file.
        self._made = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    @classmethod
    def adopt(cls, path: str) -> PinFolder:
        """Return a folder that the product made at a path that the test chose."""
        found = cls.__new__(cls)
        found.path, found._made = path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return found

    def clear(self) -> None:
        """Remove everything in the folder. Raise NotOurs if the test did not make the folder at this path."""
        if not os.path.lexists(self.path):
            return
        if not os.path.samestat(os.lstat(self.path), os.fstat(self._made)):
            raise NotOurs(f"{self.path} is not the folder that this test made; nothing was removed")
        for entry in os.scandir(self.path):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)

    def remove(self) -> None:
        """Remove the folder and everything in it. Raise NotOurs as clear() does."""
        try:
            self.clear()
            if os.path.lexists(self.path):
                os.rmdir(self.path)
        finally:
            os.close(self._made)
