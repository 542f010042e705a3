# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The story of tproxy_cli: these very rooms, as one executable file for the router.

It belongs to the shell, since the file holds the shell of the command line, too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from . import _cli  # so that a module of Ansible brings along what the file holds
from ._doors import Doors
from ._zipapp import executable, fingerprint

MODE = 0o755


def install(options: Mapping, doors: Doors, check: bool) -> dict:
    """Write or remove the executable. Returns what tproxy_cli returns."""
    path = options["path"]
    want = executable(_source) if options["state"] == "present" else None
    had = doors.files.read_bytes(path)
    before, after = (content and fingerprint(content) for content in (had, want))
    if before != after and not check:
        if want is None:
            doors.files.remove(path)
        else:
            doors.files.write_bytes(path, want, MODE)
    return {
        "changed": before != after,
        "file": path,  # Ansible would add facts about a `path`
        "fingerprint": after,
        "diff": {"before": f"{before or 'no such file'}\n", "after": f"{after or 'no such file'}\n"},
    }


def _source(room: str) -> bytes:
    """Return the source of a room, which may lie in the archive that Ansible sends."""
    return _cli.__spec__.loader.get_data(os.path.join(os.path.dirname(_cli.__file__), f"{room}.py"))
