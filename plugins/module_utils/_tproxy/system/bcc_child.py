# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The compiler's own process: reads a request as JSON from standard input, and answers as JSON on standard output.

A Python with BCC runs this file as a script (see bcc.py). No module imports its functions, for two reasons: a fault in
the source can make clang abort the whole process, and libbcc takes 75 MB. The file uses only the standard library and
BCC.

It uses BCC as a compiler only. The project's own program names its maps by placeholders, so BCC makes no map and needs
no privilege. For a program with BCC's own tables, BCC makes them, and their descriptors are the placeholders.
"""

from __future__ import annotations

import base64
import ctypes
import importlib.util
import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from types import ModuleType
from typing import NoReturn, TypedDict

NO_BCC, BAD_SOURCE = 3, 4


class Request(TypedDict):
    """See the parameters of bcc.Compiler.compile."""

    files: dict[str, str]
    entry: str
    function: str
    defines: dict[str, str]
    placeholders: dict[str, list[object]]


def write_files(folder: str, files: Mapping[str, str]) -> None:
    """Write the sources to a folder, under their paths on the controller."""
    for name, text in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)


def flags(folder: str, entry: str, defines: Mapping[str, str]) -> list[str]:
    """Return the compiler's arguments. They search the project's headers before the C library's."""
    found = ["-I" + os.path.dirname(os.path.join(folder, entry)), "-I" + folder]
    # A name missing from the headers would become a call that only fails at load ("jump out of range").
    found += ["-Wall", "-Wno-unused-function", "-Werror=implicit-function-declaration"]
    for path in ("/usr/include", "/usr/include/" + os.uname().machine + "-linux-gnu"):
        found += ["-idirafter", path]
    return found + ["-D%s=%s" % item for item in sorted(defines.items())]


def tables(bcc: ModuleType, module: int) -> dict[str, list[object]]:
    """Return {descriptor: [name, shape]} of the tables that BCC made."""
    lib = bcc.lib
    found: dict[str, list[object]] = {}
    # BCC 0.26 does not declare this function, and ctypes would take the pointer for an int.
    lib.bpf_table_name.restype, lib.bpf_table_name.argtypes = ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_size_t]
    for number in range(lib.bpf_num_tables(module)):
        shape = [
            lib.bpf_table_type_id(module, number),
            lib.bpf_table_key_size_id(module, number),
            lib.bpf_table_leaf_size_id(module, number),
            lib.bpf_table_max_entries_id(module, number),
            lib.bpf_table_flags_id(module, number),
        ]
        found[str(lib.bpf_table_fd_id(module, number))] = [lib.bpf_table_name(module, number).decode(), shape]
    return found


def compile_function(bcc: ModuleType, request: Request, folder: str) -> dict[str, object]:
    """Return the function's instructions, and the maps that they may name."""
    source = os.path.join(folder, request["entry"])
    try:
        program = bcc.BPF(src_file=source, cflags=flags(folder, request["entry"], request["defines"]))
    except Exception as fault:
        refuse(str(fault))
    try:
        code = program.dump_func(request["function"].encode())
    except Exception:
        refuse("there is no function %s in %s" % (request["function"], request["entry"]))
    maps = {**request["placeholders"], **tables(bcc, program.module)}
    return {"instructions": base64.b64encode(code).decode(), "maps": maps}


def refuse(message: str) -> NoReturn:
    """Exit with BAD_SOURCE and a message about the source. clang has written its own output before."""
    sys.stderr.write(message + "\n")
    raise SystemExit(BAD_SOURCE)


def version() -> str:
    """Return the compiler's name for a program's identity. Exits with NO_BCC if this Python has no BCC.

    The version is read from the file, because the import of BCC takes a quarter of a second, and each run that changes
    nothing needs the version.
    """
    found = importlib.util.find_spec("bcc")
    folder = found and found.submodule_search_locations and found.submodule_search_locations[0]
    # PyPI has another project of that name, without libbcc.
    if not folder or not os.path.exists(os.path.join(folder, "libbcc.py")):
        raise SystemExit(NO_BCC)
    with open(os.path.join(folder, "version.py"), encoding="utf-8") as text:
        number: str = re.findall("__version__ = [\"'](.*)[\"']", text.read())[0]
        return "bcc " + number


def main() -> None:
    """Answer one request. Exits with NO_BCC, or with BAD_SOURCE and a message on standard error."""
    request = json.load(sys.stdin)
    answer: dict[str, object] = {"compiler": version()}
    if "files" in request:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["BCC_KERNEL_SOURCE"] = os.path.join(folder, "stubs")
            import bcc

            write_files(folder, request["files"])
            answer.update(compile_function(bcc, request, folder))
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
