# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print figures of the code: sizes, type annotations and the files that each module ships.

usage: python3 tools/code_figures.py [--files]

With --files it also prints the names of the files.
"""

from __future__ import annotations

import ast
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "plugins" / "module_utils" / "_tproxy"
BARE = {"dict", "list", "tuple", "set", "frozenset", "Mapping", "Iterable", "Sequence", "Callable", "Any"}


def tree(path: pathlib.Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def spread(numbers: list[int]) -> str:
    """Return median, 90th percentile and maximum."""
    ordered = sorted(numbers)
    return f"{statistics.median(ordered):.0f} / {ordered[int(0.9 * (len(ordered) - 1))]} / {ordered[-1]}"


def annotations(node: ast.AST) -> list[ast.expr]:
    """Return the annotations of parameters and results of all functions below a node."""
    found: list[ast.expr] = []
    for function in ast.walk(node):
        if isinstance(function, ast.FunctionDef):
            arguments = function.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            found += [argument.annotation for argument in every if argument.annotation]
            found += [function.returns] if function.returns else []
    return found


def is_bare(annotation: ast.expr) -> bool:
    """Return whether an annotation has a container without its members' types, or Any."""
    inner = {id(node.value) for node in ast.walk(annotation) if isinstance(node, ast.Subscript)}
    names = [node for node in ast.walk(annotation) if isinstance(node, ast.Name) and node.id in BARE]
    return any(id(node) not in inner for node in names)


def print_sizes() -> None:
    """Print the sizes of files and functions."""
    files = sorted(PACKAGE.rglob("*.py"))
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    functions = [node for path in files for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef)]
    every = [annotation for path in files for annotation in annotations(tree(path))]
    bare = sum(is_bare(annotation) for annotation in every)
    total = sum(lines.values())
    print(
        f"{PACKAGE.relative_to(ROOT)}: {len(files)} files, {total} lines; a file {spread(list(lines.values()))} lines"
    )
    print(f"  {1000 * len(functions) / total:.0f} functions in 1,000 lines", end="")
    print(f"; a function {spread([node.end_lineno - node.lineno + 1 for node in functions])} lines")
    print(f"  {bare} of {len(every)} annotations are bare containers or Any")


def imports(path: pathlib.Path) -> list[pathlib.Path]:
    """Return the files of the package that a file imports, at its head or inside functions, as AnsiballZ ships them."""
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            named = [base.with_suffix(".py")] if base.with_suffix(".py").exists() else []
            found += named or [base / f"{name.name}.py" for name in node.names]
    return [other for other in found if other.exists()]


def payload(path: pathlib.Path) -> set[pathlib.Path]:
    """Return the files of module_utils that a module ships, directly imported or not."""
    found: set[pathlib.Path] = set()
    pending = [path]
    while pending:
        fresh = [other for other in imports(pending.pop()) if other not in found]
        found |= set(fresh)
        pending += fresh
    return found


def print_payloads(names: bool) -> None:
    """Print how many files of module_utils each module ships."""
    for path in sorted((ROOT / "plugins" / "modules").glob("*.py")):
        files = payload(path)
        print(f"{path.stem} ships {len(files)} files, {sum(file.stat().st_size for file in files) // 1024} KiB")
        if names:
            print("".join(f"    {file.relative_to(PACKAGE)}\n" for file in sorted(files)), end="")


if __name__ == "__main__":
    print_sizes()
    print_payloads("--files" in sys.argv[1:])
