# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Daemons that look for libraries and plugins below /usr: they see the unpacked packages there, in a mount namespace.

They may also see files of the test in the place of files of this machine.
"""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.netedge.tproxy.tests.system.daemons.daemons import UNPACKED, program_of

SCRIPT = """
unpacked=$1; shift
for folder in usr lib; do
  [ ! -d "$unpacked/$folder" ] || mount -t overlay overlay -o "lowerdir=$unpacked/$folder:/$folder" "/$folder"
done
while [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done
shift
exec "$@"
"""


def merged(words: list[str], instead: Mapping[str, str] | None = None) -> list[str]:
    """Return a command for Daemons.start() or run(). `instead` are {path of this machine: path of the test's file}."""
    program = program_of(words[0]).removeprefix(str(UNPACKED))
    shown = [each for path, text in (instead or {}).items() for each in (text, path)]
    before = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", SCRIPT, "sh", str(UNPACKED)]
    return [*before, *shown, "--", program, *words[1:]]
