# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages of module_utils/_tproxy: which package may import which. The test reads the source and imports nothing.

docs/ARCHITECTURE.md has the same table with reasons.
"""

from __future__ import annotations

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "plugins" / "module_utils" / "_tproxy"
MODULES = {str(path.relative_to(PACKAGE).with_suffix("")).replace("/", "."): path for path in PACKAGE.rglob("*.py")}

BASE = {"errors", "constants"}
VALUES = BASE | {"abi", "model"}
PURE = VALUES | {"ruleset", "program"}
RESOURCES = PURE | {"system", "resources"}
MAY_IMPORT = {
    "__init__": set(),
    "errors": set(),
    "constants": set(),
    "abi": {"abi"},
    "model": BASE | {"abi", "model"},
    "ruleset": VALUES | {"ruleset"},
    "program": VALUES | {"program"},
    "system": {"errors", "system"},
    "resources": RESOURCES,
    "checks": RESOURCES | {"checks"},
    "commit_confirm": RESOURCES | {"commit_confirm"},
    "persistence": RESOURCES | {"persistence"},
    "operations": RESOURCES | {"checks", "commit_confirm", "persistence", "operations"},
    "openziti": RESOURCES | {"checks", "commit_confirm", "persistence", "operations", "openziti"},
    "cli": RESOURCES | {"checks", "commit_confirm", "persistence", "operations", "openziti", "cli"},
    "ansible_module": RESOURCES | {"operations", "ansible_module"},
}
LIBRARIES = {"ansible": {"ansible_module"}, "pyroute2": {"system"}, "bcc": {"system"}}
# A package without access to the machine takes it from the System that its caller hands in.
WITHOUT_IO = set(MAY_IMPORT) - {"system", "cli", "ansible_module"}
IO_LIBRARIES = {"ctypes", "fcntl", "mmap", "random", "secrets", "select", "signal", "subprocess", "time"}


def package_of(module: str) -> str:
    return module.split(".")[0]


def tree(path: pathlib.Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(module: str) -> set[str]:
    """Return the dotted names of the package's own modules that a module imports."""
    found = set()
    for node in ast.walk(tree(MODULES[module])):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = module.split(".")[: -node.level] + (node.module.split(".") if node.module else [])
            name = ".".join(base)
            found |= {name} if name in MODULES else {f"{name}.{alias.name}".strip(".") for alias in node.names}
    return found


def libraries(path: pathlib.Path, head_only: bool = False) -> set[str]:
    """Return the names of the libraries that a file imports; with `head_only`, those that it imports at its head."""
    nodes = tree(path).body if head_only else list(ast.walk(tree(path)))
    found = {name.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for name in node.names}
    return found | {node.module.split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}


def test_every_folder_is_a_package():
    """ansible-core ships folders without __init__.py from collections, but not from the module_utils of a checkout."""
    assert all((path.parent / "__init__.py").is_file() for path in MODULES.values())


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_of_a_module(module):
    allowed = MAY_IMPORT[package_of(module)]
    for other in imports(module):
        assert other in MODULES, f"{module} imports {other}, and there is no such file"
        assert package_of(other) in allowed, f"{module} imports {other}: expected one of {sorted(allowed)}"
    for library, packages in LIBRARIES.items():
        assert library not in libraries(MODULES[module]) or package_of(module) in packages, f"{module}: {library}"
    if package_of(module) == "system":
        late = {"pyroute2", "bcc"} & libraries(MODULES[module], head_only=True)
        assert not late, f"{module} imports {late} at its head: import a library in the function that needs it"
    if package_of(module) in WITHOUT_IO:
        used = IO_LIBRARIES & libraries(MODULES[module])
        assert not used, f"{module} imports {used}: access to the machine belongs to the package system"


def test_no_import_circle():
    graph = {module: imports(module) for module in MODULES}
    while graph:
        leaves = {module for module, others in graph.items() if not others & set(graph)}
        assert leaves, f"these modules import each other in a circle: {sorted(graph)}"
        graph = {module: others for module, others in graph.items() if module not in leaves}


@pytest.mark.parametrize(
    "module", sorted(set(MODULES) - {"ansible_module.runner", "ansible_module.long_lists", "system.bcc_child"})
)
def test_no_module_speaks_for_the_front_end(module):
    for node in ast.walk(tree(MODULES[module])):
        if isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            assert called not in ("print", "exit", "exit_json", "fail_json", "warn", "input"), (
                f"{module} calls {called}: raise an error of errors.py, the front end reports it"
            )


@pytest.mark.parametrize("path", sorted((ROOT / "plugins" / "modules").glob("*.py")), ids=lambda path: path.stem)
def test_a_module_is_documentation_argspec_and_one_call(path):
    found = [
        node.module.split("_tproxy.")[1] for node in tree(path).body if isinstance(node, ast.ImportFrom) and node.level
    ]
    others = set(found) - {"ansible_module.argspec", "ansible_module.runner"}
    assert len(found) == 3 and len(others) == 1, f"{path.name} imports {found}: expected argspec, runner, one operation"
    assert package_of(others.pop()) in {"operations", "cli"}, f"{path.name} imports {found}"
    defined = [node.name for node in tree(path).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    assert defined == ["main"], f"{path.name} defines {defined}: the operation has the code of a module"


@pytest.mark.parametrize("path", sorted((ROOT / "plugins" / "filter").glob("*.py")), ids=lambda path: path.stem)
def test_a_filter_needs_no_router(path):
    assert not {"pyroute2", "bcc", "subprocess"} & libraries(path)


# ---- the C side ---------------------------------------------------------------------------------------------

C_FILES = sorted([*(ROOT / "bpf").glob("*.[ch]"), *(ROOT / "bpf" / "lib").glob("*.h")])
HEADERS = [path for path in C_FILES if path.suffix == ".h"]
NAMED = {"ids": lambda path: path.name}


def c_code(path: pathlib.Path) -> str:
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(encoding="utf-8"), flags=re.S)


@pytest.mark.parametrize("path", C_FILES, **NAMED)
def test_no_macro_has_control_flow(path):
    for macro in re.findall(r"^[ \t]*#define(?:.*\\\n)*.*", c_code(path), flags=re.M):
        hidden = re.findall(r"\b(?:return|goto|break|continue)\b", macro)
        assert not hidden, f"{path.name}: {macro.splitlines()[0]} has {hidden}: write control flow where it happens"


@pytest.mark.parametrize("path", HEADERS, **NAMED)
def test_a_constant_is_a_named_enum(path):
    constants = re.findall(r"^#define (\w+) +[-(]*[0-9]", c_code(path), flags=re.M)
    assert not constants, f"{path.name}: {constants} are macros; the generator of abi/layout.py reads enums"
