# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Whether the saved state is whole, and still what is in force: what a boot would put back.

What the kernel has lost behind our back stays in the file on purpose, and is drift of another kind.
"""

from __future__ import annotations

from dataclasses import replace

from ._doors import Doors
from ._errors import TproxyError
from ._pending import waiting
from ._save_state import UNSAVED, closed_path
from ._snapshot import take
from ._splicer import STATE_FILE
from ._state import FAIL_CLOSED, SavedState, body_of, decode_closed, lasting, state_of, unseal, with_what_is_missing


def saved_drift(doors: Doors, netlink, pin_dir: str) -> list:
    """Return [(word, who)]; [] where no state is kept for this pin folder, or a change waits for its confirmation."""
    text = doors.files.read(STATE_FILE)
    if text is None:
        return []
    try:
        body = unseal(text)
        had = state_of({**body, "rules": []})  # they are compared as they stand: to parse them takes seconds
        if had.failure == FAIL_CLOSED:
            decode_closed(doors.files.read(closed_path(STATE_FILE)) or "")
    except TproxyError as fault:
        return [("state_damaged", str(fault))]
    if had.pin_dir != pin_dir or waiting(doors, pin_dir) is not None:
        return []
    if doors.files.exists(UNSAVED):
        return [("state_stale", "the last change could not be saved")]
    now = with_what_is_missing(lasting(replace(take(doors, netlink, pin_dir), failure=had.failure)), had)
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
