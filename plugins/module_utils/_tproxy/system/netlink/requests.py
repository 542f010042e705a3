# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""What rtnetlink is asked, as values: a part of the door `_netlink`, for it alone.

It sends nothing. Numbers are those of include/uapi/linux/{netlink,rtnetlink,pkt_sched}.h; fields and attributes have
the names that pyroute2 gives them.
"""

from __future__ import annotations

import socket
from typing import NamedTuple

from .answers import BPF_FLAG_ACT_DIRECT, LOOPBACK_IFINDEX, RTN_LOCAL, RTPROT_KERNEL, RouteRule

REQUEST, ACKNOWLEDGE, DUMP = 0x1, 0x4, 0x300
CREATE, REPLACE, EXCLUSIVE = 0x400, 0x100, 0x200

GETLINK, GETADDR, NEWROUTE, DELROUTE, GETROUTE = 18, 22, 24, 25, 26
NEWRULE, DELRULE, GETRULE = 32, 33, 34
NEWQDISC, DELQDISC, GETQDISC = 36, 37, 38
NEWTFILTER, DELTFILTER, GETTFILTER = 44, 45, 46

HOOKS = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
CLSACT_PARENT, CLSACT_HANDLE = 0xFFFFFFF1, 0xFFFF0000
ETH_P_ALL = 3
RT_SCOPE_HOST = 254


class Request(NamedTuple):
    """One message. `subject` names its object in an error; {interface} there becomes the interface's name."""

    type: int
    operation: str
    subject: str
    fields: dict
    attributes: tuple = ()
    flags: int = ACKNOWLEDGE


def add_clsact(ifindex: int) -> Request:
    """Ask for clsact; the kernel says EEXIST where it or a plain ingress qdisc is."""
    return Request(NEWQDISC, "add", "clsact of {interface}", *_clsact(ifindex), ACKNOWLEDGE | CREATE | EXCLUSIVE)


def delete_clsact(ifindex: int) -> Request:
    """Ask for the end of clsact; a plain ingress qdisc is not meant by it."""
    return Request(DELQDISC, "delete", "clsact of {interface}", *_clsact(ifindex))


def _clsact(ifindex: int) -> tuple:
    fields = {"index": ifindex, "parent": CLSACT_PARENT, "handle": CLSACT_HANDLE}
    return fields, (("TCA_KIND", "clsact"),)


def list_filters(ifindex: int, direction: str) -> Request:
    """Ask for all filters of a hook."""
    fields = {"index": ifindex, "parent": HOOKS[direction]}
    return Request(GETTFILTER, "list", f"filters of {{interface}} {direction}", fields)


def replace_filter(hook: tuple, slot: tuple, program_fd: int, name: str) -> Request:
    """Ask for a direct-action program for all protocols at slot (priority, handle) of hook (ifindex, direction)."""
    program = [("TCA_BPF_FD", program_fd), ("TCA_BPF_NAME", name), ("TCA_BPF_FLAGS", BPF_FLAG_ACT_DIRECT)]
    attributes = (("TCA_KIND", "bpf"), ("TCA_OPTIONS", {"attrs": program}))
    flags = ACKNOWLEDGE | CREATE | REPLACE
    return Request(NEWTFILTER, "attach", _slot_name(hook, slot), _slot_fields(hook, slot), attributes, flags)


def delete_filter(hook: tuple, slot: tuple) -> Request:
    """Ask for the end of the bpf filter at slot (priority, handle) of hook (ifindex, direction)."""
    fields = _slot_fields(hook, slot)
    return Request(DELTFILTER, "delete", _slot_name(hook, slot), fields, (("TCA_KIND", "bpf"),))


def _slot_name(hook: tuple, slot: tuple) -> str:
    return f"filter at priority {slot[0]} of {{interface}} {hook[1]}"


def _slot_fields(hook: tuple, slot: tuple) -> dict:
    (ifindex, direction), (priority, handle) = hook, slot
    info = priority << 16 | socket.htons(ETH_P_ALL)
    return {"index": ifindex, "parent": HOOKS[direction], "handle": handle, "info": info}


def add_rule(rule: RouteRule) -> Request:
    """Ask for a policy rule; the kernel says EEXIST where it is."""
    fields, attributes = _rule(rule)
    return Request(NEWRULE, "add", _rule_name(rule), fields, attributes, ACKNOWLEDGE | CREATE | EXCLUSIVE)


def delete_rule(rule: RouteRule) -> Request:
    """Ask for the end of a policy rule."""
    return Request(DELRULE, "delete", _rule_name(rule), *_rule(rule))


def _rule_name(rule: RouteRule) -> str:
    return f"policy rule {rule.priority}: iif {rule.iif} fwmark {rule.mark:#x}/{rule.mask:#x} lookup {rule.table}"


def _rule(rule: RouteRule) -> tuple:
    interface = (("FRA_IIFNAME", rule.iif),) if rule.iif else ()
    mark = (("FRA_FWMARK", rule.mark), ("FRA_FWMASK", rule.mask)) if rule.mask else ()
    rest = (("FRA_PRIORITY", rule.priority), ("FRA_TABLE", rule.table), ("FRA_PROTOCOL", rule.protocol))
    return {"family": rule.family, "action": rule.action}, interface + mark + rest


def add_local_default(table: int, family: int) -> Request:
    """Ask for `local default dev lo proto kernel`; the kernel says EEXIST where it is."""
    fields, attributes = _local_default(table, family)
    fields["proto"] = RTPROT_KERNEL
    flags = ACKNOWLEDGE | CREATE | EXCLUSIVE
    return Request(NEWROUTE, "add", f"local default of table {table}", fields, attributes, flags)


def delete_local_default(table: int, family: int) -> Request:
    """Ask for the end of `local default dev lo`, of whatever protocol."""
    return Request(DELROUTE, "delete", f"local default of table {table}", *_local_default(table, family))


def _local_default(table: int, family: int) -> tuple:
    fields = {"family": family, "type": RTN_LOCAL, "scope": RT_SCOPE_HOST}
    return fields, (("RTA_TABLE", table), ("RTA_OIF", LOOPBACK_IFINDEX))


def route_request(destination: str, source: str) -> Request:
    """Ask for the one route that a packet from an own address to a destination takes."""
    family, length = (socket.AF_INET6, 128) if ":" in destination else (socket.AF_INET, 32)
    fields = {"family": family, "dst_len": length, "src_len": length}
    ends = (("RTA_DST", destination), ("RTA_SRC", source))
    return Request(GETROUTE, "look up", f"the route to {destination}", fields, ends)
