# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Long lists of options: which of them AnsibleModule validates, and where they are not repeated."""

from __future__ import annotations

import copy
import json

import pytest
from ansible.module_utils import basic

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ansible_module.argspec import (
    tc_bpf_attach,
    tproxy_rule,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ansible_module.long_lists import LONG, Module
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.long_list import LongList
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule import Rule
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule_options import rules_from_params

PROGRAM = "int main(void) { return 0; }"
WEB = {"protocol": "tcp", "ports": 443, "tproxy_port": "8443", "interfaces": ["wan0"]}


@pytest.fixture
def made(monkeypatch):
    """Return a function that makes AnsibleModule, or ours, from the options of tproxy_rule."""

    def make(kind, arguments=None, **options):
        given = json.dumps({"ANSIBLE_MODULE_ARGS": options}).encode()
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", given)
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        return kind(**(arguments or tproxy_rule()))

    return make


def rules(count, **last):
    found = [{"destination": f"10.0.{number >> 8}.{number & 255}", **WEB} for number in range(count)]
    found[-1].update(last)
    return found


def test_the_texts_of_a_program_are_neither_logged_nor_returned(made, capsys, monkeypatch):
    logged = []
    monkeypatch.setattr(basic.AnsibleModule, "log", lambda _self, text, log_args=None: logged.append(text))
    texts = {"source_files": {"splicer.c": PROGRAM}, "blob_content": PROGRAM}
    module = made(Module, tc_bpf_attach(), interface="lan0", **texts)
    assert {name: module.params[name] for name in texts} == texts
    with pytest.raises(SystemExit):
        module.exit_json(changed=False, source=PROGRAM)
    answer = json.loads(capsys.readouterr().out)
    assert answer["source"] == PROGRAM  # no option is a secret
    counted = {name: answer["invocation"]["module_args"][name] for name in texts}
    assert counted == {"source_files": "1 items", "blob_content": f"{len(PROGRAM)} characters"}
    assert PROGRAM not in str(logged)


@pytest.mark.parametrize("count", [1, LONG, LONG + 1])
def test_a_list_of_any_length_means_the_same_rules(made, count):
    ours = made(Module, rules=rules(count), purge=True)
    theirs = made(basic.AnsibleModule, rules=rules(count), purge=True)
    assert isinstance(ours.params["rules"], LongList) == (count > LONG)
    assert rules_from_params(ours.params.pop("rules")) == rules_from_params(theirs.params.pop("rules"))
    assert ours.params == theirs.params


@pytest.mark.parametrize(
    "last",
    [{"port": 80}, {"interfaces": "wan0,wan1"}, {"interfaces": [" wan0"]}, {"name": True}, {"name": 1.5}, {"name": []}],
)
def test_a_long_list_that_needs_conversion_is_left_to_ansible(made, last):
    module = made(Module, rules=rules(LONG + 1, **last))
    assert module.params["rules"].__class__ is list
    assert set(module.params["rules"][0]) > set(WEB)  # options that were left out are None


def test_the_options_are_not_copied(made, monkeypatch):
    def refuse(*_about):
        raise AssertionError("a list of rules was copied")

    class Uncopied(list):
        __deepcopy__ = refuse

    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda *about, **more: _with(Uncopied, loads(*about, **more)))
    assert len(made(Module, rules=rules(LONG + 1)).params["rules"]) == LONG + 1
    assert getattr(basic, "copy", copy) is copy


def _with(kind, read):
    read["ANSIBLE_MODULE_ARGS"]["rules"] = kind(read["ANSIBLE_MODULE_ARGS"]["rules"])
    return read


def test_an_unknown_option_in_a_long_list_is_refused(made, capsys):
    with pytest.raises(SystemExit):
        made(Module, rules=rules(LONG + 1, colour="red"))
    assert "colour" in json.loads(capsys.readouterr().out)["msg"]


def test_a_long_list_is_neither_logged_nor_returned(made, capsys, monkeypatch):
    logged = []
    monkeypatch.setattr(basic.AnsibleModule, "log", lambda _self, text, log_args=None: logged.append(text))
    module = made(Module, rules=rules(LONG + 1))
    with pytest.raises(SystemExit):
        module.exit_json(changed=False, rules=[{"destination": "10.0.0.0/8"}])
    answer = json.loads(capsys.readouterr().out)
    assert answer["invocation"]["module_args"]["rules"] == f"{LONG + 1} items"
    assert answer["rules"] == [{"destination": "10.0.0.0/8"}]
    assert max(map(len, logged)) < 1000
    assert basic.remove_values.__module__.startswith("ansible.")


def test_a_second_run_of_the_same_options_finds_the_rules_and_the_warnings():
    options = LongList(rules(LONG + 1, destination="10.1.1.1/8"))
    first = rules_from_params(options)
    assert all(isinstance(item, Rule) for item in options)
    assert rules_from_params(options) == first
    assert len(first[1]) == 1
