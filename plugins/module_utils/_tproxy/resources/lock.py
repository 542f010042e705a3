# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""What the stories share: the doors that are handed in, and the turn-taking of runs."""

from __future__ import annotations

from contextlib import contextmanager

from ..errors import Unsupported
from ..system.system import System
from .pending import refuse_unconfirmed

CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}  # include/uapi/linux/capability.h


def missing_capabilities(system: System) -> list:
    """Return the names of the capabilities that this process lacks: for filters and routes, for maps and programs."""
    return [name for name, number in CAPABILITIES.items() if not system.sysctl.has_capability(number)]


def refuse_without_capabilities(system: System) -> None:
    """Raise Unsupported when a capability is missing."""
    missing = missing_capabilities(system)
    if missing:
        raise Unsupported(
            f"{' and '.join(missing)} missing: run it as root (a task with become: true); nothing was changed"
        )


@contextmanager
def lock_for_change(system: System, pin_dir: str, check: bool, mount: bool = True, token: str | None = None):
    """Hold the pin folder as locked() does, for a run that changes something. Yields the pending change, or None.

    `token` is that of the change that the run is part of. Raises Unconfirmed while another one is pending.
    """
    with lock(system, pin_dir, check, mount):
        yield refuse_unconfirmed(system, pin_dir, token)


@contextmanager
def lock(system: System, pin_dir: str, check: bool, mount: bool = True, seconds: float | None = None):
    """Hold the pin folder for one run at a time. With `mount` the run will need a bpffs: one is mounted first.

    Raises NotMounted, in check mode too, when `pin_dir` could lie in none; Unsupported without the rights; Busy when
    somebody else holds it for longer than `seconds`, by default as long as any run may take.
    """
    refuse_without_capabilities(system)
    if not system.bpffs.is_mounted(pin_dir):
        system.bpffs.refuse_unmountable(pin_dir)
        if check or not mount:
            yield
            return
        system.bpffs.mount()
    with system.bpffs.lock(pin_dir, seconds):
        yield
