# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback fleet in a real run of ansible-playbook for 24 hosts, some of them bad."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from types import SimpleNamespace

import pytest

from ansible_collections.netedge.tproxy.plugins.plugin_utils.told_once import ToldOnce, fault_of, lines

CHECKOUT = pathlib.Path(__file__).resolve().parents[4]
HOSTS = [f"r{number}" for number in range(1, 25)]
PLAYBOOK = """
- name: Change the hosts
  hosts: all
  serial: [1, 3, "100%"]
  gather_facts: false
  tasks:
    - block:
        - name: Warn
          warn:
        - name: Skipped everywhere
          ansible.builtin.fail:
          when: false
        - name: Test
          ansible.builtin.fail:
            msg: "no answer from {{ ansible_host }}"
          when: inventory_hostname in ["r7", "r9"]
        - name: Test each
          ansible.builtin.fail:
            msg: "it is {{ item }}"
          loop: [red, green]
          when: inventory_hostname == "r8" and item == "green"
      rescue:
        - name: Record
          ansible.builtin.set_fact:
            bad: true
- name: Report
  hosts: all
  gather_facts: false
  tasks:
    - name: Sum up
      ansible.builtin.debug:
        msg: ["bad: {{ ansible_play_hosts_all | map('extract', hostvars) | selectattr('bad', 'defined') | length }}"]
      run_once: true
"""
WARN = """
from ansible.plugins.action import ActionBase
class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        return {"changed": True, "warnings": [f"{task_vars['inventory_hostname']} has an old kernel", "once for all"]}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> SimpleNamespace:
    """Run the playbook. Return the lines of the console, and the details."""
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "action_plugins").mkdir()
    (folder / "action_plugins" / "warn.py").write_text(WARN, encoding="utf-8")
    (folder / "change.yml").write_text(PLAYBOOK, encoding="utf-8")
    inventory = [f"{host} ansible_host=192.0.2.{number} ansible_connection=local" for number, host in enumerate(HOSTS)]
    (folder / "hosts").write_text("\n".join(inventory) + "\n", encoding="utf-8")
    settings = {
        "ANSIBLE_STDOUT_CALLBACK": "netedge.tproxy.fleet",
        "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".work" / "tree"),
        "ANSIBLE_FORKS": "4",
        "HOME": str(folder),
    }
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "hosts", "change.yml"]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (details,) = (folder / ".ansible" / "tproxy_runs").iterdir()
    return SimpleNamespace(console=done.stdout.splitlines(), errors=done.stderr, details=details)


def test_the_console_is_short(run):
    assert len(run.console) <= 30, "\n".join(run.console)


@pytest.mark.parametrize(
    "line",
    [
        "Change the hosts, 1 of 24 hosts: r1",
        "Change the hosts, 3 of 24 hosts: r2 r3 r4",
        "    FAILED: r7 r9: no answer from <host>",
        "    FAILED: r8: green: it is green",
        "    17 without a fault, 3 with, 20 changed",
        "    warning: r2 r3 r4: <host> has an old kernel",
        "    warning: r2 r3 r4: once for all",
        "    bad: 3",
    ],
)
def test_the_console_tells_each_thing_once(run, line):
    assert run.console.count(line) == 1, "\n".join(run.console)


def test_the_console_names_no_task_that_every_host_skips(run):
    assert not [line for line in run.console if "Skipped everywhere" in line]


def test_the_details_are_the_default_output(run):
    text = run.details.read_text(encoding="utf-8")
    assert run.console[-1] == f"Details of this run: {run.details}"
    assert text.count("TASK [Warn]") == 3 and "changed: [r24]" in text and "[WARNING]: r24 has an old kernel" in text
    assert 'fatal: [r9]: FAILED! => {"changed": false, "msg": "no answer from 192.0.2.8"}' in text
    assert run.details.stat().st_mode & 0o077 == 0


def test_a_name_inside_a_word_is_no_name():
    texts = ToldOnce()
    texts.add("r1 and r12 answer", "r1")
    texts.add("r2 and r12 answer", "r2")
    assert texts.take() == [(["r1", "r2"], "<host> and r12 answer")]
    assert texts.take() == []


def test_many_texts_and_names_are_cut():
    texts = [([f"h{number}" for number in range(60)], "x " * 400)] + [([f"r{number}"], "y") for number in range(9)]
    found = "\n".join(lines("FAILED", texts))
    assert "h49 and 10 others: x" in found and found.count("x ") < 220
    assert "r4 r5 r6 r7 r8: 5 other texts, in the details" in found


def test_a_censored_result_has_a_cause():
    assert fault_of({"censored": "hidden"}) == "hidden"
    assert fault_of({}) == "the task gave no reason"
