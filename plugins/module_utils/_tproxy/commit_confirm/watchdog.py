# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The roll-back of a change: by an operator, by the next run past the deadline, and by the watchdog.

The watchdog is a process that sleeps until the deadline and rolls back a change that was not confirmed.

1. It runs before anything changes. By then it has opened everything that it needs, and has tried it in check mode.
2. It restores attachments first, by the programs that it holds open: one request replaces a program that drops
   everything. Attachments before the change come back before others go, so no packet passes unfiltered.
   It waits GRACE seconds for a run that holds the lock, which may be confirming, and not longer.
3. A confirmation wakes the watchdog, which ends. When it is killed, the confirm deadline and the next run replace it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from ..constants import FUNCTION
from ..errors import Busy, TproxyError
from ..model.saved_state import decode_state
from ..resources.attachments import point_at, users
from ..resources.hooks import Hook, HookProgram
from ..resources.image_lock import image_lock
from ..resources.lock import ROLLED_BACK, Pending, close_change, lock, pending_change
from ..resources.lost_pins import recover
from ..resources.older_release import older_attachments, put_older_filters_back
from ..resources.pins import splicer_pins
from ..resources.programs import Programs
from ..resources.restore import restore
from ..resources.rule_table import rule_table
from ..ruleset.compile import compile_image
from ..ruleset.verify import verify_image
from ..system.system import Netlink, System
from . import deadline as confirm_deadline

# Other runs import these at their first use. A watchdog cannot: the archive that Ansible sent is gone by then.
LOADED_IN_TIME = compile_image, verify_image
ATTEMPTS = 5
PAUSE = 2 * 10**9
GRACE = 2


class Held(NamedTuple):
    """An attachment before the change, and an open descriptor of its program."""

    hook: Hook
    stood: HookProgram
    program: int


class Watch(NamedTuple):
    """The open adapters and descriptors of the watchdog, and its change."""

    system: System
    netlink: Netlink
    pin_dir: str
    pending: Pending
    held: list[Held]


def foresee_roll_back(system: System, netlink: Netlink, snapshot: str) -> list[str]:
    """Return one line for each change of a roll-back to this state. Raises TproxyError if it would be refused."""
    return restore(decode_state(snapshot), system, netlink, exact=True, check_mode=True).changes


def roll_back(system: System, netlink: Netlink, pin_dir: str, pending: Pending) -> list[str]:
    """Put the state before the change in force again, within the caller's lock; return one line for each change.

    Calls of OpenZiti routers changed the previous image too, so their rules are those of that image.
    """
    with splicer_pins(system.bpf, system.bpffs, pin_dir) as pins:
        recover(system, lambda: netlink, pins, False)
        confirm_deadline.trip(system.bpf, pins)
    changes = put_older_filters_back(system, netlink, pin_dir, pending.older)
    changes += restore(decode_state(pending.snapshot), system, netlink, exact=True).changes
    with image_lock(system, pin_dir), splicer_pins(system.bpf, system.bpffs, pin_dir) as pins:
        confirm_deadline.disarm(system.bpf, pins, rule_table(system, pins))
    close_change(system, pin_dir, pending, ROLLED_BACK)
    return changes


def watchdog(system: System, pin_dir: str, pending: Pending) -> Callable[[], Callable[[], None]]:
    """Return the function for background.spawn(): it opens everything, and returns the work of the watchdog."""

    def prepare() -> Callable[[], None]:
        netlink = system.netlink().__enter__()
        foresee_roll_back(system, netlink, pending.snapshot)
        watch = Watch(system, netlink, pin_dir, pending, _hold(system, netlink, pin_dir))
        return lambda: _watch(watch)

    return prepare


def _hold(system: System, netlink: Netlink, pin_dir: str) -> list[Held]:
    with splicer_pins(system.bpf, system.bpffs, pin_dir) as pins:
        attached = users(netlink, Programs(system.bpf, pins), FUNCTION)
    attached += older_attachments(system, netlink, pin_dir)
    return [
        Held(each.hook, each.program, system.bpf.program_by_id(each.program.program_id))
        for each in attached
        if each.program.program_id is not None
    ]


def _watch(watch: Watch) -> None:
    system, is_over = watch.system, False
    while not is_over:
        system.background.sleep_until(watch.pending.deadline)  # first: the record is written after this process starts
        if not _is_mine(watch):
            return
        is_over = watch.pending.is_over(system)
    for attempt in range(ATTEMPTS):
        if _roll_back(watch, attempt + 1 == ATTEMPTS):
            return
        system.background.sleep_until(system.background.monotonic_ns() + PAUSE)


@contextmanager
def _locked(watch: Watch) -> Iterator[None]:
    """Hold the pin folder. A run that holds it for longer than GRACE does not keep the new programs in force."""
    with ExitStack() as held:
        try:
            held.enter_context(lock(watch.system, watch.pin_dir, False, mount=False, seconds=GRACE))
        except Busy:
            if _is_mine(watch):
                _put_attachments_back(watch)
            held.enter_context(lock(watch.system, watch.pin_dir, False, mount=False))
        yield


def _is_mine(watch: Watch) -> bool:
    """Return whether the change is still pending. A record that cannot be read is no confirmation."""
    try:
        found = pending_change(watch.system, watch.pin_dir)
    except TproxyError:
        return True
    return found is not None and found.token == watch.pending.token


def _put_attachments_back(watch: Watch) -> None:
    """Put the attachments before the change back, and remove others, so that no new program sees a packet.

    An interface that has no program of ours any more waits for its policy. Log failures.
    """
    system, before = watch.system, {held.hook for held in watch.held}
    with _logged(watch), splicer_pins(system.bpf, system.bpffs, watch.pin_dir) as pins:
        programs = Programs(system.bpf, pins)
        new = users(watch.netlink, programs, FUNCTION)
        there = {each.hook: each.program.program_id for each in new}
        attached = {each.link.ifindex for each in new}
        for hook, stood, program in watch.held:
            if hook.ifindex in attached and there.get(hook) != stood.program_id:
                with _logged(watch):
                    point_at(watch.netlink, programs, hook, FUNCTION).put_back(stood, program)
        for hook in there:
            if hook not in before:
                with _logged(watch):
                    point_at(watch.netlink, programs, hook, FUNCTION).detach()


@contextmanager
def _logged(watch: Watch) -> Iterator[None]:
    """Log a failure of the block, and go on."""
    try:
        yield
    except TproxyError as fault:
        watch.system.background.log(str(fault))


def _roll_back(watch: Watch, is_last: bool) -> bool:
    """Roll the change back; return whether that succeeded."""
    system, pending = watch.system, watch.pending
    try:
        with _locked(watch):
            if _is_mine(watch):
                _put_attachments_back(watch)
                roll_back(system, watch.netlink, watch.pin_dir, pending)
                system.background.log(
                    f"rolled back: a change by {pending.who} that was not confirmed within {pending.seconds} s"
                )
        return True
    except TproxyError as fault:
        last = "; the next run tries again, until then the program itself uses the old rules" if is_last else ""
        system.background.log(f"the roll-back of a change by {pending.who} failed: {fault}{last}")
        return False
