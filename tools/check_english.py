# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure how much of the project's English is indirect, and find metaphors in the place of technical terms.

Four kinds of text are measured: docstrings (their first paragraphs), messages (other strings of the Python code),
the documentation of plugins, and Markdown (sentences outside code). A text is indirect if it contains one of the words
of INDIRECT. The result is a thermometer: a text with no such word can still be hard to read.
"""

from __future__ import annotations

import argparse
import ast
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[1]
INDIRECT = re.compile(
    r"\b(what|whoever|whatever|nobody|somebody|anybody|whom|whose|thereof|shall|of which|by which|in which|to whom)\b",
    re.IGNORECASE,
)
# Names as well: the parts of open_doors and of OpenDoors count.
METAPHOR = re.compile(r"(?<![a-z])(rooms?|doors?|story|stories|scenes?|house)(?![a-z])", re.IGNORECASE)
CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
FREE_SPACE = re.compile(r"\brooms? (for|in|left|to)\b|\b(no|more|enough|is|has) room\b", re.IGNORECASE)
KINDS = ("docstrings", "messages", "plugin documentation", "Markdown")
# This file and its test name the words that they look for.
NOT_MEASURED = {"COPYING", "tools/check_english.py", "tests/unit/test_check_english.py", "Makefile"}
SOURCES = {".py", ".c", ".h", ".sh", ".yml", ".md", ".j2", ".service", ""}
DOCUMENTATION = {"DOCUMENTATION", "RETURN", "EXAMPLES"}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# A string of fewer words is a name, a key or a label.
MESSAGE_WORDS = 4
CELL_WORDS = 3


class Text(NamedTuple):
    """A docstring, a message or a sentence, with the line that it begins on."""

    kind: str
    line: int
    words: str


# ---- Python --------------------------------------------------------------------------------------------------


def texts_of_python(source: str, has_messages: bool) -> Iterator[Text]:
    """Yield the texts of a module."""
    tree = ast.parse(source)
    docstrings = [
        node.body[0].value for node in ast.walk(tree) if isinstance(node, DOCUMENTED) and ast.get_docstring(node)
    ]
    for node in docstrings:
        yield Text("docstrings", node.lineno, node.value.strip().split("\n\n")[0])
    documentation = list(_documentation(tree))
    for node in documentation:
        yield from _texts_of_yaml(node.value, node.lineno)
    if has_messages:
        known = {id(node) for node in (*docstrings, *documentation)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in known:
                yield from _message(node)


def _message(node: ast.Constant) -> Iterator[Text]:
    if len(node.value.split()) >= MESSAGE_WORDS:
        yield Text("messages", node.lineno, node.value)


def _documentation(tree: ast.Module) -> Iterator[ast.Constant]:
    """Yield the strings of YAML that ansible-doc reads."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            names = {target.id for target in node.targets if isinstance(target, ast.Name)}
            if names & DOCUMENTATION:
                yield node.value


def _texts_of_yaml(source: str, first_line: int) -> Iterator[Text]:
    """Yield the sentences of every scalar that has more than one word."""
    for event in yaml.parse(source, yaml.SafeLoader):
        if isinstance(event, yaml.ScalarEvent) and " " in event.value:
            for sentence in split_sentences(event.value):
                yield Text("plugin documentation", first_line + event.start_mark.line, sentence)


# ---- Markdown ------------------------------------------------------------------------------------------------

FENCE = re.compile(r"^\s*(```|~~~)")
LIST_ITEM = re.compile(r"^\s*([-*+]|\d+[.)])\s+")
CODE, LINK, COMMENT = re.compile(r"`[^`]*`"), re.compile(r"\[([^\]]*)\]\([^)]*\)"), re.compile(r"<!--.*?-->", re.DOTALL)


def texts_of_markdown(source: str) -> Iterator[Text]:
    """Yield the sentences outside code; a heading, a list item and a cell of a table are at least one each."""
    for line, block in _blocks(COMMENT.sub(lambda comment: "\n" * comment[0].count("\n"), source)):
        plain = LINK.sub(r"\1", CODE.sub("code", block))
        position = 0
        for sentence in split_sentences(plain):
            position = plain.index(sentence, position)
            if len(sentence.split()) >= CELL_WORDS:
                yield Text("Markdown", line + plain.count("\n", 0, position), sentence)


def _blocks(source: str) -> Iterator[tuple[int, str]]:
    """Yield (number of the first line, text) of paragraphs, headings, list items and cells."""
    block: list[str] = []
    first, in_code, in_list = 0, False, False
    for number, line in enumerate([*source.splitlines(), ""], 1):
        fence, item = FENCE.match(line), LIST_ITEM.match(line)
        is_code = in_code or bool(fence) or (line.startswith("    ") and not block and not in_list)
        in_code ^= bool(fence)
        alone = not is_code and line.startswith(("#", "|"))
        if block and (is_code or alone or item or not line.strip()):
            yield first, "\n".join(block)
            block = []
        if alone:
            yield from ((number, cell) for cell in _cells(line))
        elif line.strip() and not is_code:
            first = first if block else number
            block.append(line[item.end() :] if item else line.strip())
            in_list = bool(item) or (in_list and line.startswith(" "))


