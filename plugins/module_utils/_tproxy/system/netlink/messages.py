# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The requests to rtnetlink and its answers, as values.

It sends nothing and imports no library. Fields and attributes have the names of pyroute2. Numbers are those of
include/uapi/linux/{netlink,rtnetlink,if_arp,if_addr,if_link,pkt_sched,pkt_cls,fib_rules}.h.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, Union

from .tunnels import Tunnel, read_tunnel
from .wire import HEADER, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, attributes, mapped

# ---- numbers -------------------------------------------------------------------------

RTM_GETLINK, RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR, RTM_GETNEIGH = 18, 20, 21, 22, 30
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46

IFF_UP, IFF_LOOPBACK = 0x1, 0x8
# ARPHRD_ PPP, RAWIP, TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE, NONE (tun, WireGuard): the packet begins with its IP header.
LAYER3_HARDWARE = frozenset((512, 519, 768, 769, 776, 778, 823, 0xFFFE))
IFINFOMSG_BYTES, IFLA_LINKINFO, IFLA_XDP, IFLA_XDP_PROG_ID, INFO_DATA, INFO_SLAVE_KIND = 16, 18, 43, 4, 2, 4
NDMSG_BYTES, NDA_DST, AF_BRIDGE = 12, 1, 7
RTMSG_BYTES, RTA_GATEWAY, RTA_PREFSRC, RTA_VIA, VIA_FAMILY_BYTES = 12, 5, 7, 18, 2
IFA_F_SECONDARY, IFA_F_TENTATIVE = 0x1, 0x40

HOOKS = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
CLSACT_PARENT, CLSACT_HANDLE = 0xFFFFFFF1, 0xFFFF0000
ETH_P_ALL = 3
TCMSG_BYTES, TCA_KIND, TCA_OPTIONS, TCA_CHAIN, TCA_INGRESS_BLOCK, TCA_EGRESS_BLOCK = 20, 1, 2, 11, 13, 14
TCA_BPF_NAME, TCA_BPF_FLAGS, TCA_BPF_TAG, TCA_BPF_ID = 7, 8, 10, 11
BPF_FLAG_ACT_DIRECT = 0x1
U32_NODE_MASK = 0xFFF

FR_ACT_TO_TBL, FIB_RULE_INVERT = 1, 0x2
SUPPRESSOR_OFF = 0xFFFFFFFF
RTPROT_KERNEL, RTN_LOCAL, RT_SCOPE_HOST = 2, 2, 254
LOOPBACK_IFINDEX = 1  # fixed: include/net/net_namespace.h


# ---- values --------------------------------------------------------------------------


class Link(NamedTuple):
    """An interface.

    `hardware` is its ARPHRD_ number. The packets of a `layer3` interface have no Ethernet header. `kind` is "" for a
    physical interface. `vlan_parent` is the ifindex below a VLAN sub-interface of this namespace, else 0. `xdp` is the
    id of its XDP program, 0 without one. `master` is the ifindex of its bridge, bond or VRF, 0 without one. `lower` is
    the ifindex of the interface below it (VLAN, macvlan, ipvlan), 0 without one in this namespace. `tunnel` has the
    outer packets of a tunnel. `master_kind` is the kind of its master, "" without one.
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
    lower: int = 0
    tunnel: Tunnel | None = None
    master_kind: str = ""

    @property
    def vrf(self) -> bool:
        """Return whether this is a VRF device, or an interface of one."""
        return "vrf" in (self.kind, self.master_kind)

    @property
    def port(self) -> bool:
        """Return whether it is a port of a bridge or bond, which takes its packets."""
        return bool(self.master) and not self.vrf


class Address(NamedTuple):
    """An address of an interface: 16 bytes, IPv4 mapped.

    The prefix length is that of the family (0-32, 0-128). The scope is 0 global, 253 link or 254 host. The flag of a
    secondary IPv4 address marks a temporary IPv6 address.
    """

    ifindex: int
    family: int
    address: bytes
    prefix_length: int
    scope: int
    secondary: bool
    tentative: bool


class Qdisc(NamedTuple):
    """A queueing discipline of an interface, and the indexes of the filter blocks that it shares, 0 for none."""

    kind: str
    handle: int
    parent: int
    ingress_block: int = 0
    egress_block: int = 0


class Filter(NamedTuple):
    """A filter of a hook.

    `protocol` is an ethertype, 3 for all. Only a filter of kind bpf has a name, a program id, a tag (hexadecimal) and
    direct action.
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
    """A policy rule. A `plain` one has no selector beyond these fields, and is not inverted."""

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
    """A route: 16-byte destination, IPv4 mapped. Type, scope and protocol are RTN_, RT_SCOPE_ and RTPROT_ numbers.

    `gateway` is the next hop and `source` the own address of the route, both of 16 bytes, or b"" without one.
    """

    family: int
    destination: bytes
    prefix_length: int
    type: int
    scope: int
    protocol: int
    oif: int
    gateway: bytes = b""
    source: bytes = b""
    priority: int = 0
    tos: int = 0

    @property
    def local_default(self) -> bool:
        """Return whether this is `local default dev lo`."""
        return (self.type, self.prefix_length, self.oif) == (RTN_LOCAL, 0, LOOPBACK_IFINDEX)


