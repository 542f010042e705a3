# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Try the demo's flows through one router and print the results: show.py NAME CLIENTS ROUTERS.

Exits 1 when something is not as it should be, so that the demo cannot end well by accident.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

PROBE = pathlib.Path(__file__).resolve().parents[2] / "lab" / "probe.py"


def expectations(router: str) -> list:
    """Return (flow, its purpose, expected result)."""
    return of_short_addresses(router) if "[" not in router else of_long_addresses(router)


def of_short_addresses(router: str) -> list:
    """Return the expectations for IPv4."""
    return [
        ("tcp:172.16.1.5:30022", "tcp to an intercepted prefix", "spliced"),
        ("tcp:172.16.1.15:40000", "its last address and port", "spliced"),
        ("udp:100.64.0.2:5000", "udp to an intercepted host", "spliced"),
        ("udp:172.16.240.77:5060", "udp, reply from the original address", "spliced"),
        ("tcp:172.16.2.5:22", "port 22 of an intercepted host", "spliced"),
        (f"tcp:{router}:22", "port 22 of the router itself", "ssh"),
        ("tcp:172.16.1.5:80", "a port without a rule", "dropped"),
        ("tcp:172.16.1.1:30022", "a more specific rule that drops", "dropped"),
        ("udp:172.16.240.77:5061", "the port beside the range", "dropped"),
    ]


def of_long_addresses(router: str) -> list:
    """Return the expectations for IPv6."""
    return [
        ("tcp:[2001:db8:16::5]:443", "IPv6, tcp to an intercepted prefix", "spliced"),
        ("udp:[2001:db8:16:1::7]:53", "IPv6, udp", "spliced"),
        (f"tcp:{router}:22", "IPv6, port 22 of the router itself", "ssh"),
        ("tcp:[2001:db8:16::5]:80", "IPv6, a port without a rule", "dropped"),
    ]


def answers(flows: list, client: str) -> list:
    """Return the result of the lab's probe for each flow."""
    probe = subprocess.run(
        [sys.executable, str(PROBE), "--source", client, *flows], check=True, capture_output=True, text=True
    )
    return [json.loads(line) for line in probe.stdout.splitlines()]


def outcome(flow: str, found: dict) -> str:
    """Return the result of a flow in one word."""
    if found["error"] == "timed out":
        return "dropped"
    if isinstance(found["reply"], str) and found["reply"].startswith("SSH-2.0-"):
        return "ssh"
    target = flow.partition(":")[2]
    if found["answered"] and found["from"] == target and found["reply"]["original"] == target:
        return "spliced"
    return f"wrong: {found}"


def words(result: str, found: dict) -> str:
    """Return the result as text for a person."""
    if result == "spliced":
        return f"proxy {found['reply']['listener'].rpartition(':')[2]} saw {found['reply']['original']}"
    if result == "ssh":
        return "sshd answered"
    return result


def main() -> int:
    """Try all at once; print a line each."""
    name, clients, routers = sys.argv[1:]
    faults = 0
    for client, router in zip(clients.split(","), routers.split(",")):
        wanted = expectations(router)
        for (flow, what, expected), answer in zip(wanted, answers([flow for flow, _what, _result in wanted], client)):
            result = outcome(flow, answer)
            faults += result != expected
            sign = "ok" if result == expected else "NOT AS EXPECTED"
            print(f"    {name} {sign}  {what:35} {flow.replace(':', ' ', 1):30} {words(result, answer)}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
