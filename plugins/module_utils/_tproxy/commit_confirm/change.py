# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The story of tproxy_confirm: a change begins, and is then confirmed or rolled back.

Until the record says "confirmed" all that was is kept, and comes back whoever dies: see _dead_man and _guard.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from ..constants import CONFIRM_MAX, CONFIRM_MIN, FUNCTION
from ..errors import InvalidInput, Unconfirmed
from ..model.saved_state import encode_state
from ..resources.attachments import users
from ..resources.lock import lock, lock_for_change
from ..resources.migrate import pins_in_force, refuse_older_release
from ..resources.observe import observe_state
from ..resources.pending import (
    CONFIRMED,
    PENDING,
    ROLLED_BACK,
    Pending,
    close_change,
    latest_change,
    pending_change,
    write_record,
)
from ..resources.pins import splicer_pins
from ..resources.programs import Programs
from ..resources.rule_changes import rule_table
from ..system.system import System
from . import deadline as confirm_deadline
from .watchdog import roll_back, watchdog

BEGUN = "begun"


def begin(options: Mapping, system: System, check: bool) -> dict:
    """Arm the switch and the guard for all that follows and carries the token."""
    seconds, pin_dir = options["confirm_timeout"], options["pin_dir"]
    refuse_bad_timeout(seconds)
    refuse_older_release(system, pin_dir)
    finish_expired(pin_dir, system, check)
    if check:
        with lock_for_change(system, pin_dir, check, mount=False):
            predicted = {"state": PENDING, "token": options["token"], "seconds": seconds, "seconds_left": seconds}
            return _answer(True, predicted)
    return {**_answer(True, start(pin_dir, seconds, options["token"], system).shown(system)), "waits": True}


def refuse_bad_timeout(seconds: int) -> None:
    """Raise InvalidInput for a time in which nobody can confirm, or for one that protects nobody."""
    if not CONFIRM_MIN <= seconds <= CONFIRM_MAX:
        raise InvalidInput([f"confirm_timeout: {seconds} is out of range, {CONFIRM_MIN} to {CONFIRM_MAX} seconds"])


def start(pin_dir: str, seconds: int, token: str | None, system: System) -> Pending:
    """Guard, record, switch, in this order: each is there before the one that relies on it."""
    with ExitStack() as held, ExitStack() as undo:
        held.enter_context(lock_for_change(system, pin_dir, False))
        netlink = held.enter_context(system.netlink())
        pins = held.enter_context(pins_in_force(system, pin_dir, False))
        pins.check()
        pending = _pending(pin_dir, seconds, token, system, netlink)
        undo.callback(close_change, system, pin_dir, pending, ROLLED_BACK)
        write_record(system, pin_dir, pending)
        table = rule_table(system, pins)
        undo.callback(confirm_deadline.disarm, system.bpf, pins, table)
        attached = {link.ifindex for link, _way, _entry in users(netlink, Programs(system.bpf, pins), FUNCTION)}
        confirm_deadline.arm(system.bpf, pins, table, attached, pending.deadline)
        undo.pop_all()
        return pending


def _pending(pin_dir: str, seconds: int, token: str | None, system: System, netlink) -> Pending:
    """Return a change that a guard watches over already."""
    process = system.background
    pending = Pending(
        token or process.new_token(),
        process.who(),
        seconds,
        process.monotonic_ns() + seconds * 10**9,
        process.boot_id(),
        encode_state(observe_state(system, netlink, pin_dir)),
        (0, 0),
    )
    return pending._replace(watchdog=tuple(process.spawn(watchdog(system, pin_dir, pending))))


def confirm(options: Mapping, system: System, check: bool) -> dict:
    """Let the change stay. Raises Unconfirmed when it is too late, or was never begun."""
    pin_dir, token = options["pin_dir"], options["token"]
    with lock(system, pin_dir, check, mount=False):
        pending = latest_change(system, pin_dir)
        if _is_done(pending, token, CONFIRMED):
            return _answer(False, pending and pending.shown(system))
        _refuse_other(pending, token)
        _refuse_too_late(pin_dir, system, pending, check)
        if not check:
            with splicer_pins(system.bpf, system.bpffs, pin_dir) as pins:
                confirm_deadline.disarm(system.bpf, pins, rule_table(system, pins))
            _refuse_too_late(pin_dir, system, pending, check)  # the guard may have begun, see _guard.GRACE
            close_change(system, pin_dir, pending, CONFIRMED)
        return {
            **_answer(True, pending._replace(outcome=CONFIRMED).shown(system)),
            "left": list(pending.released_interfaces),
        }


def rollback(options: Mapping, system: System, check: bool) -> dict:
    """Bring back what was before the change. Raises Unconfirmed when it was confirmed, or never begun."""
    pin_dir, token = options["pin_dir"], options["token"]
    with lock(system, pin_dir, check, mount=False):
        pending = latest_change(system, pin_dir)
        if _is_done(pending, token, ROLLED_BACK):
            return _answer(False, pending and pending.shown(system))
        _refuse_other(pending, token)
        if pending.outcome == CONFIRMED:
            raise Unconfirmed(f"the change of token {token} was confirmed: there is no way back by this means")
        changes = [] if check else _roll_back(pin_dir, system, pending)
        return _answer(True, pending._replace(outcome=ROLLED_BACK).shown(system), changes)


def _is_done(pending: Pending | None, token: str | None, outcome: str) -> bool:
    """Whether nothing is to be done: what the token names has that outcome, or without one nothing waits."""
    if token is None:
        return pending is None or pending.outcome != PENDING
    return pending is not None and pending.token == token and pending.outcome == outcome


def _refuse_other(pending: Pending | None, token: str | None) -> None:
    """Raise Unconfirmed when the change is not the one that the token names."""
    if pending is None:
        raise Unconfirmed(f"no change of token {token} is known since the machine was booted: nothing to do for it")
    if token not in (None, pending.token):
        raise Unconfirmed(f"the latest change is that of {pending.who}, not that of token {token}: it was left alone")


def _refuse_too_late(pin_dir: str, system: System, pending: Pending, check: bool) -> None:
    """Raise Unconfirmed past the deadline; what was before is in force then."""
    if pending.outcome == ROLLED_BACK or pending.is_over(system):
        _finish_expired(pin_dir, system, check)
        raise Unconfirmed(
            f"too late: the change by {pending.who} was not confirmed within {pending.seconds} s and was rolled"
            " back; what was before it is in force"
        )


def finish_expired(pin_dir: str, system: System, check: bool) -> None:
    """Finish what a change left that nobody confirmed: the guard may have been killed."""
    if pending_change(system, pin_dir) is not None:
        with lock(system, pin_dir, check, mount=False):
            _finish_expired(pin_dir, system, check)


def _finish_expired(pin_dir: str, system: System, check: bool) -> None:
    pending = pending_change(system, pin_dir)
    if pending is not None and pending.is_over(system) and not check:
        _roll_back(pin_dir, system, pending)


def _roll_back(pin_dir: str, system: System, pending: Pending) -> list:
    with system.netlink() as netlink:
        return roll_back(system, netlink, pin_dir, pending)


def _answer(changed: bool, shown: Mapping | None, changes: list = ()) -> dict:
    after = shown["state"] if shown else "none"
    before = PENDING if changed and after != PENDING else "none"
    return {
        "changed": changed,
        "confirm": shown,
        "changes": list(changes),
        "diff": {"before": f"{before if changed else after}\n", "after": f"{after}\n"},
    }
