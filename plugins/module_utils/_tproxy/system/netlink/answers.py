# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""What rtnetlink answers, as values: a part of the door `_netlink`, for it alone.

It never asks the kernel and imports no library: it reads messages as pyroute2 hands them over (fields by name,
attributes by get_attr), and the bytes of those that pyroute2 leaves undecoded. Numbers are those of
include/uapi/linux/{rtnetlink,if_arp,if_addr,pkt_cls,fib_rules}.h.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from .wire import HEADER, attributes, mapped

IFF_UP, IFF_LOOPBACK = 0x1, 0x8
# ARPHRD_ PPP, RAWIP, TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE, NONE (tun, WireGuard): the packet begins with its IP header.
LAYER3_HARDWARE = frozenset((512, 519, 768, 769, 776, 778, 823, 0xFFFE))
IFA_F_SECONDARY, IFA_F_TENTATIVE = 0x1, 0x40

IFINFOMSG_BYTES, TCMSG_BYTES = 16, 20  # struct ifinfomsg, struct tcmsg
IFLA_XDP, IFLA_XDP_PROG_ID = 43, 4
TCA_KIND, TCA_OPTIONS, TCA_CHAIN = 1, 2, 11
TCA_BPF_NAME, TCA_BPF_FLAGS, TCA_BPF_TAG, TCA_BPF_ID = 7, 8, 10, 11
BPF_FLAG_ACT_DIRECT = 0x1
U32_NODE_MASK = 0xFFF

FR_ACT_TO_TBL, RTPROT_KERNEL, RTN_LOCAL = 1, 2, 2
FIB_RULE_INVERT = 0x2
SUPPRESSOR_OFF = 0xFFFFFFFF
LOOPBACK_IFINDEX = 1  # fixed: include/net/net_namespace.h


class Link(NamedTuple):
    """An interface.

    `hardware` is its ARPHRD_ number; `layer3` says that its packets have no Ethernet header. `kind` is "" for a
    physical interface. `vlan_parent` is the ifindex below a VLAN sub-interface of this namespace, else 0. `xdp` is the
    id of its XDP program, 0 without one. `master` is the ifindex of the bridge, bond or VRF that it is a port of, or 0.
    """

    ifindex: int
    name: str
    up: bool
    hardware: int
    layer3: bool
    loopback: bool
    kind: str
    vlan_parent: int
    xdp: int = 0
    master: int = 0


class Address(NamedTuple):
    """An address of an interface: 16 bytes, IPv4 mapped.

    The prefix length counts as the family does (0-32, 0-128). Scope: 0 global, 253 link, 254 host. The flag that
    makes an IPv4 address secondary makes an IPv6 address temporary.
    """

    ifindex: int
    family: int
    address: bytes
    prefix_length: int
    scope: int
    secondary: bool
    tentative: bool


class Qdisc(NamedTuple):
    """A queueing discipline of an interface."""

    kind: str
    handle: int
    parent: int


class Filter(NamedTuple):
    """A filter of a hook.

    `protocol` is an ethertype, 3 for all. Name, program id, tag (hexadecimal) and direct action are those of kind bpf.
    """

    kind: str
    priority: int
    handle: int
    protocol: int
    chain: int
    name: str = ""
    program_id: int | None = None
    tag: str | None = None
    direct_action: bool = False


class RouteRule(NamedTuple):
    """A policy rule. It is `plain` when these fields are all of it: no further selector, not inverted."""

    family: int
    priority: int
    iif: str
    mark: int
    mask: int
    table: int
    protocol: int = RTPROT_KERNEL
    action: int = FR_ACT_TO_TBL
    plain: bool = True


class Route(NamedTuple):
    """A route: 16-byte destination, IPv4 mapped; type, scope and protocol by RTN_, RT_SCOPE_ and RTPROT_ number."""

    family: int
    destination: bytes
    prefix_length: int
    type: int
    scope: int
    protocol: int
    oif: int

    @property
    def local_default(self) -> bool:
        """Whether this is `local default dev lo`."""
        return (self.type, self.prefix_length, self.oif) == (RTN_LOCAL, 0, LOOPBACK_IFINDEX)


def read_link(message) -> Link:
    """Return the interface that an RTM_NEWLINK message describes."""
    hardware, flags = message["ifi_type"], message["flags"]
    kind = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or ""
    # a parent in another namespace has no ifindex that would mean anything here
    below = kind == "vlan" and message.get_attr("IFLA_LINK_NETNSID") is None
    # pyroute2 0.5.14 leaves IFLA_XDP undecoded
    xdp = attributes(_raw_attributes(message, IFINFOMSG_BYTES).get(IFLA_XDP, b""))
    return Link(
        message["index"],
        message.get_attr("IFLA_IFNAME"),
        bool(flags & IFF_UP),
        hardware,
        hardware in LAYER3_HARDWARE,
        bool(flags & IFF_LOOPBACK),
        kind,
        message.get_attr("IFLA_LINK") or 0 if below else 0,
        _number(xdp.get(IFLA_XDP_PROG_ID, bytes(4))),
        message.get_attr("IFLA_MASTER") or 0,
    )


