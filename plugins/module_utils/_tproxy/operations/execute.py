# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The pipeline of every operation that changes the router.

1. Finish an expired change, whose watchdog may have been killed.
2. With `confirm_timeout`: predict the change, start the pending change, run. Otherwise run.
3. Save the state file, unless the change is pending.
4. Leave a line in the audit trail for a change.

A run holds the lock of the state file until it has saved. So the watcher never restores from an outdated file.

A run without a change imports neither the code of pending changes nor that of the state file: a router compiles each
file that a module imports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from ..constants import FUNCTION, STATE_FILE, UNSAVED
from ..errors import InvalidInput, TproxyError
from ..resources.attachments import users
from ..resources.lock import Pending, pending_change, refuse_bad_timeout, state_file_lock, write_record
from ..resources.lost_pins import living_pins
from ..resources.operation import Operation, Options, Result, run_once, with_absolute_pin_dir
from ..resources.programs import Programs
from ..system.system import Compiler, System
from .audit import audit

UNMET = "no program is attached, so no packet meets this change: there was nothing to confirm"


def execute(operation: Operation, options: Options, system: System, check_mode: bool) -> Result:
    """Run an operation, save the state file where there is one, and leave the line of a change in the audit trail."""
    options = with_absolute_pin_dir(options)
    result = _saved(operation, options, system, check_mode)
    return _audited(operation, options, result, system, check_mode)


def execute_unsaved(operation: Operation, options: Options, system: System, check_mode: bool) -> Result:
    """Run an operation whose changes are no part of the state file, and leave the line of a change."""
    return _audited(operation, options, run_once(operation, options, system, check_mode), system, check_mode)


def _audited(operation: Operation, options: Options, result: Result, system: System, check_mode: bool) -> Result:
    if not check_mode:
        audit(operation.name, options, result, system)
    return result


def _saved(operation: Operation, options: Options, system: System, check_mode: bool) -> Result:
    """Run an operation and save the state file where there is one.

    A change stands although it cannot be saved: a warning says so, and the watcher ignores the outdated file. The run
    that confirms a pending change saves it.
    """
    run = _run_confirmable if operation.confirmable else _run_finished
    if not system.files.exists(STATE_FILE):
        return run(operation, options, system, check_mode)
    if check_mode:
        return _with_foreseen_warnings(run(operation, options, system, True), options, system)
    with state_file_lock(system):
        result = run(operation, options, system, check_mode)
        if result.pending or not (result.changed or system.files.exists(UNSAVED)):
            return result
        from ..persistence.state_file import refresh_state_file

        return result.with_warnings(refresh_state_file(options["pin_dir"], result.released_interfaces, system))


def _with_foreseen_warnings(predicted: Result, options: Options, system: System) -> Result:
    """Return a predicted result with the warnings of the state file that the run would save."""
    is_saved = predicted.changed or system.files.exists(UNSAVED)
    if predicted.pending or predicted.replaces_state_file or not is_saved:
        return predicted
    from ..persistence.state_file import foreseen_warnings

    return predicted.with_warnings(
        foreseen_warnings(options["pin_dir"], predicted.released_interfaces, system, predicted.pins_program)
    )


def _run_finished(operation: Operation, options: Options, system: System, check_mode: bool) -> Result:
    """Run an operation that cannot be confirmed, after the roll-back of an expired change."""
    if "pin_dir" in options:
        _finish_expired(options["pin_dir"], system, check_mode)
    return _run(operation, options, system, check_mode)


def _finish_expired(pin_dir: str, system: System, check_mode: bool) -> None:
    """Roll back a change past its deadline."""
    if pending_change(system, pin_dir) is not None:
        from ..commit_confirm.change import finish_expired

        finish_expired(pin_dir, system, check_mode)


def _run(operation: Operation, options: Options, system: System, check_mode: bool) -> Result:
    return operation.function(options, system, check_mode)


def _run_confirmable(operation: Operation, options: Options, system: System, check_mode: bool) -> Result:
    """Run an operation that may have to be confirmed, or that is part of a pending change.

    A run that would change nothing starts no pending change, so check mode predicts exactly what a run does. With
    `confirm_by_default` no user asked for a confirmation: a change that cannot have one, or needs none, has none.
    """
    seconds, token = options.get("confirm_timeout") or 0, options.get("confirm_token")
    by_default = bool(options.get("confirm_by_default"))
    if by_default and options.get("function", FUNCTION) != FUNCTION:
        seconds, options = 0, {**options, "confirm_token": None}
    if seconds:
        _refuse_bad_options(options, seconds)
    _finish_expired(options["pin_dir"], system, check_mode)
    if _is_part(options["pin_dir"], token, system):
        return _as_pending(_run(operation, options, system, check_mode), options["pin_dir"], system, check_mode)
    if not seconds:
        return _run(operation, options, system, check_mode)
    options = {**options, "confirm_token": None}
    system = replace(system, compiler=_CachingCompiler(system.compiler), predicted={})
    predicted = _run(operation, options, system, True)
    if not predicted.changed:
        return predicted.with_data(confirm=None)
    if predicted.meets_packets is False or (by_default and not predicted.may_cut_off):
        return (predicted if check_mode else _run(operation, options, system, False)).with_data(confirm=None)
    if not _meets_packets(predicted, options["pin_dir"], system):
        result = predicted if check_mode else _run(operation, options, system, False)
        return result.with_data(confirm=None).with_warnings([] if by_default else [UNMET])
    if check_mode:
        from ..commit_confirm.change import foresee_start

        foresee_start(options["pin_dir"], system)
        return replace(predicted.with_data(confirm=None), pending=True)
    return _run_pending(operation, options, system, seconds, token, predicted)


