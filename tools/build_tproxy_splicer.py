# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes tproxy-splicer out of the checkout's rooms, for machines like this one and the Python that runs this script.

usage: python3 build_tproxy_splicer.py FILE
"""

from __future__ import annotations

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".work" / "tree"))

from ansible_collections.netedge.tproxy.plugins.module_utils._zipapp import executable  # noqa: E402


def main(path: pathlib.Path) -> None:
    """Write the file."""
    rooms = ROOT / "plugins" / "module_utils"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(executable(lambda room: (rooms / f"{room}.py").read_bytes(), os.path.exists))
    path.chmod(0o755)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
