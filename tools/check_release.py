# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the tag of a release with the version and the changelog of the checkout.

usage: python3 check_release.py VERSION
"""

from __future__ import annotations

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Where the version stands: the first group is it.
VERSIONS = {
    "galaxy.yml": r"^version: (\S+)$",
    "plugins/module_utils/_tproxy/constants.py": r'^VERSION = "([^"]+)"',
    "changelogs/changelog.yaml": r"^  (\d\S*):$",
    "CHANGELOG.md": r"^## v(\S+)$",
}


def faults(root: pathlib.Path, version: str) -> list[str]:
    """Return the places that do not agree with the version, and the fragments that no release has yet."""
    found = []
    for name, pattern in VERSIONS.items():
        path = root / name
        text = path.read_text(encoding="utf-8").replace("\\", "") if path.exists() else ""
        versions = re.findall(pattern, text, flags=re.MULTILINE)
        if version not in versions:
            found.append(f"{name}: expected version {version}, got {', '.join(versions) or 'none'}")
    found += [
        f"{path.relative_to(root)}: is in no release" for path in sorted(root.glob("changelogs/fragments/*.y*ml"))
    ]
    return found


def main(version: str) -> int:
    """Print the faults; return the exit status."""
    found = faults(ROOT, version)
    for fault in found:
        print(fault, file=sys.stderr)
    if found:
        print(f"Set the versions and run antsibull-changelog release; then tag {version}.", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
