# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Adapter to connection tracking: the packets of a connection before a redirect, DNAT or SNAT of this host.

It asks ctnetlink. Where the kernel has none, it reads /proc/net/nf_conntrack. Numbers are those of
include/uapi/linux/netfilter/{nfnetlink,nfnetlink_conntrack}.h.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

from ...errors import KernelRefused
from .exchange import ask, attribute, nest, port
from .path import Ends
from .wire import MAPPED, attributes, mapped

NETLINK_NETFILTER = 12
CT_GET = 1 << 8 | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
NFGENMSG = struct.Struct("=BBH")  # struct nfgenmsg: family, version, resource
TUPLE_ORIGINAL, TUPLE_REPLY = 1, 2
TUPLE_IP, TUPLE_PROTOCOL = 1, 2
ADDRESSES = {socket.AF_INET: (1, 2), socket.AF_INET6: (3, 4)}  # CTA_IP_V4_SRC, DST; V6
PROTOCOL_NUMBER, SOURCE_PORT, DESTINATION_PORT = 1, 2, 3
TCP = 6

COUNT = "/proc/sys/net/netfilter/nf_conntrack_count"  # exists where connection tracking is loaded
LISTING = "/proc/thread-self/net/nf_conntrack"
FIELD = re.compile(r"\b(src|dst|sport|dport)=(\S+)")
NO_CTNETLINK = (errno.EINVAL, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP)


def original_of(connection: Ends) -> Ends | None:
    """Return the ends of a TCP connection to this host as its packets arrive, given the ends that its socket has.

    Return None without connection tracking, and for a connection that it does not know. Nothing loads a kernel module:
    a kernel without connection tracking has no redirect. Raises KernelRefused.
    """
    if not os.path.exists(COUNT):
        return None
    try:
        return _ask(connection)
    except OSError as refusal:
        if refusal.errno == errno.ENOENT:
            return None
        if refusal.errno not in NO_CTNETLINK:
            raise KernelRefused.of(refusal, "look up", "a connection in connection tracking") from refusal
    with suppress(FileNotFoundError), open(LISTING, encoding="ascii", errors="replace") as lines:
        return next((found for found, reply in read_listing(lines) if reply == connection.reversed), None)
    return None


def _ask(connection: Ends) -> Ends | None:
    reply = connection.reversed
    family = socket.AF_INET if reply.source.startswith(MAPPED) else socket.AF_INET6
    source, destination = (
        each[12:] if family == socket.AF_INET else each for each in (reply.source, reply.destination)
    )
    numbers = ADDRESSES[family]
    wanted = nest(
        TUPLE_REPLY,
        nest(TUPLE_IP, attribute(numbers[0], source), attribute(numbers[1], destination)),
        nest(
            TUPLE_PROTOCOL,
            attribute(PROTOCOL_NUMBER, bytes([TCP])),
            attribute(SOURCE_PORT, port(reply.source_port)),
            attribute(DESTINATION_PORT, port(reply.port)),
        ),
    )
    for message in ask(NETLINK_NETFILTER, CT_GET, NFGENMSG.pack(family, 0, 0) + wanted):
        return _read(attributes(message.payload[NFGENMSG.size :])[TUPLE_ORIGINAL], numbers)
    return None


def _read(data: bytes, numbers: tuple[int, int]) -> Ends:
    given = attributes(data)
    addresses, protocol = attributes(given[TUPLE_IP]), attributes(given[TUPLE_PROTOCOL])
    return Ends(
        mapped(addresses[numbers[0]]),
        int.from_bytes(protocol[SOURCE_PORT], "big"),
        mapped(addresses[numbers[1]]),
        int.from_bytes(protocol[DESTINATION_PORT], "big"),
    )


def read_listing(lines: Iterator[str]) -> Iterator[tuple[Ends, Ends]]:
    """Yield the ends of both directions of each TCP connection of /proc/net/nf_conntrack."""
    for line in lines:
        words = line.split()
        fields = FIELD.findall(line)
        if len(words) > 2 and words[2] == "tcp" and len(fields) == 8:
            yield _of_fields(words[0], dict(fields[:4])), _of_fields(words[0], dict(fields[4:]))


def _of_fields(family: str, fields: dict[str, str]) -> Ends:
    number = socket.AF_INET if family == "ipv4" else socket.AF_INET6
    source, destination = (mapped(socket.inet_pton(number, fields[name])) for name in ("src", "dst"))
    return Ends(source, int(fields["sport"]), destination, int(fields["dport"]))