# ---- requests ------------------------------------------------------------------------

AttributeValue = Union[int, str, Mapping[str, list[tuple[str, Union[int, str]]]]]  # nested attributes are under "attrs"
Attributes = tuple[tuple[str, AttributeValue], ...]


class Request(NamedTuple):
    """One message. `subject` names its object in an error. The name of the interface replaces {interface} there."""

    type: int
    operation: str
    subject: str
    fields: Mapping[str, int]
    attributes: Attributes = ()
    flags: int = NLM_F_ACK


class FilterIdentity(NamedTuple):
    """The identity of a filter: hook ("ingress", "egress") of an interface, priority and handle."""

    ifindex: int
    direction: str
    priority: int
    handle: int

    def subject(self) -> str:
        """Return the filter's name for an error."""
        return f"filter at priority {self.priority} of {{interface}} {self.direction}"

    def fields(self) -> dict[str, int]:
        """Return the fields of a request about the filter, for all protocols."""
        info = self.priority << 16 | socket.htons(ETH_P_ALL)
        return {"index": self.ifindex, "parent": HOOKS[self.direction], "handle": self.handle, "info": info}


def add_clsact(ifindex: int) -> Request:
    """Return the request for clsact. The kernel answers EEXIST for an existing clsact or plain ingress qdisc."""
    flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
    return Request(RTM_NEWQDISC, "add", "clsact of {interface}", _clsact(ifindex), (("TCA_KIND", "clsact"),), flags)


def delete_clsact(ifindex: int) -> Request:
    """Return the request to delete clsact. It never deletes a plain ingress qdisc."""
    return Request(RTM_DELQDISC, "delete", "clsact of {interface}", _clsact(ifindex), (("TCA_KIND", "clsact"),))


def _clsact(ifindex: int) -> dict[str, int]:
    return {"index": ifindex, "parent": CLSACT_PARENT, "handle": CLSACT_HANDLE}


def list_filters(ifindex: int, direction: str) -> Request:
    """Return the request for all filters of a hook."""
    fields = {"index": ifindex, "parent": HOOKS[direction]}
    return Request(RTM_GETTFILTER, "list", f"filters of {{interface}} {direction}", fields)


def replace_filter(identity: FilterIdentity, program_fd: int, name: str) -> Request:
    """Return the request for a direct-action filter of a program."""
    program: list[tuple[str, int | str]]
    program = [("TCA_BPF_FD", program_fd), ("TCA_BPF_NAME", name), ("TCA_BPF_FLAGS", BPF_FLAG_ACT_DIRECT)]
    attrs: Attributes = (("TCA_KIND", "bpf"), ("TCA_OPTIONS", {"attrs": program}))
    flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE
    return Request(RTM_NEWTFILTER, "attach", identity.subject(), identity.fields(), attrs, flags)


def delete_filter(identity: FilterIdentity) -> Request:
    """Return the request to delete a bpf filter."""
    return Request(RTM_DELTFILTER, "delete", identity.subject(), identity.fields(), (("TCA_KIND", "bpf"),))


def add_rule(rule: RouteRule) -> Request:
    """Return the request for a policy rule. The kernel answers EEXIST for an existing one."""
    return _rule(RTM_NEWRULE, "add", rule)._replace(flags=NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)


def delete_rule(rule: RouteRule) -> Request:
    """Return the request to delete a policy rule."""
    return _rule(RTM_DELRULE, "delete", rule)


