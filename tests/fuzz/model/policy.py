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

    def is_within(self, other: Prefix) -> bool:
        """Whether all addresses of this prefix are in another one."""
        return other.length <= self.length and other.holds(self.family, self.network)

    @property
    def is_special(self) -> bool:
        """Whether all its addresses are special ("Own addresses")."""
        return any(self.is_within(special) for special in SPECIAL)


@dataclass(frozen=True)
class Management:
    """Who may always pass. A protocol without ports is a number, and its port 0, as in a flow."""

    source: Prefix
    protocol: str | int
    port: int


@dataclass(frozen=True)
class Policy:
    """The options of one interface, and its kind."""

    default_action: str = "drop"
    allow_ssh: bool = True
    allow_echo: bool = False
    accept: str = "ok"
    management: tuple = ()
    loopback: bool = False
    layer3: bool = False
    track: str = "none"
    link_protocols: str = "pass"
    port: bool = False


LIMITED_BROADCAST = (4, 0xFFFFFFFF)
MULTICAST = (Prefix.parse("224.0.0.0/4"), Prefix.parse("ff00::/8"))
# "Own addresses": no rule for a wider destination splices to these.
SPECIAL = (*MULTICAST, *map(Prefix.parse, ("0.0.0.0/8", "127.0.0.0/8", "255.255.255.255/32", "::/127")))


@dataclass(frozen=True)
class Host:
    """The own addresses of the router, and the broadcast addresses of its subnets: (family, address).

    `reserved` has the ports of SSH daemons and management entries: (protocol, port).
    """

    own: frozenset = frozenset()
    broadcasts: frozenset = frozenset()
    reserved: frozenset = frozenset()

    def is_own(self, family: int, address: int) -> bool:
        """Whether it is an address of this host alone."""
        return (family, address) in self.own and not self.is_group(family, address)

    def is_group(self, family: int, address: int) -> bool:
        """Whether packets to it are for several hosts."""
        return is_anywhere_a_group(family, address) or (family, address) in self.broadcasts - self.own

    def gets(self, family: int, address: int) -> bool:
        """Whether this host is among those that get it."""
        return self.is_own(family, address) or self.is_group(family, address)


def is_anywhere_a_group(family: int, address: int) -> bool:
    """Whether packets to it are for several hosts, whatever the subnets."""
    return any(prefix.holds(family, address) for prefix in MULTICAST) or (family, address) == LIMITED_BROADCAST


def is_special(family: int, address: int) -> bool:
    """Whether no single host has the address, or only on its loopback interface."""
    return any(prefix.holds(family, address) for prefix in SPECIAL)


def has_martian_source(flow: Flow) -> bool:
    """Whether the stack takes no packet from the source ("Martian sources")."""
    asks_group = flow.source >> 24 & 0xFF == 0 and is_anywhere_a_group(flow.family, flow.destination)
    return is_special(flow.family, flow.source) and not asks_group


def is_management(policy: Policy, flow: Flow, host: Host) -> bool:
    """Whether the allow-list names the flow, and this host gets it."""
    return host.gets(flow.family, flow.destination) and any(
        entry.port == flow.port and entry.protocol == flow.protocol and entry.source.holds(flow.family, flow.source)
        for entry in policy.management
    )


def is_dhcp(flow: Flow, host: Host, is_whole: bool) -> bool:
    """Whether a server answers a client; over IPv6 on the link only.

    An IPv4 client may have no address yet, and takes no fragments then.
    """
    if flow.protocol != "udp" or (flow.source_port, flow.port) != DHCP[flow.family]:
        return False
    if flow.family == 4:
        return is_whole or host.gets(4, flow.destination)
    return is_link_local(flow.source) and (is_link_local(flow.destination) or host.gets(6, flow.destination))


def is_ssh(policy: Policy, flow: Flow, host: Host) -> bool:
    """Whether it goes to port 22 of an own address."""
    return (
        policy.allow_ssh and (flow.protocol, flow.port) == ("tcp", SSH) and host.is_own(flow.family, flow.destination)
    )
