# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration of a WireGuard interface by generic netlink, because `wg` is not on every machine."""

from __future__ import annotations

import os
import socket
import struct

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.exchange import (
    ask,
    attribute,
    nest,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.wire import attributes
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.wireguard import (
    ALLOWED,
    ALLOWED_ADDRESS,
    ALLOWED_FAMILY,
    ALLOWED_LENGTH,
    CONTROLLER,
    ENDPOINT,
    FAMILY_ID,
    FAMILY_NAME,
    GENERIC,
    GET_FAMILY,
    LISTEN_PORT,
    NETLINK_GENERIC,
    PEERS,
    PUBLIC_KEY,
)

SET_DEVICE, NAME, PRIVATE_KEY = 1, 2, 3  # include/uapi/linux/wireguard.h


def set_wireguard(interface: str, port: int, peers: dict) -> None:
    """Set the port and the peers of an interface: {(endpoint address, port): (allowed address, bits)}, all IPv4."""
    wanted = attribute(FAMILY_NAME, b"wireguard\0")
    answer = ask(NETLINK_GENERIC, CONTROLLER, GENERIC.pack(GET_FAMILY, 1) + wanted)[0]
    family = int.from_bytes(attributes(answer.payload[GENERIC.size :])[FAMILY_ID], "little")
    body = b"".join(
        (
            attribute(NAME, interface.encode() + b"\0"),
            attribute(PRIVATE_KEY, os.urandom(32)),
            attribute(LISTEN_PORT, struct.pack("=H", port)),
            nest(PEERS, *(_peer(*endpoint, *allowed) for endpoint, allowed in peers.items())),
        )
    )
    ask(NETLINK_GENERIC, family, GENERIC.pack(SET_DEVICE, 1) + body)


def _peer(address: str, port: int, allowed: str, bits: int) -> bytes:
    endpoint = struct.pack("=H", socket.AF_INET) + struct.pack(">H", port) + socket.inet_aton(address) + bytes(8)
    prefix = nest(
        0,
        attribute(ALLOWED_FAMILY, struct.pack("=H", socket.AF_INET)),
        attribute(ALLOWED_ADDRESS, socket.inet_aton(allowed)),
        attribute(ALLOWED_LENGTH, bytes([bits])),
    )
    return nest(0, attribute(PUBLIC_KEY, os.urandom(32)), attribute(ENDPOINT, endpoint), nest(ALLOWED, prefix))
