# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that Ansible sends to a router with each module. AnsiballZ follows every import, also one in a function."""

from __future__ import annotations

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT = 97
# An operation that takes part in a pending change must be able to roll back, so it ships the compiler of rules.
LIMITS = {
    "tproxy_rule": 95,
    "tproxy_route": 89,
    "tproxy_info": 77,
    **dict.fromkeys(("ifindex_ip", "tproxy_confirm", "tproxy_state"), 77),
    "tproxy_verdict": 49,
}
CARRIES_THE_COMMAND_LINE = {"tproxy_cli", "tproxy_router"}
MODULES = sorted((ROOT / "plugins" / "modules").glob("*.py"))


def imported(path: pathlib.Path) -> set[pathlib.Path]:
    """Return the files of the collection that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            names = [folder] if folder.with_suffix(".py").exists() else [folder / name.name for name in node.names]
            found |= {name.with_suffix(".py") for name in names}
    return found


def payload(module: pathlib.Path) -> set[pathlib.Path]:
    """Return the module and all files that it needs."""
    found, rest = set(), {module}
    while rest:
        found |= rest
        rest = {other for path in rest for other in imported(path)} - found
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_a_module_ships_only_the_files_that_its_operation_needs(module):
    shipped = payload(module)
    assert all(path.exists() for path in shipped)
    if module.stem not in CARRIES_THE_COMMAND_LINE:
        limit = LIMITS.get(module.stem, LIMIT)
        names = sorted(str(path.relative_to(ROOT)) for path in shipped)
        assert len(names) <= limit, f"{module.stem} ships {len(names)} files, at most {limit}: {names}"


@pytest.mark.parametrize("name", ["tproxy_info", "tproxy_verdict"])
def test_a_module_that_only_reads_ships_neither_compiler_nor_confirmation(name):
    folders = {path.parent.name for path in payload(ROOT / "plugins" / "modules" / f"{name}.py")}
    names = {path.name for path in payload(ROOT / "plugins" / "modules" / f"{name}.py")}
    assert "commit_confirm" not in folders
    assert not {"compile.py", "transaction.py", "execute.py", "bcc.py"} & names
