# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands export and diff, and show with --unused, on the fake machine."""

from __future__ import annotations

import json

import pytest
import yaml

from ansible_collections.netedge.tproxy.plugins.plugin_utils.router_input import checked
from ansible_collections.netedge.tproxy.tests.support.command_line import CommandLine
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import Machine
from ansible_collections.netedge.tproxy.tests.support.scenarios import attaching, play, rule, ruling

FILE = "/root/edge1.yml"
NAME = 'it\'s: a "name" # {{ 7 * 7 }} [ä]'


@pytest.fixture
def run(monkeypatch, capsys):
    machine = Machine()
    for step in (attaching("lan0"), ruling(rule("192.0.2.0/24"), rule("198.51.100.0/24", name=NAME))):
        play(machine, step)
    return CommandLine(machine, monkeypatch, capsys)


def exported(run) -> str:
    status, out, err = run("export")
    assert (status, err) == (0, "")
    return out


def test_the_text_is_yaml_that_tproxy_router_accepts(run):
    found = yaml.safe_load(exported(run))
    assert checked({**found, "state": "replaced"})[1] == []
    assert [each["name"] for each in found["interfaces"]] == ["lan0"]
    assert [each["destination"] for each in found["rules"]] == ["192.0.2.0/24", "198.51.100.0/24"]
    assert found["rules"][1]["name"] == NAME
    assert found["persist"] is False
    assert "hits" not in exported(run)


def test_json_has_the_same_options(run):
    assert json.loads(run("export", "--json").out)["gathered"] == yaml.safe_load(exported(run))


def test_each_rule_has_a_line(run):
    lines = exported(run).splitlines()
    assert sum("192.0.2.0/24" in line for line in lines) == 1
    assert lines[lines.index("rules:") + 1].startswith("  - {")


def test_without_changes_there_is_no_difference(run):
    run.machine.disk[FILE] = f"---\n# of yesterday\n{exported(run)}\n"
    assert run("diff", FILE) == (0, "the state in force is that of the file\n", "")


def test_a_difference_is_a_line_of_each_side(run):
    run.machine.disk[FILE] = exported(run)
    play(run.machine, ruling(rule("203.0.113.0/24"), rule("192.0.2.0/24"), purge=True))
    status, out, err = run("diff", FILE)
    assert (status, err) == (1, "")
    assert [(line[0], "198.51.100.0" in line, "203.0.113.0" in line) for line in out.splitlines()] == [
        ("-", True, False),
        ("+", False, True),
    ]
    assert json.loads(run("diff", FILE, "--json").out)["differences"] == out.splitlines()


def test_without_the_file_the_command_is_wrong(run):
    status, out, err = run("diff", "/root/nowhere.yml")
    assert (status, out) == (2, "")
    assert "found none at /root/nowhere.yml; write one with: tproxy-splicer export" in err


def test_an_empty_router_is_exported_too(monkeypatch, capsys):
    found = yaml.safe_load(exported(CommandLine(Machine(), monkeypatch, capsys)))
    assert (found["interfaces"], found["rules"], found["routes"]) == ([], [], [])


def test_rules_without_a_hit_are_shown_by_an_option(run):
    assert run("show", "--unused").out.startswith("Rules without a hit: 2 of 2\n")
    assert "Interfaces" not in run("show", "--unused").out
    assert "Interfaces" in run("show", "interfaces", "--unused").out