def _refuse_bad_options(options: Options, seconds: int) -> None:
    refuse_bad_timeout(seconds)
    if options.get("function", FUNCTION) != FUNCTION:
        raise InvalidInput([f"confirm_timeout: works for our own program {FUNCTION} only, not {options['function']}"])


def _is_part(pin_dir: str, token: str | None, system: System) -> bool:
    """Return whether the token is that of the pending change."""
    pending = pending_change(system, pin_dir)
    return pending is not None and pending.token == token


def _meets_packets(predicted: Result, pin_dir: str, system: System) -> bool:
    """Return whether a program of ours is attached, or will be."""
    if predicted.data.get("attachment") or predicted.meets_packets:
        return True
    with system.netlink() as netlink, living_pins(system, lambda: netlink, pin_dir) as pins:
        return bool(users(netlink, Programs(system.bpf, pins), FUNCTION))


def _run_pending(
    operation: Operation, options: Options, system: System, seconds: int, token: str | None, predicted: Result
) -> Result:
    """Run an operation as a change that waits for confirmation.

    Its diff is the predicted one. The start of the change writes each policy, also a damaged one, as it is read.
    """
    from ..commit_confirm.change import confirm, recover_pins, rollback, start

    pin_dir = options["pin_dir"]
    repaired = recover_pins(pin_dir, system)
    pending = start(pin_dir, seconds, token, system)
    own_change = {"pin_dir": pin_dir, "token": pending.token}
    try:
        result = _run(operation, {**options, "confirm_token": pending.token}, system, False)
        result = _as_pending(result, pin_dir, system, False)
    except TproxyError:
        with suppress(TproxyError):  # then the watchdog rolls back
            rollback(own_change, system, False)
        raise
    # Lost pins are back before the change starts, so the run itself has not found them lost.
    parts = {"changed_parts": predicted.data["changed_parts"]} if repaired and "changed_parts" in predicted.data else {}
    if not result.changed:  # another run made the same change between prediction and run
        confirm(own_change, system, False)
        return replace(result, changed=repaired, diff=predicted.diff).with_data(confirm=None, **parts)
    result = replace(result, diff=predicted.diff)
    return result.with_data(confirm=pending.shown(system), **parts).with_warnings(_alone(token, pending, system))


def _alone(token: str | None, pending: Pending, system: System) -> list[str]:
    """Return a warning for a change without a token of its caller: no action plugin has started it, or confirms it."""
    if token is not None:
        return []
    return [
        f"no action plugin confirms this change, so the router rolls it back in {pending.seconds_left(system)} s; to"
        f" keep it, run tproxy_confirm with token={pending.token} over a new connection"
    ]


def _as_pending(result: Result, pin_dir: str, system: System, check_mode: bool) -> Result:
    """Return a result that must not be saved yet.

    The record of the change keeps its released interfaces for the run that confirms.
    """
    released, pending = result.released_interfaces, pending_change(system, pin_dir)
    if released and pending is not None and not check_mode:
        everything = (*pending.released_interfaces, *released)
        write_record(system, pin_dir, pending._replace(released_interfaces=everything))
    return replace(result, released_interfaces=(), pending=True)


class _CachingCompiler:
    """A compiler that compiles the same source once, for the prediction and for the run."""

    def __init__(self, opened: Callable[[], Compiler]) -> None:
        self._opened = opened
        self._known: dict[str, Mapping[str, object]] = {}

    def __call__(self) -> _CachingCompiler:
        return self

    def version(self) -> str:
        """Return the version of the compiler."""
        return self._opened().version()

    def compile(
        self,
        files: Mapping[str, str],
        entry: str,
        function: str,
        defines: Mapping[str, object],
        placeholders: Mapping[int, Sequence[object]],
    ) -> Mapping[str, object]:
        """Return the compiled program of a source."""
        key = repr((files, entry, function, defines, placeholders))
        if key not in self._known:
            self._known[key] = self._opened().compile(files, entry, function, defines, placeholders)
        return self._known[key]
