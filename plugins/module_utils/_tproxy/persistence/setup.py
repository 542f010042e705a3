# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The files that make a state last: unit files, the links that enable them, and the state file.

The plan reads files only. Processes of systemd start when something differs, and only then.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple, Union

from ..constants import (
    BOOT_UNIT,
    HELPER_SOCKET,
    HELPER_SOCKET_UNIT,
    METRICS_TIMER,
    RUN_DIR,
    STATE_FILE,
    UNIT_FOLDER,
    UNSAVED,
    WATCH_UNIT,
)
from ..errors import TproxyError
from ..model.saved_state import state_of, verify_checksum
from ..resources.current_state import CurrentState
from ..system.system import System
from .metrics_units import METRICS_UNIT, MetricsUnits, installed_metrics
from .state_file import (
    REFUSED_STATE,
    closed_path,
    forget_unsaved,
    newest_state,
    read_state,
    saved_drift,
    state_texts,
    state_to_save,
    write_texts,
)
from .units import HELPER_UNIT, INTERFACE_UNIT, helper_units, instance_of, persistence_units

UNIT_MODE = 0o644


class File(NamedTuple):
    """A unit file with this text."""

    text: str


class LinkTo(NamedTuple):
    """A symbolic link."""

    target: str


Wanted = Mapping[str, Union[File, LinkTo, None]]  # by path; None: no file


@dataclass(frozen=True)
class UnitPlan:
    """The way to the wanted unit files and links, and the units to start or to stop then."""

    before: Wanted
    after: Wanted
    starts: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Return whether a file changes, or a unit has to be started."""
        return bool(self._differing() or self.starts)

    def _differing(self) -> list[str]:
        return [path for path in sorted(self.after) if self.before[path] != self.after[path]]

    def lines(self) -> tuple[list[str], list[str]]:
        """Return both sides of the diff: only what changes."""
        sides: tuple[list[str], list[str]] = ([], [])
        for path in self._differing():
            for side, state in zip(sides, (self.before, self.after)):
                side += [_shown(path, state[path])] if state[path] is not None else []
        sides[1].extend(f"{unit}: started" for unit in self.starts)
        return sides

    def stop(self, system: System) -> None:
        """Stop the units that must not act on what is removed next."""
        for unit in self.stops:
            system.services.stop(unit)

    def write(self, system: System, undo: ExitStack) -> None:
        """Write and remove the files. `undo` gets the callbacks that bring the files before back."""
        for path in self._differing():
            undo.callback(_put, system, path, self.before[path])
            _put(system, path, self.after[path])

    def start(self, system: System) -> None:
        """Make systemd read the files, and start the units."""
        if self._differing():
            system.services.reload()
        for unit in self.starts:
            system.services.start(unit)


def _shown(path: str, entry: File | LinkTo | None) -> str:
    if isinstance(entry, LinkTo):
        return f"{path} -> {entry.target}"
    return f"{path}: {hashlib.sha256((entry.text if entry else '').encode()).hexdigest()[:12]}"


def _put(system: System, path: str, entry: File | LinkTo | None) -> None:
    files = system.files
    if isinstance(entry, File):
        files.write_bytes(path, entry.text.encode(), UNIT_MODE)
        return
    # An empty folder of links goes with its last one.
    files.remove(path, os.path.dirname(path).startswith(f"{UNIT_FOLDER}/"))
    if isinstance(entry, LinkTo):
        files.link(path, entry.target)


# ---- plan ----------------------------------------------------------------------------------------


def plan_units(
    system: System,
    interfaces: Iterable[str] | None,
    helper_group: str | None,
    metrics: MetricsUnits | None,
    program_is_new: bool,
) -> UnitPlan:
    """Return the plan of the units.

    `interfaces` are those whose state is restored; None: no state is saved. `helper_group` "" removes the helper, None
    leaves it alone. `metrics` without a folder removes their units, None leaves them alone. `program_is_new`: the
    command line changes, so units that run it start again.
    """
    texts: dict[str, str | None] = {}
    enabled: list[str] = []
    if interfaces is None:
        texts.update(dict.fromkeys(persistence_units()))
    else:
        texts.update(persistence_units())
        enabled += [BOOT_UNIT, WATCH_UNIT, *map(instance_of, sorted(interfaces))]
    if helper_group:
        texts.update(helper_units(helper_group))
        enabled += [HELPER_SOCKET_UNIT]
    elif helper_group is not None:
        texts.update(dict.fromkeys((HELPER_UNIT, HELPER_SOCKET_UNIT)))
    if metrics is not None:
        texts.update(metrics.texts())
        enabled += [METRICS_TIMER] if metrics.folder else []
    wanted: dict[str, File | LinkTo | None] = {
        f"{UNIT_FOLDER}/{name}": None if text is None else File(text) for name, text in texts.items()
    }
    wanted.update(dict.fromkeys(_links_of(system, texts)))
    if metrics is not None:
        wanted.update(dict.fromkeys(_abandoned_metrics(system, metrics)))
    for name in enabled:
        wanted.update(_enabling(name, texts))
    have = {path: _found(system, path) for path in wanted}
    return UnitPlan(have, wanted, *_starts_and_stops(system, texts, have, wanted, program_is_new))


def _abandoned_metrics(system: System, metrics: MetricsUnits) -> list[str]:
    """Return the file of a folder that gets no metrics any more: node_exporter would serve its values for ever."""
    installed = installed_metrics(system)
    return [installed.file] if installed.folder and installed.folder != metrics.folder else []


def _links_of(system: System, units: Iterable[str]) -> list[str]:
    """Return the links that enable these units or instances of them now."""
    named = re.compile("|".join(re.escape(name).replace("@", "@.*") for name in units))
    folders = [name for name in system.files.names(UNIT_FOLDER) if name.endswith((".wants", ".requires"))]
    return [
        f"{UNIT_FOLDER}/{folder}/{name}"
        for folder in folders
        for name in system.files.names(f"{UNIT_FOLDER}/{folder}")
        if named.fullmatch(name)
    ]


def _enabling(unit: str, texts: Mapping[str, str | None]) -> dict[str, LinkTo]:
    """Return the links that enable a unit, as `systemctl enable` makes them from its section Install."""
    template = INTERFACE_UNIT if unit.startswith(INTERFACE_UNIT.partition(".")[0]) else unit
    instance = unit.partition("@")[2].rpartition(".")[0]
    found = {}
    for kind, word in (("wants", "WantedBy"), ("requires", "RequiredBy")):
        for line in re.findall(rf"(?m)^{word}=(.*)$", texts[template] or ""):
            for target in line.replace("%i", instance).split():
                found[f"{UNIT_FOLDER}/{target}.{kind}/{unit}"] = LinkTo(f"{UNIT_FOLDER}/{template}")
    return found


def _found(system: System, path: str) -> File | LinkTo | None:
    """Return the file or the link at a path."""
    target = system.files.target_of(path)
    if target is None:
        return None
    if target:
        return LinkTo(target)
    return File((system.files.read_bytes(path) or b"").decode(errors="replace"))


def _starts_and_stops(
    system: System, texts: Mapping[str, str | None], have: Wanted, wanted: Wanted, program_is_new: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the units to start and those to stop. A unit whose text or program changes starts anew."""
    starts, stops = [], []
    for watched, others in (
        (WATCH_UNIT, ()),
        (HELPER_SOCKET_UNIT, (HELPER_UNIT,)),
        (METRICS_TIMER, (METRICS_UNIT,)),
    ):
        names = [name for name in (watched, *others) if name in texts]
        paths = [f"{UNIT_FOLDER}/{name}" for name in names]
        differs = any(have[path] != wanted[path] for path in paths)
        known = [name for name, path in zip(names, paths) if have[path] is not None]
        if not names:
            continue
        if texts[watched] is None:
            stops += known
        elif differs or program_is_new:
            stops += known
            starts.append(watched)
        elif system.services.is_present() and not _is_active(system, watched):
            starts.append(watched)
    return tuple(starts), tuple(stops)


