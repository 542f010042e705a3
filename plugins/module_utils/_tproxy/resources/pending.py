# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""A change that waits for its confirmation: the record of it, and why every other change must wait.

The record lies in /run, so it ends with the boot, as the change does. `doors` has `files` and `background`.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from ..constants import RUN_DIR
from ..errors import KernelRefused, Unconfirmed, VerificationFailed

PENDING, CONFIRMED, ROLLED_BACK = "pending", "confirmed", "rolled_back"


class Pending(NamedTuple):
    """One change. `deadline` is CLOCK_MONOTONIC ns of the boot `boot_id`, `snapshot` the text of the state before it.

    `guard` is (pid, start) of the process that watches over it, `left` has the interfaces that the change gave up. An
    `outcome` other than PENDING is what became of it.
    """

    token: str
    who: str
    seconds: int
    deadline: int
    boot_id: str
    snapshot: str
    watchdog: tuple
    released_interfaces: tuple = ()
    outcome: str = PENDING

    def seconds_left(self, system) -> int:
        """Return the time left, rounded up; 0 when it is over."""
        return max(0, -((system.background.monotonic_ns() - self.deadline) // 10**9))

    def is_over(self, system) -> bool:
        """Whether the deadline has passed."""
        return system.background.monotonic_ns() > self.deadline

    def shown(self, system) -> dict:
        """Return it as a user reads it."""
        released_interfaces = self.seconds_left(system) if self.outcome == PENDING else 0
        return {
            "state": self.outcome,
            "token": self.token,
            "seconds": self.seconds,
            "seconds_left": released_interfaces,
        }


def record_path(pin_dir: str) -> str:
    """Return where the change of a pin folder is recorded; as with `systemd-escape --path`, no two are alike."""
    escaped = pin_dir.strip("/").replace("\\", "\\x5c").replace("-", "\\x2d")
    return f"{RUN_DIR}/{escaped.replace('/', '-')}.change"


def latest_change(system, pin_dir: str) -> Pending | None:
    """Return the latest change that was to be confirmed, whatever became of it; None when there was none this boot."""
    path = record_path(pin_dir)
    text = system.files.read(path)
    if text is None:
        return None
    try:
        found = Pending(**json.loads(text))
    except (ValueError, TypeError) as fault:
        raise VerificationFailed(
            f"{path} is damaged ({fault}): a change may wait for its confirmation, but none can be given. Remove the"
            " file, then run the last change again"
        ) from fault
    return found if found.boot_id == system.background.boot_id() else None


def pending_change(system, pin_dir: str) -> Pending | None:
    """Return the change that waits for confirmation, in time or not; None when there is none."""
    found = latest_change(system, pin_dir)
    return found if found is not None and found.outcome == PENDING else None


def write_record(system, pin_dir: str, pending: Pending) -> None:
    """Record a change. Raises KernelRefused where there is no room; then there is no record."""
    system.files.write(record_path(pin_dir), json.dumps(pending._asdict()))


def close_change(system, pin_dir: str, pending: Pending, outcome: str) -> None:
    """Say what became of the change. From here on it is no longer pending."""
    try:
        write_record(system, pin_dir, pending._replace(outcome=outcome, snapshot=""))
    except KernelRefused:
        system.files.remove(record_path(pin_dir))  # a full disk has room for this
    system.background.wake(*pending.watchdog)


def refuse_unconfirmed(system, pin_dir: str, token: str | None) -> Pending | None:
    """Return the change that `token` belongs to, or None where there is neither.

    Raises Unconfirmed while a change waits that is not the caller's, and when the caller's own is over.
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
        raise Unconfirmed(
            f"a change by {pending.who} waits for confirmation, for {pending.seconds_left(system)} s more: nothing was"
            " changed; confirm it (tproxy_confirm), roll it back (tproxy_confirm with state=rolled_back), or wait"
        )
    return pending


def describe_outcome(system, pin_dir: str) -> str:
    """Return what became of the latest change, as the end of a sentence."""
    found = latest_change(system, pin_dir)
    if found is None:
        return "; none is known since the machine was booted"
    said = {PENDING: "waits", CONFIRMED: "was confirmed", ROLLED_BACK: "was rolled back"}[found.outcome]
    return f"; the latest one, {found.token} by {found.who}, {said}"
