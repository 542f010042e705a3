# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flows that began inside, and those that began outside: "Sessions" of docs/SEMANTICS.md, without time.

A flow stands in a set as its entering packets have it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .packet import Flow, Packet
from .policy import Host, Policy


def answers_to(flow: Flow) -> Flow:
    """Return the flow of the answers to a packet."""
    return flow._replace(source=flow.destination, source_port=flow.port, destination=flow.source, port=flow.source_port)


@dataclass
class Sessions:
    """The flows so far, on this host."""

    host: Host
    own: set = field(default_factory=set)
    forwarded: set = field(default_factory=set)
    outside: set = field(default_factory=set)

    def has(self, policy: Policy, flow: Flow) -> bool:
        """Whether packets of this flow, entering by an interface with this policy, are answers."""
        if policy.track == "none":
            return False
        return flow in self.own or (policy.track == "all" and flow in self.forwarded)

    def leaves(self, policy: Policy, packet: Packet, is_forwarded: bool) -> None:
        """Record the flow of a packet that leaves by an interface with this policy."""
        flow = packet.flow
        if policy.track == "none" or packet.kind not in ("flow", "echo") or flow is None:
            return
        if is_forwarded and policy.track != "all":
            return
        if not is_forwarded and (flow.protocol == "tcp" or not self.host.is_own(flow.family, flow.source)):
            return
        table, answers = self.forwarded if is_forwarded else self.own, answers_to(flow)
        if answers not in self.outside and flow not in table and not packet.ends:
            table.add(answers)

    def let_in(self, policy: Policy, packet: Packet, reason: str) -> None:
        """Note the flow of a packet that was let in by an interface with this policy."""
        flow = packet.flow
        if policy.track == "none" or packet.kind != "flow" or flow is None or reason == "session":
            return
        to_socket = reason in ("established", "spliced")
        is_own_udp = flow.protocol == "udp" and self.host.is_own(flow.family, flow.destination)
        if ((policy.track == "all" and not to_socket) or is_own_udp) and not self.has(policy, flow):
            self.outside.add(flow)
