# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The door to the compiler: BCC, in a process of its own.

It speaks texts and plain dicts. BCC exists only for the distribution's own Python (never from PyPI, where that name is
another project), so the door looks for one that has it.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys

from ..errors import CompileFailed, MissingLibrary
from . import bcc_child

INTERPRETERS = ("/usr/bin/python3", "/usr/libexec/platform-python")
TIMEOUT_SECONDS = 120
LOG_KEPT = 4000


class Compiler:
    """Compiles with the first interpreter that has BCC. `interpreters` is for tests."""

    def __init__(self, interpreters=None):
        self._interpreters = interpreters or _candidates()
        self._script = inspect.getsource(bcc_child)

    def version(self) -> str:
        """Return the compiler's name and version. Raises MissingLibrary."""
        return self._ask({})["compiler"]

    def compile(self, files: dict, entry: str, function: str, defines: dict, placeholders: dict) -> dict:
        """Return {instructions: base64, maps: {placeholder: [name, shape]}, compiler}.

        `files` is {path relative to the source folder: text}; headers for the kernel's types stand under stubs/.
        Raises CompileFailed with the compiler's last words, MissingLibrary.
        """
        request = {"files": files, "entry": entry, "function": function, "placeholders": placeholders}
        request["defines"] = {str(name): str(value) for name, value in defines.items()}
        return self._ask(request)

    def _ask(self, request: dict) -> dict:
        for interpreter in self._interpreters:
            answer = self._run(interpreter, request)
            if answer is not None:
                return answer
        raise MissingLibrary(
            "BCC's Python module",
            "install python3-bpfcc (Debian, Ubuntu) or python3-bcc (RHEL family), never bcc from PyPI;"
            " or compile elsewhere and pass `blob`",
        )

    def _run(self, interpreter: str, request: dict):
        """Return the child's answer, or None when that Python has no BCC."""
        try:
            child = subprocess.run(
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
            raise CompileFailed(_reason(child.returncode), _words(child.stderr, request))
        return json.loads(child.stdout)


def _candidates() -> list:
    found = [sys.executable] if sys.executable else []
    return found + [path for path in INTERPRETERS if path not in found and os.access(path, os.X_OK)]


def _words(stderr: str, request: dict) -> str:
    """Return the end of what the compiler said, about the file by its own name: BCC calls it /virtual/main.c."""
    return stderr.replace("/virtual/main.c", request.get("entry", "")).strip()[-LOG_KEPT:]


def _reason(status: int) -> str:
    if status == bcc_child.BAD_SOURCE:
        return "the source does not compile"
    if status < 0:
        return f"the compiler was killed by signal {-status}"
    return "the compiler's process failed"
