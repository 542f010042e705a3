# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The executable: it needs only Python, is reproducible, and has the modules that it needs and no others."""

from __future__ import annotations

import io
import pathlib
import subprocess
import sys
import zipfile

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli import zipapp
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import VERSION

UTILS = pathlib.Path(__file__).resolve().parents[6] / "plugins" / "module_utils" / "_tproxy"


def source_of(module: str) -> bytes:
    return (UTILS / f"{module}.py").read_bytes()


def on_debian(path: str) -> bool:
    return True


def elsewhere(path: str) -> bool:
    return False


@pytest.fixture(scope="module", params=[on_debian, elsewhere])
def content(request) -> bytes:
    return zipapp.executable(source_of, request.param)


@pytest.fixture
def installed(content, tmp_path):
    """Return the installed executable, which the Python of the tests runs."""
    path = tmp_path / "tproxy-splicer"
    path.write_bytes(content)
    return path


def run(path, *words: str):
    return subprocess.run([sys.executable, "-I", path, *words], capture_output=True, text=True, check=False)


def names(content: bytes) -> list:
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        return packed.namelist()


def test_it_runs_without_the_checkout(installed):
    done = run(installed, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"tproxy-splicer {VERSION}\n", "")


def test_its_script_is_a_perl_script_only_if_perl_is_essential():
    assert zipapp.executable(source_of, on_debian).startswith(b"#!/usr/bin/perl\n")
    assert zipapp.executable(source_of, elsewhere).startswith(b"#!/bin/sh\n")


@pytest.mark.parametrize("exists", [on_debian, elsewhere])
def test_it_has_its_pin_folder_under_every_start(tmp_path, exists):
    path = tmp_path / "tproxy-splicer"
    path.write_bytes(zipapp.executable(source_of, exists, "/sys/fs/bpf/it's mine"))
    path.chmod(0o755)
    for words in ([path], [sys.executable, "-I", path]):
        for given, known in ((None, "/sys/fs/bpf/it's mine"), ("", "/sys/fs/bpf/it's mine"), ("/other", "/other")):
            environment = {"PATH": "/usr/bin"} | ({} if given is None else {"TPROXY_SPLICER_PIN_DIR": given})
            done = subprocess.run([*words, "gc", "--help"], capture_output=True, text=True, check=True, env=environment)
            assert " ".join(done.stdout.split()).endswith(f"TPROXY_SPLICER_PIN_DIR or {known}")


def test_its_first_lines_start_it(installed):
    installed.chmod(0o755)
    done = subprocess.run([installed, "frobnicate"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no command 'frobnicate'" in done.stderr


def test_it_has_no_ansible(content):
    assert b"ansible.module_utils" not in content
    assert "tproxy_splicer/ansible_module/runner.py" not in names(content)


def test_it_has_every_imported_module(content):
    modules = {name[len("tproxy_splicer/") : -3] for name in names(content) if name.endswith(".py")}
    assert {"cli/main", "system/bpf", "system/netlink/messages", "operations/info", "cli/metrics"} <= modules


def test_the_same_sources_make_the_same_file(content):
    assert content in [zipapp.executable(source_of, exists) for exists in (on_debian, elsewhere)]
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        assert packed.namelist() == sorted(packed.namelist())
        assert {entry.date_time for entry in packed.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_bytecode_of_another_python_is_ignored(content, installed):
    foreign = bytearray(content)
    for at in range(len(foreign)):
        if foreign.startswith(b"\r\n", at + 2) and foreign[at + 4 : at + 8] == b"\1\0\0\0":
            foreign[at] ^= 0xFF
    installed.write_bytes(foreign)
    assert zipapp.fingerprint(bytes(foreign)) != zipapp.fingerprint(content)
    assert run(installed, "--version").stdout == f"tproxy-splicer {VERSION}\n"


@pytest.mark.parametrize(
    "other",
    [
        lambda module: source_of(module) + b"# more\n",
        lambda module: source_of(module) if module != "cli/output" else b"",
    ],
    ids=["every-module", "one-module"],
)
def test_another_source_is_another_fingerprint(content, other):
    assert zipapp.fingerprint(zipapp.executable(other, elsewhere)) != zipapp.fingerprint(content)


@pytest.mark.parametrize("broken", [b"", b"#!/bin/sh\n", b"PK\3\4 and no more"])
def test_a_file_that_is_no_archive_has_a_fingerprint(content, broken):
    assert zipapp.fingerprint(broken) != zipapp.fingerprint(content)
    assert zipapp.fingerprint(broken) == zipapp.fingerprint(broken)


def test_a_truncated_file_has_another_fingerprint(content):
    assert zipapp.fingerprint(content[: len(content) // 2]) != zipapp.fingerprint(content)
