# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The compiler's own process: reads a request as JSON from standard input, answers as JSON on standard output.

It is run as a script by a Python that has BCC (see bcc.py), never imported for its function: clang may abort the
whole process over a fault in the source, and libbcc holds 75 MB. It uses the standard library and BCC alone.

BCC serves as a mere compiler. A program of ours names its maps by placeholders, so no map is made and no privilege is
needed; a program with BCC's own tables has them made by BCC, and their descriptors are the placeholders.
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

NO_BCC, BAD_SOURCE = 3, 4


def write_files(folder, files):
    """Lay the sources out as they were on the controller."""
    for name, text in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)


def flags(folder, entry, defines):
    """Return the compiler's arguments: the project's headers first, the C library's only where ours end."""
    found = ["-I" + os.path.dirname(os.path.join(folder, entry)), "-I" + folder]
    # A name missing from the headers would become a call that only fails at load ("jump out of range").
    found += ["-Wall", "-Wno-unused-function", "-Werror=implicit-function-declaration"]
    for path in ("/usr/include", "/usr/include/" + os.uname().machine + "-linux-gnu"):
        found += ["-idirafter", path]
    return found + ["-D%s=%s" % item for item in sorted(defines.items())]


def tables(bcc, module):
    """Return {descriptor: [name, shape]} of the tables that BCC made."""
    lib, found = bcc.lib, {}
    # BCC 0.26 leaves this one undeclared, and ctypes would take the pointer for an int.
    lib.bpf_table_name.restype, lib.bpf_table_name.argtypes = ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_size_t]
    for number in range(lib.bpf_num_tables(module)):
        shape = [
            lib.bpf_table_type_id(module, number),
            lib.bpf_table_key_size_id(module, number),
            lib.bpf_table_leaf_size_id(module, number),
            lib.bpf_table_max_entries_id(module, number),
            lib.bpf_table_flags_id(module, number),
        ]
        found[lib.bpf_table_fd_id(module, number)] = [lib.bpf_table_name(module, number).decode(), shape]
    return found


def compile_function(bcc, request, folder):
    """Return the function's instructions and the maps that it may name."""
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


def refuse(words):
    """End, saying what is wrong with the source; clang has said its part already."""
    sys.stderr.write(words + "\n")
    raise SystemExit(BAD_SOURCE)


def version():
    """Name the compiler as it goes into a program's identity; exit NO_BCC when this Python has none.

    It is read, not imported: importing BCC takes a quarter of a second, and each run that changes nothing asks.
    """
    found = importlib.util.find_spec("bcc")
    folder = found and found.submodule_search_locations and found.submodule_search_locations[0]
    # The project of that name on PyPI is another one, and has no libbcc.
    if not folder or not os.path.exists(os.path.join(folder, "libbcc.py")):
        raise SystemExit(NO_BCC)
    with open(os.path.join(folder, "version.py"), encoding="utf-8") as text:
        return "bcc " + re.search("__version__ = [\"'](.*)[\"']", text.read()).group(1)


def main():
    """Answer one request; exit NO_BCC when this Python has none, BAD_SOURCE with words on standard error."""
    request = json.load(sys.stdin)
    answer = {"compiler": version()}
    if "files" in request:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["BCC_KERNEL_SOURCE"] = os.path.join(folder, "stubs")
            import bcc

            write_files(folder, request["files"])
            answer.update(compile_function(bcc, request, folder))
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