def _cells(line: str) -> list[str]:
    """Return the cells of a row, or the heading."""
    if line.startswith("#"):
        return [line.strip("# ")]
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line) if cell.strip(" -:")]


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a paragraph."""
    return [part for part in re.split(r"(?<=[.!?])[\"')*]*\s+(?=[\"'(*\[]*[A-Z0-9`])", text.strip()) if part]


# ---- the project ---------------------------------------------------------------------------------------------


def project_files() -> list[str]:
    """Return the paths of the project's files below its root."""
    listed = subprocess.run([ROOT / "tools" / "known_files"], capture_output=True, check=True).stdout
    return sorted(name.decode() for name in listed.split(b"\0") if name)


def texts_of(path: str, source: str) -> Iterator[Text]:
    """Yield the texts of one file."""
    if path.endswith(".py"):
        yield from texts_of_python(source, has_messages=path.startswith("plugins/"))
    elif path.endswith(".md"):
        yield from texts_of_markdown(source)


def metaphors(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, word) of each metaphor in text and names; "room for more" is free space."""
    for number, line in enumerate(source.splitlines(), 1):
        for word in METAPHOR.findall(CAMEL_CASE.sub("_", FREE_SPACE.sub("", line))):
            yield number, word


class Figures(NamedTuple):
    """How many texts there are, and how many of them are indirect."""

    texts: int
    indirect: int

    @property
    def share(self) -> float:
        """Percent of the texts that are indirect."""
        return 100 * self.indirect / self.texts if self.texts else 0.0


def measure(files: dict[str, str]) -> tuple[dict[tuple[str, str], Figures], int]:
    """Print each hit; return the figures of each (kind, top folder), and the number of metaphors."""
    figures: dict[tuple[str, str], Figures] = {}
    metaphors_found = 0
    for path, source in files.items():
        area = path.split("/")[0] if "/" in path else "."
        for text in texts_of(path, source):
            found = INDIRECT.search(text.words)
            if found:
                print(f"{path}:{text.line}: {found[0]}: {' '.join(text.words.split())[:100]}")
            texts, indirect = figures.get((text.kind, area), Figures(0, 0))
            figures[text.kind, area] = Figures(texts + 1, indirect + bool(found))
        for line, word in metaphors(source):
            print(f"{path}:{line}: metaphor: {word}")
            metaphors_found += 1
    return figures, metaphors_found


def report(figures: dict[tuple[str, str], Figures], found: int, limits: dict[str, float]) -> int:
    """Print the shares; return 1 if one is above its limit, otherwise 0."""
    status = 0
    for kind in KINDS:
        areas = {area: one for (its_kind, area), one in sorted(figures.items()) if its_kind == kind}
        total = Figures(sum(one.texts for one in areas.values()), sum(one.indirect for one in areas.values()))
        for area, one in areas.items():
            print(f"{kind:22}{area:12}{one.indirect:5} of {one.texts:5}{one.share:7.1f} %")
        limit = limits.get(kind)
        print(f"{kind:22}{'total':12}{total.indirect:5} of {total.texts:5}{total.share:7.1f} %")
        if limit is not None and total.share > limit:
            print(f"{kind}: expected at most {limit:g} % with indirect words, got {total.share:.1f} %")
            status = 1
    print(f"metaphors: {found}")
    if found > limits.get("metaphors", found):
        print(f"metaphors: expected at most {limits['metaphors']:g}, got {found}: use the terms of docs/GLOSSARY.md")
        status = 1
    return status


def main() -> int:
    """Measure the project or the given files."""
    parser = argparse.ArgumentParser(description="Measure indirect words and metaphors.")
    parser.add_argument("paths", nargs="*", help="files below the checkout; without any, all files of the project")
    for kind in KINDS:
        parser.add_argument(f"--{kind.lower().replace(' ', '-')}", metavar="PERCENT", type=float, dest=kind)
    parser.add_argument("--metaphors", metavar="NUMBER", type=float, help="fail if there are more")
    options = vars(parser.parse_args())
    given = [str(pathlib.Path(path).resolve().relative_to(ROOT)) for path in options.pop("paths")]
    wanted = [path for path in given or project_files() if pathlib.Path(path).suffix in SOURCES]
    wanted = [path for path in wanted if path not in NOT_MEASURED and (ROOT / path).is_file()]
    files = {path: (ROOT / path).read_text(encoding="utf-8", errors="replace") for path in wanted}
    figures, found = measure(files)
    return report(figures, found, {name: limit for name, limit in options.items() if limit is not None})


if __name__ == "__main__":
    sys.exit(main())
