# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The path of the operator's SSH: each hook that its packets cross, with the packet as that hook sees it.

1. A redirect or DNAT of this host comes after the hook. So the path begins with the packet before it.
2. A packet can enter by the interface of the route back, and by each interface with an address in the subnet of the
   peer or of its next hop: with several interfaces in one subnet, ARP decides.
3. A bridge, bond, team, macvlan or ipvlan has interfaces below it, which see the same packet.
4. A tunnel has outer packets. They have a path of their own, which this file follows in the same way.

5. A policy of IPsec has outer packets as well: ESP or AH, or UDP 4500 behind a NAT. Their ends are not looked for.

It only reads. A tunnel whose outer packets cannot be known is named in `lost`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..errors import InvalidInput
from ..model.flow import Flow
from ..model.prefix import (
    ADDRESS_BITS,
    MAPPED_BITS,
    Prefix,
    family_of,
    format_number,
    is_multicast,
    mask,
    parse_address,
)
from ..system.netlink.messages import Address, Link, Route
from ..system.netlink.path import Ends, InboundPolicy, Peer
from ..system.netlink.tunnels import Tunnel
from ..system.system import Netlink, System

CLIENT_PORT = 49152
TUNNEL_PORT = 49152  # VXLAN and Geneve hash the inner packet to a source port
REMOTES_MAX = 16  # of a VXLAN without a fixed remote

PORTS_BELOW = ("bridge", "bond", "team")
SAME_PACKET_BELOW = ("macvlan", "macvtap", "ipvlan", "ipvtap")
WIREGUARD, VXLAN, VLAN = "wireguard", "vxlan", "vlan"
# The packets of these come from a process or from IPsec, or in frames that a test run cannot have.
LOST_KINDS = ("tun", "ppp", "ovpn", "ovpn-dco", "xfrm", "vti", "vti6", "gtp", "bareudp", "macsec")
INNER_PROTOCOLS = {4: "ipip", 6: "ipv6"}  # by the family of the inner packet


class Crossing(NamedTuple):
    """A packet that must pass the hook of an interface. `carries` is the tunnel whose outer packet it is, or ""."""

    link: Link
    flow: Flow
    carries: str


class Lost(NamedTuple):
    """A tunnel that could not be followed: the name and the kind of its interface."""

    name: str
    kind: str


IPSEC = Lost("IPsec", "a policy of xfrm")


class SessionPath(NamedTuple):
    """The crossings of the operator's SSH, and the tunnels that could not be followed."""

    crossings: tuple[Crossing, ...] = ()
    lost: tuple[Lost, ...] = ()


def session_path(system: System, netlink: Netlink) -> SessionPath:
    """Return the path of a new connection like the SSH session of this run. Without a session the path is empty."""
    session = system.processes.ssh_connection()
    ends = None if session is None else _ends(session)
    if ends is None:
        return SessionPath()
    first = system.conntrack.original_of(ends) or ends
    flow = Flow("tcp", _number(first.source), CLIENT_PORT, _number(first.destination), first.port)
    path = _Path(system, netlink)
    path.arrive(flow, format_number(_number(ends.destination)))
    return SessionPath(tuple(path.crossings), tuple(path.lost))


def _ends(session: Sequence[str]) -> Ends | None:
    """Return the ends that sshd saw; None for words that are no addresses and ports."""
    client, client_port, server, port = (word.partition("%")[0] for word in session)
    if not (client_port.isdecimal() and port.isdecimal()):
        return None
    try:
        return Ends(parse_address(client), int(client_port), parse_address(server), int(port))
    except InvalidInput:
        return None


