# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Adapter to IPsec: the policies of inbound packets, by which a packet must have come in ESP or AH.

Numbers are those of include/uapi/linux/xfrm.h.
"""

from __future__ import annotations

import errno
import socket
import struct

from ...errors import KernelRefused
from .exchange import ask
from .path import InboundPolicy
from .wire import NLM_F_DUMP, attributes, mapped

NETLINK_XFRM, GET_POLICY, TEMPLATES = 6, 0x15, 5
# struct xfrm_selector: destination, source, ports, family, prefix lengths, protocol, interface, user
SELECTOR = struct.Struct("=16s16s8sHBBBxxxiI")
DIRECTION_OFFSET, ACTION_OFFSET, POLICY_BYTES = 160, 161, 168  # of struct xfrm_userpolicy_info
INBOUND, ALLOW = 0, 0
MAPPED_BITS = 96


def inbound_policies() -> list[InboundPolicy]:
    """Return the policies of inbound packets that need ESP or AH; [] on a kernel without IPsec. Raises KernelRefused.

    A policy without a template lets packets pass without IPsec.
    """
    try:
        answers = ask(NETLINK_XFRM, GET_POLICY, bytes(POLICY_BYTES), NLM_F_DUMP)
    except OSError as refusal:
        if refusal.errno in (errno.EPROTONOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP):
            return []
        raise KernelRefused.of(refusal, "list", "IPsec policies") from refusal
    return [_read(payload) for payload in (each.payload for each in answers) if _needs_ipsec(payload)]


def _needs_ipsec(payload: bytes) -> bool:
    is_inbound = (payload[DIRECTION_OFFSET], payload[ACTION_OFFSET]) == (INBOUND, ALLOW)
    return is_inbound and TEMPLATES in attributes(payload[POLICY_BYTES:])


def _read(payload: bytes) -> InboundPolicy:
    destination, source, _ports, family, to_bits, from_bits, *_rest = SELECTOR.unpack_from(payload)
    return InboundPolicy(_prefix(family, source, from_bits), _prefix(family, destination, to_bits))


def _prefix(family: int, address: bytes, bits: int) -> tuple[bytes, int]:
    if family == socket.AF_INET:
        return mapped(address[:4]), MAPPED_BITS + bits
    return address, bits
