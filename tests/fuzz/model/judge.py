# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outcome of a packet: the packet table of docs/SEMANTICS.md, row by row.

This model judges the program, its compiler and its lookup. It follows docs/SEMANTICS.md and the RFCs alone, and shares
no line with them. Never change it to agree with them: change the specification first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from .packet import ARP, TRANSPORT, VLAN_ID, Flow, Packet, dissect, is_link_local
from .policy import BITS, Host, Policy, has_martian_source, is_dhcp, is_management, is_special, is_ssh
from .rules import Rule, Rules, names_listener
from .sessions import Sessions

ETHERNET_HEADER = 14
ANY = 0


class Arrival(NamedTuple):
    """A frame as it comes in: its bytes, its EtherType, and the tag (TCI) that was taken from it, if any."""

    interface: str
    frame: bytes
    protocol: int
    vlan: int | None = None


class Judgement(NamedTuple):
    """The outcome: reason, "pass" or "drop", return value of the hook ("ok", "unspec", "shot"), rule, and mark."""

    reason: str
    verdict: str
    returned: str
    rule: Rule | None
    marked: bool


@dataclass
class Sockets:
    """The host's sockets. A tuple is (family, address, port, other address, other port), the host's own end first."""

    listeners: set = field(default_factory=set)  # TCP: (family, address or ANY, port)
    sessions: set = field(default_factory=set)  # TCP in any other state: tuples
    bound: set = field(default_factory=set)  # UDP, unconnected: (family, address or ANY, port)
    connected: set = field(default_factory=set)  # UDP: tuples

    def is_session(self, flow: Flow) -> bool:
        """Whether the flow belongs to a session of this host. Only TCP and UDP have sessions."""
        if flow.protocol not in ("tcp", "udp"):
            return False
        tuples = self.sessions if flow.protocol == "tcp" else self.connected
        return (flow.family, flow.destination, flow.port, flow.source, flow.source_port) in tuples

    def is_open(self, protocol: str, family: int, address: int, port: int) -> bool:
        """Whether a socket listens there, or an unconnected UDP socket is bound there."""
        ends = self.listeners if protocol == "tcp" else self.bound
        return (family, address, port) in ends or (family, ANY, port) in ends

    def takes(self, flow: Flow, proxy: tuple) -> bool:
        """Whether a proxy takes the flow: a TCP listener, or a UDP socket that a datagram to the proxy would reach."""
        address, port = proxy
        if self.is_open(flow.protocol, flow.family, address, port):
            return True
        return flow.protocol == "udp" and self.is_session(flow._replace(destination=address, port=port))


class Outcome(NamedTuple):
    """The outcome of a row; `passes` None means the default action, unless there is a `verdict`."""

    reason: str
    passes: bool | None
    rule: Rule | None = None
    marked: bool = False
    verdict: str | None = None