class _Path:
    """The crossings and the lost tunnels that were found until now."""

    def __init__(self, system: System, netlink: Netlink) -> None:
        self._system, self._netlink = system, netlink
        self._links = {link.ifindex: link for link in netlink.interfaces()}
        self._policies = system.ipsec.inbound_policies()
        self._addresses = [entry for entry in netlink.addresses() if not self._is_loopback(entry.ifindex)]
        self.crossings: dict[Crossing, None] = {}
        self.lost: dict[Lost, None] = {}

    def arrive(self, flow: Flow, own: str, mark: int = 0, bound: int = 0, carries: str = "") -> None:
        """Follow a packet by each interface that it can enter by.

        `own` is the local address of the answer, `mark` the mark of the answer, and `bound` an interface of the packet.
        """
        if any(_is_of(policy, flow) for policy in self._policies):
            self.lost[IPSEC] = None
        route = self._netlink.route_to(format_number(flow.source), own, mark)
        indexes = [bound, *(self._entries(route, flow) if route else ())]
        for link in self._of(dict.fromkeys(indexes)):
            self._cross(link, flow, carries)

    def _entries(self, route: Route, flow: Flow) -> list[int]:
        """Return the interface of the route back, and those with an address in the subnet of the next hop."""
        if self._is_loopback(route.oif):
            return [route.oif]
        hop = _number(route.gateway) if route.gateway else flow.source
        return [route.oif, *(entry.ifindex for entry in self._addresses if _subnet(entry).contains(hop))]

    def _cross(self, link: Link, flow: Flow, carries: str) -> None:
        crossing = Crossing(link, flow, carries)
        if crossing in self.crossings:
            return
        self.crossings[crossing] = None
        for below in self._below(link):
            self._cross(below, flow, carries)
        self._through(link, flow)

    def _below(self, link: Link) -> list[Link]:
        """Return the interfaces below one that see the same packet. Frames of a VLAN pass every hook."""
        if link.kind in PORTS_BELOW:
            return [other for other in self._links.values() if other.master == link.ifindex]
        return self._of([link.lower]) if link.kind in SAME_PACKET_BELOW else []

    def _through(self, link: Link, flow: Flow) -> None:
        """Follow the outer packets of a tunnel, also of one below a VLAN."""
        while link.kind == VLAN and link.lower in self._links:
            link = self._links[link.lower]
        if link.kind == WIREGUARD:
            self._through_wireguard(link, flow)
        elif link.tunnel is not None:
            self._through_tunnel(link, link.tunnel, flow)
        elif link.kind in LOST_KINDS and not link.master:  # a tap of a virtual machine is a port of a bridge
            self._lose(link)

    def _through_wireguard(self, link: Link, flow: Flow) -> None:
        device = self._system.wireguard.device(link.ifindex)
        peer = _peer_of(device.peers, flow.source) if device is not None else None
        if device is None or peer is None or not peer.endpoint:
            self._lose(link)
            return
        tunnel = Tunnel("udp", remote=peer.endpoint, port=device.port, mark=device.mark)
        self._outer(link, tunnel, _number(peer.endpoint), flow, peer.port)

    def _through_tunnel(self, link: Link, tunnel: Tunnel, flow: Flow) -> None:
        remotes = [tunnel.remote] if tunnel.remote else []
        if link.kind == VXLAN and (not remotes or is_multicast(_number(tunnel.remote))):
            remotes = list(self._netlink.forwarding(link.ifindex))[:REMOTES_MAX]
        if tunnel.opaque or not remotes:
            self._lose(link)
            return
        for remote in remotes:
            self._outer(link, tunnel, _number(remote), flow, TUNNEL_PORT if tunnel.port else 0)

    def _outer(self, link: Link, tunnel: Tunnel, remote: int, flow: Flow, source_port: int) -> None:
        """Follow the outer packets that one remote end of a tunnel sends."""
        own = tunnel.local
        if not own:
            route = self._netlink.route_to(format_number(remote), "", tunnel.mark)
            own = route.source if route else b""
        if not own:
            self._lose(link)
            return
        protocol = tunnel.protocol or INNER_PROTOCOLS[flow.family]
        outer = Flow(protocol, remote, source_port, _number(own), tunnel.port)
        self.arrive(outer, format_number(_number(own)), tunnel.mark, tunnel.link, link.name)

    def _lose(self, link: Link) -> None:
        self.lost[Lost(link.name, link.kind)] = None

    def _of(self, indexes: Iterable[int]) -> list[Link]:
        return [self._links[each] for each in indexes if each in self._links]

    def _is_loopback(self, ifindex: int) -> bool:
        return ifindex in self._links and self._links[ifindex].loopback


def _peer_of(peers: Iterable[Peer], inner: int) -> Peer | None:
    """Return the peer with the longest prefix for the source of an inner packet, as WireGuard finds it."""
    found = [
        (length, peer)
        for peer in peers
        for address, length in peer.allowed
        if Prefix(_number(address), length).contains(inner)
    ]
    return max(found, key=lambda entry: entry[0])[1] if found else None


def _is_of(policy: InboundPolicy, flow: Flow) -> bool:
    """Return whether a packet of a flow must come by IPsec."""
    return all(
        Prefix(_number(address), length).contains(end)
        for (address, length), end in ((policy.source, flow.source), (policy.destination, flow.destination))
    )


def _subnet(entry: Address) -> Prefix:
    number = _number(entry.address)
    length = entry.prefix_length + (MAPPED_BITS if family_of(number) == 4 else 0)
    return Prefix(number & mask(length), min(length, ADDRESS_BITS))


def _number(address: bytes) -> int:
    return int.from_bytes(address, "big")
