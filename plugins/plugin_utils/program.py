# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that a task sends to the router: its C source, which modules cannot contain, or a compiled one.

The file imports nothing of the collection by name, because the checkout loads its plugins also outside of any
collection.
"""

from __future__ import annotations

import importlib
import importlib.util
import pathlib
import sys
from types import ModuleType
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase

COLLECTION = pathlib.Path(__file__).resolve().parents[2]
DEFAULT_SOURCE = COLLECTION / "bpf" / "tproxy_splicer.c"
DEFAULT_BLOB = COLLECTION / "roles" / "tproxy_splicer" / "files" / "tproxy_splicer.json"
STUBS = COLLECTION / "bpf" / "stubs"
SUFFIXES = (".c", ".h")
SOURCE_BYTES_MAX = 1 << 20
PACKAGE = "netedge_tproxy_package"


def fill_in(action: ActionBase, arguments: dict[str, Any]) -> None:
    """Set `source_files`, `compiled` or `blob_content` of a task."""
    if arguments.get("source_files") or arguments.get("blob_content"):
        return
    if arguments.get("blob"):
        arguments["blob_content"] = text_of(_find(action, arguments["blob"], "blob"), "blob")
    elif arguments.get("source") or DEFAULT_SOURCE.exists():
        arguments.pop("blob", None)  # null or empty: the user chose no blob
        _send_source(action, arguments)
    else:
        arguments["blob_content"] = DEFAULT_BLOB.read_text(encoding="utf-8")


def _send_source(action: ActionBase, arguments: dict[str, Any]) -> None:
    given = arguments.get("source")
    source = _find(action, given, "source") if given else DEFAULT_SOURCE
    arguments["source"] = source.name
    arguments["source_files"] = source_files(source)
    if arguments.get("compile_on") == "controller":
        arguments["compiled"] = compile_here(arguments)


def _find(action: ActionBase, path: str, option: str) -> pathlib.Path:
    """Return the path of a file of the play. The search is that of the copy module."""
    try:
        found = pathlib.Path(action._find_needle("files", path)).resolve()
    except AnsibleError:
        places = "the play's and its roles' folders, and files/ in them"
        raise AnsibleActionFail(f"{option}: {path} is not on the controller; searched {places}") from None
    if not found.is_file():
        raise AnsibleActionFail(f"{option}: {found} on the controller is not a file")
    return found


def text_of(path: pathlib.Path, option: str) -> str:
    """Return the content of a text file."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise AnsibleActionFail(f"{option}: {path} on the controller cannot be read as text: {fault}") from fault


def source_files(source: pathlib.Path) -> dict[str, str]:
    """Return the text of every C file below the folder of the source, and of the stub headers, by relative path."""
    found: dict[str, str] = {}
    for folder, prefix in ((source.parent, ""), (STUBS, "stubs/")):
        for path in sorted(folder.rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                found.setdefault(prefix + str(path.relative_to(folder)), text_of(path, "source"))
    size = sum(len(text) for text in found.values())
    if size > SOURCE_BYTES_MAX:
        raise AnsibleActionFail(
            f"source: the C files below {source.parent} have {size} bytes, at most {SOURCE_BYTES_MAX} can be sent;"
            " put the program into a folder of its own"
        )
    return found


def compile_here(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the source compiled by the compiler of the controller."""
    bcc, select, constants, errors = (load(name) for name in ("system.bcc", "program.select", "constants", "errors"))
    try:
        return select.compiled_object(
            bcc.Compiler(),
            arguments["source_files"],
            arguments["source"],
            arguments.get("function", constants.FUNCTION),
            arguments.get("defines") or {},
        )
    except errors.TproxyError as fault:
        raise AnsibleActionFail(f"on the controller: {fault}") from fault


def load(name: str) -> ModuleType:
    """Import a module of module_utils/_tproxy by the path of its package."""
    if PACKAGE not in sys.modules:
        folder = COLLECTION / "plugins" / "module_utils" / "_tproxy"
        spec = importlib.util.spec_from_loader(PACKAGE, None, is_package=True)
        package = importlib.util.module_from_spec(spec)
        package.__path__ = [str(folder)]
        sys.modules[PACKAGE] = package
    return importlib.import_module(f"{PACKAGE}.{name}")
