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
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace

from ._doors import Doors, turn
from ._errors import LayoutMismatch, TproxyError
from ._snapshot import take
from ._splicer import RUN_DIR, STATE_FILE
from ._state import (
    FAIL_CLOSED,
    SavedState,
    decode_state,
    encode_closed,
    encode_state,
    lasting,
    lines_of,
    with_what_is_missing,
)

# There while the file is older than what is in force, because it could not be written or is being written.
UNSAVED = f"{RUN_DIR}/unsaved"
KILLED = "a run was killed before it had saved what it had changed"


def closed_path(path: str) -> str:
    """Return where the interfaces to close are listed, for a state file."""
    return f"{os.path.dirname(path)}/closed.json"


def save_state(options: Mapping, doors: Doors, check: bool) -> dict:
    """Save what is in force, or remove what was saved. Returns what tproxy_state returns."""
    path = options["path"]
    texts = {name: doors.files.read(name) for name in (path, closed_path(path))}
    had, warnings = _read(texts[path], path)
    state = _to_save(options["pin_dir"], options["failure"], doors, had) if options["state"] == "present" else None
    want = _texts(state, path)
    if want != texts and not check:
        _write(doors, texts, want)
    if state and not check and path == STATE_FILE and doors.files.exists(UNSAVED):
        doors.files.remove(UNSAVED, True)
    return {
        "changed": want != texts,
        "file": path,  # Ansible would add facts about a `path`
        "failure": state and state.failure,
        "interfaces": sorted({entry.interface for entry in state.attachments}) if state else [],
        "rules": len(state.rules) if state else 0,
        "warnings": warnings,
        "diff": {"before": _text(had), "after": _text(state)},
    }


def saving_turn(doors: Doors):
    """Hold the folder of the state file: between a change and its saving the file is older than what is in force."""
    return doors.files.lock(os.path.dirname(STATE_FILE))


def run_and_save(story: Callable, options: Mapping, doors: Doors, check: bool) -> dict:
    """Run a story, and save what it changed where the state is kept. Its answer, without `left`, is the story's.

    The change stands when it cannot be saved: then a warning says so, and nothing is repaired by the stale file. One
    that waits for its confirmation is saved by the run that confirms it.
    """
    if "pin_dir" in options:  # under its one name, by which a state is known as that of this folder
        options = {**options, "pin_dir": os.path.abspath(options["pin_dir"])}
    if check or "state" not in options or not doors.files.exists(STATE_FILE):
        answer = story(options, doors, check)
        answer.pop("left", None), answer.pop("waits", None)
        return answer
    with saving_turn(doors):
        answer = story(options, doors, check)
        left, waits = answer.pop("left", []), answer.pop("waits", False)
        if not waits and (answer["changed"] or doors.files.exists(UNSAVED)):
            answer.setdefault("warnings", []).extend(_refresh(options["pin_dir"], left, doors))
    return answer


def _refresh(pin_dir: str, left: list, doors: Doors) -> list:
    """Write the state file anew; return what must be said about it."""
    files = doors.files
    try:
        had, warnings = _read(files.read(STATE_FILE), STATE_FILE)
        if had is None or had.pin_dir != pin_dir:
            return warnings
        known = None if files.exists(UNSAVED) else had
        with suppress(TproxyError):  # there may be room on the disk all the same
            files.write(UNSAVED, KILLED)
        state = _to_save(pin_dir, had.failure, doors, known, left)
        _write(doors, {name: files.read(name) for name in _texts(had, STATE_FILE)}, _texts(state, STATE_FILE))
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


def _read(text: str | None, path: str) -> tuple:
    """Return (the state that a file holds or None, warnings)."""
    if text is None:
        return None, []
    try:
        return decode_state(text), []
    except TproxyError as fault:
        return None, [f"{path}: {fault}; what it held is lost, save anew with tproxy_state"]


def _to_save(pin_dir: str, failure: str, doors: Doors, had: SavedState | None, left: list = ()) -> SavedState:
    """Return what is in force and lasts. Raises LayoutMismatch when the program could not be loaded from it."""
    with turn(doors, pin_dir, True, mount=False), doors.netlink() as netlink:
        state = lasting(replace(take(doors, netlink, pin_dir), failure=failure))
    if had is not None and had.pin_dir == pin_dir:
        state = with_what_is_missing(state, had, left)
    if state.attachments and not state.blob:
        raise LayoutMismatch(
            f"no blob is kept beside the program pinned under {pin_dir}, so no boot could load it: run tc_bpf_attach"
            " again, which keeps one"
        )
    return state


def _texts(state: SavedState | None, path: str) -> dict:
    """Return {path: text or None} of the files that hold a state."""
    closed = encode_closed(state) if state and state.failure == FAIL_CLOSED else None
    return {path: encode_state(state) if state else None, closed_path(path): closed}


def _write(doors: Doors, before: Mapping, after: Mapping) -> None:
    """Bring the files from one set of texts to the other, or back."""
    with ExitStack() as undo:
        for path in sorted(after):
            if after[path] != before[path]:
                undo.callback(_write_one, doors, path, before[path])
                _write_one(doors, path, after[path])
        undo.pop_all()


def _write_one(doors: Doors, path: str, text: str | None) -> None:
    if text is None:
        doors.files.remove(path, True)
    else:
        doors.files.write(path, text)


def _text(state: SavedState | None) -> str:
    return "".join(f"{line}\n" for line in lines_of(state))
