# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The compiler adapter with a real process: its programs and its errors."""

from __future__ import annotations

import base64
import os
import shutil
import sys

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import MAPS
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import FUNCTION
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import CompileFailed, MissingLibrary
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.program.blob import blob_from_object, placeholders
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bcc
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.bcc import Compiler
from ansible_collections.netedge.tproxy.tests.support.program_source import ENTRY, program_source

STUBS = {name: text for name, text in program_source().items() if name.startswith("stubs/")}
NOBODY = 65534


def has_bcc() -> bool:
    try:
        return bool(Compiler().version())
    except MissingLibrary:
        return False


needs_bcc = pytest.mark.skipif(not has_bcc(), reason="NO BCC HERE: the compiler's process was NOT tested")


def compile_text(text: str, function: str = "f", compiler: Compiler | None = None, **defines) -> dict:
    """Compile a source of one file."""
    return (compiler or Compiler()).compile({**STUBS, "a.c": text}, "a.c", function, defines, placeholders())


@pytest.fixture
def interpreter(tmp_path):
    """Return a function that makes interpreters: shell scripts that run commands and then Python."""
    tmp_path.chmod(0o755)

    def make(*lines: str) -> str:
        path = tmp_path / "python"
        path.write_text("\n".join(("#!/bin/sh", *lines, "")))
        path.chmod(0o755)
        return str(path)

    return make


# ---- a real compiler ---------------------------------------------------------------------------------


@needs_bcc
def test_our_program_compiles_and_uses_our_maps():
    answer = Compiler().compile(program_source(), ENTRY, FUNCTION, {}, placeholders())
    blob = blob_from_object(answer, FUNCTION, "ab" * 32)
    assert blob.is_splicer
    assert set(blob.maps) == set(MAPS) - {"meta", "ifindex_ip_map"}  # of user space alone
    assert blob.compiler == Compiler().version()
    assert blob.compiler.startswith("bcc ")


@needs_bcc
def test_the_same_source_gives_the_same_instructions():
    first, second = (compile_text("int f(struct __sk_buff *skb) { return skb->len > N; }", N=7) for _run in range(2))
    assert first == second
    assert first != compile_text("int f(struct __sk_buff *skb) { return skb->len > N; }", N=8)


@needs_bcc
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("int f(struct __sk_buff *skb) { return no_such_name; }", "a.c:1:39: error: use of undeclared identifier"),
        ("int f( {", "a.c:1:8: error: expected"),
        ('#include "no_such.h"\nint f;', "'no_such.h' file not found"),
        ("int f(struct __sk_buff *skb) { return no_such_call(skb); }", "no_such_call"),
    ],
    ids=["name", "syntax", "header", "call"],
)
def test_the_error_has_the_compilers_output(text, words):
    with pytest.raises(CompileFailed, match=r"^the source does not compile:") as raised:
        compile_text(text)
    assert words in str(raised.value)
    assert words in raised.value.details["log"]
    assert "Traceback" not in str(raised.value)


@needs_bcc
def test_a_missing_function_is_named():
    with pytest.raises(CompileFailed, match=r"there is no function g in a\.c"):
        compile_text("int f(struct __sk_buff *skb) { return 0; }", "g")


@needs_bcc
def test_a_source_may_have_folders_and_headers_beside_it():
    files = {**STUBS, "src/a.c": '#include "b.h"\n#include "inc/c.h"\nint f(void *skb) { return B + C; }'}
    files.update({"src/b.h": "enum { B = 1 };", "inc/c.h": "enum { C = 2 };"})
    answer = Compiler().compile(files, "src/a.c", "f", {}, placeholders())
    assert base64.b64decode(answer["instructions"]).startswith(b"\xb7\x00\x00\x00\x03\x00\x00\x00")


@needs_bcc
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
def test_the_user_nobody_may_compile_our_program(interpreter):
    """The compiler needs no privilege: it reads the machine's headers and makes no maps."""
    drop = f"exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --bounding-set=-all --no-new-privs"
    unprivileged = Compiler([interpreter(f'{drop} /usr/bin/python3 "$@"')])
    answer = unprivileged.compile(program_source(), ENTRY, FUNCTION, {}, placeholders())
    assert answer == Compiler(["/usr/bin/python3"]).compile(program_source(), ENTRY, FUNCTION, {}, placeholders())


# ---- errors --------------------------------------------------------------------------------------------


def test_without_bcc_the_error_names_its_packages(interpreter):
    without_packages = interpreter(f'exec {sys.executable} -S "$@"')
    for asked in (
        Compiler([without_packages]).version,
        lambda: compile_text("", compiler=Compiler([without_packages])),
    ):
        with pytest.raises(MissingLibrary, match=r"install python3-bpfcc .* never bcc from PyPI"):
            asked()


@needs_bcc
def test_the_first_interpreter_that_has_bcc_compiles(interpreter):
    without_packages = interpreter(f'exec {sys.executable} -S "$@"')
    assert Compiler([without_packages, "/usr/bin/python3"]).version() == Compiler(["/usr/bin/python3"]).version()


def test_another_package_of_the_same_name_is_not_bcc(interpreter, tmp_path):
    (tmp_path / "bcc.py").write_text("__version__ = 'of another project'\n")
    # the adapter runs `-I -c SCRIPT`; this Python searches for packages in the test's folder first
    first = f"import sys; sys.path.insert(0, '{tmp_path}'); exec(sys.argv[1])"
    fake = interpreter(f'exec {sys.executable} -S -I -c "{first}" "$3"')
    with pytest.raises(MissingLibrary):
        Compiler([fake]).version()


@pytest.mark.parametrize(("signal", "number"), [("ABRT", 6), ("SEGV", 11), ("KILL", 9)])
def test_a_killed_compiler_is_reported(interpreter, signal, number):
    """clang aborts the whole process over some faults in a source."""
    dying = interpreter("echo 'LLVM ERROR: on purpose' >&2", f"kill -{signal} $$")
    with pytest.raises(CompileFailed, match=f"^the compiler was killed by signal {number}:\nLLVM ERROR: on purpose$"):
        Compiler([dying]).version()


def test_another_failure_of_the_process_does_not_accuse_the_source(interpreter):
    failing = interpreter("echo 'no space left' >&2", "exit 70")
    with pytest.raises(CompileFailed, match=r"^the compiler's process failed:\nno space left$"):
        Compiler([failing]).version()


def test_a_compiler_that_hangs_is_stopped(interpreter, monkeypatch):
    monkeypatch.setattr(bcc, "TIMEOUT_SECONDS", 0.2)
    with pytest.raises(CompileFailed, match=r"^the compiler was stopped after 0\.2 s$"):
        Compiler([interpreter("exec sleep 60")]).version()
