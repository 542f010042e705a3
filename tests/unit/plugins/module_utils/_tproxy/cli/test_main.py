# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: its output, its stream and its exit status."""

from __future__ import annotations

import errno
import json
import pathlib
import re

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli import main
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.commands import COMMANDS, Runnable
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.commit_confirm.change import begin
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import STATE_FILE, VERSION
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import Busy, Unconfirmed
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.operation import Operation
from ansible_collections.netedge.tproxy.tests.support.command_line import CommandLine
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import Machine
from ansible_collections.netedge.tproxy.tests.support.fakes.surroundings import FakeSysctl
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.scenarios import attaching, play, rule, ruling

ROOT = pathlib.Path(__file__).resolve().parents[6]
EXPLAIN = ("--source", "10.1.0.2", "--destination", "192.0.2.1", "--protocol", "tcp", "--port", "443")


@pytest.fixture
def run(monkeypatch, capsys):
    machine = Machine()
    for step in (attaching("lan0"), ruling(rule("192.0.2.0/24"))):
        play(machine, step)
    return CommandLine(machine, monkeypatch, capsys)


def test_help_lists_every_command_and_every_exit_status(run):
    status, out, err = run("--help")
    assert (status, err) == (0, "")
    assert re.findall("^  ([a-z]+) ", out, flags=re.M) == list(COMMANDS)
    assert re.findall("^  ([0-9])", out, flags=re.M) == ["0", "1", "2", "3"]
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_operation_a_printer_and_help(run, command):
    assert all(callable(getattr(part, "execute", part)) for part in COMMANDS[command].load())
    status, out, _err = run(command, "--help")
    assert status == 0
    assert COMMANDS[command].details.splitlines()[0] in out
    assert "--json" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("words", [(), ("frobnicate",), ("show", "everything"), ("explain",), ("show", "--colour")])
def test_a_wrong_command_line_is_an_error_on_standard_error(run, words):
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert "tproxy-splicer" in err


def test_the_version_is_that_of_the_collection(run):
    assert run("--version") == (0, f"tproxy-splicer {VERSION}\n", "")
    assert f"\nversion: {VERSION}\n" in (ROOT / "galaxy.yml").read_text(encoding="utf-8")


def test_json_is_the_whole_answer(run):
    answer = json.loads(run("show", "--json").out)
    assert [entry["interface"] for entry in answer["attachments"]] == ["lan0"]
    assert json.loads(run("doctor", "--json").out)["findings"] == answer["findings"]


def test_a_refusal_is_printed_on_standard_error_and_as_json(run):
    status, out, err = run("explain", "--interface", "lan9", *EXPLAIN, "--json")
    assert status == 2
    assert err.startswith("tproxy-splicer: interface: there is no 'lan9'")
    assert json.loads(out) == {"failed": True, "msg": err.partition(": ")[2].strip()}


def test_doctor_fails_if_there_is_an_error(run):
    assert run("doctor").status == 0
    run.machine.filters.clear()
    status, out, _err = run("doctor")
    assert status == 1
    assert out.startswith("error: lan0")


@pytest.mark.parametrize("error", [Busy, Unconfirmed])
def test_a_lock_or_a_pending_change_has_a_status_of_its_own(run, monkeypatch, error):
    def refuse(*_arguments):
        raise error("in the way")

    monkeypatch.setitem(
        COMMANDS, "show", COMMANDS["show"]._replace(load=lambda: Runnable(Operation("show", refuse), None))
    )
    assert run("show") == (3, "", "tproxy-splicer: in the way\n")


def test_a_change_is_confirmed_or_rolled_back_by_its_token(run):
    token = play(run.machine, (begin, options("tproxy_confirm", state="begun", confirm_timeout=60)))["confirm"]["token"]
    assert run("confirm", "another").status == 3
    assert run("rollback", token).out.startswith(f"rolled back: the change of token {token}")
    token = play(run.machine, (begin, options("tproxy_confirm", state="begun", confirm_timeout=60)))["confirm"]["token"]
    assert run("confirm") == (0, f"confirmed: the change of token {token}\n", "")
    assert run("confirm") == (0, "no change is pending\n", "")