def _rule(kind: int, operation: str, rule: RouteRule) -> Request:
    subject = f"policy rule {rule.priority}: iif {rule.iif} fwmark {rule.mark:#x}/{rule.mask:#x} lookup {rule.table}"
    interface: Attributes = (("FRA_IIFNAME", rule.iif),) if rule.iif else ()
    mark: Attributes = (("FRA_FWMARK", rule.mark), ("FRA_FWMASK", rule.mask)) if rule.mask else ()
    rest: Attributes = (("FRA_PRIORITY", rule.priority), ("FRA_TABLE", rule.table), ("FRA_PROTOCOL", rule.protocol))
    return Request(kind, operation, subject, {"family": rule.family, "action": rule.action}, interface + mark + rest)


def add_local_default(table: int, family: int) -> Request:
    """Return the request for `local default dev lo proto kernel`. The kernel answers EEXIST for an existing route."""
    request = _local_default(RTM_NEWROUTE, "add", table, family)
    fields = {**request.fields, "proto": RTPROT_KERNEL}
    return request._replace(fields=fields, flags=NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)


def delete_local_default(table: int, family: int) -> Request:
    """Return the request to delete `local default dev lo` of any protocol."""
    return _local_default(RTM_DELROUTE, "delete", table, family)


def _local_default(kind: int, operation: str, table: int, family: int) -> Request:
    fields = {"family": family, "type": RTN_LOCAL, "scope": RT_SCOPE_HOST}
    attrs: Attributes = (("RTA_TABLE", table), ("RTA_OIF", LOOPBACK_IFINDEX))
    return Request(kind, operation, f"local default of table {table}", fields, attrs)


def route_request(destination: str, source: str, mark: int) -> Request:
    """Return the request for the route of a packet to a destination, from an own address or from "", with a mark."""
    family, length = (socket.AF_INET6, 128) if ":" in destination else (socket.AF_INET, 32)
    fields = {"family": family, "dst_len": length, "src_len": length if source else 0}
    ends: Attributes = (("RTA_DST", destination),)
    ends += (("RTA_SRC", source),) if source else ()
    ends += (("RTA_MARK", mark),) if mark else ()
    return Request(RTM_GETROUTE, "look up", f"the route to {destination}", fields, ends)


def list_forwarding(ifindex: int) -> Request:
    """Return the request for the forwarding database of an interface. The kernel filters it by `ifindex`."""
    fields = {"family": AF_BRIDGE, "ifindex": ifindex}
    return Request(RTM_GETNEIGH, "list", "the forwarding database", fields)


# ---- answers -------------------------------------------------------------------------


class Answer(Protocol):
    """A message that pyroute2 has decoded. pyroute2 has no types, so a value's type is that of the kernel's field."""

    data: bytes
    offset: int

    def __getitem__(self, field: str, /) -> Any: ...

    def get_attr(self, name: str, /) -> Any: ...

    def get_nested(self, *names: str) -> Any: ...


def read_link(message: Answer) -> Link:
    """Return the interface of an RTM_NEWLINK message."""
    hardware, flags = message["ifi_type"], message["flags"]
    kind = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or ""
    # The ifindex of a parent in another namespace means another interface in this one.
    lower = message.get_attr("IFLA_LINK") or 0 if message.get_attr("IFLA_LINK_NETNSID") is None else 0
    # pyroute2 0.5.14 leaves IFLA_XDP undecoded.
    given = _raw_attributes(message, IFINFOMSG_BYTES)
    xdp, about = (attributes(given.get(number, b"")) for number in (IFLA_XDP, IFLA_LINKINFO))
    return Link(
        message["index"],
        message.get_attr("IFLA_IFNAME"),
        bool(flags & IFF_UP),
        hardware,
        hardware in LAYER3_HARDWARE,
        bool(flags & IFF_LOOPBACK),
        kind,
        lower if kind == "vlan" else 0,
        _number(xdp.get(IFLA_XDP_PROG_ID, bytes(4))),
        message.get_attr("IFLA_MASTER") or 0,
        lower,
        read_tunnel(kind, about.get(INFO_DATA, b"")),
        _text(about.get(INFO_SLAVE_KIND, b"")),
    )


def read_address(message: Answer) -> Address:
    """Return the address of an RTM_NEWADDR message."""
    # IFA_ADDRESS is the peer of a point-to-point link. Only there does IPv6 have IFA_LOCAL.
    own = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    flags = message.get_attr("IFA_FLAGS") or message["flags"]
    return Address(
        message["index"],
        message["family"],
        mapped(socket.inet_pton(message["family"], own)),
        message["prefixlen"],
        message["scope"],
        bool(flags & IFA_F_SECONDARY),
        bool(flags & IFA_F_TENTATIVE),
    )


