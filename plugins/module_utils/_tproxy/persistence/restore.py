# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The restoration of a state file, with the failure policy for a file that cannot be restored."""

from __future__ import annotations

from dataclasses import replace

from ..errors import InvalidInput, TproxyError, Unconfirmed, VerificationFailed
from ..model.saved_state import SavedState
from ..resources.lock import lock_for_change
from ..resources.operation import Diff, Options, Result
from ..resources.restore import RestoreCache, restore
from ..system.system import System
from .fail_closed import close_interfaces
from .state_file import closed_path


def restore_state(options: Options, system: System, check: bool, cache: RestoreCache | None = None) -> Result:
    """Restore the state of a file, or with the option `interface` the parts of that interface.

    `cache` has the values of the last look, for the watcher.
    Raises TproxyError when there is no such file, when it is damaged, or when the kernel refuses. Then the failure
    policy was applied, and the message says so.
    """
    path, only = options["path"], options["interface"]
    try:
        return _restored(path, only, system, check, cache or RestoreCache())
    except Unconfirmed:
        raise  # a pending change is in force, so no interface is open by mistake
    except TproxyError as fault:
        if check:
            raise
        closed = close_interfaces(system.files.read(closed_path(path)), system, only)
        raise VerificationFailed(f"{path} was not put back: {fault}; {closed}", fault.details) from fault


def _restored(path: str, only: str | None, system: System, check: bool, cache: RestoreCache) -> Result:
    state, warnings = _state(path, system, cache)
    return replace(restore_known(state, system, check, cache, only), warnings=tuple(warnings))


def restore_known(
    state: SavedState, system: System, check: bool, cache: RestoreCache, only: str | None = None
) -> Result:
    """Restore a state that was read before. Raises TproxyError; then nothing was changed."""
    with lock_for_change(system, state.pin_dir, check), system.netlink() as netlink:
        found = restore(state, system, netlink, only, check_mode=check, cache=cache)
    data = {"changes": found.changes, "absent": found.absent, "interfaces": found.interfaces}
    return Result(found.changed, data, Diff("", "".join(f"{line}\n" for line in found.changes)))


def _state(path: str, system: System, cache: RestoreCache) -> tuple[SavedState, list[str]]:
    """Return the state of a file and warnings. A file that became unreadable does not stop a watcher, which has it."""
    try:
        text = system.files.read(path)
        if text is None:
            raise InvalidInput([f"path: there is no {path}; tproxy_state makes it"])
        return cache.read(text), []
    except InvalidInput:
        raise
    except TproxyError as fault:
        if cache.state is None:
            raise
        return cache.state, [f"{path} cannot be read ({fault}): restored from the state that it had before"]
