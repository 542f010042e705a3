# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The operation of `tproxy-splicer restore`: put a saved state back in force."""

from __future__ import annotations

from ..commit_confirm.change import finish_expired
from ..persistence.restore import restore_state
from ..resources.lock import state_file_lock
from ..resources.operation import Operation, Options, Result
from ..system.system import System
from .execute import execute_unsaved


def restore_saved_state(options: Options, system: System, check: bool) -> Result:
    """Put back the state that a file holds, while no other run writes the file. Raises as restore_state().

    A change past its deadline is rolled back first, whose watchdog may have died.
    """
    with state_file_lock(system):
        finish_expired(options["pin_dir"], system, check)
        return restore_state(options, system, check)


RESTORE = Operation("restore", restore_saved_state, execute_unsaved)
