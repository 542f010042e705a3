# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/openziti.md as a new user follows it: the network was made by its steps."""

from __future__ import annotations

import re

import pytest

from ansible_collections.netedge.tproxy.tests.system.openziti import guide, lab
from ansible_collections.netedge.tproxy.tests.system.openziti.services import WEB, WEB_SAYS, intercept


@pytest.mark.slice
def test_the_proof_of_the_guide(network, serve):
    """Each command of its last step succeeds, and doctor finds nothing wrong."""
    serve("guide", intercept("guide.lab.ziti", 80), port=WEB)
    address = lab.eventually(lambda: network.client.look_up(network.r1.lan, "guide.lab.ziti"))
    assert network.client.body(address, 80) == WEB_SAYS
    said = [network.r1.shell(command) for command in guide.commands("7. Start and prove")]
    last = said[1].strip().splitlines()[-1]
    assert "version info tproxy-splicer" in last and "helper: reachable" in last
    assert "ziti:" in said[2] and address in said[2]
    heading, _newline, notes = said[3].partition("\n")
    assert heading == "Nothing is wrong."
    assert re.findall(r"^note: .*?\[(\w+)\]$", notes, re.MULTILINE | re.DOTALL) == ["ssh_from_anywhere"]


def test_a_second_run_of_its_playbook_changes_nothing(network, serve):
    service = serve("second-run", intercept("172.16.54.1", 80), port=WEB)
    network.client.until_answered("172.16.54.1", 80)
    assert " changed=0 " in network.role()
    assert service.owner in {rule["owner"] for rule in network.r1.rules()}
