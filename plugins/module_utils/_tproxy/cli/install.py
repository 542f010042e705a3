# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The operation of tproxy_cli: it builds the command line on the router, from the files that the module came with.

It imports the whole command line, because Ansible ships the files that a module imports.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

from ..errors import Conflict, InvalidInput
from ..operations.execute import execute
from ..resources.operation import Diff, Operation, Options, Result
from ..system.system import System
from . import main
from .zipapp import executable, fingerprint, is_executable

if TYPE_CHECKING:
    from importlib.abc import ResourceLoader

MODE = 0o755
LINKS = ("map_update", "map_delete_elem")


def install(options: Options, system: System, check: bool) -> Result:
    """Install or remove the command line. Return the result of tproxy_cli.

    Raise Conflict, before any change, if a foreign file has the place of one of ours.
    """
    path, present = options["path"], options["state"] == "present"
    if not os.path.basename(path):
        raise InvalidInput([f"path: {path!r} names a folder; give the file's name too, as {main.NAME}"])
    files, target = system.files, os.path.basename(path)
    places = [os.path.join(os.path.dirname(path), name) for name in LINKS]
    content = executable(_source, files.exists, options["pin_dir"]) if present else b""
    before = _State(system, path, places)
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
                undo.callback(before.put_back, system)
                files.write_bytes(path, content, MODE)
            for place in links:
                files.link(place, target)
                undo.callback(files.remove, place)
            for place in gone:
                files.remove(place)
                undo.callback(files.link, place, target)
            if removes:
                files.remove(path)
            undo.pop_all()
    after = content if present else None if removes else before.content
    links_after = {**before.links, **dict.fromkeys(links, target), **dict.fromkeys(gone)}
    data = {
        "file": path,  # Ansible would add facts about a `path`
        "fingerprint": fingerprint(content) if present else "",
        "bytes": len(content),
        "links": wanted,
    }
    changed = bool(writes or links or gone or removes)
    return Result(changed, data, Diff(before.text(), _text(path, after, links_after)))


class _State:
    """The files at the path and at the places of the links."""

    def __init__(self, system: System, path: str, places: list[str]) -> None:
        files = system.files
        self.path, self.content = path, files.read_bytes(path)
        self.links = {place: files.target_of(place) for place in places}
        self._mode = files.mode_of(path)

    def is_same(self, content: bytes) -> bool:
        """Return whether the file has the same parts and can be executed."""
        return self.content is not None and self._mode == MODE and fingerprint(self.content) == fingerprint(content)

    @property
    def is_ours(self) -> bool:
        """Return whether the file at the path is a tproxy-splicer."""
        return self.content is not None and is_executable(self.content)

    def refuse_foreign(self, target: str, wanted: list[str]) -> None:
        """Raise Conflict if foreign files have our places. The message names all of them."""
        foreign = [place for place in wanted if self.links[place] not in (None, target)]
        if self.content is not None and not self.is_ours:
            foreign.append(self.path)
        if foreign:
            advice = "remove it, or set another path or links: false; nothing was changed"
            raise Conflict(f"{' and '.join(foreign)} is a foreign file: {advice}")

    def put_back(self, system: System) -> None:
        """Restore the file at the path."""
        files = system.files
        if self.content is None or self._mode is None:
            files.remove(self.path)
        else:
            files.write_bytes(self.path, self.content, self._mode)

    def text(self) -> str:
        """Return one side of the diff."""
        return _text(self.path, self.content, self.links)


def _text(path: str, content: bytes | None, links: Mapping[str, str | None]) -> str:
    lines = [] if content is None else [f"{path}: made of {fingerprint(content)}\n"]
    return "".join([*lines, *(f"{place} -> {target}\n" for place, target in links.items() if target is not None)])


def _source(module: str) -> bytes:
    """Return the source of a module of this package, from a folder or from the archive that Ansible sends.

    Raise OSError if there is no such module.
    """
    loader = cast("ResourceLoader", __spec__ and __spec__.loader)
    return loader.get_data(os.path.join(os.path.dirname(os.path.dirname(__file__)), f"{module}.py"))


INSTALL = Operation("tproxy_cli", install, execute)
