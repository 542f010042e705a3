# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example in docs/IMAGE.md is an image that this release compiles."""

from __future__ import annotations

import re

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule_options import rules_from_params
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.compile import compile_image
from ansible_collections.netedge.tproxy.tests.support.collection import ROOT

RULES = [
    {"destination": "172.16.1.0/28", "protocol": "tcp", "ports": "30000-40000", "tproxy_port": 20000},
    {"destination": "172.16.1.0/24", "protocol": "tcp", "ports": "443", "action": "pass"},
    {"destination": "172.16.1.0/24", "protocol": "udp", "ports": "53", "tproxy_port": 5001},
]


def test_each_dump_of_the_example_is_in_the_image():
    rules, _warnings = rules_from_params(RULES)
    image = compile_image([(rule, slot) for slot, rule in enumerate(rules, 1)], {}, 1).tobytes()
    example = (ROOT / "docs" / "IMAGE.md").read_text(encoding="utf-8").partition("### Example")[2].partition("\n## ")[0]
    dumps = re.findall(r"(?:^ {7}[0-9a-f ]+\n)+", example, flags=re.M)
    assert len(dumps) == 3
    directory, addresses, ports = (bytes.fromhex("".join(dump.split())) for dump in dumps)
    assert image[64:].startswith(directory)
    assert image[0x207 * 1024 :].startswith(addresses)
    assert image[0x207 * 1024 + 64 :].startswith(ports)
    assert image[0xB1 * 1024 + 4 * 0x10 :].startswith((0x800081C0).to_bytes(4, "little"))
