# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""One executable file out of rooms: a zip archive that Python runs, behind the script that starts it.

The same modules give the same archive: names are sorted, dates are fixed, and nothing is compressed, because the output
of zlib differs between its versions. The bytecode of each module lies beside its source. It belongs to the Python that
builds the archive. Python does not compare it with the source (PEP 552). Another Python uses the source.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import marshal
import struct
import zipfile
from collections.abc import Mapping
from typing import Callable

from ._prologue import script_for
from ._splicer import PIN_DIR

PACKAGE = "tproxy_splicer"
FIRST_ROOM = "_cli"
# For who runs the file by Python; the script calls main() itself.
MAIN = b"import sys\n\nfrom tproxy_splicer._cli import main\n\nsys.exit(main(sys.argv))\n"
DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip archive can tell
MODE = 0o100644 << 16
HEADER_BYTES = 16  # of a .pyc: magic number, flags, hash of the source
UNCHECKED_HASH = 1


def executable(read: Callable[[str], bytes], exists: Callable[[str], bool], pin_dir: str = PIN_DIR) -> bytes:
    """Return the whole of tproxy-splicer for the folder `pin_dir`.

    `read` gives a room's source by its name, `exists` says whether the machine that it is for has a file.
    """
    rooms = rooms_from(read, FIRST_ROOM)
    package = {f"{PACKAGE}/{room}.py": source for room, source in rooms.items()}
    first = {"__main__.py": MAIN, f"{PACKAGE}/__init__.py": _preset(pin_dir)}
    return zipapp({**first, **package}, script_for(exists).encode())


def is_executable(content: bytes) -> bool:
    """Whether a file is a tproxy-splicer, of whatever release."""
    return content.startswith(b"#!") and f"{PACKAGE}/{FIRST_ROOM}.py".encode() in content


def _preset(pin_dir: str) -> bytes:
    """Return what makes the archive know a folder other than the default one, unless the caller's environment does."""
    if pin_dir == PIN_DIR:
        return b""
    known = f'os.environ["TPROXY_SPLICER_PIN_DIR"] = os.environ.get("TPROXY_SPLICER_PIN_DIR") or {pin_dir!r}'
    return f"import os\n\n{known}\n".encode()


def fingerprint(content: bytes) -> str:
    """Return a digest of the parts of an executable: its script, its sources, and the headers of its bytecode.

    The bytecode itself is left out. Before 3.11 it depends on the process that compiles: on the order of a set's
    members, and on the number of references to a name.
    """
    digest = hashlib.sha256(content[: content.find(b"PK\3\4")])
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            for path in packed.namelist():
                data = packed.read(path)
                digest.update(path.encode() + b"\0" + (data[:HEADER_BYTES] if path.endswith(".pyc") else data))
    except zipfile.BadZipFile:
        digest.update(content)
    return digest.hexdigest()


def rooms_from(read: Callable[[str], bytes], first: str) -> dict:
    """Return {room: source} of a room and of all that it imports, and those import."""
    found, ahead = {}, [first]
    while ahead:
        room = ahead.pop()
        if room not in found:
            found[room] = read(room)
            ahead += _imports(found[room])
    return found


def zipapp(sources: Mapping[str, bytes], prologue: bytes) -> bytes:
    """Return the archive of {path: source}, each with its bytecode, behind the prologue."""
    files = {**sources, **{f"{path}c": _bytecode(path, source) for path, source in sources.items()}}
    archive = io.BytesIO(prologue)
    archive.seek(0, io.SEEK_END)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        for path in sorted(files):
            entry = zipfile.ZipInfo(path, DATE)
            entry.create_system, entry.external_attr = 3, MODE  # Unix, whatever this machine is
            packed.writestr(entry, files[path])
    return archive.getvalue()


def _imports(source: bytes) -> list:
    """Return the rooms that a room imports, at its head or where it needs them."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.level]
    return [room for node in nodes for room in ([node.module] if node.module else [name.name for name in node.names])]


def _bytecode(path: str, source: bytes) -> bytes:
    """Return the content of a .pyc file with an unchecked hash (PEP 552).

    marshal writes its newest format, as importlib has it. Python 3.14 keeps constant slices in the code, and no format
    before 5 has slices.
    """
    code = compile(source, path, "exec", dont_inherit=True)
    header = importlib.util.MAGIC_NUMBER + struct.pack("<I", UNCHECKED_HASH) + importlib.util.source_hash(source)
    return header + marshal.dumps(code)
