# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The story of the helper: a service with root's rights that does what routers without them ask of their diverter.

One request is one change, in force when it is answered. The rules stay compiled in its memory, so that a request costs
the same however many there are; the kernel stays the only truth, so it may be killed at any time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Callable, NamedTuple

from ..errors import Busy, InvalidInput, LayoutMismatch, TproxyError, Unconfirmed
from ..model.rule import Rule, is_routers
from ..resources.lock import lock_for_change
from ..resources.migrate import pins_in_force
from ..resources.pending import refuse_unconfirmed
from ..resources.pins import splicer_pins
from ..resources.rule_changes import rule_table
from ..resources.rules_incremental import LiveTable
from ..system.system import System
from .divert import Guards, left_behind, listener_test
from .diverter_args import Request, flow_of, leaving, parse, superseded

IDLE_SECONDS = 60
DONE, REFUSED, USAGE, BUSY = 0, 1, 2, 3
FOR_ALL, FOR_ROOT = ("insert", "delete"), ("insert", "delete", "flush")


def serve(options: Mapping, system: System, check: bool) -> Iterator[str]:
    """Answer requests until the end of the process, in check mode none; yield lines for the journal."""
    queue = system.requests.inherited()
    service, log = RuleService(options["pin_dir"], system), ServiceLog(system.background.monotonic_ns)
    yield from _collect(service, log)
    while not check:
        request = queue.next(IDLE_SECONDS)
        if request is None:
            yield from log.sums()
            yield from _collect(service, log)
            continue
        answer = service.answer(request.data, request.user)
        request.answer(f"{answer.status} {answer.line}\n")
        yield from log.answered(request.user, _words(request.data), answer)


def _collect(service: RuleService, log: ServiceLog) -> list:
    """Remove rules whose router has crashed; return what to tell. What goes wrong is tried again when idle."""
    try:
        return log.collected(service.collect())
    except TproxyError as fault:
        return log.failed(str(fault))


class Answer(NamedTuple):
    """What a request is answered, and whether it changed anything."""

    status: int
    line: str
    changed: bool = False


class RuleService:
    """What is known between two requests."""

    def __init__(self, pin_dir: str, system: System):
        self._pin_dir, self._system = pin_dir, system
        self._live, self._pins, self._guards = None, None, Guards()

    def answer(self, data: bytes | None, user: int) -> Answer:
        """Do what a request says, for a user."""
        try:
            request = _read(data, user)
            changed, not_enforced_reason = self._do_again(request)
        except InvalidInput as fault:
            return Answer(USAGE, _line(str(fault)))
        except (Busy, Unconfirmed) as fault:
            return Answer(BUSY, _line(str(fault)))
        except TproxyError as fault:
            self._forget()
            return Answer(REFUSED, _line(str(fault)))
        if not_enforced_reason:
            return Answer(REFUSED, _line(not_enforced_reason), changed)
        return Answer(DONE, _line("; ".join(request.warnings)), changed)

    def collect(self) -> list:
        """Remove the rules whose router has crashed, and return them. Raises what a change raises."""
        try:
            with self._turn() as live:
                gone = left_behind(live.rules(), self._system) if live else []
                if gone:
                    live.change([rule.identity for rule in gone], [])
                return gone
        except TproxyError:
            self._forget()
            raise

    def _do_again(self, request: Request) -> tuple:
        """Do it; once more if somebody has removed or replaced the pins meanwhile."""
        known = self._live is not None
        try:
            return self._do(request)
        except LayoutMismatch:
            if not known:
                raise
            self._forget()
            return self._do(request)

    def _do(self, request: Request) -> tuple:
        """Return whether anything was changed, and why an insert is not in force, or ""."""
        listens = listener_test(self._system)
        with self._turn(request.operation == "insert") as live:
            if live is None:
                return False, ""
            removes, puts = [], []
            if request.operation == "flush":
                removes = [rule.identity for rule in live.rules() if is_routers(rule.owner)]
            for one in request.rules:
                choose = superseded if isinstance(one, Rule) else leaving
                removes += [rule.identity for rule in choose(one, live.group(one), listens)]
                puts += [one] if isinstance(one, Rule) else []
            changed = live.change(removes, puts)
            return changed, self._guards.not_enforced_reason(puts, self._pins, self._system) if puts else ""

    @contextmanager
    def _turn(self, adds: bool = False):
        """Hold the pin folder, and give the LiveTable of it; None while there is nothing to remove from.

        What turn() asks of the machine is asked once: with the pins open, rights and a bpffs are there.
        """
        if self._live is None:
            with lock_for_change(self._system, self._pin_dir, False, adds):
                self._open(adds)
                if self._live is not None:
                    self._live.refresh()
                yield self._live
            return
        with self._system.bpffs.lock(self._pin_dir):
            refuse_unconfirmed(self._system, self._pin_dir, None)
            self._pins.drop_stale()
            self._live.refresh()
            yield self._live

    def _open(self, adds: bool) -> None:
        with pins_in_force(self._system, self._pin_dir, False) as pins:
            if adds:
                pins.ensure()
                pins.keep()
            if not pins.complete:
                return
        self._pins = splicer_pins(self._system.bpf, self._system.bpffs, self._pin_dir)
        table = rule_table(self._system, self._pins)
        self._live = LiveTable(self._system.bpf, self._system.words, table, _group_of)

    def _forget(self) -> None:
        """Begin anew with the next request."""
        if self._live is not None:
            self._live.close()
            self._pins.close()
        self._live = self._pins = None