class Router:
    """A host with the program on its interfaces: {interface: Policy, or None where it was removed}."""

    def __init__(self, policies: dict, rules: Rules, sockets: Sockets, host: Host):
        self._policies, self._rules, self._sockets, self._host = policies, rules, sockets, host
        self.sessions = Sessions(host)
        self.firsts = {}  # (interface, datagram) -> verdict and mark of its first fragment

    def judge(self, arrival: Arrival) -> Judgement:
        """Return the outcome of a packet."""
        policy = self._policies[arrival.interface] or Policy()  # "Policies": no policy
        outcome = self._row(arrival, policy)
        verdict = "pass" if policy.loopback else _verdict(outcome, policy)
        passes = verdict != "drop"
        returned = "ok" if passes else "shot"
        if passes and policy.accept == "unspec" and outcome.reason != "spliced":
            returned = "unspec"
        return Judgement(outcome.reason, verdict, returned, outcome.rule, outcome.marked)

    def enter(self, arrival: Arrival) -> None:
        """Let a packet come in, so that its flow is known."""
        policy = self._policies[arrival.interface] or Policy()
        outcome = self._row(arrival, policy)
        if _passes(outcome, policy) and not _is_of_a_vlan(arrival):
            self.sessions.let_in(policy, _dissected(arrival, policy), outcome.reason)

    def note_fragment(self, arrival: Arrival) -> None:
        """Let a packet come in, so that the first fragment of its datagram is known."""
        policy = self._policies[arrival.interface] or Policy()
        if arrival.protocol == ARP or _is_of_a_vlan(arrival):
            return
        datagram = _dissected(arrival, policy).begins
        if datagram is not None:
            outcome, key = self._row(arrival, policy), (arrival.interface, datagram)
            before, now = self.firsts.get(key, ("pass",))[0], _verdict(outcome, policy)
            self.firsts[key] = max(before, now, key=STRICTER.index), outcome.marked

    def leave(self, departure: Arrival, is_forwarded: bool) -> None:
        """Let a packet go out, of this host or forwarded."""
        policy = self._policies[departure.interface] or Policy()
        self.sessions.leaves(policy, _dissected(departure, policy), is_forwarded)

    def _row(self, arrival: Arrival, policy: Policy) -> Outcome:
        """Return the outcome of the first row that matches."""
        if arrival.protocol == ARP:
            return Outcome("arp", True)
        if _is_of_a_vlan(arrival):  # "Link layer"
            return Outcome("vlan", True)
        packet = _dissected(arrival, policy)
        if packet.kind == "flow":
            return self._transport(packet, arrival.interface, policy)
        if packet.kind == "portless":
            return self._portless(packet.flow, arrival.interface, policy)
        if packet.kind == "error":
            return self._error(packet.flow, arrival.interface, policy)
        if packet.kind == "echo_error":
            heard = self._host.is_own(packet.family, packet.destination) or self.sessions.has(policy, packet.flow)
            return Outcome("icmp", heard or None)
        if packet.kind == "fragment":
            return self._fragment(packet, arrival.interface)
        if packet.kind in ("needed", "echo"):
            return self._control(packet, policy)
        if packet.kind == "link":
            return Outcome("link", policy.link_protocols == "pass")
        return _ROWS[packet.kind]

    def _control(self, packet: Packet, policy: Policy) -> Outcome:
        """Rows 6a to 6c."""
        is_for_host = self._host.gets(packet.family, packet.destination)
        if packet.family == 6 and is_link_local(packet.destination):
            is_for_host = True
        if packet.kind == "needed":
            is_session = packet.flow is not None and self.sessions.has(policy, packet.flow)
            return Outcome("icmp", is_for_host or is_session or None)
        return Outcome("icmp", (is_for_host and policy.allow_echo) or None)

    def _transport(self, packet: Packet, interface: str, policy: Policy) -> Outcome:
        """Rows 3 to 5, 8 to 12."""
        flow = packet.flow
        if is_management(policy, flow, self._host):
            return Outcome("management", True)
        if is_dhcp(flow, self._host, packet.begins is None):
            return Outcome("dhcp", True)
        if is_ssh(policy, flow, self._host):
            return Outcome("ssh", True)
        rule = self._rules.best(flow, interface)
        if self._sockets.is_session(flow) and not self._is_for_listener(flow, rule):
            return Outcome("established", True, rule, True)
        if rule is None:
            return Outcome("session", True) if self.sessions.has(policy, flow) else Outcome("default", None)
        if rule.action != "tproxy":
            return Outcome("rule", rule.action == "pass", rule)
        return self._splice(packet, flow, rule, policy)

    def _is_for_listener(self, flow: Flow, rule: Rule | None) -> bool:
        """Whether a datagram goes to the listener of its rule, though a socket is connected to its client ("Proxy")."""
        is_named = flow.protocol == "udp" and rule is not None and names_listener(rule)
        return is_named and not self._host.gets(flow.family, flow.destination)

    def _splice(self, packet: Packet, flow: Flow, rule: Rule, policy: Policy) -> Outcome:
        """Rows 10 and 11."""
        destination = flow.family, flow.destination
        if not _names(rule, *destination) or self._spares(rule, flow):
            if self._host.is_own(*destination):
                return Outcome("local", True, rule)
            if self._host.is_group(*destination) or is_special(*destination):
                return Outcome("undeliverable", None, rule)
        is_martian = has_martian_source(flow) and not policy.loopback
        if packet.has_next_hop or policy.port or is_martian:
            return Outcome("undeliverable", None, rule)
        if self._sockets.takes(flow, rule.proxy):
            is_whole = packet.begins is None
            return Outcome("spliced", True, rule, True) if is_whole else Outcome("fragment", False, rule)
        return Outcome("no_listener", rule.on_missing == "pass", rule)

    def _spares(self, rule: Rule, flow: Flow) -> bool:
        """Whether a rule of a router leaves a reserved port to this host ("Own addresses")."""
        is_routers = rule.owner.startswith("ziti:") and not rule.destination.is_special
        return is_routers and (flow.protocol, flow.port) in self._host.reserved

    def _portless(self, flow: Flow, interface: str, policy: Policy) -> Outcome:
        """Rows 3, 9 and 12c: a protocol without ports, whole or in fragments."""
        if is_management(policy, flow, self._host):
            return Outcome("management", True)
        rule = self._rules.best(flow, interface)
        if rule is None:
            return Outcome("other", None)
        return Outcome("rule", rule.action == "pass", rule)

    def _error(self, flow: Flow, interface: str, policy: Policy) -> Outcome:
        """Rows 6d to 6h: an ICMP error, by the flow that it quotes."""
        rule, sockets = self._rules.best(flow, interface), self._sockets
        if sockets.is_session(flow) or _splices(rule):
            return Outcome("icmp", True, rule, True)
        heard = flow.protocol == "udp" and sockets.is_open("udp", flow.family, flow.destination, flow.port)
        heard = heard or (rule is None and self.sessions.has(policy, flow))
        if heard or (rule is not None and rule.action == "pass"):
            return Outcome("icmp", True, rule)
        return Outcome("icmp", None, rule)

    def _fragment(self, packet: Packet, interface: str) -> Outcome:
        """Row 7."""
        first = self.firsts.get((interface, packet.continues))
        if first is not None:
            verdict, marked = first
            return Outcome("fragment", None, marked=marked, verdict=verdict)
        if packet.protocol not in TRANSPORT:
            return Outcome("fragment", None)
        name, _smallest = TRANSPORT[packet.protocol]
        rule = self._rules.cover(packet.family, name, packet.destination, interface)
        return Outcome("fragment", None if rule is None else False, rule)


