# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The helper: a background process with root's rights that serves the diverter calls of unprivileged routers.

One request is one change, and it is in force before the answer. The helper keeps the compiled rules in its memory, so
the cost of a request does not grow with the number of rules. The kernel holds the only authoritative state, so the
helper may be killed at any time.

A request waits for no other run, and for no change that waits for confirmation: it changes the image in force, and the
image to which that change returns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Callable, NamedTuple

from ..checks.listeners import Listeners
from ..checks.refusals import record_refusal
from ..commit_confirm.change import finish_before_call
from ..constants import VERSION
from ..errors import Busy, Conflict, InvalidInput, LayoutMismatch, LimitExceeded, NotMounted, TproxyError
from ..model.rule import Identity, Rule, is_routers
from ..operations.audit import Line, describe_rules, leave_line
from ..resources.image_lock import image_lock
from ..resources.in_force import AttachedInterfaces
from ..resources.operation import Options, RuleChanges
from ..resources.pins import Pins, splicer_pins
from ..resources.rule_table import rule_table
from ..resources.rules import CURRENT, PREVIOUS
from ..resources.rules_incremental import IncrementalTable
from ..resources.session import lazy_netlink, pins_for_call
from ..system.system import System
from .divert import left_behind
from .diverter_args import Request, flow_of, parse, removed_by
from .spared_ports import spared

IDLE_SECONDS, LOOK_SECONDS = 60, 5
DONE, REFUSED, USAGE, BUSY = 0, 1, 2, 3
SELF_TEST = b"-V"
FOR_ALL, FOR_ROOT = ("insert", "delete"), ("insert", "delete", "flush")


def run_helper(options: Options, system: System, check: bool) -> Iterator[str]:
    """Answer requests until the process ends, and yield lines for the journal. Check mode answers none."""
    queue = system.requests.inherited()
    helper, log = Helper(options["pin_dir"], system), HelperLog(system.background.monotonic_ns)
    yield from _collect(helper, log)
    idle = 0
    while not check:
        request = queue.next(LOOK_SECONDS)
        if request is None:
            idle += LOOK_SECONDS
            if idle < IDLE_SECONDS:
                helper.look()
                continue
            idle = 0
            yield from log.sums()
            yield from _collect(helper, log)
            continue
        idle = 0
        if not system.bpffs.is_mounted(options["pin_dir"]):  # the client asks again after an end without an answer
            raise NotMounted(f"{options['pin_dir']} is in no bpffs: this process ends, and its next start mounts one")
        answer = helper.answer(request.data, request.user, request.refusal)
        if answer.status:  # the client lives until its answer, and its parent is the router
            record_refusal(system, system.processes.parent_of(request.process), answer.line)
        request.answer(f"{answer.status} {answer.line}\n")
        yield from log.answered(request.user, _command_line(request.data), answer)


def _collect(helper: Helper, log: HelperLog) -> list[str]:
    """Remove the rules of crashed routers; return lines for the journal. The idle helper retries a failure."""
    try:
        return log.collected(helper.collect())
    except TproxyError as fault:
        return log.failed(str(fault))


class Answer(NamedTuple):
    """The exit status and line for the client, and whether the request changed anything."""

    status: int
    line: str
    changed: bool = False


class _Opened(NamedTuple):
    """The open pins, and the rules of two images with their compiled form: in force, and previous."""

    pins: Pins
    current: IncrementalTable
    previous: IncrementalTable

    def refresh(self) -> list[IncrementalTable]:
        """Return the tables to change, the one in force last, as other writers left them."""
        self.pins.drop_stale()
        self.previous.adopt(self.current)
        self.current.refresh()
        return [self.previous, self.current] if self.previous.refresh() else [self.current]

    def close(self) -> None:
        """Close tables and pins."""
        for each in (self.previous, self.current, self.pins):
            each.close()


class _Change(NamedTuple):
    """The change of one table."""

    table: IncrementalTable
    removes: list[Identity]
    puts: list[Rule]

    def apply(self) -> RuleChanges | None:
        """Apply it; return the rules that changed, or None."""
        return self.table.change(self.removes, self.puts)