def test_a_change_of_a_command_is_saved_if_there_is_a_saved_state(run):
    assert run("save").status == 0
    before = run.machine.disk[STATE_FILE]
    run("10.0.0.0", "8", "1", "2", "3", "6", name="map_update")
    assert run.machine.disk[STATE_FILE] != before
    assert "10.0.0.0/8" in run.machine.disk[STATE_FILE]


class Stream:
    """A standard output on which every write fails."""

    def __init__(self, file, error: OSError):
        self._file, self._error = file, error

    def reconfigure(self, **_how):
        pass

    def write(self, _text):
        raise self._error

    def fileno(self):
        return self._file.fileno()


def test_a_closed_pipe_is_no_fault(run, monkeypatch, tmp_path):
    with open(tmp_path / "out", "w", encoding="utf-8") as file:
        monkeypatch.setattr("sys.stdout", Stream(file, BrokenPipeError()))
        assert main.main(["tproxy-splicer", "--help"]) == 0


def test_a_lost_answer_is_a_failure(run, monkeypatch, tmp_path, capsys):
    with open(tmp_path / "out", "w", encoding="utf-8") as file:
        monkeypatch.setattr("sys.stdout", Stream(file, OSError(errno.ENOSPC, "No space left on device")))
        assert main.main(["tproxy-splicer", "--help"]) == 1
    assert capsys.readouterr().err == "tproxy-splicer: the answer could not be written: No space left on device\n"


def test_a_closed_standard_output_is_no_fault(run, monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    assert main.main(["tproxy-splicer", "show"]) == 0


FORGED = "--x\x1b[2J\u202e\u2028y"


@pytest.mark.parametrize(
    "words",
    [(FORGED,), ("show", FORGED), ("show", FORGED[2:]), (FORGED[2:],), ("-I", FORGED, "-c", "10.0.0.1")],
)
def test_a_word_that_is_repeated_forges_nothing(run, words):
    status, out, err = run(*words)
    assert status == 2
    assert not [each for each in out + err if each != "\n" and not each.isprintable()]


def test_an_unknown_option_of_a_router_is_escaped(run):
    call = ("-I", "-c", "10.9.0.1", "-m", "32", "-p", "tcp", "-l", "80", "-h", "80", "-t", "8080", "-s", "web")
    assert run(*call, "--new\x1b[2J", "\u202e1").out == (
        "tproxy-splicer: unknown option --new\\u001b[2J \\u202e1 is ignored\n"
    )


def test_a_name_of_an_interface_is_shown_escaped(run):
    run.machine.plug("lan\u202e9", 9)
    play(run.machine, attaching("lan0"))
    assert "lan\\u202e9" in run("explain", "--interface", "lan7", *EXPLAIN).err


@pytest.mark.parametrize("command", ["show", "metrics"])
def test_without_capabilities_nothing_is_shown(run, monkeypatch, command):
    monkeypatch.setattr(FakeSysctl, "has_capability", lambda _self, _number: False)
    status, out, err = run(command)
    assert (status, out) == (1, "")
    assert err.startswith("tproxy-splicer: CAP_NET_ADMIN and CAP_SYS_ADMIN missing: run it as root")


def test_a_single_h_prints_help(run):
    assert run("-h") == run("--help")


def test_an_unknown_section_is_refused_with_the_known_ones(run):
    assert "{interfaces,rules,reasons,flows,routes}: invalid section value: 'bogus'" in run("show", "bogus").err


def test_restore_of_an_interface_that_is_not_saved(run):
    assert run("save").status == 0
    assert run("restore", "lan9") == (0, "nothing is saved for lan9\n", "")
    assert run("restore", "lan0") == (0, "the saved state is in force\n", "")