def _group_of(member) -> tuple | None:
    """Return what a router's rules for one flow have in common."""
    owner = member.owner
    return flow_of(member) if not owner or is_routers(owner) else None


def _read(data: bytes | None, user: int) -> Request:
    """Return what a request asks for. Raises InvalidInput."""
    if data is None:
        raise InvalidInput(["the request is too long, or was not sent in time"])
    try:
        request = parse(data.decode("utf-8").split("\0"))
    except UnicodeDecodeError:
        raise InvalidInput(["the request is not UTF-8"]) from None
    if request.operation not in (FOR_ALL if user else FOR_ROOT):
        raise InvalidInput([f"{request.operation}: not over this socket; run tproxy-splicer as root"])
    return request


def _line(text: str) -> str:
    return " ".join(text.split())


def _words(data: bytes | None) -> str:
    return "" if data is None else data.replace(b"\0", b" ").decode("utf-8", "replace")


INFO, WARNING = "<6>", "<4>"  # sd-daemon(3)
PERIOD = 10 * 10**9
LINES_PER_PERIOD = 20  # of each level
LINE_LENGTH = 400


class ServiceLog:
    """The lines to write. `monotonic_ns` is the clock."""

    def __init__(self, monotonic_ns: Callable[[], int]):
        self._clock, self._period_ends = monotonic_ns, 0
        self._told, self._untold = Counter(), Counter()

    def answered(self, user: int, words: str, answer) -> list:
        """Tell what a user asked for and was answered: nothing where nothing was changed or refused."""
        if answer.status:
            return self._tell(WARNING, f"uid {user}", "refused", f"{answer.line} (asked for: {words})")
        return self._tell(INFO, f"uid {user}", "done", words) if answer.changed else []

    def collected(self, rules: Iterable) -> list:
        """Tell which rules were removed since their listener is gone."""
        told = [self._tell(WARNING, "garbage", "removed", f"{rule}") for rule in rules]
        return [line for lines in told for line in lines]

    def failed(self, fault: str) -> list:
        """Tell what went wrong that nobody asked for."""
        return self._tell(WARNING, "garbage", "not collected", fault)

    def sums(self) -> list:
        """Tell how much was not told one by one."""
        untold, self._untold = self._untold, Counter()
        return [f"{INFO}{who}: {count} more {what}" for (who, what), count in sorted(untold.items())]

    def _tell(self, level: str, who: str, what: str, line: str) -> list:
        lines = []
        if self._clock() >= self._period_ends:
            lines = self.sums()
            self._told.clear()
            self._period_ends = self._clock() + PERIOD
        self._told[level] += 1
        if self._told[level] > LINES_PER_PERIOD:
            self._untold[who, what] += 1
            return lines
        return [*lines, f"{level}{who}: {what}: {_printable(line)}"]


def _printable(text: str) -> str:
    """Return a text of any origin as one line that is no other line's, nor too long."""
    return "".join(each if each.isprintable() else "?" for each in text[:LINE_LENGTH])