class Helper:
    """The state between two requests."""

    def __init__(self, pin_dir: str, system: System) -> None:
        self._pin_dir, self._system = pin_dir, system
        self._opened: _Opened | None = None
        self._attached = AttachedInterfaces()

    def answer(self, data: bytes | None, user: int, refusal: str = "") -> Answer:
        """Execute the request of a user. `data` is None if the request was refused before, for that reason."""
        if data == SELF_TEST:
            return Answer(DONE, VERSION)
        try:
            request = _read(data, user, refusal)
            changed, not_enforced_reason = self._execute(request, user)
        except InvalidInput as fault:
            return Answer(USAGE, _line(str(fault)))
        except Busy as fault:
            return Answer(BUSY, _line(str(fault)))
        except (Conflict, LimitExceeded) as fault:  # nothing was tried
            return Answer(REFUSED, _line(str(fault)))
        except TproxyError as fault:
            self._forget()
            return Answer(REFUSED, _line(str(fault)))
        # A router never repeats a call, and skips the rest of an address after another status than 0.
        said = [*request.warnings, not_enforced_reason]
        return Answer(DONE, _line("; ".join(filter(None, said))), changed)

    def look(self) -> None:
        """Follow other writers and new listeners, so that the next call has less to do. A failure is left to it."""
        if self._opened is None:
            return
        try:
            with self._locked() as tables:
                for table in tables:
                    self._identify_unknown(table)
        except TproxyError:
            self._forget()

    def collect(self) -> list[Rule]:
        """Remove the rules of crashed routers, and return them. Raise the errors of a change."""
        gone: list[Rule] = []
        try:
            with self._locked() as tables:
                changed = None
                for table in tables:
                    self._identify_unknown(table)
                    gone = left_behind(table.rules(), Listeners(self._system.sockets))
                    changed = table.change([rule.identity for rule in gone], []) or changed
                self._audit("itself, for lack of a listener", changed)
        except TproxyError:
            self._forget()
            raise
        return gone

    def _identify_unknown(self, table: IncrementalTable) -> None:
        """Give each rule whose listener came after its call that listener."""
        listeners = Listeners(self._system.sockets)
        known = [listeners.identify_unknown(rule) for rule in table.rules()]
        for rule in filter(None, known):
            table.change([], [rule])

    def _audit(self, who: str, changes: RuleChanges | None) -> None:
        """Leave the line of a change in the audit trail."""
        if changes:
            line = Line(who, "helper", describe_rules(changes), changes.generation)
            leave_line(self._system.journal, line)

    def _execute(self, request: Request, user: int) -> tuple[bool, str]:
        """Execute a request. Repeat it once if another run has removed or replaced the pins since the last request."""
        was_open = self._opened is not None
        try:
            return self._execute_once(request, user)
        except LayoutMismatch:
            if not was_open:
                raise
            self._forget()
            return self._execute_once(request, user)

    def _execute_once(self, request: Request, user: int) -> tuple[bool, str]:
        """Return whether the request changed anything, and why an inserted rule is not in force, or ""."""
        with self._locked(request.operation == "insert") as tables:
            changes = [self._change_of(table, request) for table in tables]
            changed = [change.apply() for change in changes]
            self._audit(f"uid {user}", next(filter(None, reversed(changed)), None))
            puts = changes[-1].puts if changes else []
            if self._opened is None or not puts:
                return any(changed), ""
            pins = self._opened.pins
            said = [self._attached.not_enforced_reason(puts, pins, self._system), spared(puts, self._system.bpf, pins)]
            return any(changed), "; ".join(filter(None, said))

    def _change_of(self, table: IncrementalTable, request: Request) -> _Change:
        listeners = Listeners(self._system.sockets)
        change = _Change(table, [], [])
        if request.operation == "flush":
            change.removes.extend(rule.identity for rule in table.rules() if is_routers(rule.owner))
        for one in request.rules:
            change.removes.extend(rule.identity for rule in removed_by(one, table.group(one), listeners.has))
            change.puts.extend([listeners.identify(one)] if isinstance(one, Rule) else [])
        return change

    @contextmanager
    def _locked(self, adds: bool = False) -> Iterator[list[IncrementalTable]]:
        """Hold the image lock, and yield the tables to change, the one in force last; none while no maps are pinned.

        A pending change has a table of its own: the previous rules, to which its roll-back and its deadline return.
        """
        finish_before_call(self._pin_dir, self._system)
        if self._opened is None:
            self._opened = self._open(adds)
        if self._opened is None:
            yield []
            return
        with image_lock(self._system, self._pin_dir):
            yield self._opened.refresh()

    def _open(self, adds: bool) -> _Opened | None:
        """Return the open pins. The rights, the bpffs and an older release are checked once, here."""
        system, pin_dir = self._system, self._pin_dir
        with ExitStack() as held:
            netlink = lazy_netlink(system, held)
            pins = held.enter_context(pins_for_call(system, pin_dir, False, adds, netlink))
            if adds:
                with image_lock(system, pin_dir):
                    pins.ensure()
                    pins.keep()
            if not pins.complete:
                return None
        pins = splicer_pins(system.bpf, system.bpffs, pin_dir)
        table = rule_table(system, pins)
        current, previous = (
            IncrementalTable(system.bpf, system.words, table, _group_of, entry) for entry in (CURRENT, PREVIOUS)
        )
        return _Opened(pins, current, previous)

    def _forget(self) -> None:
        """Close the table and the pins. The next request opens them again."""
        if self._opened is not None:
            self._opened.close()
        self._opened = None


