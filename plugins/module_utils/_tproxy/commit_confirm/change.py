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
from ..resources.lock import locked, turn
from ..resources.migrate import pins_in_force, refuse_older_release
from ..resources.observe import take
from ..resources.pending import CONFIRMED, PENDING, ROLLED_BACK, Pending, close, latest, waiting, write_down
from ..resources.pins import splicer_pins
from ..resources.programs import Programs
from ..resources.rule_changes import rule_table
from ..system.system import Doors
from . import deadline as dead_man
from .watchdog import guard, take_back

BEGUN = "begun"


def begin(options: Mapping, doors: Doors, check: bool) -> dict:
    """Arm the switch and the guard for all that follows and carries the token."""
    seconds, pin_dir = options["confirm_timeout"], options["pin_dir"]
    refuse_bad_timeout(seconds)
    refuse_older_release(doors, pin_dir)
    settle(pin_dir, doors, check)
    if check:
        with turn(doors, pin_dir, check, mount=False):
            foretold = {"state": PENDING, "token": options["token"], "seconds": seconds, "seconds_left": seconds}
            return _answer(True, foretold)
    return {**_answer(True, arm(pin_dir, seconds, options["token"], doors).shown(doors)), "waits": True}


def refuse_bad_timeout(seconds: int) -> None:
    """Raise InvalidInput for a time in which nobody can confirm, or for one that protects nobody."""
    if not CONFIRM_MIN <= seconds <= CONFIRM_MAX:
        raise InvalidInput([f"confirm_timeout: {seconds} is out of range, {CONFIRM_MIN} to {CONFIRM_MAX} seconds"])


def arm(pin_dir: str, seconds: int, token: str | None, doors: Doors) -> Pending:
    """Guard, record, switch, in this order: each is there before the one that relies on it."""
    with ExitStack() as held, ExitStack() as undo:
        held.enter_context(turn(doors, pin_dir, False))
        netlink = held.enter_context(doors.netlink())
        pins = held.enter_context(pins_in_force(doors, pin_dir, False))
        pins.check()
        pending = _pending(pin_dir, seconds, token, doors, netlink)
        undo.callback(close, doors, pin_dir, pending, ROLLED_BACK)
        write_down(doors, pin_dir, pending)
        table = rule_table(doors, pins)
        undo.callback(dead_man.disarm, doors.bpf, pins, table)
        attached = {link.ifindex for link, _way, _entry in users(netlink, Programs(doors.bpf, pins), FUNCTION)}
        dead_man.arm(doors.bpf, pins, table, attached, pending.deadline)
        undo.pop_all()
        return pending


def _pending(pin_dir: str, seconds: int, token: str | None, doors: Doors, netlink) -> Pending:
    """Return a change that a guard watches over already."""
    process = doors.background
    pending = Pending(
        token or process.new_token(),
        process.who(),
        seconds,
        process.monotonic_ns() + seconds * 10**9,
        process.boot_id(),
        encode_state(take(doors, netlink, pin_dir)),
        (0, 0),
    )
    return pending._replace(guard=tuple(process.spawn(guard(doors, pin_dir, pending))))


def confirm(options: Mapping, doors: Doors, check: bool) -> dict:
    """Let the change stay. Raises Unconfirmed when it is too late, or was never begun."""
    pin_dir, token = options["pin_dir"], options["token"]
    with locked(doors, pin_dir, check, mount=False):
        pending = latest(doors, pin_dir)
        if _is_done(pending, token, CONFIRMED):
            return _answer(False, pending and pending.shown(doors))
        _refuse_other(pending, token)
        _refuse_too_late(pin_dir, doors, pending, check)
        if not check:
            with splicer_pins(doors.bpf, doors.bpffs, pin_dir) as pins:
                dead_man.disarm(doors.bpf, pins, rule_table(doors, pins))
            _refuse_too_late(pin_dir, doors, pending, check)  # the guard may have begun, see _guard.GRACE
            close(doors, pin_dir, pending, CONFIRMED)
        return {**_answer(True, pending._replace(outcome=CONFIRMED).shown(doors)), "left": list(pending.left)}


def rollback(options: Mapping, doors: Doors, check: bool) -> dict:
    """Bring back what was before the change. Raises Unconfirmed when it was confirmed, or never begun."""
    pin_dir, token = options["pin_dir"], options["token"]
    with locked(doors, pin_dir, check, mount=False):
        pending = latest(doors, pin_dir)
        if _is_done(pending, token, ROLLED_BACK):
            return _answer(False, pending and pending.shown(doors))
        _refuse_other(pending, token)
        if pending.outcome == CONFIRMED:
            raise Unconfirmed(f"the change of token {token} was confirmed: there is no way back by this means")
        changes = [] if check else _take_back(pin_dir, doors, pending)
        return _answer(True, pending._replace(outcome=ROLLED_BACK).shown(doors), changes)


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


def _refuse_too_late(pin_dir: str, doors: Doors, pending: Pending, check: bool) -> None:
    """Raise Unconfirmed past the deadline; what was before is in force then."""
    if pending.outcome == ROLLED_BACK or pending.is_over(doors):
        _settle(pin_dir, doors, check)
        raise Unconfirmed(
            f"too late: the change by {pending.who} was not confirmed within {pending.seconds} s and was rolled"
            " back; what was before it is in force"
        )


def settle(pin_dir: str, doors: Doors, check: bool) -> None:
    """Finish what a change left that nobody confirmed: the guard may have been killed."""
    if waiting(doors, pin_dir) is not None:
        with locked(doors, pin_dir, check, mount=False):
            _settle(pin_dir, doors, check)


def _settle(pin_dir: str, doors: Doors, check: bool) -> None:
    pending = waiting(doors, pin_dir)
    if pending is not None and pending.is_over(doors) and not check:
        _take_back(pin_dir, doors, pending)


def _take_back(pin_dir: str, doors: Doors, pending: Pending) -> list:
    with doors.netlink() as netlink:
        return take_back(doors, netlink, pin_dir, pending)


def _answer(changed: bool, shown: Mapping | None, changes: list = ()) -> dict:
    after = shown["state"] if shown else "none"
    before = PENDING if changed and after != PENDING else "none"
    return {
        "changed": changed,
        "confirm": shown,
        "changes": list(changes),
        "diff": {"before": f"{before if changed else after}\n", "after": f"{after}\n"},
    }
