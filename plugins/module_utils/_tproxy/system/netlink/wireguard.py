# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Adapter to WireGuard: the peers of an interface, by generic netlink.

Numbers are those of include/uapi/linux/{genetlink,wireguard}.h.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys

from ...errors import KernelRefused
from .exchange import ask, attribute
from .path import Peer, WireGuardDevice
from .wire import ATTRIBUTE, NLM_F_DUMP, attributes, mapped

NETLINK_GENERIC, CONTROLLER = 16, 16
GENERIC = struct.Struct("=BBxx")  # struct genlmsghdr: command, version
GET_FAMILY, FAMILY_ID, FAMILY_NAME = 3, 1, 2
GET_DEVICE, IFINDEX, LISTEN_PORT, MARK, PEERS = 0, 1, 6, 7, 8
PUBLIC_KEY, ENDPOINT, ALLOWED = 1, 4, 9
ALLOWED_FAMILY, ALLOWED_ADDRESS, ALLOWED_LENGTH = 1, 2, 3
MAPPED_BITS = 96


def device(ifindex: int) -> WireGuardDevice | None:
    """Return a WireGuard interface, or None where the kernel reports none. Raises KernelRefused."""
    try:
        answers = ask(NETLINK_GENERIC, CONTROLLER, _request(GET_FAMILY, attribute(FAMILY_NAME, b"wireguard\0")))
        family = int.from_bytes(attributes(answers[0].payload[GENERIC.size :])[FAMILY_ID], sys.byteorder)
        wanted = attribute(IFINDEX, struct.pack("=I", ifindex))
        payloads = [each.payload for each in ask(NETLINK_GENERIC, family, _request(GET_DEVICE, wanted), NLM_F_DUMP)]
    except OSError as refusal:
        if refusal.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
            return None
        raise KernelRefused.of(refusal, "list", f"the WireGuard peers of interface {ifindex}") from refusal
    return read_device([payload[GENERIC.size :] for payload in payloads])


def _request(command: int, attributes_: bytes) -> bytes:
    return GENERIC.pack(command, 1) + attributes_


def read_device(answers: list[bytes]) -> WireGuardDevice | None:
    """Return the device of a listing. A long list of peers, or of one peer's prefixes, comes in several messages."""
    if not answers:
        return None
    first = attributes(answers[0])
    peers: dict[bytes, Peer] = {}
    for answer in answers:
        for entry in _items(attributes(answer).get(PEERS, b"")):
            key, peer = _peer(attributes(entry))
            known = peers.get(key)
            peers[key] = known._replace(allowed=known.allowed + peer.allowed) if known else peer
    return WireGuardDevice(_number(first, LISTEN_PORT), _number(first, MARK), tuple(peers.values()))


def _peer(given: dict[int, bytes]) -> tuple[bytes, Peer]:
    """Return the key of a peer and the peer. Its endpoint is a struct sockaddr."""
    endpoint, address, number = given.get(ENDPOINT, b""), b"", 0
    if endpoint:
        family = int.from_bytes(endpoint[:2], sys.byteorder)
        address = mapped(endpoint[4:8]) if family == socket.AF_INET else endpoint[8:24]
        number = int.from_bytes(endpoint[2:4], "big")
    allowed = [_prefix(attributes(entry)) for entry in _items(given.get(ALLOWED, b""))]
    return given.get(PUBLIC_KEY, b""), Peer(address, number, tuple(allowed))


def _prefix(given: dict[int, bytes]) -> tuple[bytes, int]:
    address, length = given[ALLOWED_ADDRESS], given[ALLOWED_LENGTH][0]
    return mapped(address), length + (MAPPED_BITS if len(address) == 4 else 0)


def _number(given: dict[int, bytes], number: int) -> int:
    return int.from_bytes(given.get(number, b""), sys.byteorder)


def _items(data: bytes) -> list[bytes]:
    """Return the payloads of a list, whose attributes all have the same number."""
    found, at = [], 0
    while at + ATTRIBUTE.size <= len(data):
        length, _kind = ATTRIBUTE.unpack_from(data, at)
        found.append(data[at + ATTRIBUTE.size : at + length])
        at += max((length + 3) & ~3, ATTRIBUTE.size)
    return found
