# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that outlive their archive have imported all that they need when they begin.

A run imports some modules at their first use, which saves a run without changes their compilation. Ansible removes the
archive of a module while a watchdog sleeps. An upgrade replaces the archive of a running watcher or helper.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "plugins" / "module_utils" / "_tproxy"
# Each with the modules whose functions it does not call, or calls before it begins. Their imports at the head count.
LASTING = {
    "commit_confirm.watchdog": set(),
    "operations.watch": set(),
    "openziti.helper": {"operations.execute", "operations.rules", "system.open_checks"},
}

LOADED = f"""
import importlib, runpy, sys
runpy.run_path({str(ROOT / "tests/support/collection.py")!r})["register"]()
package = "ansible_collections.netedge.tproxy.plugins.module_utils._tproxy."
importlib.import_module(package + sys.argv[1])
print(*(name[len(package):] for name in sys.modules if name.startswith(package)))
"""


def imports(nodes: list[ast.stmt]) -> Iterator[ast.ImportFrom]:
    """Yield the relative imports at the head of a module and inside functions, without those for types."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.level:
            yield node
        elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield from imports(
                [child for child in ast.iter_child_nodes(node) if isinstance(child, (ast.stmt, ast.excepthandler))]
            )


def needed(module: str, heads_only: Collection[str] = ()) -> set[str]:
    """Return the module and all modules that it imports at any time; of `heads_only`, the imports at their heads."""
    found: set[str] = set()
    pending = [module]
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found.add(name)
        path = PACKAGE.joinpath(*name.split(".")).with_suffix(".py")
        body = ast.parse(path.read_text(encoding="utf-8")).body
        if name in heads_only:
            body = [node for node in body if isinstance(node, ast.ImportFrom)]
        for node in imports(body):
            base = [*name.split(".")[: -node.level], *(node.module or "").split(".")]
            base = [part for part in base if part]
            is_module = PACKAGE.joinpath(*base).with_suffix(".py").exists()
            pending += [".".join(base)] if is_module else [".".join([*base, each.name]) for each in node.names]
    return found


def loaded(module: str) -> set[str]:
    """Return the modules of the package that the import of a module loads in a new process."""
    command = [sys.executable, "-c", LOADED, module]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(("module", "heads_only"), LASTING.items())
def test_a_lasting_process_imports_nothing_later(module, heads_only):
    assert needed(module, heads_only) <= loaded(module)


@pytest.mark.parametrize("module", ["operations.rules", "operations.addresses", "operations.route"])
def test_a_run_loads_no_code_for_changes_before_there_is_one(module):
    """A no-op takes none of the functions that import them."""
    late = {"ruleset.compile", "ruleset.verify", "commit_confirm.change", "persistence.state_file"}
    assert not late & loaded(module)
    assert late <= needed(module)


def test_rules_load_no_checks_before_there_is_a_change():
    assert not {name for name in loaded("operations.rules") if name.startswith(("checks.", "system.netlink.conntrack"))}


def test_the_walk_sees_imports_inside_functions():
    assert "ruleset.verify" in needed("resources.rule_table")
