# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Running a story that changes something: alone, as part of a change that waits, or as such a change itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress

from ..commit_confirm.change import confirm, finish_expired, refuse_bad_timeout, rollback, start
from ..constants import FUNCTION, STATE_FILE
from ..errors import InvalidInput, TproxyError
from ..persistence.state_file import UNSAVED, refresh_state_file, state_file_lock
from ..resources.attachments import users
from ..resources.migrate import refuse_older_release
from ..resources.pending import pending_change, write_record
from ..resources.pins import splicer_pins
from ..resources.programs import Programs
from ..system.system import System


def run_and_save(operation: Callable, options: Mapping, system: System, check: bool) -> dict:
    """Run a story, and save what it changed where the state is kept. Its answer, without `left`, is the story's.

    The change stands when it cannot be saved: then a warning says so, and nothing is repaired by the stale file. One
    that waits for its confirmation is saved by the run that confirms it.
    """
    if "pin_dir" in options:  # under its one name, by which a state is known as that of this folder
        options = {**options, "pin_dir": os.path.abspath(options["pin_dir"])}
    if check or "state" not in options or not system.files.exists(STATE_FILE):
        answer = operation(options, system, check)
        answer.pop("left", None), answer.pop("waits", None)
        return answer
    with state_file_lock(system):
        answer = operation(options, system, check)
        left, waits = answer.pop("left", []), answer.pop("waits", False)
        if not waits and (answer["changed"] or system.files.exists(UNSAVED)):
            answer.setdefault("warnings", []).extend(refresh_state_file(options["pin_dir"], left, system))
    return answer


def run_change(operation: Callable, options: Mapping, system: System, check: bool) -> dict:
    """Return the story's answer. With `confirm_timeout` it has a member `confirm`: the change that now waits, or None.

    A run that would change nothing arms nothing: check mode foretells exactly what a run does.
    """
    seconds, token = options.get("confirm_timeout") or 0, options.get("confirm_token")
    _refuse_bad_options(options, seconds)
    finish_expired(options["pin_dir"], system, check)
    if _is_part(options["pin_dir"], token, system):
        return _pending(operation(options, system, check), options["pin_dir"], system, check)
    if not seconds:
        return operation(options, system, check)
    refuse_older_release(system, options["pin_dir"])
    options = {**options, "confirm_token": None}
    system = system._replace(compiler=_CachingCompiler(system.compiler))
    predicted = operation(options, system, True)
    if check or not predicted["changed"]:
        return {**predicted, "confirm": None}
    if not _meets_packets(predicted, options["pin_dir"], system):
        note = "no program is attached, so no packet meets this change: there was nothing to confirm"
        answer = operation(options, system, False)
        return {**answer, "confirm": None, "warnings": [*answer.get("warnings", []), note]}
    return _confirmable(operation, options, system, seconds, token)


def _refuse_bad_options(options: Mapping, seconds: int) -> None:
    if seconds:
        refuse_bad_timeout(seconds)
    if seconds and options.get("function", FUNCTION) != FUNCTION:
        raise InvalidInput([f"confirm_timeout: works for our own program {FUNCTION} only, not {options['function']}"])


def _is_part(pin_dir: str, token: str | None, system: System) -> bool:
    """Whether the token is that of a change that waits already."""
    pending = pending_change(system, pin_dir)
    return pending is not None and pending.token == token


def _meets_packets(predicted: Mapping, pin_dir: str, system: System) -> bool:
    """Whether a program of ours is attached, or will be."""
    if predicted.get("attachment"):
        return True
    with system.netlink() as netlink, splicer_pins(system.bpf, system.bpffs, pin_dir) as pins:
        return bool(users(netlink, Programs(system.bpf, pins), FUNCTION))


def _confirmable(operation: Callable, options: Mapping, system: System, seconds: int, token: str | None) -> dict:
    """Run the story as a change that waits for its confirmation."""
    pending = start(options["pin_dir"], seconds, token, system)
    mine = {"pin_dir": options["pin_dir"], "token": pending.token}
    try:
        answer = operation({**options, "confirm_token": pending.token}, system, False)
        answer = _pending(answer, options["pin_dir"], system, False)
    except TproxyError:
        with suppress(TproxyError):  # else the guard does it
            rollback(mine, system, False)
        raise
    if not answer["changed"]:  # somebody else made the same change between the two runs
        confirm(mine, system, False)
        return {**answer, "confirm": None}
    return {**answer, "confirm": pending.shown(system)}


def _pending(answer: dict, pin_dir: str, system: System, check: bool) -> dict:
    """Return the answer of a run that must not be saved yet; what it gave up is noted for the run that confirms."""
    left, pending = answer.pop("left", []), pending_change(system, pin_dir)
    if left and pending is not None and not check:
        write_record(system, pin_dir, pending._replace(released_interfaces=(*pending.released_interfaces, *left)))
    return {**answer, "waits": True}


class _CachingCompiler:
    """The compiler's door, opened as often as you like, which compiles the same thing once."""

    def __init__(self, opened: Callable):
        self._opened, self._known = opened, {}

    def __call__(self) -> _CachingCompiler:
        return self

    def version(self) -> str:
        """As the door's."""
        return self._opened().version()

    def compile(self, *question) -> dict:
        """As the door's."""
        key = repr(question)
        if key not in self._known:
            self._known[key] = self._opened().compile(*question)
        return self._known[key]