def _is_active(system: System, unit: str) -> bool:
    """Return whether a unit is active. Sockets and timers run no process, so systemd exports no invocation of them."""
    if unit == HELPER_SOCKET_UNIT:
        return system.processes.listens(HELPER_SOCKET)
    if unit == METRICS_TIMER:
        return system.files.exists(installed_metrics(system).file)
    return system.services.is_active(unit)


# ---- state file ----------------------------------------------------------------------------------


def is_saved(current: CurrentState, pin_dir: str, failure: str) -> bool:
    """Return whether the state file has the state in force, with this failure policy. Rules are not parsed."""
    files = current.system.files
    text = files.read(STATE_FILE)
    if text is None or files.exists(UNSAVED):
        return False
    try:
        had = state_of({**verify_checksum(text), "rules": []})
    except TproxyError:
        return False
    return (had.pin_dir, had.failure) == (pin_dir, failure) and not saved_drift(current, pin_dir)


def save(pin_dir: str, failure: str, system: System, released: Iterable[str]) -> list[str]:
    """Save the state in force. Return warnings. Raises TproxyError."""
    files, paths = system.files, (STATE_FILE, closed_path(STATE_FILE))
    had, warnings = read_state(files.read(STATE_FILE), STATE_FILE)
    trusted = newest_state(files, had)
    state = state_to_save(pin_dir, failure, system, trusted, released)
    write_texts(system, {path: files.read(path) for path in paths}, state_texts(state, STATE_FILE))
    forget_unsaved(files)
    return warnings


def forget(system: System, undo: ExitStack) -> None:
    """Remove the saved state. `undo` gets the callbacks that bring it back."""
    files = system.files
    for path in (STATE_FILE, closed_path(STATE_FILE), UNSAVED, REFUSED_STATE, closed_path(REFUSED_STATE)):
        text = files.read(path)
        if text is not None:
            undo.callback(files.write, path, text)
            files.remove(path, True)


def saved_failure(system: System, pin_dir: str) -> str | None:
    """Return the failure policy of the saved state of a pin folder, or None where none is saved or it is damaged."""
    text = system.files.read(STATE_FILE)
    try:
        body = verify_checksum(text) if text is not None else None
    except TproxyError:
        return None
    return body["failure"] if body and body["pin_dir"] == pin_dir else None


def runtime_files(system: System) -> list[str]:
    """Return the files of ours below /run that end with the last of our state: records and the helper's socket.

    Locks stay. A process that opened one before its removal would not exclude a later process.
    """
    found = [f"{RUN_DIR}/{name}" for name in system.files.names(RUN_DIR) if not name.endswith(".lock")]
    return found + ([HELPER_SOCKET] if system.files.exists(HELPER_SOCKET) else [])