def _group_of(member: Rule | Identity) -> Identity | None:
    """Return the flow of a rule of a router, None for rules of other owners."""
    owner = member.owner
    return flow_of(member) if not owner or is_routers(owner) else None


def _read(data: bytes | None, user: int, refusal: str) -> Request:
    """Return the parsed request. Raise InvalidInput."""
    if data is None:
        raise InvalidInput([refusal])
    try:
        request = parse(data.decode("utf-8").split("\0"))
    except UnicodeDecodeError:
        raise InvalidInput(["the request is not UTF-8"]) from None
    if request.operation not in (FOR_ALL if user else FOR_ROOT):
        raise InvalidInput([f"{request.operation}: this socket does not accept it; run tproxy-splicer as root"])
    return request


def _line(text: str) -> str:
    return " ".join(text.split())


def _command_line(data: bytes | None) -> str:
    return "" if data is None else data.replace(b"\0", b" ").decode("utf-8", "replace")


INFO, WARNING = "<6>", "<4>"  # sd-daemon(3)
PERIOD = 10 * 10**9
LINES_PER_PERIOD = 20  # of each level
LINE_LENGTH = 400


class HelperLog:
    """Lines for the journal, limited in number. `monotonic_ns` is the clock."""

    def __init__(self, monotonic_ns: Callable[[], int]) -> None:
        self._clock, self._period_ends = monotonic_ns, 0
        self._written: Counter[str] = Counter()
        self._omitted: Counter[tuple[str, str]] = Counter()

    def answered(self, user: int, command_line: str, answer: Answer) -> list[str]:
        """Return the lines for a request: one if it was refused or changed anything."""
        if answer.status:
            return self._lines(WARNING, f"uid {user}", "refused", f"{answer.line} (asked for: {command_line})")
        return self._lines(INFO, f"uid {user}", "done", command_line) if answer.changed else []

    def collected(self, rules: Iterable[Rule]) -> list[str]:
        """Return the lines for rules that were removed because they have no listener."""
        return [line for rule in rules for line in self._lines(WARNING, "garbage", "removed", f"{rule}")]

    def failed(self, fault: str) -> list[str]:
        """Return the lines for a failed removal of such rules."""
        return self._lines(WARNING, "garbage", "not collected", fault)

    def sums(self) -> list[str]:
        """Return a line for each kind of omitted lines, with their number."""
        omitted, self._omitted = self._omitted, Counter()
        return [f"{INFO}{subject}: {count} more {event}" for (subject, event), count in sorted(omitted.items())]

    def _lines(self, level: str, subject: str, event: str, text: str) -> list[str]:
        lines = []
        if self._clock() >= self._period_ends:
            lines = self.sums()
            self._written.clear()
            self._period_ends = self._clock() + PERIOD
        self._written[level] += 1
        if self._written[level] > LINES_PER_PERIOD:
            self._omitted[subject, event] += 1
            return lines
        return [*lines, f"{level}{subject}: {event}: {_printable(text)}"]


def _printable(text: str) -> str:
    """Return a text of any origin as one line of limited length, so that it cannot forge another line."""
    return "".join(each if each.isprintable() else "?" for each in text[:LINE_LENGTH])
