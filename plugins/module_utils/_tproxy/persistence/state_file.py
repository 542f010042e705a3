# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The story of tproxy_state: what is in force goes to a file, whole, from which a boot puts it back.

1. While the file exists, each run that changed something saves anew, before anybody else has a turn (run_and_save).
2. Only what lasts is saved: no rule of a service, nothing that waits for a confirmation.
3. What the kernel has lost behind our back (an interface that is gone, a filter deleted by hand) stays in the file.
4. With fail_closed a second file says which interfaces to close should the first be unreadable.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace

from ..constants import RUN_DIR, STATE_FILE
from ..errors import LayoutMismatch, TproxyError
from ..model.saved_state import (
    FAIL_CLOSED,
    SavedState,
    body_of,
    decode_closed,
    decode_state,
    encode_closed,
    encode_state,
    lines_of,
    merge_lost,
    persistent,
    state_of,
    verify_checksum,
)
from ..resources.lock import lock_for_change
from ..resources.observe import observe_state
from ..resources.pending import pending_change
from ..system.system import System

# There while the file is older than what is in force, because it could not be written or is being written.
UNSAVED = f"{RUN_DIR}/unsaved"
KILLED = "a run was killed before it had saved what it had changed"


def closed_path(path: str) -> str:
    """Return where the interfaces to close are listed, for a state file."""
    return f"{os.path.dirname(path)}/closed.json"


def state_file_lock(system: System):
    """Hold the folder of the state file: between a change and its saving the file is older than what is in force."""
    return system.files.lock(os.path.dirname(STATE_FILE))


def refresh_state_file(pin_dir: str, left: list, system: System) -> list:
    """Write the state file anew; return what must be said about it."""
    files = system.files
    try:
        had, warnings = read_state(files.read(STATE_FILE), STATE_FILE)
        if had is None or had.pin_dir != pin_dir:
            return warnings
        cache = None if files.exists(UNSAVED) else had
        with suppress(TproxyError):  # there may be room on the disk all the same
            files.write(UNSAVED, KILLED)
        state = state_to_save(pin_dir, had.failure, system, cache, left)
        write_texts(
            system, {name: files.read(name) for name in state_texts(had, STATE_FILE)}, state_texts(state, STATE_FILE)
        )
        files.remove(UNSAVED, True)
        return warnings
    except TproxyError as fault:
        return [_stale(files, fault)]


def _stale(files, fault: TproxyError) -> str:
    """Note that the file is stale; return the warning."""
    note = f"{fault}. What was asked is in force, but not in {STATE_FILE}: a reboot would bring back what was before"
    try:
        files.write(UNSAVED, note)
    except TproxyError as second:
        note = f"{note} ({second})"
    return f"{note}; remedy that, then run tproxy_state"


def read_state(text: str | None, path: str) -> tuple:
    """Return (the state that a file holds or None, warnings)."""
    if text is None:
        return None, []
    try:
        return decode_state(text), []
    except TproxyError as fault:
        return None, [f"{path}: {fault}; what it held is lost, save anew with tproxy_state"]


def state_to_save(pin_dir: str, failure: str, system: System, had: SavedState | None, left: list = ()) -> SavedState:
    """Return what is in force and lasts. Raises LayoutMismatch when the program could not be loaded from it."""
    with lock_for_change(system, pin_dir, True, mount=False), system.netlink() as netlink:
        state = persistent(replace(observe_state(system, netlink, pin_dir), failure=failure))
    if had is not None and had.pin_dir == pin_dir:
        state = merge_lost(state, had, left)
    if state.attachments and not state.blob:
        raise LayoutMismatch(
            f"no blob is kept beside the program pinned under {pin_dir}, so no boot could load it: run tc_bpf_attach"
            " again, which keeps one"
        )
    return state


def state_texts(state: SavedState | None, path: str) -> dict:
    """Return {path: text or None} of the files that hold a state."""
    closed = encode_closed(state) if state and state.failure == FAIL_CLOSED else None
    return {path: encode_state(state) if state else None, closed_path(path): closed}


def write_texts(system: System, before: Mapping, after: Mapping) -> None:
    """Bring the files from one set of texts to the other, or back."""
    with ExitStack() as undo:
        for path in sorted(after):
            if after[path] != before[path]:
                undo.callback(_write_one, system, path, before[path])
                _write_one(system, path, after[path])
        undo.pop_all()


def _write_one(system: System, path: str, text: str | None) -> None:
    if text is None:
        system.files.remove(path, True)
    else:
        system.files.write(path, text)


def text_of_state(state: SavedState | None) -> str:
    return "".join(f"{line}\n" for line in lines_of(state))


def saved_drift(system: System, netlink, pin_dir: str) -> list:
    """Return [(word, who)]; [] where no state is kept for this pin folder, or a change waits for its confirmation."""
    text = system.files.read(STATE_FILE)
    if text is None:
        return []
    try:
        body = verify_checksum(text)
        had = state_of({**body, "rules": []})  # they are compared as they stand: to parse them takes seconds
        if had.failure == FAIL_CLOSED:
            decode_closed(system.files.read(closed_path(STATE_FILE)) or "")
    except TproxyError as fault:
        return [("state_damaged", str(fault))]
    if had.pin_dir != pin_dir or pending_change(system, pin_dir) is not None:
        return []
    if system.files.exists(UNSAVED):
        return [("state_stale", "the last change could not be saved")]
    now = merge_lost(persistent(replace(observe_state(system, netlink, pin_dir), failure=had.failure)), had)
    parts = _other_parts(had, now) + (["rules"] if body["rules"] != body_of(now)["rules"] else [])
    return [("state_stale", ", ".join(parts))] if parts else []


def _other_parts(had: SavedState, now: SavedState) -> list:
    """Return in words what of two states differs, but for rules. Addresses that follow the interface's may."""
    follows = {entry.interface for entry in had.attachments if entry.follows}
    saved, stands = (
        {
            entry.interface: entry._replace(addresses=None, follows=True) if entry.interface in follows else entry
            for entry in state.attachments
        }
        for state in (had, now)
    )
    names = sorted({*saved, *stands})
    parts = [f"the attachment of {name}" for name in names if saved.get(name) != stands.get(name)]
    parts += ["the program"] if had.blob != now.blob else []
    return parts + (["routes"] if had.routes != now.routes else [])
