# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tproxy-splicer, built and run by each Python of this machine, as tproxy_cli does it on a router."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli import zipapp
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.zipapp import fingerprint
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import VERSION
from ansible_collections.netedge.tproxy.tests.support.interpreters import interpreters

ROOT = Path(__file__).resolve().parents[2]
FOUND = interpreters()
REPRODUCIBLE = (3, 11)  # the first Python that writes the same bytecode in every process

# Builds the executable as the module does: from a folder of sources. The words after the path are further imports.
BUILD = f"""
import importlib, pathlib, runpy, sys
runpy.run_path({str(ROOT / "tests/support/collection.py")!r})["register"]()
for name in sys.argv[2:]:
    importlib.import_module(name)
from {zipapp.__name__} import executable
sources = pathlib.Path({str(Path(zipapp.__file__).parents[1])!r})
content = executable(lambda module: (sources / (module + ".py")).read_bytes(), lambda path: False)
pathlib.Path(sys.argv[1]).write_bytes(content)
"""
# Imports every module of the archive and prints how many there are.
IMPORT = """
import importlib, sys, zipfile
sys.path.insert(0, sys.argv[1])
names = {name.rsplit(".", 1)[0] for name in zipfile.ZipFile(sys.argv[1]).namelist() if name.startswith("tproxy_")}
for name in sorted(names):
    importlib.import_module(name.replace("/", ".").replace(".__init__", ""))
print(len(names))
"""


def run(python: str, *words, seed: str = "0") -> str:
    environment = {"PATH": os.environ["PATH"], "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([python, *words], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def without(content: bytes, ending: str) -> bytes:
    """Return the archive without the files with these endings."""
    kept = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as packed, zipfile.ZipFile(kept, "w") as smaller:
        for entry in packed.infolist():
            if not entry.filename.endswith(ending):
                smaller.writestr(entry, packed.read(entry))
    return kept.getvalue()


@pytest.fixture(scope="module", params=FOUND)
def release(request) -> str:
    """Return the release of one interpreter, "3.9"."""
    return request.param


@pytest.fixture(scope="module")
def built(release, tmp_path_factory) -> Path:
    """Return the executable that this interpreter built."""
    path = tmp_path_factory.mktemp("built") / "tproxy-splicer"
    run(FOUND[release], "-c", BUILD, path)
    return path


def test_the_interpreter_of_the_tests_is_among_them():
    assert sys.executable in FOUND.values()


def test_the_executable_runs(release, built):
    assert run(FOUND[release], "-I", built, "--version") == f"tproxy-splicer {VERSION}\n"


@pytest.mark.parametrize("missing", [".py", ".pyc"])
def test_every_module_is_imported_from_bytecode_and_from_source(release, built, missing, tmp_path):
    path = tmp_path / "tproxy-splicer"
    path.write_bytes(without(built.read_bytes(), missing))
    assert int(run(FOUND[release], "-I", "-W", "error", "-c", IMPORT, path)) > 50


def test_another_process_gives_the_same_fingerprint(release, built, tmp_path):
    again = tmp_path / "tproxy-splicer"
    run(FOUND[release], "-c", BUILD, again, "asyncio", "unittest.mock", seed="7")
    assert fingerprint(again.read_bytes()) == fingerprint(built.read_bytes())
    if tuple(map(int, release.split("."))) >= REPRODUCIBLE:
        assert again.read_bytes() == built.read_bytes()
