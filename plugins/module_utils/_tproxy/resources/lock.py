# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The lock of a pin folder, for one run at a time, and the record of a change that waits for confirmation.

Every other change is refused until a pending change is confirmed or rolled back. The record lies in /run, so it ends
with the boot, as the change does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from ..constants import CONFIRM_MAX, CONFIRM_MIN, RUN_DIR, STATE_FILE
from ..errors import ChangePending, InvalidInput, KernelRefused, Unconfirmed, Unsupported, VerificationFailed
from ..system.system import System
from .operation import Answer

PENDING, CONFIRMED, ROLLED_BACK = "pending", "confirmed", "rolled_back"


class Watchdog(NamedTuple):
    """The process that rolls a change back: its pid and its start in clock ticks since boot (proc_pid_stat(5))."""

    pid: int
    start: int


class OlderFilter(NamedTuple):
    """A filter of an older release, which had no other kind of hook."""

    ifindex: int
    direction: str
    priority: int
    handle: int
    name: str


class Pending(NamedTuple):
    """One change. `deadline` is CLOCK_MONOTONIC ns of the boot `boot_id`, `snapshot` the text of the state before it.

    `older` are the filters before it that ran the program of an older release, which no snapshot describes.
    `released_interfaces` are the interfaces that the change stopped managing. `outcome` is PENDING until the change is
    confirmed or rolled back.
    """

    token: str
    who: str
    seconds: int
    deadline: int
    boot_id: str
    snapshot: str
    watchdog: Watchdog
    released_interfaces: tuple[str, ...] = ()
    outcome: str = PENDING
    older: tuple[OlderFilter, ...] = ()

    def seconds_left(self, system: System) -> int:
        """Return the seconds left, rounded up; 0 past the deadline."""
        return max(0, -((system.background.monotonic_ns() - self.deadline) // 10**9))

    def is_over(self, system: System, margin_ns: int = 0) -> bool:
        """Return whether the deadline, and a margin after it, has passed."""
        return system.background.monotonic_ns() > self.deadline + margin_ns

    def shown(self, system: System) -> Answer:
        """Return the change as tproxy_confirm returns it."""
        left = self.seconds_left(system) if self.outcome == PENDING else 0
        return {"state": self.outcome, "token": self.token, "seconds": self.seconds, "seconds_left": left}


def run_path(pin_dir: str, kind: str) -> str:
    """Return the path of a file in /run for a pin folder, escaped as by `systemd-escape --path` and so unique."""
    escaped = pin_dir.strip("/").replace("\\", "\\x5c").replace("-", "\\x2d")
    return f"{RUN_DIR}/{escaped.replace('/', '-')}.{kind}"


def record_path(pin_dir: str) -> str:
    """Return the path of the record of a pin folder."""
    return run_path(pin_dir, "change")


def latest_change(system: System, pin_dir: str) -> Pending | None:
    """Return the latest change of this boot that had to be confirmed, with any outcome; None when there was none.

    Raises VerificationFailed for a damaged record, and Unsupported without the rights to read it.
    """
    path = record_path(pin_dir)
    try:
        text = system.files.read(path)
    except KernelRefused:
        refuse_without_capabilities(system)
        raise
    if text is None:
        return None
    try:
        values = json.loads(text)
        watchdog, released = Watchdog(*values["watchdog"]), tuple(values["released_interfaces"])
        older = tuple(OlderFilter(*entry) for entry in values["older"])
        found = Pending(**{**values, "watchdog": watchdog, "released_interfaces": released, "older": older})
    except (ValueError, TypeError, KeyError) as fault:
        raise VerificationFailed(
            f"{path} is damaged ({fault}): a change may wait for confirmation, but it cannot be confirmed. Remove the"
            " file, then run the last change again"
        ) from fault
    return found if found.boot_id == system.background.boot_id() else None


def pending_change(system: System, pin_dir: str) -> Pending | None:
    """Return the change that waits for confirmation, also past its deadline; None when there is none."""
    found = latest_change(system, pin_dir)
    return found if found is not None and found.outcome == PENDING else None


def write_record(system: System, pin_dir: str, pending: Pending) -> None:
    """Record a change. Raises KernelRefused where the disk is full; then there is no record."""
    system.files.write(record_path(pin_dir), json.dumps(pending._asdict()))


def close_change(system: System, pin_dir: str, pending: Pending, outcome: str) -> None:
    """Record the outcome of a change and wake its watchdog. From here on the change is no longer pending."""
    try:
        write_record(system, pin_dir, pending._replace(outcome=outcome, snapshot=""))
    except KernelRefused:
        system.files.remove(record_path(pin_dir))  # a full disk has room for this
    system.background.wake(*pending.watchdog)


def refuse_bad_timeout(seconds: int) -> None:
    """Raise InvalidInput for a time that is too short to confirm, or too long to protect."""
    if not CONFIRM_MIN <= seconds <= CONFIRM_MAX:
        raise InvalidInput([f"confirm_timeout: {seconds} is out of range, {CONFIRM_MIN} to {CONFIRM_MAX} seconds"])


def refuse_unconfirmed(system: System, pin_dir: str, token: str | None) -> Pending | None:
    """Return the pending change of `token`, or None where there is neither token nor pending change.

    Raises ChangePending while another change is pending, and Unconfirmed past the deadline of the caller's own change.
    """
    pending = pending_change(system, pin_dir)
    if pending is None and token is None:
        return None
    if pending is None or (token is not None and token != pending.token):
        raise Unconfirmed(
            f"the change of token {token} does not wait for confirmation{describe_outcome(system, pin_dir)}"
        )
    if pending.is_over(system):
        raise Unconfirmed(
            f"the change by {pending.who} was not confirmed within {pending.seconds} s and is out of force: nothing was"
            " changed; run tproxy_confirm with state=rolled_back, which puts the state before it back for good"
        )
    if token is None:
        raise ChangePending(
            f"a change by {pending.who} waits for confirmation, for {pending.seconds_left(system)} s more: nothing was"
            " changed; confirm it (tproxy_confirm), roll it back (tproxy_confirm with state=rolled_back), or wait"
        )
    return pending


def describe_outcome(system: System, pin_dir: str) -> str:
    """Return the outcome of the latest change as the end of a sentence."""
    found = latest_change(system, pin_dir)
    if found is None:
        return "; none is known since the machine was booted"
    outcome = {PENDING: "waits", CONFIRMED: "was confirmed", ROLLED_BACK: "was rolled back"}[found.outcome]
    return f"; the latest one, {found.token} by {found.who}, {outcome}"


# ---- lock ----------------------------------------------------------------------------------

CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}  # include/uapi/linux/capability.h


def missing_capabilities(system: System) -> list[str]:
    """Return the capabilities that this process lacks: for filters and routes, for maps and programs."""
    return [name for name, number in CAPABILITIES.items() if not system.sysctl.has_capability(number)]


def refuse_without_capabilities(system: System) -> None:
    """Raise Unsupported when a capability is missing."""
    missing = missing_capabilities(system)
    if missing:
        raise Unsupported(
            f"{' and '.join(missing)} missing: run it as root (a task with become: true); nothing was changed"
        )


@contextmanager
def lock_for_change(
    system: System, pin_dir: str, check: bool, mount: bool = True, token: str | None = None
) -> Iterator[Pending | None]:
    """Hold the pin folder as lock() does, and yield the pending change of `token`, or None.

    Raises ChangePending while another change is pending.
    """
    with lock(system, pin_dir, check, mount):
        yield refuse_unconfirmed(system, pin_dir, token)


@contextmanager
def lock(system: System, pin_dir: str, check: bool, mount: bool = True, seconds: float | None = None) -> Iterator[None]:
    """Hold the pin folder for one run at a time. With `mount` the run needs a bpffs: one is mounted first.

    Raises NotMounted, in check mode too, when `pin_dir` cannot be in a bpffs; Unsupported without the rights; Conflict
    when another user could replace pins; Busy when another run holds the folder for longer than `seconds`, by default
    longer than any run takes.
    """
    refuse_without_capabilities(system)
    system.bpffs.refuse_foreign(pin_dir)
    if not system.bpffs.is_mounted(pin_dir):
        system.bpffs.refuse_unmountable(pin_dir)
        if check or not mount:
            yield
            return
        system.bpffs.mount()
    with hold_pin_folder(system, pin_dir, seconds):
        yield


def hold_pin_folder(system: System, pin_dir: str, seconds: float | None = None) -> AbstractContextManager[None]:
    """Hold the pin folder, which is in a bpffs, for one run at a time. Raises Busy as lock() does."""
    return system.bpffs.lock(pin_dir, RUN_DIR, seconds)


def state_file_lock(system: System) -> AbstractContextManager[None]:
    """Hold the folder of the state file: between a change and its saving the file is outdated."""
    return system.files.lock(os.path.dirname(STATE_FILE))
