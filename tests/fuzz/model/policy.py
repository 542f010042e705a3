# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy of an interface, and the flows that it lets pass before any rule is consulted."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network

from .packet import Flow, is_link_local

BITS = {4: 32, 6: 128}
SSH = 22
DHCP = {4: (67, 68), 6: (547, 546)}  # from the server's port to the client's: RFC 2131, RFC 8415


@dataclass(frozen=True)
class Prefix:
    """A network of one family: `network` and `length` in bits of that family."""

    family: int
    network: int
    length: int

    @classmethod
    def parse(cls, text: str) -> Prefix:
        """Return the prefix of `10.0.0.0/8` or `fd00::/8`."""
        network = ip_network(text)
        return cls(network.version, int(network.network_address), network.prefixlen)

    def holds(self, family: int, address: int) -> bool:
        """Whether the first `length` bits are equal."""
        beyond = BITS[self.family] - self.length
        return family == self.family and self.network >> beyond == address >> beyond


@dataclass(frozen=True)
class Management:
    """Who may always pass."""

    source: Prefix
    protocol: str
    port: int


@dataclass(frozen=True)
class Policy:
    """The options of one interface, its kind, and its recorded addresses: (family, address)."""

    default_action: str = "drop"
    allow_ssh: bool = True
    allow_echo: bool = False
    accept: str = "ok"
    management: tuple = ()
    loopback: bool = False
    layer3: bool = False
    addresses: frozenset = frozenset()


def is_management(policy: Policy, flow: Flow) -> bool:
    """Whether the allow-list names the flow."""
    return any(
        entry.port == flow.port and entry.protocol == flow.protocol and entry.source.holds(flow.family, flow.source)
        for entry in policy.management
    )


def is_dhcp(flow: Flow) -> bool:
    """Whether a server answers a client; over IPv6 from the link only."""
    if flow.protocol != "udp" or (flow.source_port, flow.port) != DHCP[flow.family]:
        return False
    return flow.family == 4 or is_link_local(flow.source)


def is_ssh(policy: Policy, flow: Flow) -> bool:
    """Whether it goes to port 22 of a recorded address, or of any while none is recorded."""
    if not policy.allow_ssh or flow.protocol != "tcp" or flow.port != SSH:
        return False
    return not policy.addresses or is_recorded(policy, flow)


def is_recorded(policy: Policy, flow: Flow) -> bool:
    """Whether the destination is one of the interface's own addresses."""
    return (flow.family, flow.destination) in policy.addresses
