# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""operations.state."""

from __future__ import annotations

from collections.abc import Mapping

from ..constants import STATE_FILE
from ..persistence.state_file import (
    UNSAVED,
    closed_path,
    read_state,
    state_texts,
    state_to_save,
    text_of_state,
    write_texts,
)
from ..system.system import System


def save_state(options: Mapping, system: System, check: bool) -> dict:
    """Save what is in force, or remove what was saved. Returns what tproxy_state returns."""
    path = options["path"]
    texts = {name: system.files.read(name) for name in (path, closed_path(path))}
    had, warnings = read_state(texts[path], path)
    state = (
        state_to_save(options["pin_dir"], options["failure"], system, had) if options["state"] == "present" else None
    )
    want = state_texts(state, path)
    if want != texts and not check:
        write_texts(system, texts, want)
    if state and not check and path == STATE_FILE and system.files.exists(UNSAVED):
        system.files.remove(UNSAVED, True)
    return {
        "changed": want != texts,
        "file": path,  # Ansible would add facts about a `path`
        "failure": state and state.failure,
        "interfaces": sorted({entry.interface for entry in state.attachments}) if state else [],
        "rules": len(state.rules) if state else 0,
        "warnings": warnings,
        "diff": {"before": text_of_state(had), "after": text_of_state(state)},
    }