def read_address(message) -> Address:
    """Return the address that an RTM_NEWADDR message describes."""
    # IFA_ADDRESS is the far end of a point-to-point link; IPv6 gives IFA_LOCAL only there
    own = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    flags = message.get_attr("IFA_FLAGS") or message["flags"]
    return Address(
        message["index"],
        message["family"],
        _mapped(message["family"], own),
        message["prefixlen"],
        message["scope"],
        bool(flags & IFA_F_SECONDARY),
        bool(flags & IFA_F_TENTATIVE),
    )


def read_qdisc(message) -> Qdisc:
    """Return the queueing discipline that an RTM_NEWQDISC message describes."""
    return Qdisc(message.get_attr("TCA_KIND"), message["handle"], message["parent"])


def read_filter(message) -> Filter | None:
    """Return the filter that an RTM_NEWTFILTER message describes, or None where it tells of a priority or hash table.

    The kernel announces each priority by a message with handle 0, and u32 each hash table by one with node 0.

    pyroute2 (0.5.14 to 0.9.7) leaves TCA_CHAIN, TCA_BPF_TAG and TCA_BPF_ID undecoded, so all is read from the
    bytes: TCA_BPF_* of include/uapi/linux/pkt_cls.h, as net/sched/cls_bpf.c:cls_bpf_dump writes them.
    """
    given = _raw_attributes(message, TCMSG_BYTES)
    kind, handle, chain = _text(given[TCA_KIND]), message["handle"], _number(given.get(TCA_CHAIN, bytes(4)))
    if not handle or (kind == "u32" and not handle & U32_NODE_MASK):
        return None
    protocol = socket.ntohs(message["info"] & 0xFFFF)
    found = Filter(kind, message["info"] >> 16, handle, protocol, chain)
    return found if kind != "bpf" else _with_program(found, attributes(given[TCA_OPTIONS]))


def _with_program(found: Filter, options: dict) -> Filter:
    """Complete a bpf filter. A classic BPF filter has no program id and no tag."""
    return found._replace(
        name=_text(options.get(TCA_BPF_NAME, b"")),
        program_id=_number(options[TCA_BPF_ID]) if TCA_BPF_ID in options else None,
        tag=options[TCA_BPF_TAG].hex() if TCA_BPF_TAG in options else None,
        direct_action=bool(_number(options.get(TCA_BPF_FLAGS, bytes(4))) & BPF_FLAG_ACT_DIRECT),
    )


def read_rule(message) -> RouteRule:
    """Return the policy rule that an RTM_NEWRULE message describes."""
    given = {name: value for name, value in message["attrs"] if name != "FRA_PAD"}
    # the kernel always reports this one, and -1 means that it does nothing
    if given.get("FRA_SUPPRESS_PREFIXLEN") == SUPPRESSOR_OFF:
        del given["FRA_SUPPRESS_PREFIXLEN"]
    found = RouteRule(
        message["family"],
        given.pop("FRA_PRIORITY", 0),
        given.pop("FRA_IIFNAME", ""),
        given.pop("FRA_FWMARK", 0),
        given.pop("FRA_FWMASK", 0),
        given.pop("FRA_TABLE", message["table"]),
        given.pop("FRA_PROTOCOL", 0),
        message["action"],
    )
    return found._replace(plain=not given and not message["tos"] and not message["flags"] & FIB_RULE_INVERT)


def read_route(message) -> Route:
    """Return the route that an RTM_NEWROUTE message describes; oif is 0 where it has several next hops or none."""
    family = message["family"]
    nowhere = "0.0.0.0" if family == socket.AF_INET else "::"
    return Route(
        family,
        _mapped(family, message.get_attr("RTA_DST") or nowhere),
        message["dst_len"],
        message["type"],
        message["scope"],
        message["proto"],
        message.get_attr("RTA_OIF") or 0,
    )


def _mapped(family: int, text: str) -> bytes:
    return mapped(socket.inet_pton(family, text))


def _raw_attributes(message, fixed_bytes: int) -> dict:
    """Return {type: payload} of a message, whose fixed part has so many bytes."""
    start = message.offset + HEADER.size + fixed_bytes
    return attributes(bytes(message.data[start : message.offset + message["header"]["length"]]))


def _text(payload: bytes) -> str:
    return payload.split(b"\0")[0].decode(errors="replace")


def _number(payload: bytes) -> int:
    return struct.unpack("=I", payload)[0]
