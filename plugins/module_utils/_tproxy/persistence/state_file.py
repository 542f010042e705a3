# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The state file: the state in force as one file, from which a boot restores it.

1. While the file exists, each run that changed something saves again before it releases the lock (execute.py).
2. Only the persistent part is saved: no rule of a service, no pending change.
3. Parts that the kernel lost without a run (an interface that is gone, a filter deleted by hand) stay in the file.
4. With fail_closed a second file lists the interfaces to close if the first file is unreadable.
5. A state that the disk refuses is kept in /run until a run or the watcher has saved it. The watcher restores from it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace

from ..constants import FAIL_CLOSED, FAIL_OPEN, RUN_DIR, STATE_FILE, UNSAVED, WATCHER_CHANGES
from ..errors import LayoutMismatch, TproxyError
from ..model.saved_state import (
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
from ..resources.current_state import CurrentState, DriftEntry, observe_state, plain_policy
from ..resources.lock import lock_for_change, pending_change
from ..resources.lost_pins import living_pins
from ..system.system import Files, System

KILLED = "a run was killed before it had saved its change"
# The state that the disk refused, in RUN_DIR as UNSAVED. It counts only while that exists.
REFUSED_STATE = f"{RUN_DIR}/state.json"
REMEDY = "; remedy that: the watcher then saves by itself, and tproxy_state at once"


def closed_path(path: str) -> str:
    """Return the path of the list of interfaces to close, for a state file."""
    return f"{os.path.dirname(path)}/closed.json"


def refresh_state_file(pin_dir: str, released: Iterable[str], system: System) -> list[str]:
    """Write the state file again, without the released interfaces; return warnings."""
    files = system.files
    try:
        text = files.read(STATE_FILE)
        had, warnings = read_state(text, STATE_FILE)
        if had is None and text is not None:
            files.write(UNSAVED, warnings[0])  # or the watcher would restore the state that it read before the damage
        if had is None or had.pin_dir != pin_dir:
            return warnings
        trusted = newest_state(files, had)
        _forget_refused(files)
        with suppress(TproxyError):  # the disk may have room for the state file nevertheless
            files.write(UNSAVED, KILLED)
        state = state_to_save(pin_dir, had.failure, system, trusted, released)
        _write_or_keep(state, system)
        files.remove(UNSAVED)
        return warnings
    except TproxyError as fault:
        return [_stale(files, fault)]


def foreseen_warnings(pin_dir: str, released: Iterable[str], system: System, pins_program: bool) -> list[str]:
    """Return the warnings of refresh_state_file() after a run, as far as the state before it tells. Change nothing.

    With `pins_program` the run keeps a blob, so the state can be saved then.
    """
    had, warnings = read_state(system.files.read(STATE_FILE), STATE_FILE)
    if had is None or had.pin_dir != pin_dir or pins_program:
        return warnings
    try:
        state_to_save(pin_dir, had.failure, system, newest_state(system.files, had), released)
    except TproxyError as fault:
        return [_as_stale(fault)]
    return warnings


def newest_state(files: Files, had: SavedState | None) -> SavedState | None:
    """Return the state after the last change, of which the kernel may have lost parts. None: no file has it."""
    if not files.exists(UNSAVED):
        return had
    return read_state(files.read(REFUSED_STATE), REFUSED_STATE)[0]


def _write_or_keep(state: SavedState, system: System) -> None:
    """Write the state file. Raises KernelRefused; then the state is kept in /run, if that has room for it."""
    try:
        _write_state(state, system)
    except TproxyError:
        with suppress(TproxyError):
            write_texts(system, dict.fromkeys(state_texts(state, REFUSED_STATE)), state_texts(state, REFUSED_STATE))
        raise


def _write_state(state: SavedState, system: System) -> None:
    after = state_texts(state, STATE_FILE)
    write_texts(system, {name: system.files.read(name) for name in after}, after)


def state_after_kill(pin_dir: str, known: SavedState | None, system: System) -> SavedState | None:
    """Return the state of a run that was killed before it had saved its change; None where no map has it any more.

    `known` is the last state that was read; the file is the better source where it can be read. Its parts stay that the
    kernel lost since. A lost program leaves its policy behind, and a run that removes the program removes both.
    """
    files = system.files
    had = read_state(files.read(STATE_FILE), STATE_FILE)[0] or known
    failure = had.failure if had else FAIL_CLOSED if files.exists(closed_path(STATE_FILE)) else FAIL_OPEN
    pin_dir = had.pin_dir if had else pin_dir
    with ExitStack() as held:
        held.enter_context(lock_for_change(system, pin_dir, True, mount=False))
        netlink = held.enter_context(system.netlink())
        pins = held.enter_context(living_pins(system, lambda: netlink, pin_dir))
        current = CurrentState(system, lambda: netlink, pins)
        if current.rules.words is None:
            return None
        state = persistent(replace(observe_state(current, pin_dir), failure=failure))
        return _with_lost_parts(state, had, current) if had else state


def _with_lost_parts(state: SavedState, had: SavedState, current: CurrentState) -> SavedState:
    """Return a state with the parts of `had` that the kernel lost, under the policies in force."""
    policies, indexes = current.policies.entries, {name: ifindex for ifindex, name in current.names.items()}
    removed = [each.interface for each in had.attachments if indexes.get(each.interface, 0) not in {0, *policies}]
    attachments = tuple(
        each._replace(policy=plain_policy(policies[indexes[each.interface]]))
        if indexes.get(each.interface) in policies
        else each
        for each in had.attachments
    )
    return merge_lost(state, replace(had, attachments=attachments), removed)


def save_after_kill(state: SavedState, system: System) -> None:
    """Write the state of a killed run. Raises KernelRefused as _write_or_keep()."""
    _write_or_keep(state, system)
    forget_unsaved(system.files)


def save_refused(system: System) -> None:
    """Write the state that the disk refused before. Raises KernelRefused while it refuses."""
    state = decode_state(system.files.read(REFUSED_STATE) or "")
    _write_state(state, system)
    forget_unsaved(system.files)


def forget_unsaved(files: Files) -> None:
    """Remove the mark of an outdated state file. In this order a kill leaves no old state that counts."""
    if files.exists(UNSAVED):
        files.remove(UNSAVED)
    _forget_refused(files)


def _forget_refused(files: Files) -> None:
    for path in (REFUSED_STATE, closed_path(REFUSED_STATE)):
        if files.exists(path):
            files.remove(path)


def _stale(files: Files, fault: TproxyError) -> str:
    """Mark the file as outdated; return the warning."""
    note = _note(fault)
    try:
        files.write(UNSAVED, note)
    except TproxyError as second:
        note = f"{note} ({second})"
    return note + REMEDY


def _as_stale(fault: TproxyError) -> str:
    """Return the warning of a run that could not save, and change nothing."""
    return _note(fault) + REMEDY


def _note(fault: TproxyError) -> str:
    return f"{fault}. The change is in force, but not in {STATE_FILE}: a reboot would bring back the state before"


def read_state(text: str | None, path: str) -> tuple[SavedState | None, list[str]]:
    """Return (the state of a file or None, warnings)."""
    if text is None:
        return None, []
    try:
        return decode_state(text), []
    except TproxyError as fault:
        return None, [f"{path}: {fault}; its state is lost, save again with tproxy_state"]


def state_to_save(
    pin_dir: str, failure: str, system: System, had: SavedState | None, released: Iterable[str] = ()
) -> SavedState:
    """Return the persistent part of the state in force. Raises LayoutMismatch when no blob of the program is kept."""
    with lock_for_change(system, pin_dir, True, mount=False), system.netlink() as netlink:
        with living_pins(system, lambda: netlink, pin_dir) as pins:
            found = observe_state(CurrentState(system, lambda: netlink, pins), pin_dir)
        state = persistent(replace(found, failure=failure))
    if had is not None and had.pin_dir == pin_dir:
        state = merge_lost(state, had, released)
    if state.attachments and not state.blob:
        raise LayoutMismatch(
            f"no blob is kept beside the program pinned under {pin_dir}, so no boot could load it: run tc_bpf_attach"
            " again, which keeps one"
        )
    return state


def state_texts(state: SavedState | None, path: str) -> dict[str, str | None]:
    """Return {path: text or None} of the two files of a state."""
    closed = encode_closed(state) if state and state.failure == FAIL_CLOSED else None
    return {path: encode_state(state) if state else None, closed_path(path): closed}


def write_texts(system: System, before: Mapping[str, str | None], after: Mapping[str, str | None]) -> None:
    """Write the texts that differ. A failure brings back the texts before."""
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
    """Return a state as text for a diff."""
    return "".join(f"{line}\n" for line in lines_of(state))


def saved_drift(current: CurrentState, pin_dir: str) -> list[DriftEntry]:
    """Return the drift of the state file; [] where there is no file for this pin folder, or a change is pending."""
    system = current.system
    text = system.files.read(STATE_FILE)
    if text is None:
        return []
    try:
        body = verify_checksum(text)
        had = state_of({**body, "rules": []})  # rules are compared as plain values: to parse them takes seconds
        if had.failure == FAIL_CLOSED:
            decode_closed(system.files.read(closed_path(STATE_FILE)) or "")
    except TproxyError as fault:
        return [DriftEntry("state_damaged", str(fault))]
    if had.pin_dir != pin_dir or pending_change(system, pin_dir) is not None:
        return []
    refused = [DriftEntry("state_not_restored", ", ".join(names)) for names in [_unrestored(current, had)] if names]
    if system.files.exists(UNSAVED):
        return [*refused, DriftEntry("state_stale", "the last change could not be saved")]
    now = merge_lost(persistent(replace(observe_state(current, pin_dir), failure=had.failure)), had)
    parts = _other_parts(had, now) + (["rules"] if body["rules"] != body_of(now)["rules"] else [])
    return refused + ([DriftEntry("state_stale", ", ".join(parts))] if parts else [])


def _unrestored(current: CurrentState, had: SavedState) -> list[str]:
    """Return the saved interfaces that are there and have neither a program nor a policy of ours: they came again."""
    indexes = {name: ifindex for ifindex, name in current.names.items()}
    known = {each.link.ifindex for each in current.attachments} | set(current.policies.entries)
    return sorted({each.interface for each in had.attachments if indexes.get(each.interface, -1) not in {-1, *known}})


def _other_parts(had: SavedState, now: SavedState) -> list[str]:
    """Return the names of the parts that differ, without rules.

    Addresses that follow the kernel may differ, and so may foreign TCX programs behind ours.
    """
    follows = {entry.interface for entry in had.attachments if entry.follows}
    saved, stands = (
        {
            entry.interface: entry._replace(addresses=None, follows=True) if entry.interface in follows else entry
            for entry in (each._replace(behind=()) for each in state.attachments)
        }
        for state in (had, now)
    )
    names = sorted({*saved, *stands})
    parts = [f"the attachment of {name}" for name in names if saved.get(name) != stands.get(name)]
    parts += ["the program"] if had.blob != now.blob else []
    parts += ["routes"] if had.routes != now.routes else []
    return parts + (["own addresses"] if had.recorded != now.recorded else [])


def watcher_changes(system: System) -> int:
    """Return the number of changes that the watcher has made since the boot. Raises KernelRefused."""
    text = system.files.read(WATCHER_CHANGES) or ""
    return int(text) if text.isdecimal() else 0
