# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The house: which room may import what, and why. It reads the source and imports none of it.

Every room stands in the table below and in docs/ROOMS.md. A new one must be entered there, by somebody who knows what
it is.
"""

from __future__ import annotations

import ast
import functools
import pathlib
import re
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
UTILS = ROOT / "plugins" / "module_utils"

CORE = {
    *("_errors", "_layout", "_diff", "_splicer"),
    *("_prefix", "_rule", "_rule_options", "_ruleset"),
    *("_classes", "_action", "_intervals", "_nodes", "_node_order", "_tree", "_image_digest", "_image"),
    *("_source", "_walk", "_verify"),
    *("_live_nodes", "_live_level", "_live_destinations", "_live_view", "_live_image"),
    *("_interface", "_codec", "_blob", "_packet", "_reasons", "_facts", "_drift", "_findings"),
    *("_ziti_export", "_ziti_intercept", "_ziti_names", "_ziti_rules"),
    *("_table", "_show_text", "_explain_text", "_metrics", "_prologue", "_zipapp", "_diverter", "_service_log"),
    *("_state", "_closing_program"),
}
ENGINE = {
    *("_reconcile", "_doors", "_pins", "_programs", "_attachments", "_interface_tables", "_rule_table", "_live_table"),
    *("_wanted_program", "_take_over", "_scene", "_detach", "_pending", "_dead_man"),
    *("_gather", "_survey", "_test_run", "_rehearsal", "_preflight"),
}
STORIES = {
    "_apply_rules",
    "_rebind_rules",
    "_attach",
    "_record_addresses",
    "_lay_route",
    "_inspect_state",
    "_ask_verdict",
    "_divert",
    "_map_programs",
    "_collect_garbage",
    "_rule_service",
    "_snapshot",
    "_save_state",
    "_saved_drift",
    "_known_state",
    "_restore_state",
    "_close_interfaces",
    "_watch",
    *("_guard", "_confirm_change", "_run_change"),
}
# the door, its own parts, and the library that it opens
DOORS = {
    "_bpf": (set(), set()),
    "_bpffs": ({"_flock"}, set()),
    "_files": ({"_flock"}, set()),
    "_flock": (set(), set()),
    "_sysctl": (set(), set()),
    "_sockets": ({"_listeners"}, set()),
    "_listeners": (set(), set()),
    "_processes": (set(), set()),
    "_networkd": (set(), set()),
    "_background": (set(), set()),
    "_words": (set(), set()),
    "_requests": (set(), set()),
    "_netlink": ({"_netlink_answers", "_netlink_requests"}, {"pyroute2"}),
    "_netlink_events": (set(), set()),
    "_netlink_answers": (set(), set()),
    "_netlink_requests": ({"_netlink_answers"}, set()),
    "_compiler": ({"_compiler_child"}, set()),
    "_compiler_child": (set(), {"bcc"}),
}
SHELL = {"_argspec", "_open_doors", "_runner", "_commands", "_cli", "_install_cli"}

LANGUAGE = {"__future__", "typing", "collections", "dataclasses", "contextlib", "functools", "enum", "copy"}
PURE = LANGUAGE | {
    *("array", "base64", "bisect", "errno", "hashlib", "ipaddress", "itertools", "json", "re", "struct"),
    *("textwrap", "zlib"),
    *("ast", "importlib", "io", "marshal", "shlex", "zipfile"),  # an archive, in memory
}


class Law(NamedTuple):
    """What a room may import, and the reason."""

    rooms: set
    libraries: set
    reason: str


def law_of(room: str) -> Law:
    """Return the law that holds for a room."""
    if room in CORE:
        return Law(CORE, PURE, "the core is pure: no I/O, no clock, no chance, no Ansible")
    if room in ENGINE:
        return Law(CORE | ENGINE, PURE | {"os", "socket"}, "the engine gets its doors handed in")
    if room in STORIES:
        return Law(CORE | ENGINE | STORIES, PURE | {"os", "socket"}, "a story gets its doors handed in")
    if room == "_argspec":
        return Law(CORE, PURE, "options are data")
    if room == "_open_doors":
        return Law(set(DOORS) | {"_doors"}, LANGUAGE | {"socket"}, "it opens the doors, and does nothing with them")
    if room == "_commands":
        return Law(CORE | STORIES, LANGUAGE, "a command is its words, its story and its printer")
    if room == "_cli":
        libraries = LANGUAGE | {"argparse", "json", "os", "sys", "syslog"}
        return Law(CORE | STORIES | SHELL, libraries, "the command line speaks to a person, and knows no Ansible")
    if room == "_install_cli":
        rooms = {"_cli", "_doors", "_errors", "_zipapp"}
        return Law(rooms, LANGUAGE | {"os"}, "it packs the shell of the command line, and does nothing with it")
    if room == "_runner":
        rooms = {"_errors", "_open_doors", "_compiler", "_save_state", "_run_change"}
        return Law(rooms, LANGUAGE | {"ansible"}, "the runner speaks Ansible, and alone does")
    raise AssertionError(f"{room} is in no table of this file: enter it where it belongs")


@functools.lru_cache(maxsize=100)
def tree(path: pathlib.Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def rooms() -> list:
    return sorted(path.stem for path in UTILS.glob("*.py"))


def imports(path: pathlib.Path) -> list:
    """Return [(room or None, library or None, whether inside a function)] of a file."""
    functions = [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef)]
    nested = {id(node) for function in functions for node in ast.walk(function)}
    found = []
    for node in ast.walk(tree(path)):
        inside = id(node) in nested
        if isinstance(node, ast.Import):
            found += [(None, name.name.split(".")[0], inside) for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append((None, node.module.split(".")[0], inside))
        elif isinstance(node, ast.ImportFrom) and node.module in (None, "module_utils"):
            found += [(name.name, None, inside) for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module.split(".")[-1], None, inside))
    return found


def stranger(room: str, what: str, reason: str) -> str:
    return f"{room} imports {what}: {reason} (tests/unit/test_layering.py)"


@pytest.mark.parametrize("room", sorted(set(rooms()) - set(DOORS)))
def test_a_room_imports_what_its_law_allows(room):
    law = law_of(room)
    for other, library, _inside in imports(UTILS / f"{room}.py"):
        assert other is None or other in law.rooms, stranger(room, other, law.reason)
        assert library is None or library in law.libraries, stranger(room, library, law.reason)


@pytest.mark.parametrize("door", DOORS)
def test_a_door_knows_only_errors_its_parts_and_one_library(door):
    parts, opened = DOORS[door]
    reason = "a door speaks ints, bytes and str for one kernel interface, and knows no other room"
    for other, library, inside in imports(UTILS / f"{door}.py"):
        assert other is None or other in parts | {"_errors"}, stranger(door, other, reason)
        assert library not in {"ansible", "yaml", "pyroute2", "bcc"} - opened, stranger(door, library, reason)
        late = "where it is needed: the room must load without it, and nobody pays for what he does not use"
        assert library not in opened or inside, stranger(door, f"{library} at its head", f"import it {late}")


def test_every_room_of_the_tables_exists():
    assert CORE | ENGINE | STORIES | set(DOORS) | SHELL == set(rooms())


def test_the_guide_has_each_room_with_its_layer_and_its_first_sentence():
    layers = {"core": CORE, "engine": ENGINE, "story": STORIES, "door": DOORS, "shell": SHELL}
    wanted = {
        f"| `{room}` | {layer} | {ast.get_docstring(tree(UTILS / f'{room}.py')).splitlines()[0]} |"
        for layer, named in layers.items()
        for room in named
    }
    guide = (ROOT / "docs" / "ROOMS.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `_.*", guide, flags=re.M)
    assert sorted(rows) == sorted(wanted)


def test_imports_go_in_one_direction():
    graph = {room: {other for other, _library, _inside in imports(UTILS / f"{room}.py") if other} for room in rooms()}
    while graph:
        leaves = {room for room, others in graph.items() if not others & set(graph)}
        assert leaves, f"these rooms import each other in a circle: {sorted(graph)}"
        graph = {room: others for room, others in graph.items() if room not in leaves}


@pytest.mark.parametrize("room", sorted(ENGINE | STORIES))
def test_the_engine_only_closes_descriptors_and_joins_paths(room):
    allowed = {"os": {"close", "path"}, "socket": {"AF_INET", "AF_INET6"}}
    for node in ast.walk(tree(UTILS / f"{room}.py")):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in allowed:
            used = f"{node.value.id}.{node.attr}"
            assert node.attr in allowed[node.value.id], f"{room} uses {used}: what touches the machine is behind a door"


@pytest.mark.parametrize("room", sorted(set(rooms()) - {"_runner", "_compiler_child"}))
def test_only_the_runner_speaks_to_the_outside(room):
    for node in ast.walk(tree(UTILS / f"{room}.py")):
        if isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            assert called not in ("print", "exit", "exit_json", "fail_json", "warn", "input"), (
                f"{room} calls {called}: rooms raise, the runner alone translates"
            )


@pytest.mark.parametrize("path", sorted((ROOT / "plugins" / "modules").glob("*.py")), ids=lambda path: path.stem)
def test_a_module_is_documentation_an_argspec_and_one_call(path):
    found = [other for other, library, _inside in imports(path) if library != "__future__"]
    stories = STORIES | {"_install_cli"}
    assert set(found) - {"_argspec", "_runner"} <= stories, f"{path.name}: a module imports a story, nothing else"
    assert len(found) == 3, f"{path.name}: {found} instead of _argspec, _runner and one story"
    defined = [node.name for node in tree(path).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    assert defined == ["main"], f"{path.name} defines {defined}: what a module does is in its story"


@pytest.mark.parametrize("path", sorted((ROOT / "plugins" / "filter").glob("*.py")), ids=lambda path: path.stem)
def test_a_filter_is_documentation_and_core(path):
    for other, library, _inside in imports(path):
        assert other is None or other in CORE, stranger(path.stem, other, "a filter runs on the controller")
        assert library in LANGUAGE | {None, "ansible", "jmespath", "socket"}, stranger(path.stem, library, "see above")


# ---- the C side ---------------------------------------------------------------------------------------------

C_FILES = sorted([*(ROOT / "bpf").glob("*.[ch]"), *(ROOT / "bpf" / "lib").glob("*.h")])
HEADERS = [path for path in C_FILES if path.suffix == ".h"]
NAMED = {"ids": lambda path: path.name}


def c_code(path: pathlib.Path) -> str:
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(encoding="utf-8"), flags=re.S)


@pytest.mark.parametrize("path", C_FILES, **NAMED)
def test_no_macro_hides_the_way_out(path):
    for macro in re.findall(r"^[ \t]*#define(?:.*\\\n)*.*", c_code(path), flags=re.M):
        hidden = re.findall(r"\b(?:return|goto|break|continue)\b", macro)
        assert not hidden, f"{path.name}: {macro.splitlines()[0]} hides {hidden}: control flow must be seen where it is"


@pytest.mark.parametrize("path", HEADERS, **NAMED)
def test_a_constant_is_a_named_enum(path):
    constants = re.findall(r"^#define (\w+) +[-(]*[0-9]", c_code(path), flags=re.M)
    assert not constants, f"{path.name}: {constants} are macros; the generator of _layout.py reads enums"
