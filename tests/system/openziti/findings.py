# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings about the router under test, as doctor, metrics and tproxy_info tell them."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.netedge.tproxy.tests.system.openziti import lab


def told(network, code: str) -> dict[str, Any]:
    """Wait until doctor tells a finding; return it. Metrics and tproxy_info tell the same."""
    finding = lab.eventually(lambda: network.r1.findings().get(code))
    assert f'severity="{finding["severity"]}",code="{code}"' in network.r1.run("tproxy-splicer", "metrics")
    assert f"code: {code}\n" in lab.module("tproxy_info")
    return finding


def gone(network, code: str) -> None:
    """Wait until doctor, metrics and tproxy_info tell the finding no longer."""
    lab.eventually(lambda: code not in network.r1.findings())
    assert f'code="{code}"' not in network.r1.run("tproxy-splicer", "metrics")
    assert f"code: {code}\n" not in lab.module("tproxy_info")


def obey(network, finding: dict[str, Any]) -> None:
    """Run the commands of a remedy. One of them restarts the router, if the remedy says so."""
    commands = re.findall(r"`([^`]+)`", finding["remedy"])
    assert commands
    for command in commands:
        network.r1.shell(command)
