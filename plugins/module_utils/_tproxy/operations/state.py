# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The operation of tproxy_state: save the state in force, or remove the saved state."""

from __future__ import annotations

from ..constants import STATE_FILE
from ..persistence.state_file import (
    closed_path,
    forget_unsaved,
    read_state,
    state_texts,
    state_to_save,
    text_of_state,
    write_texts,
)
from ..resources.operation import Diff, Operation, Options, Result
from ..system.open_changes import open_for_changes
from ..system.system import System
from .execute import execute


def save_state(options: Options, system: System, check: bool) -> Result:
    """Save the state in force, or remove the saved state. Return the values of tproxy_state."""
    path = options["path"]
    texts = {name: system.files.read(name) for name in (path, closed_path(path))}
    had, warnings = read_state(texts[path], path)
    state = (
        state_to_save(options["pin_dir"], options["failure"], system, had) if options["state"] == "present" else None
    )
    want = state_texts(state, path)
    if want != texts and not check:
        write_texts(system, texts, want)
    if not check and path == STATE_FILE:
        forget_unsaved(system.files)
    data = {
        "file": path,  # Ansible would add facts about a `path`
        "failure": state and state.failure,
        "interfaces": sorted({entry.interface for entry in state.attachments}) if state else [],
        "rules": len(state.rules) if state else 0,
    }
    diff = Diff(text_of_state(had), text_of_state(state))
    return Result(want != texts, data, diff, tuple(warnings), replaces_state_file=path == STATE_FILE)


SAVE_STATE = Operation("tproxy_state", save_state, execute, opens=open_for_changes)