STRICTER = ("pass", "would_drop", "drop")  # of two first fragments
_ROWS = {
    "malformed": Outcome("malformed", False),
    "tagged": Outcome("vlan", True),
    "other": Outcome("other", None),
}


def _names(rule: Rule, family: int, destination: int) -> bool:
    """Whether a rule names an address itself, or special addresses alone ("Own addresses")."""
    return rule.destination.length == BITS[family] or rule.destination.is_special


def _is_of_a_vlan(arrival: Arrival) -> bool:
    return arrival.vlan is not None and bool(arrival.vlan & VLAN_ID)


def _dissected(arrival: Arrival, policy: Policy) -> Packet:
    return dissect(arrival.frame, 0 if policy.layer3 else ETHERNET_HEADER, arrival.protocol)


def _verdict(outcome: Outcome, policy: Policy) -> str:
    """Return the verdict, on any interface but lo."""
    if outcome.verdict is not None:
        return outcome.verdict
    verdict = policy.default_action if outcome.passes is None else ("drop", "pass")[outcome.passes]
    return {"audit": "would_drop"}.get(verdict, verdict)


def _passes(outcome: Outcome, policy: Policy) -> bool:
    return policy.default_action != "drop" if outcome.passes is None else outcome.passes


def _splices(rule: Rule | None) -> bool:
    return rule is not None and rule.action == "tproxy"
