# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The front end of the command line: it runs one operation, prints its result and returns the exit status.

The name of the program and the first argument select the command. Functions import their modules, because a router
waits for each call.
"""

from __future__ import annotations

import os
import sys

from ..constants import HELPER_SOCKET, HELPER_SOCKET_UNIT, PIN_DIR, UNIT_FOLDER, VERSION
from ..errors import Busy, InvalidInput, TproxyError, Unconfirmed
from ..model.text import escaped

TYPE_CHECKING = False
if TYPE_CHECKING:  # at run time functions import these, or no function needs them
    import argparse
    from collections.abc import Mapping
    from typing import NoReturn, TextIO

    from ..system.system import Requests, System

NAME = "tproxy-splicer"
DONE, REFUSED, USAGE, BUSY = 0, 1, 2, 3

HELP = """\
usage: {name} COMMAND [OPTION...]
       {name} -I | -D | -L | -F | -V [OPTION...]

The first form is for operators: see `{name} COMMAND --help`.
The second form is for OpenZiti routers: this file is their diverter.

commands:
{commands}

exit status:
  {done}  done
  {refused}  refused, or not in force: nothing was changed unless the message says so;
     doctor: there are errors; explain: the answer is not the expected one;
     diff: there are differences
  {usage}  the command line is wrong
  {busy}  another run or a pending change blocks this one: try again;
     confirm, rollback: it is too late, or another change is pending
"""


def main(argv: list[str]) -> int:
    """Run the command line; return the exit status."""
    name, words = os.path.basename(argv[0]), argv[1:]
    if name in ("map_update", "map_delete_elem"):
        return _map_program(name, words)
    if not words:
        return _output("", help_text(), USAGE)
    if words[0] in ("--help", "help") or words == ["-h"]:  # with other arguments, -h is the high port of a router
        return _output(help_text())
    if words[0] == "--version":
        return _output(f"{NAME} {VERSION}")
    if words[0] == "-V":
        return _self_test()
    return _divert(words) if words[0].startswith("-") else _command(words)


def help_text() -> str:
    """Return the text of --help."""
    from .commands import COMMANDS

    commands = "\n".join(f"  {name:9} {command.summary}" for name, command in COMMANDS.items())
    return HELP.format(name=NAME, commands=commands, done=DONE, refused=REFUSED, usage=USAGE, busy=BUSY).rstrip()


def _command(words: list[str]) -> int:
    from .commands import COMMANDS, Stream

    if words[0] not in COMMANDS:
        return _output("", f"{NAME}: there is no command {words[0]!r}; use one of {', '.join(COMMANDS)}", USAGE)
    command, options = COMMANDS[words[0]], vars(_parser(words[0]).parse_args(words[1:]))
    try:
        loaded = command.load()
        if isinstance(loaded, Stream):
            for line in loaded.function(options, _system(), False):
                _output(line)
            return DONE
        result = loaded.operation.execute(options, _system(), False)
    except TproxyError as error:
        failure = {"failed": True, "msg": str(error), **error.details}
        return _output(_json(failure) if options["json"] else "", f"{NAME}: {error}", status_of(error))
    answer = result.as_dict()
    warnings = "\n".join(f"{NAME}: warning: {warning}" for warning in result.warnings)
    text = _json(answer) if options["json"] else loaded.printer(answer, options)
    return _output(text, warnings, REFUSED if command.has_failed(answer) else DONE)


def _self_test() -> int:
    """Print one line for the log of a router: the version, and whether its calls will be executed."""
    from ..openziti.self_test import self_test

    told = self_test(_requests(), _helper_socket(), _is_privileged, _read_file)
    _output(f"{NAME} {VERSION}, {told}")
    return DONE


def _read_file(path: str) -> str | None:
    """Return the content of a file, None without one. A reachable helper needs none, so no adapter is loaded."""
    return _system().files.read(path)


def _is_privileged() -> bool:
    """Return whether this user changes rules by itself."""
    from ..resources.lock import missing_capabilities

    return not missing_capabilities(_system())


def _helper_socket() -> str:
    """Return the path of the helper's socket, "" if the caller has turned the helper off."""
    return os.environ.get("TPROXY_SPLICER_HELPER", HELPER_SOCKET)


