# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our program's source, as the action plugin ships it: the C files of bpf/, and the headers for the compiler."""

from __future__ import annotations

import pathlib

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "bpf"
ENTRY = "tproxy_splicer.c"


def program_source() -> dict:
    """Return {path: text}."""
    files = sorted(path for path in FOLDER.rglob("*") if path.suffix in (".c", ".h"))
    return {str(path.relative_to(FOLDER)): path.read_text(encoding="utf-8") for path in files}
