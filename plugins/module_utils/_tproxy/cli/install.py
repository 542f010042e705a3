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
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from ..errors import Conflict, InvalidInput
from ..operations.execute import execute
from ..resources.operation import Diff, Operation, Options, Result
from ..system.open_changes import open_for_changes
from ..system.system import System
from . import main
from .zipapp import executable, fingerprint, is_current, is_executable, is_intact

if TYPE_CHECKING:
    from importlib.abc import ResourceLoader

MODE = 0o755
LINKS = ("map_update", "map_delete_elem")


def install(options: Options, system: System, check: bool) -> Result:
    """Install or remove the command line. Return the result of tproxy_cli.

    Raise Conflict, before any change, if a foreign file has the place of one of ours.
    """
    path, present = options["path"], options["state"] == "present"
    planned = plan_install(path, present, present and options["links"], options["pin_dir"], system)
    if not check:
        with ExitStack() as undo:
            planned.apply(system, undo)
            undo.pop_all()
    data = {
        "file": path,  # Ansible would add facts about a `path`
        "fingerprint": fingerprint(planned.content) if present else "",
        "bytes": len(planned.content),
        "links": list(planned.wanted),
    }
    return Result(planned.changed, data, Diff(planned.before, planned.after))


@dataclass(frozen=True)
class InstallPlan:
    """The way from the files at the places of the command line to the wanted ones.

    `wanted` are the links that exist afterwards, `links` those of them to make, `gone` those to remove.
    """

    state: _State
    content: bytes
    wanted: tuple[str, ...]
    writes: bool
    removes: bool
    links: tuple[str, ...]
    gone: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Return whether a file changes."""
        return bool(self.writes or self.links or self.gone or self.removes)

    @property
    def before(self) -> str:
        """Return the files as they are, for a diff."""
        return self.state.text()

    @property
    def after(self) -> str:
        """Return the files as they will be, for a diff."""
        content = self.content if self.writes else None if self.removes else self.state.content
        links = {**self.state.links, **dict.fromkeys(self.links, self.state.target), **dict.fromkeys(self.gone)}
        return _text(self.state.path, content, links)

    def apply(self, system: System, undo: ExitStack) -> None:
        """Write and remove the files. `undo` gets the callbacks that bring the files before back."""
        files, path, target = system.files, self.state.path, self.state.target
        if self.writes:
            undo.callback(self.state.put_back, system)
            files.write_bytes(path, self.content, MODE)
        for place in self.links:
            files.link(place, target)
            undo.callback(files.remove, place)
        for place in self.gone:
            files.remove(place)
            undo.callback(files.link, place, target)
        if self.removes:
            files.remove(path)
            undo.callback(self.state.put_back, system)


def plan_install(path: str, present: bool, with_links: bool, pin_dir: str, system: System) -> InstallPlan:
    """Return the plan of the command line at a path. Raise InvalidInput for a folder, Conflict for a foreign file."""
    if not os.path.basename(path):
        raise InvalidInput([f"path: {path!r} names a folder; give the file's name too, as {main.NAME}"])
    places = [os.path.join(os.path.dirname(path), name) for name in LINKS]
    state = _State(system, path, places)
    wanted = places if with_links else []
    content, writes = b"", False
    if present:
        state.refuse_foreign(wanted)
        have = state.content or b""
        writes = not (state.can_be_run and is_current(have, _source, system.files.exists, pin_dir))
        content = executable(_source, system.files.exists, pin_dir) if writes else have
    return InstallPlan(
        state,
        content,
        tuple(wanted),
        writes=writes,
        removes=not present and state.is_ours,
        links=tuple(place for place in wanted if state.links[place] is None),
        gone=tuple(place for place in places if place not in wanted and state.links[place] == state.target),
    )


class _State:
    """The files at the path and at the places of the links."""

    def __init__(self, system: System, path: str, places: list[str]) -> None:
        files = system.files
        self.path, self.content, self.target = path, files.read_bytes(path), os.path.basename(path)
        self.links = {place: files.target_of(place) for place in places}
        self._mode = files.mode_of(path)

    @property
    def can_be_run(self) -> bool:
        """Return whether the file has the mode of a command."""
        return self._mode == MODE

    @property
    def is_ours(self) -> bool:
        """Return whether the file at the path is a tproxy-splicer."""
        return self.content is not None and is_executable(self.content)

    def refuse_foreign(self, wanted: list[str]) -> None:
        """Raise Conflict if foreign files have our places. The message names all of them."""
        foreign = [place for place in wanted if self.links[place] not in (None, self.target)]
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
    damage = "" if content is None or is_intact(content) else ", with other bytes"
    lines = [] if content is None else [f"{path}: made of {fingerprint(content)}{damage}\n"]
    return "".join([*lines, *(f"{place} -> {target}\n" for place, target in links.items() if target is not None)])


def _source(module: str) -> bytes:
    """Return the source of a module of this package, from a folder or from the archive that Ansible sends.

    Raise OSError if there is no such module.
    """
    loader = cast("ResourceLoader", __spec__ and __spec__.loader)
    return loader.get_data(os.path.join(os.path.dirname(os.path.dirname(__file__)), f"{module}.py"))


INSTALL = Operation("tproxy_cli", install, execute, opens=open_for_changes)