def _divert(words: list[str]) -> int:
    """Execute the diverter call of a router, or let the helper execute it."""
    from ..openziti.divert import DIVERT
    from ..openziti.diverter_args import parse

    socket = _helper_socket()
    unit = f"{UNIT_FOLDER}/{HELPER_SOCKET_UNIT}"
    answer = _system().requests.ask(socket, words, unit) if socket and words[0] in ("-I", "-D") else None
    if answer:
        status, line = answer
        text = f"{NAME}: {line}" if line else ""
        return _output("", text, status) if status else _output(text)
    try:
        request = parse(words)
        if request.operation == "list":
            return _command(["show", "rules"])
        result = DIVERT.execute({"request": request, "pin_dir": pin_dir()}, _system(), False)
        not_enforced_reason = result.data["not_enforced_reason"]
    except TproxyError as error:
        _record_refusal(str(error))
        return _fail(str(error), words, status_of(error))
    # A router never repeats a call, and skips the rest of an address after another status than 0. It logs this line.
    said = "; ".join(filter(None, [*request.warnings, not_enforced_reason]))
    return _output(f"{NAME}: {said}" if said else "")


def _record_refusal(fault: str) -> None:
    """Count the call among those of the calling router."""
    from ..checks.refusals import record_refusal

    system = _system()
    record_refusal(system, system.processes.parent_of(os.getpid()), fault)


def _fail(fault: str, words: list[str], status: int) -> int:
    """Print one line that says why a router's call failed; return the exit status.

    The line also goes to the journal, because routers log the output of their diverter at debug level.
    """
    import syslog

    line = " ".join(fault.split())
    entry = escaped(f"{line} (asked for: {' '.join(words)})")
    syslog.openlog(NAME, syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_ERR, entry.encode("utf-8", "replace").decode())
    return _output("", f"{NAME}: {line}", status)


def _map_program(name: str, words: list[str]) -> int:
    """Run map_update or map_delete_elem, the programs of the first edge routers."""
    from ..openziti import legacy

    operation, wanted = legacy.PROGRAMS[name]
    if len(words) != len(wanted):
        return _output("", f"Usage: {name} {' '.join(f'<{word}>' for word in wanted)}", USAGE)
    try:
        answer = operation.execute({"words": words, "pin_dir": pin_dir()}, _system(), False).data
    except TproxyError as error:
        return _output("", f"{name}: {error}", REFUSED)
    if answer["not_enforced_reason"]:
        return _output("", f"{name}: {answer['not_enforced_reason']}", REFUSED)
    done = "removed" if name == "map_delete_elem" else "in force"
    return _output("\n".join(f"{done}: {rule}" for rule in answer["rules"]) or "no such rule")


def _parser(name: str) -> argparse.ArgumentParser:
    import argparse

    from .commands import COMMANDS, add_common

    class Parser(argparse.ArgumentParser):
        """A parser that repeats unknown words with their misleading characters escaped."""

        def error(self, message: str) -> NoReturn:
            """Print the usage and the fault, and exit."""
            super().error(escaped(message))

    parser = Parser(
        prog=f"{NAME} {name}",
        description=COMMANDS[name].details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    COMMANDS[name].add(parser)
    add_common(parser, pin_dir())
    return parser


def pin_dir() -> str:
    """Return the pin folder: TPROXY_SPLICER_PIN_DIR of the environment, or PIN_DIR."""
    return os.path.abspath(os.environ.get("TPROXY_SPLICER_PIN_DIR") or PIN_DIR)


def _requests() -> Requests:
    """Return the helper's socket alone: opening every adapter takes four times as long."""
    from ..system import unix_socket

    return unix_socket


def _system() -> System:
    from ..system.open_all import open_system

    return open_system()


def status_of(error: TproxyError) -> int:
    """Return the exit status for an error."""
    if isinstance(error, InvalidInput):
        return USAGE
    return BUSY if isinstance(error, (Busy, Unconfirmed)) else REFUSED


def _json(answer: Mapping[str, object]) -> str:
    import json

    return json.dumps(answer, indent=2, ensure_ascii=False)


def _output(text: str, complaint: str = "", status: int = DONE) -> int:
    """Print an answer, and a complaint on standard error; return the status, or REFUSED if the answer was lost."""
    for stream, output in ((sys.stderr, complaint), (sys.stdout, text)):
        fault = output and stream and _write(stream, f"{output}\n")  # no stream: the caller closed it
        if fault and stream is sys.stdout:
            status = _output("", f"{NAME}: the answer could not be written: {fault}", status or REFUSED)
    return status


def _write(stream: TextIO, text: str) -> str:
    """Write to a stream. Return the reason of a failure; "" also if the reader closed the pipe, as in `show | head`.

    A text may come from another program, such as an interface name or an option that is not known.
    """
    try:
        stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined] # sys.stdout is a TextIOWrapper
        stream.write(escaped(text))
        stream.flush()
    except OSError as refusal:
        # Python flushes the stream again at exit, and would print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return "" if isinstance(refusal, BrokenPipeError) else str(refusal.strerror)
    return ""
