# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""resources.interface_records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..abi.layout import (
    INTERFACES,
    MANAGEMENT,
    POLICY_ACCEPT_UNSPEC,
    POLICY_ALLOW_ECHO,
    POLICY_ALLOW_SSH,
    POLICY_DEFAULT_PASS,
    POLICY_LAYER3,
    POLICY_LOOPBACK,
    PROBES,
)
from ..abi.structs import decode, encode, size_of
from ..model.policy import InterfaceAddresses, Management, Mark, Policy
from ..model.prefix import ADDRESS_BITS, Prefix
from ..model.rule import PROTOCOL_NAMES, PROTOCOLS

# ---- policy -----------------------------------------------------------------


def encode_policy(ifindex: int, policy: Policy) -> bytes:
    """Return struct policy."""
    flags = sum(bit for bit, name, value in _policy_flags() if getattr(policy, name) == value)
    entries = b"".join(_encode_management(entry) for entry in policy.management)
    return encode(
        "policy",
        {
            "ifindex": ifindex,
            "flags": flags,
            "mark": policy.mark.value,
            "mark_mask": policy.mark.mask,
            "deadline": policy.deadline,
            "management_count": len(policy.management),
            "generation": policy.generation,
            "management": entries,
        },
    )


def decode_policy(raw: bytes) -> tuple:
    """Return (ifindex, Policy); ifindex 0 is a free slot. A policy that is not as we write it is read as damaged."""
    values = decode("policy", raw)
    width, count = size_of("management"), min(values["management_count"], MANAGEMENT)
    entries = [values["management"][i * width : (i + 1) * width] for i in range(count)]
    policy = Policy(
        default_action="pass" if values["flags"] & POLICY_DEFAULT_PASS else "drop",
        allow_ssh=bool(values["flags"] & POLICY_ALLOW_SSH),
        allow_echo=bool(values["flags"] & POLICY_ALLOW_ECHO),
        accept="unspec" if values["flags"] & POLICY_ACCEPT_UNSPEC else "ok",
        management=tuple(filter(None, map(_decode_management, entries))),
        mark=Mark(values["mark"], values["mark_mask"]),
        layer3=bool(values["flags"] & POLICY_LAYER3),
        loopback=bool(values["flags"] & POLICY_LOOPBACK),
        deadline=values["deadline"],
        generation=values["generation"],
    )
    is_ours = encode_policy(values["ifindex"], policy) == raw
    return values["ifindex"], policy if is_ours else replace(policy, damaged=True)


def _policy_flags() -> tuple:
    return (
        (POLICY_DEFAULT_PASS, "default_action", "pass"),
        (POLICY_ALLOW_SSH, "allow_ssh", True),
        (POLICY_ALLOW_ECHO, "allow_echo", True),
        (POLICY_ACCEPT_UNSPEC, "accept", "unspec"),
        (POLICY_LAYER3, "layer3", True),
        (POLICY_LOOPBACK, "loopback", True),
    )


def _encode_management(entry: Management) -> bytes:
    return encode(
        "management",
        {
            "source": entry.source.network.to_bytes(16, "big"),
            "source_length": entry.source.length,
            "protocol": PROTOCOLS[entry.protocol],
            "port": entry.port,
        },
    )


def _decode_management(raw: bytes) -> Management | None:
    """Return the entry, None for what is none."""
    values = decode("management", raw)
    if values["protocol"] not in PROTOCOL_NAMES or values["source_length"] > ADDRESS_BITS:
        return None
    source = Prefix(int.from_bytes(values["source"], "big"), values["source_length"])
    return Management(source, PROTOCOL_NAMES[values["protocol"]], values["port"])


# ---- addresses -----------------------------------------------------------------


def encode_addresses(ifindex: int, entry: InterfaceAddresses) -> bytes:
    """Return struct interface_addresses."""
    return encode(
        "interface_addresses",
        {
            "ifindex": ifindex,
            "count": len(entry.addresses),
            "name": entry.name.encode(),
            "address": b"".join(entry.addresses),
        },
    )


def decode_addresses(raw: bytes) -> tuple:
    """Return (ifindex, InterfaceAddresses); ifindex 0 is a free slot."""
    values = decode("interface_addresses", raw)
    listed = values["address"]
    addresses = tuple(listed[16 * i : 16 * (i + 1)] for i in range(values["count"]))
    return values["ifindex"], InterfaceAddresses(values["name"].split(b"\0")[0].decode(), addresses)


# ---- slots and counters ----------------------------------------------------------


def slot_for(ifindex: int, taken: Mapping[int, int]):
    """Return the slot of an interface's entry: where it stands, else the first free one of its neighbours, else None.

    `taken` is {slot: ifindex}. This is the order in which the program probes (bpf/tproxy_splicer.c).
    """
    slots = [(ifindex + i) % INTERFACES for i in range(PROBES)]
    for slot in slots:
        if taken.get(slot) == ifindex:
            return slot
    return next((slot for slot in slots if slot not in taken), None)
