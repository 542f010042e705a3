# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The commands export and diff: the state of a router as YAML, and what changed since."""

from __future__ import annotations

from ..errors import InvalidInput
from ..model.option_text import option_lines
from ..operations.gather import gather
from ..resources.operation import Answer, Operation, Options, Result
from ..system.open_checks import open_for_checks
from ..system.system import System

HEAD = "# options of netedge.tproxy.tproxy_router"


def export_text(answer: Answer) -> str:
    """Return the options as YAML."""
    return "\n".join([HEAD, *option_lines(answer["gathered"])])


def compare(options: Options, system: System, check: bool) -> Result:
    """Return the state in force, and its differences to a file. Raise InvalidInput if there is no file."""
    text = system.files.read(options["file"])
    if text is None:
        advice = "write one with: tproxy-splicer export"
        raise InvalidInput([f"FILE: expected a file that export wrote, found none at {options['file']}; {advice}"])
    result = gather(options, system, check)
    return result.with_data(differences=_differences(text, option_lines(result.data["gathered"])))


def difference_text(answer: Answer) -> str:
    """Return the differences, or a sentence without any."""
    return "\n".join(answer["differences"]) or "the state in force is that of the file"


def _differences(text: str, now: list[str]) -> list[str]:
    """Return the lines of a file that are not there now with -, and those that are new with +."""
    import difflib

    before = [line for line in text.splitlines() if line.strip() and not line.startswith(("#", "---"))]
    compared = list(difflib.unified_diff(before, now, n=0, lineterm=""))
    return [line for line in compared[2:] if not line.startswith("@@")]  # behind two lines with names of files


COMPARE = Operation("diff", compare, opens=open_for_checks)
