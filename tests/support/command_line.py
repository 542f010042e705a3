# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Support for tests of the command line: its runs on the fake machine, and an answer to print."""

from __future__ import annotations

from typing import NamedTuple

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli import main


class Run(NamedTuple):
    """The exit status and output of a run."""

    status: int
    out: str
    err: str


class CommandLine:
    """`tproxy-splicer`, under any of its names, on the fake machine."""

    def __init__(self, machine, monkeypatch, capsys):
        self.machine, self._capsys = machine, capsys
        monkeypatch.setattr(main, "_system", machine.system)
        monkeypatch.setattr(main, "_requests", lambda: machine.system().requests)

    def __call__(self, *words: str, name: str = "tproxy-splicer") -> Run:
        try:
            status = main.main([f"/usr/local/sbin/{name}", *words])
        except SystemExit as end:  # argparse exits by itself
            status = end.code
        return Run(status, *self._capsys.readouterr())


def answer_of_info() -> dict:
    """Return a result of tproxy_info that has an entry of every kind."""
    found = {"severity": "error", "code": "no_filter", "interface": "lan1", "found": "lan1 has no filter of ours"}
    return {
        "changed": False,
        "attachments": _attachments(),
        "program": {"program_id": 77, "identity": "0123456789ab" * 5, "instructions": 900, "layout": 1},
        "rules": _rules(),
        "generation": 7,
        "image": {"pages": 548, "bytes": 561152, "rules": 2, "capacity_bytes": 1048576},
        "flows": {"own": {"entries": 5, "size": 65536}},
        "drift": ["change_overdue"],
        "daemons": {"saved_at": "2026-01-05T10:00:00Z", "boots": True, "watcher": False, "helper": None}
        | {"watcher_changes": 3},
        "pending_change": {"state": "pending", "token": "0123", "seconds": 60, "seconds_left": 41},
        "own_addresses": [{"interface": "lo", "ifindex": 1, "addresses": ["192.0.2.7"]}],
        "routes": ["ip rule iif lan0 fwmark 0x1/0x1 lookup 1080"],
        "findings": [{**found, "remedy": "run tc_bpf_attach again"}],
    }


def _attachments() -> list:
    counted, nothing = {"packets": 12, "bytes": 6120}, {"packets": 0, "bytes": 0}
    policy = {"default_action": "drop", "allow_ssh": True, "allow_echo": True, "accept": "ok", "mark": "0x1/0x1"}
    whole = {
        "interface": "lan0",
        "ifindex": 3,
        "direction": "ingress",
        "hook": "clsact",
        "priority": 10,
        "handle": 1,
        "program_id": 77,
        "tag": "0123456789abcdef",
        "name": "tproxy_splicer:0123456789ab",
        "drift": [],
        "ahead": [],
        "policy": {**policy, "management": [{"source": "192.0.2.0/24", "protocol": "tcp", "port": 22}]},
        "addresses": ["10.1.0.1", "fe80::1"],
        "reasons": {
            "spliced": {"passed": counted, "dropped": nothing, "would_drop": nothing},
            "default": {"passed": nothing, "dropped": {"packets": 9, "bytes": 700}, "would_drop": nothing},
        },
    }
    gone = dict.fromkeys(["hook", "priority", "handle", "program_id", "tag", "name", "policy"])
    return [whole, {**whole, **gone, "interface": "lan1", "drift": ["no_filter"], "addresses": [], "reasons": {}}]


def _rules() -> list:
    short = {
        "destination": "172.16.240.0/24",
        "source": "0.0.0.0/0",
        "protocol": "udp",
        "ports": "5060",
        "interfaces": [],
        "action": "tproxy",
        "tproxy_ip": "127.0.0.1",
        "tproxy_port": 58997,
        "tproxy_user": "",
        "on_missing": "drop",
        "fragments": "on_demand",
        "name": "voice",
        "owner": "ansible",
        "service": "",
        "hits": {"packets": 12, "bytes": 6120},
        "in_force": True,
    }
    long = {
        "destination": "fd00::/8",
        "source": "fd00:1234:5678:9abc:def0:1234:5678:9abc/128",
        "protocol": "tcp",
        "ports": "30000-40000",
        "interfaces": ["lan0", "lan1"],
        "action": "drop",
        "tproxy_ip": "",
        "tproxy_port": 0,
        "tproxy_user": "",
        "on_missing": "",
        "fragments": "",
        "name": "",
        "owner": "ziti:4rGdWvtU7Zg0tJQqR5nYbX",
        "service": "build farm",
        "hits": {"packets": 9, "bytes": 700},
        "in_force": True,
    }
    return [short, long]
