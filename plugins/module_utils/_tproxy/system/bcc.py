# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Adapter to the compiler: BCC, in its own process.

BCC exists only for the distribution's own Python (never from PyPI: that name is another project there). The adapter
therefore looks for an interpreter with BCC. Requests and answers are JSON.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import TypedDict

from ..errors import CompileFailed, MissingLibrary
from . import bcc_child
from .system import INTERPRETERS

TIMEOUT_SECONDS = 120
LOG_KEPT = 4000


class CompiledObject(TypedDict):
    """The answer of the compiler's process.

    `instructions` is base64. `maps` is {placeholder: (map name, fields of its shape)}: the instructions hold the
    placeholder where the descriptor of the map belongs.
    """

    instructions: str
    maps: dict[str, tuple[str, list[int]]]
    compiler: str


class Compiler:
    """Compiles with the first of the `interpreters` that has BCC. By default these are this Python and INTERPRETERS."""

    def __init__(self, interpreters: Sequence[str] | None = None) -> None:
        self._interpreters = interpreters or _candidates()
        self._script = inspect.getsource(bcc_child)

    def version(self) -> str:
        """Return the compiler's name and version. Raises MissingLibrary, CompileFailed."""
        return self._ask({})["compiler"]

    def compile(
        self,
        files: Mapping[str, str],
        entry: str,
        function: str,
        defines: Mapping[str, object],
        placeholders: Mapping[int, Sequence[object]],
    ) -> CompiledObject:
        """Compile one function of the file `entry`.

        `files` is {path relative to the source folder: text}. The headers for the kernel's types are under stubs/.
        `placeholders` is {placeholder: (map name, shape)}. Raises CompileFailed with the end of the compiler's output,
        and MissingLibrary.
        """
        request: dict[str, object] = {"files": files, "entry": entry, "function": function}
        request["placeholders"] = placeholders
        request["defines"] = {str(name): str(value) for name, value in defines.items()}
        return self._ask(request)

    def _ask(self, request: Mapping[str, object]) -> CompiledObject:
        """Return the answer of the first interpreter with BCC. An empty request is answered with `compiler` alone."""
        for interpreter in self._interpreters:
            answer = self._run(interpreter, request)
            if answer is not None:
                return answer
        raise MissingLibrary(
            "BCC's Python module",
            "install python3-bpfcc (Debian, Ubuntu) or python3-bcc (RHEL family), never bcc from PyPI;"
            " or compile elsewhere and pass `blob`",
        )

    def _run(self, interpreter: str, request: Mapping[str, object]) -> CompiledObject | None:
        """Return the answer of one interpreter, or None if it has no BCC."""
        try:
            # The adapters serve the command line and the action plugin, too. Both have no AnsibleModule.run_command.
            child = subprocess.run(  # pylint: disable=ansible-bad-function
                [interpreter, "-I", "-c", self._script],
                input=json.dumps(request),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise CompileFailed(f"the compiler was stopped after {TIMEOUT_SECONDS} s", "") from late
        if child.returncode == bcc_child.NO_BCC:
            return None
        if child.returncode:
            # BCC calls the source file /virtual/main.c
            log = child.stderr.replace("/virtual/main.c", str(request.get("entry", ""))).strip()
            raise CompileFailed(_reason(child.returncode), log[-LOG_KEPT:])
        answer: CompiledObject = json.loads(child.stdout)
        return answer


def _candidates() -> list[str]:
    own = [sys.executable] if sys.executable else []
    return own + [path for path in INTERPRETERS if path not in own and os.access(path, os.X_OK)]


def _reason(status: int) -> str:
    if status == bcc_child.BAD_SOURCE:
        return "the source does not compile"
    if status < 0:
        return f"the compiler was killed by signal {-status}"
    return "the compiler's process failed"
