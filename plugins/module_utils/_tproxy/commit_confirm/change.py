# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""A change that waits for confirmation: its start, its confirmation and its roll-back.

Until the record has the outcome "confirmed", the state before is kept. It comes back although any process dies: see
deadline.py and watchdog.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from ..errors import Conflict, TproxyError, Unconfirmed
from ..model.saved_state import encode_state
from ..resources.current_state import CurrentState, observe_state
from ..resources.image_lock import image_lock
from ..resources.lock import (
    CONFIRMED,
    PENDING,
    ROLLED_BACK,
    Pending,
    Watchdog,
    close_change,
    latest_change,
    lock,
    lock_for_change,
    pending_change,
    refuse_bad_timeout,
    write_record,
)
from ..resources.older_release import drop_older_pins, older_filters
from ..resources.operation import Answer, Diff, Options, Result
from ..resources.rule_table import rule_table
from ..resources.session import lazy_netlink, migrated_pins
from ..system.system import System
from . import deadline as confirm_deadline
from .watchdog import foresee_roll_back, roll_back, watchdog

BEGUN = "begun"


def begin(options: Options, system: System, check: bool) -> Result:
    """Start a pending change, to which each run with its token belongs. Raises InvalidInput, Busy."""
    seconds, pin_dir = options["confirm_timeout"], options["pin_dir"]
    refuse_bad_timeout(seconds)
    finish_expired(pin_dir, system, check)
    if check:
        foresee_start(pin_dir, system)
        predicted = {"state": PENDING, "token": options["token"], "seconds": seconds, "seconds_left": seconds}
        return replace(_answer(True, predicted), pending=True)
    pending = start(pin_dir, seconds, options["token"], system)
    return replace(_answer(True, pending.shown(system)), pending=True)


def foresee_start(pin_dir: str, system: System) -> None:
    """Raise the refusals of start(). Change nothing.

    The maps of an older release have no program of ours to return to, so there is nothing to try.
    """
    with ExitStack() as held:
        held.enter_context(lock_for_change(system, pin_dir, True, mount=False))
        netlink = held.enter_context(system.netlink())
        pins = held.enter_context(migrated_pins(system, pin_dir, True, lambda: netlink))
        if "meta" in pins.shapes:
            current = CurrentState(system, lambda: netlink, pins)
            foresee_roll_back(system, netlink, _snapshot(pin_dir, current))


def start(pin_dir: str, seconds: int, token: str | None, system: System) -> Pending:
    """Start watchdog, record and confirm deadline, in this order: each relies on the ones before it."""
    with ExitStack() as held, ExitStack() as undo:
        held.enter_context(lock_for_change(system, pin_dir, False))
        netlink = held.enter_context(system.netlink())
        pins = held.enter_context(migrated_pins(system, pin_dir, False, lambda: netlink))
        current = CurrentState(system, lambda: netlink, pins)
        pending = _pending(pin_dir, seconds, token, current)
        undo.callback(close_change, system, pin_dir, pending, ROLLED_BACK)
        write_record(system, pin_dir, pending)
        table = rule_table(system, pins)
        attached = {each.link.ifindex for each in current.attachments} | {each.ifindex for each in pending.older}
        held.enter_context(image_lock(system, pin_dir))
        pins.drop_stale()  # a call may have pinned a bigger image map
        undo.callback(confirm_deadline.disarm, system.bpf, pins, table)
        confirm_deadline.arm(system.bpf, pins, table, attached, pending.deadline)
        undo.pop_all()
        return pending


def _pending(pin_dir: str, seconds: int, token: str | None, current: CurrentState) -> Pending:
    """Return a change with a running watchdog."""
    system = current.system
    process = system.background
    pending = Pending(
        token or process.new_token(),
        process.who(),
        seconds,
        process.monotonic_ns() + seconds * 10**9,
        process.boot_id(),
        _snapshot(pin_dir, current),
        Watchdog(0, 0),
        older=older_filters(system, current.netlink, pin_dir),
    )
    return pending._replace(watchdog=Watchdog(*process.spawn(watchdog(system, pin_dir, pending))))


def _snapshot(pin_dir: str, current: CurrentState) -> str:
    """Return the text of the state to which a roll-back returns. Raises Conflict if it has no program to load."""
    state = observe_state(current, pin_dir)
    if state.attachments and not state.blob:
        raise Conflict(
            f"no blob is kept beside the program pinned under {pin_dir}, so a roll-back could not load it: nothing was"
            " changed; run tc_bpf_attach with confirm_timeout: 0, which keeps one"
        )
    return encode_state(state)


def confirm(options: Options, system: System, check: bool) -> Result:
    """Confirm the change. Raises Unconfirmed past the deadline, or when no such change was started."""
    pin_dir, token = options["pin_dir"], options["token"]
    with lock(system, pin_dir, check, mount=False):
        pending = latest_change(system, pin_dir)
        if _is_done(pending, token, CONFIRMED):
            return _answer(False, pending and pending.shown(system))
        pending = _the_one(pending, token)
        _refuse_too_late(pin_dir, system, pending, check)
        if not check:
            _disarm(pin_dir, system)
            _refuse_too_late(pin_dir, system, pending, check)  # the watchdog may have begun, see watchdog.GRACE
            close_change(system, pin_dir, pending, CONFIRMED)
            drop_older_pins(system, pin_dir)
        confirmed = _answer(True, pending._replace(outcome=CONFIRMED).shown(system))
        return replace(confirmed, released_interfaces=pending.released_interfaces)


