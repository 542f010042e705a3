# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Taking a change back: by hand, by the run that finds it unconfirmed, and by the guard.

The guard is a process that sleeps until the deadline and acts when nobody confirmed.

1. It is there before anything changes, and has opened by then all that it will need; it has rehearsed it, too.
2. Filters come first, by the programs that it holds open: a program that drops everything is out with one request.
   It waits GRACE seconds for whoever has the turn, who may be confirming just now, and not for longer.
3. Whoever confirms wakes it, and it ends. When it is killed, the dead-man switch and the next run take its place.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from ..constants import FUNCTION
from ..errors import Busy, TproxyError
from ..model.saved_state import decode_state
from ..resources.attachments import Hook, users
from ..resources.lock import lock
from ..resources.pending import ROLLED_BACK, Pending, close_change, pending_change
from ..resources.pins import splicer_pins
from ..resources.programs import Programs
from ..resources.rule_changes import rule_table
from ..resources.transaction import put
from ..system.system import System
from . import deadline as confirm_deadline

ATTEMPTS = 5
PAUSE = 2 * 10**9
GRACE = 2


class HeldFilter(NamedTuple):
    """A filter as it stood before the change, and an open descriptor of its program."""

    hook: Hook
    name: str
    program: int


class Watchdog(NamedTuple):
    """What the guard holds."""

    system: System
    netlink: Any
    pin_dir: str
    pending: Pending
    held: list


def roll_back(system: System, netlink, pin_dir: str, pending: Pending) -> list:
    """Put the state before the change in force again, within the caller's turn; return what that took, in lines."""
    with splicer_pins(system.bpf, system.bpffs, pin_dir) as pins:
        confirm_deadline.trip(system.bpf, pins)
    changes = put(decode_state(pending.snapshot), system, netlink, exact=True)["changes"]
    with splicer_pins(system.bpf, system.bpffs, pin_dir) as pins:
        confirm_deadline.disarm(system.bpf, pins, rule_table(system, pins))
    close_change(system, pin_dir, pending, ROLLED_BACK)
    return changes


def watchdog(system: System, pin_dir: str, pending: Pending) -> Callable:
    """Return what doors.background.spawn() wants: it opens everything, and returns the guard's work."""

    def prepare() -> Callable:
        netlink = system.netlink().__enter__()
        put(decode_state(pending.snapshot), system, netlink, exact=True, check=True)
        watch = Watchdog(system, netlink, pin_dir, pending, _hold(system, netlink, pin_dir))
        return lambda: _watch(watch)

    return prepare


def _hold(system: System, netlink, pin_dir: str) -> list:
    with splicer_pins(system.bpf, system.bpffs, pin_dir) as pins:
        standing = users(netlink, Programs(system.bpf, pins), FUNCTION)
    return [
        HeldFilter(
            Hook(link.ifindex, direction, entry.priority, entry.handle),
            entry.name,
            system.bpf.program_by_id(entry.program_id),
        )
        for link, direction, entry in standing
    ]


def _watch(watch: Watchdog) -> None:
    system, is_over = watch.system, False
    while not is_over:
        system.background.sleep_until(watch.pending.deadline)  # first: the record is written once this process lives
        if not _is_mine(watch):
            return
        is_over = watch.pending.is_over(system)
    for attempt in range(ATTEMPTS):
        if _roll_back(watch, attempt + 1 == ATTEMPTS):
            return
        system.background.sleep_until(system.background.monotonic_ns() + PAUSE)


@contextmanager
def _turn(watch: Watchdog):
    """Hold the pin folder. Who holds it for longer than GRACE does not keep the new filters in force."""
    with ExitStack() as held:
        try:
            held.enter_context(lock(watch.system, watch.pin_dir, False, mount=False, seconds=GRACE))
        except Busy:
            if _is_mine(watch):
                _put_filters_back(watch)
            held.enter_context(lock(watch.system, watch.pin_dir, False, mount=False))
        yield


def _is_mine(watch: Watchdog) -> bool:
    """Whether the change still waits. A record that cannot be read is no confirmation."""
    try:
        found = pending_change(watch.system, watch.pin_dir)
    except TproxyError:
        return True
    return found is not None and found.token == watch.pending.token


def _put_filters_back(watch: Watchdog) -> None:
    """Let no other program see a packet; what goes wrong here, _roll_back() says."""
    stood = {held.hook: held for held in watch.held}
    for hook, program_id in _filters(watch):
        try:
            if hook not in stood:
                watch.netlink.delete_filter(*hook)
            elif watch.system.bpf.program_info(stood[hook].program).id != program_id:
                watch.netlink.replace_filter(*hook, stood[hook].program, stood[hook].name)
        except TproxyError as fault:
            watch.system.background.log(str(fault))


def _filters(watch: Watchdog) -> list:
    """Return (hook, program id) of each filter of ours that stands now."""
    system = watch.system
    try:
        with splicer_pins(system.bpf, system.bpffs, watch.pin_dir) as pins:
            found = users(watch.netlink, Programs(system.bpf, pins), FUNCTION)
    except TproxyError as fault:
        system.background.log(str(fault))
        return []
    return [(Hook(link.ifindex, way, entry.priority, entry.handle), entry.program_id) for link, way, entry in found]


def _roll_back(watch: Watchdog, is_last: bool) -> bool:
    """Take the change back; return whether nothing is left to do."""
    system, pending = watch.system, watch.pending
    try:
        with _turn(watch):
            if _is_mine(watch):
                _put_filters_back(watch)
                roll_back(system, watch.netlink, watch.pin_dir, pending)
                system.background.log(
                    f"rolled back: a change by {pending.who} that nobody confirmed in {pending.seconds} s"
                )
        return True
    except TproxyError as fault:
        last = "; the next run tries again, until then the program itself goes by the old rules" if is_last else ""
        system.background.log(f"the roll-back of a change by {pending.who} failed: {fault}{last}")
        return False
