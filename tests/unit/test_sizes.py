# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits for files and functions, and no name that is another name with a number."""

from __future__ import annotations

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE_LINES, FUNCTION_LINES, C_FUNCTION_LINES = 500, 60, 60
GENERATED = {"layout.py", "prebuilt.py"}
PYTHON = [
    path
    for folder in ("bpf", "plugins", "roles", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path.name not in GENERATED and "output" not in path.parts
]
C_FILES = sorted([*(ROOT / "bpf").glob("*.[ch]"), *(ROOT / "bpf" / "lib").glob("*.h")])
NAMED = {"ids": lambda path: str(path.relative_to(ROOT))}


@pytest.mark.parametrize("path", [*PYTHON, *C_FILES], **NAMED)
def test_a_file_can_be_read_at_one_sitting(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= FILE_LINES, f"{path.name} has {lines} lines, at most {FILE_LINES}: which two things is it?"


@pytest.mark.parametrize("path", PYTHON, **NAMED)
def test_a_function_fits_on_a_screen(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= FUNCTION_LINES, f"{path.name}: {node.name} has {lines} lines, at most {FUNCTION_LINES}"


def test_a_c_function_fits_on_a_screen():
    for path in C_FILES:
        for name, body in re.findall(r"^[\w *]*?\b(\w+)\([^;{]*?\)\n\{\n(.*?)^\}", path.read_text(), flags=re.S | re.M):
            lines = body.count("\n") + 3
            assert lines <= C_FUNCTION_LINES, f"{path.name}: {name} has {lines} lines, at most {C_FUNCTION_LINES}"


def definitions(path: pathlib.Path) -> set:
    """Return the name of a file and the names of its functions and classes."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {path.stem, *(node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef)))}


def test_nothing_is_numbered():
    """A name that is another name with a number does not say how the two differ."""
    for path in PYTHON:
        names = definitions(path)
        twins = [name for name in names if re.search(r"[a-z]_?[0-9]$", name) and re.sub(r"_?[0-9]$", "", name) in names]
        assert not twins, f"{path.relative_to(ROOT)} has {twins} besides the same without a number"
        families = {}
        for name in names:
            match = re.fullmatch(r"(.*[a-z])_?([1-9])", name)
            if match and not re.search("v[46]$", name):  # a protocol's own number
                families.setdefault(match[1], set()).add(name)
        double = [sorted(family) for family in families.values() if len(family) > 1]
        assert not double, f"{path.relative_to(ROOT)} has {double}: name them for what they do"
