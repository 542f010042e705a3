# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The shell of the command line: which personality is meant, one story, what is printed, the exit status.

Everything is imported where it is needed: a router waits for each call.
"""

from __future__ import annotations

import os
import sys

from ._errors import Busy, InvalidInput, TproxyError
from ._splicer import VERSION

NAME = "tproxy-splicer"
DONE, REFUSED, USAGE, BUSY = 0, 1, 2, 3

HELP = """\
usage: {name} COMMAND [OPTION...]
       {name} -I | -D | -L | -F | -V [OPTION...]

The first form is for people; `{name} COMMAND --help` tells more.
The second is for OpenZiti routers: this file as their diverter.

commands:
{commands}

exit status:
  {done}  done
  {refused}  refused, or not in force: nothing was changed unless the message says so;
     doctor: there are errors; explain: the answer is not the expected one
  {usage}  the command line is wrong
  {busy}  another run or an unconfirmed change is in the way: try again
"""


def main(argv: list) -> int:
    """Run what the command line asks for; return the exit status."""
    words = argv[1:]
    if not words:
        return _speak("", help_text(), USAGE)
    if words[0] in ("--help", "help"):
        return _speak(help_text())
    if words[0] in ("--version", "-V"):
        return _speak(f"{NAME} {VERSION}")
    return _command(words)


def help_text() -> str:
    """Return what --help prints."""
    from ._commands import COMMANDS

    commands = "\n".join(f"  {name:9} {command.summary}" for name, command in COMMANDS.items())
    return HELP.format(name=NAME, commands=commands, done=DONE, refused=REFUSED, usage=USAGE, busy=BUSY).rstrip()


def _command(words: list) -> int:
    from ._commands import COMMANDS

    if words[0] not in COMMANDS:
        return _speak("", f"{NAME}: there is no command {words[0]!r}; it is one of {', '.join(COMMANDS)}", USAGE)
    command, options = COMMANDS[words[0]], vars(_parser(words[0]).parse_args(words[1:]))
    try:
        story, printer = command.load()
        answer = story(options, _doors(), False)
    except TproxyError as error:
        failure = {"failed": True, "msg": str(error), **error.details}
        return _speak(_json(failure) if options["json"] else "", f"{NAME}: {error}", status_of(error))
    warnings = "\n".join(f"{NAME}: warning: {warning}" for warning in answer.get("warnings", []))
    text = _json(answer) if options["json"] else printer(answer, options)
    return _speak(text, warnings, REFUSED if command.has_failed(answer) else DONE)


def _parser(name: str):
    import argparse

    from ._commands import COMMANDS, add_common

    parser = argparse.ArgumentParser(
        prog=f"{NAME} {name}",
        description=COMMANDS[name].details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    COMMANDS[name].add(parser)
    add_common(parser)
    return parser


def _doors():
    from ._open_doors import open_doors

    return open_doors()


def status_of(error: TproxyError) -> int:
    """Return the exit status that tells of an error."""
    if isinstance(error, InvalidInput):
        return USAGE
    return BUSY if isinstance(error, Busy) else REFUSED


def _json(answer: dict) -> str:
    import json

    return json.dumps(answer, indent=2, ensure_ascii=False)


def _speak(text: str, complaint: str = "", status: int = DONE) -> int:
    """Print an answer, and a complaint on standard error; return the exit status."""
    for stream, said in ((sys.stderr, complaint), (sys.stdout, text)):
        if said:
            stream.reconfigure(errors="backslashreplace")
            _write(stream, f"{said}\n")
    return status


def _write(stream, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:  # the reader has seen enough, as in `show | head`; Python would flush again, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
