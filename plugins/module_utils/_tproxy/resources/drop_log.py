# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The drop log: the last distinct packets that the program dropped, or would have dropped but for an audit.

The program notes a limited number of packets per CPU (enum drop_log of bpf/abi.h), so counts of a flood are samples.
"""

from __future__ import annotations

from typing import NamedTuple

from ..abi import structs as codec
from ..abi.layout import DROPS
from ..abi.structs import REASON_NAMES, VERDICT_NAMES
from ..model.prefix import format_address
from ..model.protocol import PROTOCOL_NAMES
from ..system.system import Bpf
from .pins import Pins

NO_ADDRESS = bytes(16)


class Drop(NamedTuple):
    """One entry. `rule` is a rule slot, 0 without a rule. Times are CLOCK_MONOTONIC ns.

    `source` and `destination` are texts, "" for a packet that has no addresses.
    """

    ifindex: int
    verdict: str
    reason: str
    rule: int
    protocol: int
    source: str
    destination: str
    port: int
    first_seen: int
    last_seen: int
    packets: int
    answers: int  # of a would-be drop, on an interface with a tracker
    refusals: int

    @property
    def identity(self) -> tuple[object, ...]:
        """Return the members by which entries differ."""
        return self[:-5]


def read_drops(bpf: Bpf, pins: Pins) -> list[Drop]:
    """Return the entries, the last seen one first. Raise KernelRefused."""
    if not pins.has("drops"):
        return []
    descriptor, found = pins.fd("drops"), []
    for key in bpf.keys(descriptor, codec.size_of("drop_key"), DROPS):
        value = bpf.lookup(descriptor, key, codec.size_of("drop"))
        if value is not None:  # not gone meanwhile
            found.append(_drop(key, value))
    return sorted(found, key=lambda each: (-each.last_seen, each))


def _drop(key: bytes, value: bytes) -> Drop:
    about, seen = codec.decode("drop_key", key), codec.decode("drop", value)
    return Drop(
        about["ifindex"],
        VERDICT_NAMES[about["verdict"]],
        REASON_NAMES[about["reason"]],
        about["rule"],
        about["protocol"],
        _address(about["source"]),
        _address(about["destination"]),
        about["port"] if about["protocol"] in PROTOCOL_NAMES else 0,
        seen["first_seen"],
        seen["last_seen"],
        seen["packets"],
        seen["answers"],
        seen["refusals"],
    )


def _address(raw: bytes) -> str:
    return "" if raw == NO_ADDRESS else format_address(raw)
