# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Build one executable file from the modules: a zip archive that Python runs, behind the script that starts it.

The same modules give the same archive: names are sorted, dates are fixed, and nothing is compressed, because the output
of zlib differs between its versions. The bytecode of each module lies beside its source. It belongs to the Python that
builds the archive. Python does not compare it with the source (PEP 552). Another Python uses the source.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import io
import marshal
import struct
import zipfile
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Callable

from ..constants import PIN_DIR
from .launcher import script_for

PACKAGE = "tproxy_splicer"
MAIN_MODULE = "cli/main"
# For a caller that runs the file with Python; the script calls main() itself.
MAIN = b"import sys\n\nfrom tproxy_splicer.cli.main import main\n\nsys.exit(main(sys.argv))\n"
DATE = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip archive
MODE = 0o100644 << 16
HEADER_BYTES = 16  # of a .pyc: magic number, flags, hash of the source
UNCHECKED_HASH = 1
NO_COMMENT = bytes(2)  # the length of an archive's comment, which ends the archive
SEAL_BYTES = 64


def executable(read: Callable[[str], bytes], exists: Callable[[str], bool], pin_dir: str = PIN_DIR) -> bytes:
    """Return the content of tproxy-splicer for the pin folder `pin_dir`.

    `read` returns the source of a module by its path below the package, as in "system/bpf", and raises OSError if
    there is none. `exists` returns whether the target machine has a file.
    """
    modules = import_closure(read, MAIN_MODULE)
    package = {f"{PACKAGE}/{module}.py": source for module, source in modules.items()}
    # zipimport before Python 3.13 finds no package without an __init__.py, unless the archive lists the folder.
    folders = {str(parent) for module in modules for parent in PurePosixPath(module).parents} - {"."}
    packages = {f"{PACKAGE}/{folder}/__init__.py": b"" for folder in folders}
    first = {"__main__.py": MAIN, f"{PACKAGE}/__init__.py": _preset(pin_dir)}
    return _sealed_zipapp(tuple({**first, **packages, **package}.items()), script_for(exists).encode())


@functools.lru_cache(maxsize=1)  # a run predicts its change and then makes it
def _sealed_zipapp(sources: tuple[tuple[str, bytes], ...], prologue: bytes) -> bytes:
    return sealed(zipapp(dict(sources), prologue))


def sealed(archive: bytes) -> bytes:
    """Return an archive with a comment: the digest of all bytes before the comment."""
    before = archive[: -len(NO_COMMENT)] + struct.pack("<H", SEAL_BYTES)
    return before + hashlib.sha256(before).hexdigest().encode()


def is_intact(content: bytes) -> bool:
    """Return whether a file has each byte with which it was made."""
    before = content[:-SEAL_BYTES]
    return content[-SEAL_BYTES:] == hashlib.sha256(before).hexdigest().encode()


def is_current(
    content: bytes, read: Callable[[str], bytes], exists: Callable[[str], bool], pin_dir: str = PIN_DIR
) -> bool:
    """Return whether executable() would build the same parts, without parsing or compiling a module.

    The bytecode is that of an intact file, so a byte that differs anywhere is found. A file has all modules that its
    first one imports. If each of them has the source of today, no other is needed.
    """
    if not is_intact(content) or not content.startswith(script_for(exists).encode() + b"PK\3\4"):
        return False
    first = {"__main__.py": MAIN, f"{PACKAGE}/__init__.py": _preset(pin_dir)}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            names = packed.namelist()
            sources = [name for name in names if name.endswith(".py")]
            return f"{PACKAGE}/{MAIN_MODULE}.py" in sources and all(
                f"{name}c" in names and _is_of_today(packed, name, _source_of(name, first, read)) for name in sources
            )
    except zipfile.BadZipFile:
        return False


