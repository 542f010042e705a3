# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/check_english.py finds the texts, the words and their lines."""

from __future__ import annotations

import importlib.util
import pathlib

import pytest

TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools" / "check_english.py"
pytest.importorskip("yaml")


@pytest.fixture(scope="module")
def english():
    spec = importlib.util.spec_from_file_location("check_english", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PYTHON = '''"""The module.

Not measured: what, nobody.
"""

DOCUMENTATION = """
short_description: Says what is there
options:
  name:
    description:
      - The name. Nobody sets it.
    type: str
"""

def f():
    """Return what is
    there."""
    raise ValueError(f"{name} is what nobody asked for", "what")
'''

MARKDOWN = """# What it is

A paragraph of two sentences. This one says
by which the [program](what.md) works, and `what` is code.

    indented what is code

- an item for nobody in particular
  and its second line
| what a cell says | whose |
| --- | --- |

```text
what is code
# what is code
```
<!-- what is
a comment -->
Nothing here is wrong (really.) Whatever follows is.
"""


def hits(english, texts):
    return [(text.kind, text.line, found[0]) for text in texts if (found := english.INDIRECT.search(text.words))]


def test_python_has_docstrings_messages_and_documentation(english):
    texts = list(english.texts_of_python(PYTHON, has_messages=True))
    assert hits(english, texts) == [
        ("docstrings", 16, "what"),
        ("plugin documentation", 7, "what"),
        ("plugin documentation", 11, "Nobody"),
        ("messages", 18, "what"),
    ]
    assert [text.words for text in texts if text.kind == "docstrings"] == ["The module.", "Return what is\n    there."]


def test_strings_of_tests_are_no_messages(english):
    assert "messages" not in {text.kind for text in english.texts_of_python(PYTHON, has_messages=False)}


def test_markdown_is_read_by_sentences_outside_code(english):
    assert hits(english, english.texts_of_markdown(MARKDOWN)) == [
        ("Markdown", 1, "What"),
        ("Markdown", 3, "by which"),
        ("Markdown", 8, "nobody"),
        ("Markdown", 10, "what"),
        ("Markdown", 19, "Whatever"),
    ]


def test_every_sentence_counts_once(english):
    source = "One sentence here. Two sentences here!\n\n## A heading of four\n\n1. an item here\n2. another item here\n"
    assert [text.words for text in english.texts_of_markdown(source)] == [
        "One sentence here.",
        "Two sentences here!",
        "A heading of four",
        "an item here",
        "another item here",
    ]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("class OpenDoors: pass", ["Doors"]),
        ("open_doors(); DOOR = 1", ["doors", "DOOR"]),
        ("a story, two Stories and a scene in the house", ["story", "Stories", "scene", "house"]),
        ("indoors, a warehouse, history, scenery, roommate", []),
        ("there is no room for more; room to grow", []),
    ],
)
def test_metaphors_are_found_in_text_and_names(english, source, words):
    assert [word for _line, word in english.metaphors(source)] == words


@pytest.mark.parametrize(
    ("limits", "status"),
    [({}, 0), ({"docstrings": 50}, 0), ({"docstrings": 49.9}, 1), ({"metaphors": 2}, 0), ({"metaphors": 1}, 1)],
)
def test_a_share_above_its_limit_fails(english, limits, status, capsys):
    source = '"""Open the door of what is."""\ndef f():\n    """Return a room."""\n'
    figures, found = english.measure({"plugins/a.py": source})
    assert english.report(figures, found, limits) == status
    printed = capsys.readouterr().out
    assert "plugins/a.py:1: what: Open the door of what is." in printed
    assert "plugins/a.py:3: metaphor: room" in printed
    assert "docstrings            total           1 of     2   50.0 %" in printed
    assert ("expected at most" in printed) == bool(status)


def test_nothing_to_measure_is_no_fault(english, capsys):
    assert english.report({}, 0, {"docstrings": 0, "Markdown": 0, "metaphors": 0}) == 0
    assert "0 of     0" in capsys.readouterr().out
