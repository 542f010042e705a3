# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installation of the command line: idempotent, complete, and never over foreign files."""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.install import install
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.launcher import PERL_IS_ESSENTIAL
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.zipapp import fingerprint
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import Conflict
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import files
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import Machine
from ansible_collections.netedge.tproxy.tests.support.fakes.system import LINK
from ansible_collections.netedge.tproxy.tests.support.options import options

FOLDER = "/usr/local/sbin"
UNPRIVILEGED = 65534  # user and group nobody
PATH, UPDATE, DELETE = (f"{FOLDER}/{name}" for name in ("tproxy-splicer", "map_update", "map_delete_elem"))


@pytest.fixture
def machine():
    return Machine()


def run(machine, check: bool = False, **given) -> dict:
    return install(options("tproxy_cli", **given), machine.system(), check).as_dict()


def test_it_is_installed_with_all_its_links_once(machine):
    answer = run(machine)
    assert (answer["changed"], answer["file"], answer["links"]) == (True, PATH, [UPDATE, DELETE])
    assert machine.disk[UPDATE] == machine.disk[DELETE] == {LINK: "tproxy-splicer"}
    assert fingerprint(machine.disk[PATH]) == answer["fingerprint"]
    assert len(machine.disk[PATH]) == answer["bytes"]
    again = run(machine)
    assert not again["changed"]
    assert again["diff"]["before"] == again["diff"]["after"] == answer["diff"]["after"]


def test_check_mode_predicts_it_and_writes_nothing(machine):
    predicted = run(machine, check=True)
    assert machine.disk == {}
    assert predicted == run(machine)


def in_bytecode(content: bytes) -> bytes:
    """Return the content with one other byte in the bytecode of a module."""
    at = content.index(b"__main__.pyc") + 60
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-9],
        lambda content: content.replace(b"def main(", b"def niam("),
        lambda content: content + b"x",
        lambda content: content + b"\n",
        in_bytecode,
    ],
    ids=["cut", "source", "one byte more", "one line more", "bytecode"],
)
def test_a_file_that_differs_in_any_byte_is_replaced(machine, damage):
    run(machine)
    whole = machine.disk[PATH]
    machine.disk[PATH] = damage(whole)
    again = run(machine)
    assert again["changed"] and again["diff"]["before"] != again["diff"]["after"]
    assert machine.disk[PATH] == whole


def test_another_pin_folder_makes_another_file(machine):
    run(machine)
    assert run(machine, pin_dir="/sys/fs/bpf/it's mine")["changed"]
    assert b"/sys/fs/bpf/it's mine" in machine.disk[PATH]


def test_the_script_is_a_perl_script_if_perl_is_essential(machine):
    run(machine)
    machine.disk[PERL_IS_ESSENTIAL] = b"/usr/bin/perl\n"
    assert run(machine)["changed"]
    assert machine.disk[PATH].startswith(b"#!/usr/bin/perl\n")


def test_unwanted_links_are_removed(machine):
    run(machine)
    assert run(machine, links=False)["changed"]
    assert set(machine.disk) == {PATH}


def test_absent_removes_our_files_only(machine):
    run(machine)
    machine.disk[UPDATE] = b"somebody's own"
    assert run(machine, check=True, state="absent")["changed"]
    assert run(machine, state="absent")["changed"]
    assert machine.disk == {UPDATE: b"somebody's own"}
    assert not run(machine, state="absent")["changed"]


@pytest.mark.parametrize("place", [PATH, DELETE])
def test_foreign_files_are_refused(machine, place):
    machine.disk[place] = b"#!/bin/sh\n"
    with pytest.raises(Conflict, match=f"{place} is a foreign file: remove it, or set another path"):
        run(machine)
    assert not run(machine, state="absent")["changed"]
    assert machine.disk == {place: b"#!/bin/sh\n"}


@pytest.fixture
def public_folder():
    """A folder that every user can reach, unlike tmp_path."""
    folder = Path(tempfile.mkdtemp(prefix="tproxy-cli-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=[0o022, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
@pytest.mark.usefixtures("umask")
def test_another_user_runs_it_from_the_folders_that_were_created(machine, public_folder):
    path = public_folder / "openziti" / "bin" / "tproxy-splicer"
    system = dataclasses.replace(machine.system(), files=files)
    assert install(options("tproxy_cli", path=str(path), links=False), system, False).changed
    done = subprocess.run(
        [path, "--version"],
        capture_output=True,
        text=True,
        check=False,
        user=UNPRIVILEGED,
        group=UNPRIVILEGED,
        extra_groups=[],
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in path.parents[:2]] == [0o755, 0o755]


@pytest.mark.usefixtures("umask")
def test_the_folder_of_a_private_file_is_private(tmp_path):
    path = tmp_path / "state" / "state.json"
    files.write(str(path), "{}")
    assert [stat.S_IMODE(place.stat().st_mode) for place in (path, path.parent)] == [0o600, 0o700]
