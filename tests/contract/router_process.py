# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An OpenZiti router as a process of its own: it owns its listeners, and its diverter's calls are its children."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import NamedTuple

PROGRAM = """
import json, socket, subprocess, sys
kept = []
with open("/proc/self/comm", "w") as name:
    name.write("ziti")
for line in sys.stdin:
    asked = json.loads(line)
    if asked["listen"]:
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        one.setsockopt(socket.SOL_IP, 19, 1)  # IP_TRANSPARENT
        one.bind(("127.0.0.1", 0))
        one.listen(9)
        kept.append(one)
        answer = one.getsockname()[1]
    else:
        done = subprocess.run(asked["words"], env=asked["env"], capture_output=True, text=True)
        answer = [done.returncode, done.stdout, done.stderr]
    print(json.dumps(answer), flush=True)
"""


class Answered(NamedTuple):
    """The end of a call."""

    status: int
    out: str
    err: str


# AppArmor changes the profile of a process when it executes a program.
CONFINED = 'echo "exec $0" > /proc/self/attr/exec && exec "$@"'


class RouterProcess:
    """A running router. `command` is the path of its diverter, `environment` that of the calls.

    `profile` names the profile of AppArmor that confines it.
    """

    def __init__(self, command: str, environment: dict, profile: str = ""):
        self._command, self._environment = command, environment
        before = ["/bin/sh", "-c", CONFINED, profile] if profile else []
        self._process = subprocess.Popen(
            [*before, sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid

    def listen(self) -> int:
        """Open a transparent listener, and return its port."""
        return self._ask(listen=True)

    def call(self, *words: str) -> Answered:
        """Call the diverter."""
        return Answered(*self._ask(listen=False, words=[self._command, *words], env=self._environment))

    def _ask(self, **request):
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def stop(self) -> None:
        """End it. Its sockets close."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
