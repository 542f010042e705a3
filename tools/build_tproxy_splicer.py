# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes tproxy-splicer from the checkout, for machines like this one and the Python that runs this script.

usage: python3 build_tproxy_splicer.py FILE
"""

from __future__ import annotations

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".work" / "tree"))

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.zipapp import executable  # noqa: E402


def main(path: pathlib.Path) -> None:
    """Write the file."""
    package = ROOT / "plugins" / "module_utils" / "_tproxy"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(executable(lambda module: (package / f"{module}.py").read_bytes(), os.path.exists))
    path.chmod(0o755)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
