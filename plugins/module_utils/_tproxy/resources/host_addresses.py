# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The own addresses of this host in the map `own_addresses`: those of its interfaces, and the recorded ones.

Addresses on lo count only if they are recorded: an OpenZiti router puts the address of each intercept there. The map
follows the kernel and is no part of the wanted state: each run brings it up to date, and so does the watcher.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

from ..abi.layout import ADDRESS_GROUP, ADDRESS_OWN, OWN_ADDRESSES
from ..errors import LimitExceeded
from ..model.policy import InterfaceAddresses
from ..system.netlink.messages import Address
from ..system.system import Bpf, Netlink
from .interfaces import AddressTable
from .pins import Pins

MAP_NAME = "own_addresses"
LOOPBACK_IFINDEX = 1  # include/net/net_namespace.h
ADDRESS_BYTES, KIND = 16, struct.Struct("=I")
BROADCAST_PREFIX_MAX = 30  # RFC 3021: no broadcast address in a prefix of 31 or 32 bits


def host_addresses(addresses: Iterable[Address], recorded: Mapping[int, InterfaceAddresses]) -> dict[bytes, int]:
    """Return {address: enum address_kind} of this host. Raises LimitExceeded."""
    here = [entry for entry in addresses if entry.ifindex != LOOPBACK_IFINDEX]
    found = {broadcast: ADDRESS_GROUP for entry in here for broadcast in _broadcast(entry)}
    found.update({address: ADDRESS_OWN for entry in recorded.values() for address in entry.addresses})
    found.update({entry.address: ADDRESS_OWN for entry in here})
    if len(found) > OWN_ADDRESSES:
        raise LimitExceeded("own addresses of this host", len(found), OWN_ADDRESSES, "nothing was changed")
    return found


def _broadcast(entry: Address) -> list[bytes]:
    """Return the broadcast address of the subnet of an IPv4 address, if it has one."""
    if not _is_ipv4(entry.address) or entry.prefix_length > BROADCAST_PREFIX_MAX:
        return []
    number = int.from_bytes(entry.address, "big") | (1 << 32 - entry.prefix_length) - 1
    return [number.to_bytes(ADDRESS_BYTES, "big")]


def _is_ipv4(address: bytes) -> bool:
    return address[:12] == bytes(10) + b"\xff\xff"


def written(bpf: Bpf, descriptor: int) -> Sequence[bytes]:
    """Return the addresses in the map."""
    return bpf.keys(descriptor, ADDRESS_BYTES, OWN_ADDRESSES)


def follow_host_addresses(bpf: Bpf, pins: Pins, netlink: Netlink) -> bool:
    """Bring the map up to date with the kernel and with the recorded addresses. Return whether an entry changed.

    Nothing happens while a map is not pinned. A new address is written before an old one is removed.
    """
    if not pins.complete or MAP_NAME not in pins.shapes:
        return False
    want = host_addresses(netlink.addresses(), AddressTable(bpf, pins).load().entries)
    descriptor = pins.fd(MAP_NAME)
    have = {address: bpf.lookup(descriptor, address, KIND.size) for address in written(bpf, descriptor)}
    new = {address: KIND.pack(kind) for address, kind in want.items() if have.get(address) != KIND.pack(kind)}
    gone = have.keys() - want.keys()
    for address, kind in new.items():
        bpf.update(descriptor, address, kind, MAP_NAME)
    for address in gone:
        bpf.delete(descriptor, address, MAP_NAME)
    return bool(new or gone)
