# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""What `tproxy-splicer explain` prints: a verdict, and why, in words."""

from __future__ import annotations

from collections.abc import Mapping

from ._packet import flow_text
from ._show_text import outcome
from ._table import paragraph

# One sentence for each reason of bpf/abi.h; {proxy} and {action} are the rule's, {verdict} is the answer's.
WHY = {
    "other": "It is neither TCP nor UDP: the interface's default action is {verdict}.",
    "arp": "ARP always passes.",
    "vlan": "It is tagged for a VLAN interface, which judges it.",
    "malformed": "Its header is cut or contradicts itself: such packets are dropped whatever the policy says.",
    "management": "The interface's management list lets this source reach this port, before any rule is asked.",
    "dhcp": "Answers of a DHCP server always pass.",
    "ssh": "SSH to an address of this interface passes (allow_ssh), or to any address while none is recorded.",
    "icmp": "It is ICMP that a host needs, or an echo request: the interface's allow_echo or default action judges it.",
    "fragment": "It is a fragment, whose ports cannot be trusted.",
    "established": "It belongs to a session that this host has already.",
    "rule": "The rule's action is {action}.",
    "local": "A rule names the flow, but to this interface's own address: the host itself gets it.",
    "spliced": "The rule gives this flow to the proxy on {proxy}, and somebody listens there.",
    "no_listener": "The rule gives this flow to the proxy on {proxy}, but nobody listens there: its on_missing is"
    " {verdict}.",
    "assign_error": "The rule gives this flow to the proxy on {proxy}, but the kernel refused to hand over its socket:"
    " one with SO_REUSEPORT needs Linux 6.6.",
    "default": "No rule names this flow: the interface's default action is {verdict}.",
}


def explain_text(answer: Mapping) -> str:
    """Return verdict, reason and rule of the first flow of a tproxy_verdict answer."""
    flow, rule = answer["flows"][0], answer["rule"]
    lines = [*paragraph(flow_text(flow)), f"verdict: {answer['verdict']}", f"reason:  {answer['reason']}"]
    if rule:
        lines += paragraph(f"rule:    {_rule(rule)}")
    return "\n".join([*lines, *paragraph(why(answer))])


def why(answer: Mapping) -> str:
    """Return the reason in words."""
    rule = answer["rule"] or {"action": ""}
    proxy = outcome(rule).partition(",")[0]
    return WHY[answer["reason"]].format(verdict=answer["verdict"], action=rule["action"], proxy=proxy)


def _rule(rule: Mapping) -> str:
    name = f"{rule['name']!r} of " if rule["name"] else ""
    flow = f"{rule['protocol']} {rule['destination']} ports {rule['ports']} from {rule['source']}"
    return f"{flow}: {outcome(rule)} ({name}owner {rule['owner']})"
