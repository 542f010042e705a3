# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile bpf/ with clang and the kernel's own headers to a blob like that of BCC: build_blob.py FILE.

$CLANG names a compiler in place of `clang`. Each warning is an error.
"""

from __future__ import annotations

import base64
import os
import pathlib
import subprocess
import sys
import tempfile

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import FUNCTION
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.program.blob import (
    BESIDE,
    blob_from_object,
    placeholders,
    source_digest,
)
from ansible_collections.netedge.tproxy.tests.support.splicer import ENTRY, our_blob, program_source

HERE = pathlib.Path(__file__).resolve().parent
SOURCES = HERE.parents[2] / "bpf"
CLANG = os.environ.get("CLANG", "clang")
FLAGS = ("-target", "bpf", "-O2", "-Wall", "-Wextra", "-Werror", "-include", str(HERE / "bcc.h"))
MACHINE = os.uname().machine
# <linux/icmp.h> includes headers of the C library, which know the machine but not the target bpf.
HEADERS = ("-isystem", "/usr/include", "-isystem", f"/usr/include/{MACHINE}-linux-gnu", f"-D__{MACHINE}__")
# The only section with code. It has no relocations, so its bytes are the instructions.
COPY = ("objcopy", "--input-target", "elf64-little", "--output-target", "binary", "--only-section", ".text")


def instructions(entry: str) -> bytes:
    """Return the instructions that clang compiles from the only function of a file."""
    with tempfile.TemporaryDirectory() as folder:
        made, bare = f"{folder}/program.o", f"{folder}/program.bin"
        subprocess.run([CLANG, *FLAGS, *HEADERS, "-c", str(SOURCES / entry), "-o", made], check=True)
        subprocess.run([*COPY, made, bare], check=True)
        return pathlib.Path(bare).read_bytes()


def main() -> None:
    """Write the blob; print its size and the size of BCC's."""
    words = subprocess.run([CLANG, "--version"], capture_output=True, text=True, check=True).stdout
    compiler = words.splitlines()[0]
    made, *others = (
        {
            "instructions": base64.b64encode(instructions(entry)).decode(),
            "maps": placeholders(),
            "compiler": compiler,
        }
        for entry in (ENTRY, *(f"{function}.c" for function in BESIDE.values()))
    )
    made.update(zip(BESIDE, others))
    blob = blob_from_object(made, FUNCTION, source_digest(program_source(), ENTRY, FUNCTION, {}))
    path = pathlib.Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(blob.to_json(), encoding="utf-8")
    for one in (blob, our_blob()):
        print(f"{one.compiler}: {one.count} instructions, {len(one.relocations)} loads of {len(one.maps)} maps")


if __name__ == "__main__":
    main()
