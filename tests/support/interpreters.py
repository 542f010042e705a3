# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the Python interpreters of this machine that a router could have: one of each release since 3.9."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLDEST = (3, 9)


def interpreters() -> dict[str, str]:
    """Return {"3.9": path of the interpreter} in the order of the releases.

    tools/debian_pythons adds those of Debian's next release.
    """
    found = {"%d.%d" % sys.version_info[:2]: sys.executable}
    for path in _candidates():
        release = re.fullmatch(r"python(3\.\d+)", path.name)
        if release and release[1] not in found and _parts(release[1]) >= OLDEST and _starts(path):
            found[release[1]] = str(path)
    return {release: found[release] for release in sorted(found, key=_parts)}


def _candidates() -> list[Path]:
    """Return the files called python3.*: of the distribution, of pyenv, and of the folder .work/pythons."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path(os.environ.get("USER_HOME") or Path.home()) / ".pyenv")
    folders = (Path("/usr/bin"), Path("/usr/local/bin"), ROOT / ".work/pythons/root/usr/bin")
    return [path for folder in folders for path in folder.glob("python3.*")] + [*pyenv.glob("versions/*/bin/python3.*")]


def _parts(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


def _starts(path: Path) -> bool:
    try:
        return subprocess.run([path, "-I", "-c", ""], capture_output=True, check=False).returncode == 0
    except OSError:
        return False
