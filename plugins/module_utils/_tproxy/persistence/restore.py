# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Putting a saved state back in force: at boot, when something of it went, when a change is taken back.

1. Rules, routes and addresses first, filters last: no packet meets a filter before all that it asks is there.
2. An interface that is absent is skipped and named. What goes by its name (rules, routes) is put back all the same.
3. A failure half way takes back what was done.
4. The rules of services belong to the Ziti router: they stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import InvalidInput, TproxyError, Unconfirmed, VerificationFailed
from ..resources.lock import lock_for_change
from ..resources.restore_cache import RestoreCache
from ..resources.transaction import put
from ..system.system import System
from .fail_closed import close_interfaces
from .state_file import closed_path


def restore_state(options: Mapping, system: System, check: bool, cache: RestoreCache | None = None) -> dict:
    """Put back what a file holds: all of it, or with `interface` what belongs to that one.

    `known` is what the last look left, for whoever looks again and again.

    Raises TproxyError when that cannot be, because there is no such file, it is not whole, or the kernel refuses. Then
    the failure policy has been followed, and the message says so.
    """
    path, only = options["path"], options["interface"]
    try:
        return _restored(path, only, system, check, cache or RestoreCache())
    except Unconfirmed:
        raise  # a change is in force: nothing is open that should not be
    except TproxyError as fault:
        if check:
            raise
        closed = close_interfaces(system.files.read(closed_path(path)), system, only)
        raise VerificationFailed(f"{path} was not put back: {fault}; {closed}", fault.details) from fault


def _restored(path: str, only: str | None, system: System, check: bool, cache: RestoreCache) -> dict:
    text = system.files.read(path)
    if text is None:
        raise InvalidInput([f"path: there is no {path}; tproxy_state makes it"])
    state = cache.read(text)
    with lock_for_change(system, state.pin_dir, check), system.netlink() as netlink:
        answer = put(state, system, netlink, only, check=check, cache=cache)
    lines = "".join(f"{line}\n" for line in answer["changes"])
    return {**answer, "diff": {"before": "", "after": lines}}
