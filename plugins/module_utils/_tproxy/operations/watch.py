# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The watcher of `tproxy-splicer watch`. It also rolls back a change whose watchdog has died."""

from __future__ import annotations

from collections.abc import Iterator

from ..commit_confirm.change import finish_expired
from ..persistence.watch import watch as watch_state
from ..resources.operation import Options
from ..system.system import System


def watch(options: Options, system: System, check_mode: bool) -> Iterator[str]:
    """Yield a line for each part that was restored or could not be, as long as there are events."""
    return watch_state(options, system, check_mode, lambda: finish_expired(options["pin_dir"], system, False))