def _source_of(path: str, first: Mapping[str, bytes], read: Callable[[str], bytes]) -> bytes | None:
    """Return the source of a file of the archive as executable() has it, or None without such a module."""
    if path in first:
        return first[path]
    if path.endswith("/__init__.py"):
        return b""
    return _read_if_there(path[len(PACKAGE) + 1 : -len(".py")], read)


def _is_of_today(packed: zipfile.ZipFile, path: str, source: bytes | None) -> bool:
    """Return whether a file of the archive has this source, and bytecode that this Python made of it."""
    if source is None or packed.read(path) != source:
        return False
    with packed.open(f"{path}c") as bytecode:
        return bytecode.read(HEADER_BYTES) == _header(source)


def is_executable(content: bytes) -> bool:
    """Return whether the content is a tproxy-splicer of any release."""
    return content.startswith(b"#!") and f"{PACKAGE}/{MAIN_MODULE}.py".encode() in content


def _preset(pin_dir: str) -> bytes:
    """Return the code that sets a folder other than the default one, unless the environment sets one."""
    if pin_dir == PIN_DIR:
        return b""
    known = f'os.environ["TPROXY_SPLICER_PIN_DIR"] = os.environ.get("TPROXY_SPLICER_PIN_DIR") or {pin_dir!r}'
    return f"import os\n\n{known}\n".encode()


@functools.lru_cache(maxsize=2)  # a run tells of the file before and after it, as predicted and as made
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


def import_closure(read: Callable[[str], bytes], first: str) -> dict[str, bytes]:
    """Return {module: source} of a module and of all modules that it imports, directly or not."""
    source_of = functools.cache(lambda module: _read_if_there(module, read))
    found: dict[str, bytes] = {}
    pending = [first]
    while pending:
        module = pending.pop()
        if module not in found:
            found[module] = read(module)
            pending += _imports(module, found[module], source_of)
    return found


def zipapp(sources: Mapping[str, bytes], prologue: bytes) -> bytes:
    """Return the archive of {path: source}, each with its bytecode, behind the prologue."""
    files = {**sources, **{f"{path}c": _bytecode(path, source) for path, source in sources.items()}}
    archive = io.BytesIO(prologue)
    archive.seek(0, io.SEEK_END)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        for path in sorted(files):
            entry = zipfile.ZipInfo(path, DATE)
            entry.create_system, entry.external_attr = 3, MODE  # Unix, on every machine
            packed.writestr(entry, files[path])
    return archive.getvalue()


def _imports(module: str, source: bytes, source_of: Callable[[str], bytes | None]) -> list[str]:
    """Return the modules that a module imports by relative imports, at its head or inside functions."""
    found = []
    for level, name, members in _relative_imports(source):
        base = "/".join(module.split("/")[:-level] + name.split(".")).strip("/")
        is_package = source_of(base) is None
        found += [f"{base}/{member}" for member in members] if is_package else [base]
    return found


@functools.cache  # a run predicts its change and then makes it
def _relative_imports(source: bytes) -> list[tuple[int, str, tuple[str, ...]]]:
    """Return (level, module, names) of each relative import of a source."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.level]
    return [(node.level, node.module or "", tuple(name.name for name in node.names)) for node in nodes]


def _read_if_there(path: str, read: Callable[[str], bytes]) -> bytes | None:
    """Return the source of a module, or None where the path names a package."""
    try:
        return read(path)
    except OSError:
        return None


@functools.cache  # a run predicts its change and then makes it
def _bytecode(path: str, source: bytes) -> bytes:
    """Return the content of a .pyc file with an unchecked hash (PEP 552).

    marshal writes its newest format, as importlib has it. Python 3.14 keeps constant slices in the code, and no format
    before 5 has slices.
    """
    return _header(source) + marshal.dumps(compile(source, path, "exec", dont_inherit=True))


def _header(source: bytes) -> bytes:
    return importlib.util.MAGIC_NUMBER + struct.pack("<I", UNCHECKED_HASH) + importlib.util.source_hash(source)
