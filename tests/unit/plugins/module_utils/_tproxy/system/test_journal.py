# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries for journald and for syslog, read from the other end of their sockets."""

from __future__ import annotations

import socket

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import journal


@pytest.fixture
def sockets(tmp_path, monkeypatch):
    """Return the function that makes the socket of "JOURNALD" or "SYSLOG". Until then no process listens."""
    opened = []
    for name in ("JOURNALD", "SYSLOG"):
        monkeypatch.setattr(journal, name, str(tmp_path / name))

    def listen(name: str) -> socket.socket:
        opened.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        opened[-1].bind(str(tmp_path / name))
        opened[-1].setblocking(False)
        return opened[-1]

    yield listen
    for each in opened:
        each.close()


def test_journald_gets_the_line_and_its_fields(sockets):
    listening = sockets("JOURNALD")
    journal.record("tproxy_rule by alice: rules", {"TPROXY_WHO": "alice"})
    assert listening.recv(4096).decode().splitlines() == [
        "MESSAGE=tproxy_rule by alice: rules",
        "PRIORITY=5",
        "SYSLOG_IDENTIFIER=tproxy-splicer-audit",
        "TPROXY_WHO=alice",
    ]


def test_syslog_gets_the_line_where_there_is_no_journald(sockets):
    listening = sockets("SYSLOG")
    journal.record("tproxy_rule by alice: rules", {"TPROXY_WHO": "alice"})
    found = listening.recv(4096).decode()
    assert found.startswith("<85>tproxy-splicer-audit[")
    assert found.endswith("]: tproxy_rule by alice: rules")


def test_a_host_without_both_has_no_trail_and_no_failure(sockets):
    journal.record("line", {})


def test_a_journal_that_reads_nothing_does_not_keep_a_change_waiting(sockets):
    sockets("JOURNALD")
    for number in range(5000):
        journal.record(f"line {number}", {})


def test_a_name_forges_neither_a_line_nor_a_field(sockets):
    listening = sockets("JOURNALD")
    journal.record("a\nMESSAGE=b\u2028\x1b[2J", {"TPROXY_WHO": "a\nPRIORITY=0"})
    assert listening.recv(4096).decode().split("\n") == [
        "MESSAGE=a?MESSAGE=b??[2J",
        "PRIORITY=5",
        "SYSLOG_IDENTIFIER=tproxy-splicer-audit",
        "TPROXY_WHO=a?PRIORITY=0",
        "",
    ]


@pytest.mark.parametrize(("text", "user"), [("1000", 1000), ("0", 0), ("4294967295", None), (None, None)])
def test_the_user_that_logged_in(monkeypatch, tmp_path, text, user):
    monkeypatch.setattr(journal, "LOGIN_USER", str(tmp_path / "loginuid"))
    if text:
        (tmp_path / "loginuid").write_text(text, encoding="ascii")
    assert journal.login_user() == user
