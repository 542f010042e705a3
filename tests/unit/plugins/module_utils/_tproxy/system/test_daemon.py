# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import syslog

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import daemon

NAMELESS = 2**31 - 7  # no user of any machine


@pytest.mark.parametrize(
    ("environment", "user"),
    [
        ({"SUDO_USER": "alice", "SSH_CONNECTION": "192.0.2.7 40000 10.1.0.1 22"}, "alice from 192.0.2.7"),
        ({"SUDO_USER": "alice"}, "alice"),
        ({"SSH_CONNECTION": "fd00::7 40000 fd00::1 22"}, f"uid {NAMELESS} from fd00::7"),
        ({}, f"uid {NAMELESS}"),
    ],
)
def test_the_calling_user_is_named_even_without_a_name(monkeypatch, environment, user):
    for name in ("SUDO_USER", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "getuid", lambda: NAMELESS)
    assert daemon.who() == user


def test_a_daemon_leaves_the_syslog_socket_of_its_caller_before_the_number_is_used_again(monkeypatch):
    steps = []
    monkeypatch.setattr(syslog, "closelog", lambda: steps.append("closelog"))
    for name, answer in (("open", 9), ("dup2", None), ("close", None), ("chdir", None)):
        monkeypatch.setattr(os, name, lambda *_given, name=name, answer=answer: steps.append(name) or answer)
    monkeypatch.setattr(os, "listdir", lambda _path: ["0", "3", "4"])
    daemon._close_descriptors(4)
    monkeypatch.undo()
    assert steps[0] == "closelog"
    assert steps.count("close") == 1, "standard streams and the pipe stay"
