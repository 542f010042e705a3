# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter to nftables, against the kernel: chains that see packets to this host, and rules that read marks."""

from __future__ import annotations

import subprocess

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.nftables import input_chains
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.path import InputChain

BASE = "type filter hook input priority 0; policy"


def nft(text: str) -> None:
    """Load a ruleset that stands in one line."""
    lines = text.replace("{", "{\n").replace("}", "\n}\n")
    subprocess.run(["nft", "-f", "-"], input=lines, text=True, check=True)


def test_no_chain(netns):
    assert input_chains() == []


@pytest.mark.parametrize("family", ["inet", "ip", "ip6"])
def test_the_policy_of_a_chain(netns, family):
    nft(f"table {family} one {{ chain closed {{ {BASE} drop; }} chain open {{ {BASE} accept; }} chain regular {{ }} }}")
    assert sorted(input_chains()) == [
        InputChain(family, "one", "closed", True, False),
        InputChain(family, "one", "open", False, False),
    ]


def test_chains_of_other_hooks_are_left_out(netns):
    hooks = ("forward", "output", "prerouting", "postrouting")
    nft("table inet one { %s }" % " ".join(f"chain {hook} {{ type filter hook {hook} priority 0; }}" for hook in hooks))
    assert input_chains() == []


@pytest.mark.parametrize(
    ("rule", "reads"),
    [
        ("meta mark & 0x10000000 == 0x10000000 accept", True),
        ("socket transparent 1 accept", True),
        ("tcp dport 22 accept", False),
        ("meta iifname lo accept", False),
        ("ct mark 1 accept", False),
    ],
)
def test_a_rule_of_the_table_reads_the_mark(netns, rule, reads):
    nft(f"table inet one {{ chain other {{ {rule} }} chain closed {{ {BASE} drop; jump other; }} }}")
    assert [chain.reads_marks for chain in input_chains()] == [reads]


@pytest.mark.parametrize(("match", "reads"), [("-m mark --mark 0x10000000/0x10000000", True), ("-p tcp", False)])
def test_a_rule_of_iptables_nft(netns, match, reads):
    subprocess.run(["iptables-nft", "-P", "INPUT", "DROP"], check=True)
    subprocess.run(["iptables-nft", "-A", "INPUT", *match.split(), "-j", "ACCEPT"], check=True)
    assert [(chain.drops, chain.reads_marks) for chain in input_chains()] == [(True, reads)]
