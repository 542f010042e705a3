# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The story of tproxy_cli: the command line is assembled on the router, out of the rooms that the module came with.

It belongs to the shell, since it must carry the whole command line: Ansible ships what a module imports.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack

from ..errors import Conflict, InvalidInput
from ..system.system import System
from . import main
from .zipapp import executable, fingerprint, is_executable

MODE = 0o755
LINKS = ("map_update", "map_delete_elem")


def install(options: Mapping, system: System, check: bool) -> dict:
    """Install the command line or remove it. Returns what tproxy_cli returns.

    Raises Conflict where something stands that is not ours; then nothing was changed.
    """
    path, present = options["path"], options["state"] == "present"
    if not os.path.basename(path):
        raise InvalidInput([f"path: {path!r} names a folder; give the file's name too, as {main.NAME}"])
    door, target = system.files, os.path.basename(path)
    places = [os.path.join(os.path.dirname(path), name) for name in LINKS]
    content = executable(_source, door.exists, options["pin_dir"]) if present else b""
    before = _State(door, path, places)
    wanted = places if present and options["links"] else []
    if present:
        before.refuse_foreign(target, wanted)
    writes = present and not before.is_same(content)
    links = [place for place in wanted if before.links[place] is None]
    gone = [place for place in places if place not in wanted and before.links[place] == target]
    removes = not present and before.is_ours
    if not check:
        with ExitStack() as undo:
            if writes:
                undo.callback(before.restore_table, door)
                door.write_bytes(path, content, MODE)
            for place in links:
                door.link(place, target)
                undo.callback(door.remove, place)
            for place in gone:
                door.remove(place)
                undo.callback(door.link, place, target)
            if removes:
                door.remove(path)
            undo.pop_all()
    after = content if present else None if removes else before.content
    links_after = {**before.links, **dict.fromkeys(links, target), **dict.fromkeys(gone)}
    return {
        "changed": bool(writes or links or gone or removes),
        "file": path,  # Ansible would add facts about a `path`
        "fingerprint": fingerprint(content) if present else "",
        "bytes": len(content),
        "links": wanted,
        "diff": {"before": before.text(), "after": _text(path, after, links_after)},
    }


class _State:
    """What stands at the path, and at the places of its other names."""

    def __init__(self, door, path: str, places: list):
        self.path, self.content = path, door.read_bytes(path)
        self.links = {place: door.target_of(place) for place in places}
        self._mode = door.mode_of(path)

    def is_same(self, content: bytes) -> bool:
        """Whether it is made of the same, and can be run."""
        return self._mode == MODE and fingerprint(self.content) == fingerprint(content)

    @property
    def is_ours(self) -> bool:
        """Whether a tproxy-splicer stands at the path."""
        return self.content is not None and is_executable(self.content)

    def refuse_foreign(self, target: str, wanted: list) -> None:
        """Raise Conflict for each thing in our place that is not ours."""
        foreign = [place for place in wanted if self.links[place] not in (None, target)]
        if self.content is not None and not self.is_ours:
            foreign.append(self.path)
        if foreign:
            advice = "remove it, or give another path or links: false; nothing was changed"
            raise Conflict(f"{' and '.join(foreign)} is not ours: {advice}")

    def restore_table(self, door) -> None:
        """Bring back what stood at the path."""
        if self.content is None:
            door.remove(self.path)
        else:
            door.write_bytes(self.path, self.content, self._mode)

    def text(self) -> str:
        """Return one side of the diff."""
        return _text(self.path, self.content, self.links)


def _text(path: str, content: bytes | None, links: Mapping) -> str:
    lines = [] if content is None else [f"{path}: made of {fingerprint(content)}\n"]
    return "".join([*lines, *(f"{place} -> {target}\n" for place, target in links.items() if target is not None)])


def _source(module: str) -> bytes:
    """Return the source of a module of this package, from a folder or from the archive that Ansible sends.

    Raises OSError when there is no such module.
    """
    return __loader__.get_data(os.path.join(os.path.dirname(os.path.dirname(__file__)), f"{module}.py"))