def recover_pins(pin_dir: str, system: System) -> bool:
    """Pin living maps that lost their pins. Return whether there were any."""
    with ExitStack() as held:
        netlink = lazy_netlink(system, held)
        held.enter_context(lock_for_change(system, pin_dir, False))
        return bool(held.enter_context(migrated_pins(system, pin_dir, False, netlink)).repaired)


def _disarm(pin_dir: str, system: System) -> None:
    """Clear the confirm deadline of the maps in force. Living maps that lost their pins get them back."""
    with ExitStack() as held:
        pins = held.enter_context(migrated_pins(system, pin_dir, False, lazy_netlink(system, held)))
        held.enter_context(image_lock(system, pin_dir))
        confirm_deadline.disarm(system.bpf, pins, rule_table(system, pins))


def rollback(options: Options, system: System, check: bool) -> Result:
    """Bring back the state before the change. Raises Unconfirmed when the change was confirmed or never started."""
    pin_dir, token = options["pin_dir"], options["token"]
    with lock(system, pin_dir, check, mount=False):
        pending = latest_change(system, pin_dir)
        if _is_done(pending, token, ROLLED_BACK):
            return _answer(False, pending and pending.shown(system))
        pending = _the_one(pending, token)
        if pending.outcome == CONFIRMED:
            raise Unconfirmed(f"the change of token {token} was confirmed: it can no longer be rolled back")
        changes = _foreseen(system, pending) if check else _roll_back(pin_dir, system, pending)
        return _answer(True, pending._replace(outcome=ROLLED_BACK).shown(system), changes)


def _is_done(pending: Pending | None, token: str | None, outcome: str) -> bool:
    """Return whether the change of the token has the outcome; without a token, whether no change is pending."""
    if token is None:
        return pending is None or pending.outcome != PENDING
    return pending is not None and pending.token == token and pending.outcome == outcome


def _the_one(pending: Pending | None, token: str | None) -> Pending:
    """Return the change that the token names. Raises Unconfirmed when the latest change is another one."""
    if pending is None:
        raise Unconfirmed(f"no change of token {token} is known since the machine was booted: nothing to do for it")
    if token not in (None, pending.token):
        raise Unconfirmed(f"the latest change is that of {pending.who}, not that of token {token}: it was left alone")
    return pending


def _refuse_too_late(pin_dir: str, system: System, pending: Pending, check: bool) -> None:
    """Raise Unconfirmed past the deadline, after the state before is in force again."""
    if pending.outcome == ROLLED_BACK or pending.is_over(system):
        _finish_expired(pin_dir, system, check)
        raise Unconfirmed(
            f"too late: the change by {pending.who} was not confirmed within {pending.seconds} s and was rolled"
            " back; the state before it is in force"
        )


def finish_expired(pin_dir: str, system: System, check: bool, seconds: float | None = None) -> list[str]:
    """Roll back a change past its deadline, whose watchdog may have been killed; return one line if there was one.

    Each process that comes does so. It waits `seconds` for another run, by default longer than any run takes.
    """
    pending = pending_change(system, pin_dir)
    if pending is None or check or not pending.is_over(system):
        return []
    with lock(system, pin_dir, check, mount=False, seconds=seconds):
        return _finish_expired(pin_dir, system, check)


def _finish_expired(pin_dir: str, system: System, check: bool) -> list[str]:
    pending = pending_change(system, pin_dir)
    if pending is None or check or not pending.is_over(system):
        return []
    _roll_back(pin_dir, system, pending)
    return [f"rolled back: a change by {pending.who} that was not confirmed within {pending.seconds} s"]


def finish_before_call(pin_dir: str, system: System) -> None:
    """Roll back a change past its deadline before a call of an OpenZiti router, which must not fail for it.

    The call does not wait for a run that holds the lock. It changes the state to which the change returns, too.
    """
    try:
        lines = finish_expired(pin_dir, system, False, seconds=0)
    except TproxyError as fault:
        lines = [f"a change that was not confirmed in time is not rolled back yet: {fault}"]
    for line in lines:
        system.background.log(line)


def _foreseen(system: System, pending: Pending) -> list[str]:
    with system.netlink() as netlink:
        return foresee_roll_back(system, netlink, pending.snapshot)


def _roll_back(pin_dir: str, system: System, pending: Pending) -> list[str]:
    with system.netlink() as netlink:
        return roll_back(system, netlink, pin_dir, pending)


def _answer(changed: bool, shown: Answer | None, changes: Sequence[str] = ()) -> Result:
    after = shown["state"] if shown else "none"
    before = PENDING if changed and after != PENDING else "none"
    diff = Diff(f"{before if changed else after}\n", f"{after}\n")
    return Result(changed, {"confirm": shown, "changes": list(changes)}, diff)
