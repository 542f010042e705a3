# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of tproxy_info as a fleet of routers would give them: the same for each run of the tests."""

from __future__ import annotations

import json
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
OWN_SOURCE = json.loads((ROOT / "roles/tproxy_splicer/files/tproxy_splicer.json").read_text())["source_sha256"]

HOSTILE = "<script>document.title = 'taken'</script><img src=http://192.0.2.1/x onerror=alert(1)>\"'{{ 7 * 7 }}"
SITES = ("berlin", "hamburg", "köln", "lyon", "porto", "turin")
SERVICES = ("build farm", "telemetry", "voice", "printer", "intranet", "backup", "time", "door camera")
UNREACHABLE = {"unreachable": True, "changed": False, "msg": "Failed to connect to the host via ssh: timed out"}
FAILED = {"failed": True, "changed": False, "msg": "expected the rights of root, got user 1000; use become"}


def name_of(number: int) -> str:
    """Return the name of a router in the inventory."""
    return f"edge{number}.{SITES[number % len(SITES)]}"


def fleet(routers: int, rules: int = 40) -> dict[str, dict]:
    """Return the results by name. A few routers are unreachable, have failed, or have findings."""
    return {name_of(number): _result(number, rules) for number in range(1, routers + 1)}


def _result(number: int, rules: int) -> dict:
    if number % 40 == 9:
        return UNREACHABLE
    return FAILED if number % 97 == 23 else answer(number, rules)


def answer(number: int, rules: int = 40) -> dict:
    """Return the result of a router that answers."""
    drift = ["other_maps"] if number % 29 == 4 else []
    return {
        "changed": False,
        "attachments": [
            _attachment("wan0", number, drift, "drop"),
            _attachment("lan0", number, [], "audit" if number % 7 == 0 else "drop"),
        ],
        "program": _program(number),
        "rules": [_rule(number, each) for each in range(rules)],
        "generation": 3 + number % 50,
        "image": {"pages": 600, "bytes": 614400, "rules": rules, "capacity_bytes": 1048576},
        "flows": {
            "own": {"entries": 40 + number % 200, "size": 65536},
            "forwarded": {"entries": number * 5779 % 65536, "size": 65536},
            "outside": {"entries": number * 31 % 900, "size": 65536},
        },
        "drops": [_drop(number)],
        "drift": [],
        "daemons": {"saved_at": "2026-01-05T10:00:00Z", "boots": True, "watcher": number % 11 != 3}
        | {"watcher_changes": 0, "helper": None},
        "pending_change": None,
        "routes": ["ip rule iif lan0 fwmark 0x1/0x1 lookup 1080"],
        "findings": _findings(number, drift),
    }


def _program(number: int) -> dict:
    older = number % 12 == 5
    return {
        "program_id": 77,
        "identity": ("5c0de5c0de5c" if older else "30fc023d4fb4") + 52 * "0",
        "source_sha256": 64 * "0" if older else OWN_SOURCE,
        "instructions": 9000,
        "layout": 3,
    }


def _attachment(interface: str, number: int, drift: list[str], default: str) -> dict:
    dropped, passed = "would_drop" if default == "audit" else "dropped", number * 7919 % 90000
    counts = {"spliced": ("passed", passed), "default": (dropped, number * 613 % 5000)}
    counts |= {"no_listener": ("dropped", number % 5), "fragment": ("dropped", number % 3)}
    counts |= {"malformed": ("dropped", number % 2)}
    return {
        "interface": interface,
        "hook": "tcx",
        "name": "tproxy_splicer:30fc023d4fb4",
        "drift": drift,
        "policy": {"default_action": default},
        "reasons": {
            reason: {verdict: {"packets": count, "bytes": 60 * count}} for reason, (verdict, count) in counts.items()
        },
    }


def _rule(number: int, each: int) -> dict:
    return {
        "name": SERVICES[each] if each < len(SERVICES) else "",
        "service": "",
        "owner": "ansible",
        "destination": f"172.16.{each}.0/24",
        "protocol": "tcp" if each % 2 else "udp",
        "ports": f"{5000 + each}",
        "hits": {"packets": 0 if each % 5 == 4 else (number * 37 + 1) * 1000 // (each + 1) ** 2, "bytes": 1},
        "in_force": True,
    }


def _drop(number: int) -> dict:
    return {
        "interface": "wan0",
        "verdict": "drop",
        "reason": "default",
        "protocol": "tcp",
        "source": f"198.51.100.{number % 250}",
        "destination": "203.0.113.1",
        "port": 8443,
        "packets": 3,
        "last_seen": "2026-01-05T10:00:04Z",
    }


def _findings(number: int, drift: list[str]) -> list[dict]:
    found = [{"severity": "error", "code": code, "interface": "wan0"} for code in drift]
    found = [{**one, "found": "wan0 runs our program with other maps", "remedy": "attach it again"} for one in found]
    if number % 11 == 3:
        found.append(
            {
                "severity": "warning",
                "code": "watcher_down",
                "interface": None,
                "found": "the watcher is enabled and does not run",
                "remedy": "systemctl start tproxy-splicer-watch",
            }
        )
    note = {"severity": "note", "code": "ssh_open", "interface": "lan0", "found": "lan0 lets SSH in from everywhere"}
    return [*found, {**note, "remedy": "set allow_ssh to false, and name management entries"}]
