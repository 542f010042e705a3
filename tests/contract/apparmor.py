# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Profiles of AppArmor for tests, and the lines that docs/openziti.md gives to them."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECURITY = pathlib.Path("/sys/kernel/security/apparmor")


def missing() -> str:
    """Return what a profile needs and this machine lacks, "" for nothing."""
    if not SECURITY.is_dir():
        return "this kernel has no AppArmor"
    return "" if shutil.which("apparmor_parser") else "no apparmor_parser on this machine"


def parse(what: str, text: str) -> None:
    """Load a profile (--replace), or unload it (--remove)."""
    subprocess.run(["apparmor_parser", what, "--skip-cache"], input=text, text=True, check=True)


def lines_of_the_guide() -> list[str]:
    """Return the lines that docs/openziti.md gives to a profile."""
    text = (ROOT / "docs" / "openziti.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```text\n(include <abstractions.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return block.splitlines()