def read_qdisc(message: Answer) -> Qdisc:
    """Return the queueing discipline of an RTM_NEWQDISC message. pyroute2 0.5.14 does not know the shared blocks."""
    given = _raw_attributes(message, TCMSG_BYTES)
    blocks = (_number(given.get(kind, bytes(4))) for kind in (TCA_INGRESS_BLOCK, TCA_EGRESS_BLOCK))
    return Qdisc(message.get_attr("TCA_KIND"), message["handle"], message["parent"], *blocks)


def read_filter(message: Answer) -> Filter | None:
    """Return the filter of an RTM_NEWTFILTER message, or None for a message about a priority or a hash table.

    The kernel announces each priority by a message with handle 0, and each hash table of u32 by one with node 0.

    pyroute2 (0.5.14 to 0.9.7) leaves TCA_CHAIN, TCA_BPF_TAG and TCA_BPF_ID undecoded, so this reads all attributes from
    the bytes: TCA_BPF_* of include/uapi/linux/pkt_cls.h, as net/sched/cls_bpf.c:cls_bpf_dump writes them.
    """
    given = _raw_attributes(message, TCMSG_BYTES)
    kind, handle, chain = _text(given[TCA_KIND]), message["handle"], _number(given.get(TCA_CHAIN, bytes(4)))
    if not handle or (kind == "u32" and not handle & U32_NODE_MASK):
        return None
    found = Filter(kind, message["info"] >> 16, handle, socket.ntohs(message["info"] & 0xFFFF), chain)
    if kind != "bpf":
        return found
    options = attributes(given[TCA_OPTIONS])
    # A filter of classic BPF has no program id and no tag.
    return found._replace(
        name=_text(options.get(TCA_BPF_NAME, b"")),
        program_id=_number(options[TCA_BPF_ID]) if TCA_BPF_ID in options else None,
        tag=options[TCA_BPF_TAG].hex() if TCA_BPF_TAG in options else None,
        direct_action=bool(_number(options.get(TCA_BPF_FLAGS, bytes(4))) & BPF_FLAG_ACT_DIRECT),
    )


def read_rule(message: Answer) -> RouteRule:
    """Return the policy rule of an RTM_NEWRULE message."""
    given = {name: value for name, value in message["attrs"] if name != "FRA_PAD"}
    # The kernel always reports this attribute. -1 means that it has no effect.
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


def read_route(message: Answer) -> Route:
    """Return the route of an RTM_NEWROUTE message. `oif` is 0 for a route with several next hops or none."""
    family = message["family"]
    destination = message.get_attr("RTA_DST") or ("0.0.0.0" if family == socket.AF_INET else "::")
    given = _raw_attributes(message, RTMSG_BYTES)  # the next hop may have another family (RTA_VIA)
    gateway = given.get(RTA_GATEWAY) or given.get(RTA_VIA, b"")[VIA_FAMILY_BYTES:]
    return Route(
        family,
        mapped(socket.inet_pton(family, destination)),
        message["dst_len"],
        message["type"],
        message["scope"],
        message["proto"],
        message.get_attr("RTA_OIF") or 0,
        mapped(gateway) if gateway else b"",
        mapped(given[RTA_PREFSRC]) if RTA_PREFSRC in given else b"",
        message.get_attr("RTA_PRIORITY") or 0,
        message["tos"],
    )


def read_forwarding(message: Answer) -> bytes:
    """Return the remote end of an RTM_NEWNEIGH message of a VXLAN: 16 bytes, IPv4 mapped, or b"" without one."""
    remote = _raw_attributes(message, NDMSG_BYTES).get(NDA_DST, b"")
    return mapped(remote) if remote else b""


def _raw_attributes(message: Answer, fixed_bytes: int) -> dict[int, bytes]:
    """Return {type: payload} of the attributes behind the fixed part of a message."""
    start = message.offset + HEADER.size + fixed_bytes
    return attributes(bytes(message.data[start : message.offset + message["header"]["length"]]))


def _text(payload: bytes) -> str:
    return payload.split(b"\0")[0].decode(errors="replace")


def _number(payload: bytes) -> int:
    return int.from_bytes(payload, sys.byteorder)
