# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The tables of interfaces: policies and recorded addresses, keyed by ifindex.

An entry stands in its home slot, ifindex % INTERFACES, or in any other one. Then the map `displaced` has its slot. So
any INTERFACES interfaces fit, and the program finds most of them by one look-up in an array. An update writes one
entry; the entries of other interfaces are never written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from ..abi import structs as codec
from ..abi.layout import (
    INTERFACES,
    MANAGEMENT,
    POLICY_ACCEPT_UNSPEC,
    POLICY_ALLOW_ECHO,
    POLICY_ALLOW_SSH,
    POLICY_AUDIT,
    POLICY_DEFAULT_PASS,
    POLICY_DROP_LINK,
    POLICY_LAYER3,
    POLICY_LOOPBACK,
    POLICY_PORT,
    POLICY_TRACK,
    POLICY_TRACK_ALL,
    TABLE_ADDRESSES,
    TABLE_POLICY,
)
from ..abi.structs import decode, encode, size_of
from ..errors import InvalidInput, LimitExceeded
from ..model.policy import UNFILTERED, InterfaceAddresses, Management, Mark, Policy
from ..model.prefix import ADDRESS_BITS, Prefix
from ..model.protocol import has_ports, parse_protocol, protocol_number
from ..model.text import escaped, fault_of_interface_name
from ..system.netlink.messages import Link
from ..system.system import Bpf, Netlink
from .pins import Pins
from .reconcile import Changes, restore_entries

SLOT_BYTES = IFINDEX_BYTES = 4
FREE = bytes(IFINDEX_BYTES)  # no interface has index 0
RECORDED_SCOPES = (0, 253)  # RT_SCOPE_UNIVERSE, RT_SCOPE_LINK: include/uapi/linux/rtnetlink.h

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class InterfaceSnapshot(Generic[Entry]):
    """The entries of one map by ifindex, and the slot of each."""

    entries: Mapping[int, Entry]
    slots: Mapping[int, int]


@dataclass(frozen=True)
class NewEntry(Generic[Entry]):
    """An entry for an interface that has no slot yet."""

    slot: int
    ifindex: int
    value: Entry


@dataclass(frozen=True)
class InterfaceWrites(Generic[Entry]):
    """The new entries, and the bytes to write as (slot, bytes) in this order.

    `displaced` is {ifindex: slot} of the new entries outside of their home slots. `lost` are the interfaces of such
    entries that go.
    """

    new: Sequence[NewEntry[Entry]]
    writes: Sequence[tuple[int, bytes]]
    displaced: Mapping[int, int]
    lost: Sequence[int]


class InterfaceTable(Generic[Entry]):
    """{ifindex: entry} in one array map."""

    map_name = ""
    struct_name = ""
    table = TABLE_POLICY  # enum interface_table in bpf/abi.h

    def __init__(self, bpf: Bpf, pins: Pins) -> None:
        self._bpf, self._pins = bpf, pins

    def load(self) -> InterfaceSnapshot[Entry]:
        """Return the entries and their slots; none while the map is not pinned.

        An entry that the program cannot find is no entry, and its slot is free.
        """
        if self.map_name in self._pins.missing():
            return InterfaceSnapshot({}, {})
        entries, slots = {}, {}
        for slot, raw in enumerate(self._all_slots()[:INTERFACES]):
            if raw[:IFINDEX_BYTES] != FREE:
                ifindex, entry = self.decode(raw)
                if slot == home_slot(ifindex) or not self._can_displace() or slot == self._slot_of(ifindex):
                    entries[ifindex], slots[ifindex] = entry, slot
        return InterfaceSnapshot(entries, slots)

    def entries(self, snapshot: InterfaceSnapshot[Entry]) -> Mapping[int, Entry]:
        """Return the entries of a snapshot."""
        return snapshot.entries

    def prepare(
        self, snapshot: InterfaceSnapshot[Entry], changes: Changes[int, Entry], want: Mapping[int, Entry]
    ) -> InterfaceWrites[Entry]:
        """Return the writes, with a slot for each entry. Raises LimitExceeded when the table is full."""
        taken = {slot: ifindex for ifindex, slot in snapshot.slots.items() if ifindex in want}
        nothing = bytes(codec.size_of(self.struct_name))
        lost = [ifindex for ifindex in snapshot.slots if ifindex in changes.deletes]
        writes = [(snapshot.slots[ifindex], nothing) for ifindex in lost]
        lost = [ifindex for ifindex in lost if snapshot.slots[ifindex] != home_slot(ifindex)]
        new, displaced = [], {}
        for ifindex, value in changes.puts.items():
            slot = self._place(ifindex, taken)
            if slot not in taken:
                new.append(NewEntry(slot, ifindex, value))
                if slot != home_slot(ifindex):
                    displaced[ifindex] = slot
            taken[slot] = ifindex
            writes.append((slot, self.encode(ifindex, value)))
        return InterfaceWrites(new, writes, displaced, lost)

    def apply(self, work: InterfaceWrites[Entry]) -> None:
        """Write the entries. The program finds a displaced entry only when it is complete."""
        self._pins.ensure()
        for entry in work.new:
            self.prepare_slot(entry)
        for slot, raw in work.writes:
            self._bpf.update(self._pins.fd(self.map_name), codec.key(slot), raw, self.map_name)
        for ifindex in work.lost:
            self._bpf.delete(self._pins.fd("displaced"), displaced_key(self.table, ifindex), "displaced")
        for ifindex, slot in work.displaced.items():
            self._bpf.update(
                self._pins.fd("displaced"), displaced_key(self.table, ifindex), codec.key(slot), "displaced"
            )

    def restore(self, snapshot: InterfaceSnapshot[Entry]) -> None:
        """Write back the entries of a snapshot."""
        restore_entries(self, snapshot.entries)

    def has(self, ifindex: int) -> bool:
        """Return whether an interface has an entry. Only the slot where it stands is read."""
        return self._slot_of(ifindex) is not None

    def prepare_slot(self, entry: NewEntry[Entry]) -> None:
        """Prepare the slot of a new entry."""

    def encode(self, ifindex: int, value: Entry) -> bytes:
        """Return the entry's bytes."""
        raise NotImplementedError

    def decode(self, raw: bytes) -> tuple[int, Entry]:
        """Return (ifindex, entry)."""
        raise NotImplementedError

    def _all_slots(self) -> Sequence[bytes]:
        """Return the bytes of each slot of the map, and of the second half where it has one.

        Entries of an older layout are shorter. What they lack at their ends is zero.
        """
        size = self._pins.shapes[self.map_name][2]
        found = self._bpf.values(self._pins.fd(self.map_name), SLOT_BYTES, size)
        lacking = bytes(codec.size_of(self.struct_name) - size)
        return [raw + lacking for raw in found] if lacking else found

    def _slot_of(self, ifindex: int) -> int | None:
        """Return the slot where the program finds the entry of an interface, or None."""
        if self._stands_in(home_slot(ifindex), ifindex):
            return home_slot(ifindex)
        if not self._can_displace() or "displaced" in self._pins.missing():
            return None
        raw = self._bpf.lookup(self._pins.fd("displaced"), displaced_key(self.table, ifindex), SLOT_BYTES)
        slot = struct.unpack("=I", raw)[0] if raw else None
        return slot if slot is not None and self._stands_in(slot, ifindex) else None

    def _can_displace(self) -> bool:
        """Return whether these maps are of our layout. In an older one an entry stands in one of 8 slots."""
        return "displaced" in self._pins.shapes

    def _stands_in(self, slot: int, ifindex: int) -> bool:
        raw = self._bpf.lookup(self._pins.fd(self.map_name), codec.key(slot), codec.size_of(self.struct_name))
        return raw is not None and struct.unpack_from("=I", raw)[0] == ifindex

    def _place(self, ifindex: int, taken: Mapping[int, int]) -> int:
        slot = slot_for(ifindex, taken)
        if slot is None:
            raise LimitExceeded(f"interfaces in {self.map_name}", len(taken) + 1, INTERFACES, "nothing was changed")
        return slot


class PolicyTable(InterfaceTable[Policy]):
    """{ifindex: Policy}. The counters of an interface start at zero when it gets a slot.

    The second half of the map has the policies that apply past a confirm deadline. They are no part of the set.
    """

    map_name = "policy"
    struct_name = "policy"

    def encode(self, ifindex: int, value: Policy) -> bytes:
        """Return struct policy."""
        return encode_policy(ifindex, value)

    def decode(self, raw: bytes) -> tuple[int, Policy]:
        """Return (ifindex, Policy)."""
        return decode_policy(raw)

    def prepare_slot(self, entry: NewEntry[Policy]) -> None:
        """Set the slot's counters to zero. An interface that is new under a deadline was unfiltered before."""
        if entry.value.deadline:
            self.write_previous(entry.slot, entry.ifindex, UNFILTERED)
        zero = bytes(codec.size_of("interface_counters") * self._bpf.possible_cpus())
        self._bpf.update(self._pins.fd("reasons"), codec.key(entry.slot), zero, "reasons")

    def write_previous(self, slot: int, ifindex: int, policy: Policy) -> None:
        """Write the policy of an interface that applies past the deadline."""
        self._update_previous(slot, encode_policy(ifindex, policy))

    def forget_previous(self) -> None:
        """Remove the policies that would apply past a deadline."""
        nothing = bytes(codec.size_of(self.struct_name))
        for slot, raw in enumerate(self._all_slots()[INTERFACES:]):
            if raw != nothing:
                self._update_previous(slot, nothing)

    def _update_previous(self, slot: int, raw: bytes) -> None:
        self._bpf.update(self._pins.fd(self.map_name), codec.key(slot + INTERFACES), raw, self.map_name)


class AddressTable(InterfaceTable[InterfaceAddresses]):
    """{ifindex: InterfaceAddresses}: the addresses that the program keeps for this host."""

    map_name = "ifindex_ip_map"
    struct_name = "interface_addresses"
    table = TABLE_ADDRESSES

    def encode(self, ifindex: int, value: InterfaceAddresses) -> bytes:
        """Return struct interface_addresses."""
        return encode_addresses(ifindex, value)

    def decode(self, raw: bytes) -> tuple[int, InterfaceAddresses]:
        """Return (ifindex, InterfaceAddresses)."""
        return decode_addresses(raw)


def links_by_name(netlink: Netlink, names: Sequence[str], option: str = "interfaces") -> list[Link]:
    """Return the interfaces of these names.

    Raises InvalidInput with each name that cannot be one; else with each that does not exist and the names that do.
    """
    faults = [f"{option}: {fault}" for fault in map(fault_of_interface_name, names) if fault]
    found = [netlink.link(name) for name in names] if not faults else []
    unknown = [name for name, link in zip(names, found) if link is None]
    if unknown:
        there = escaped(", ".join(sorted(entry.name for entry in netlink.interfaces())))
        faults = [f"{option}: there is no {name!r} on this machine; it has {there}" for name in unknown]
    if faults:
        raise InvalidInput(faults)
    return [link for link in found if link is not None]


def kernel_addresses(netlink: Netlink, link: Link) -> list[bytes]:
    """Return the addresses of an interface that can be recorded, each as 16 bytes."""
    return [entry.address for entry in netlink.addresses(link.ifindex) if entry.scope in RECORDED_SCOPES]


# ---- policy -----------------------------------------------------------------


TRACK_NAMES = {POLICY_TRACK: "own", POLICY_TRACK | POLICY_TRACK_ALL: "all"}


def encode_policy(ifindex: int, policy: Policy) -> bytes:
    """Return struct policy."""
    flags = sum(bits for bits, name, value in _policy_flags() if getattr(policy, name) == value)
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


def decode_policy(raw: bytes) -> tuple[int, Policy]:
    """Return (ifindex, Policy); ifindex 0 is a free slot. A policy that is not as we write it is read as damaged."""
    values = decode("policy", raw)
    width, count = size_of("management"), min(values["management_count"], MANAGEMENT)
    entries = [values["management"][i * width : (i + 1) * width] for i in range(count)]
    policy = Policy(
        default_action=_decode_default(values["flags"]),
        allow_ssh=bool(values["flags"] & POLICY_ALLOW_SSH),
        allow_echo=bool(values["flags"] & POLICY_ALLOW_ECHO),
        accept="unspec" if values["flags"] & POLICY_ACCEPT_UNSPEC else "ok",
        track=TRACK_NAMES.get(values["flags"] & (POLICY_TRACK | POLICY_TRACK_ALL), "none"),
        management=tuple(filter(None, map(_decode_management, entries))),
        mark=_decode_mark(values["mark"], values["mark_mask"]),
        link_protocols="drop" if values["flags"] & POLICY_DROP_LINK else "pass",
        layer3=bool(values["flags"] & POLICY_LAYER3),
        loopback=bool(values["flags"] & POLICY_LOOPBACK),
        port=bool(values["flags"] & POLICY_PORT),
        deadline=values["deadline"],
        generation=values["generation"],
    )
    is_ours = encode_policy(values["ifindex"], policy) == raw
    return values["ifindex"], policy if is_ours else replace(policy, damaged=True)


def _decode_default(flags: int) -> str:
    if flags & POLICY_DEFAULT_PASS:
        return "pass"
    return "audit" if flags & POLICY_AUDIT else "drop"


def _decode_mark(value: int, mask: int) -> Mark:
    """Return the mark, or the default one for values that are no mark: no saved state and no roll-back has these."""
    return Mark(value, mask) if value and not value & ~mask else Mark()


def _policy_flags() -> tuple[tuple[int, str, object], ...]:
    return (
        (POLICY_DEFAULT_PASS, "default_action", "pass"),
        (POLICY_AUDIT, "default_action", "audit"),
        (POLICY_ALLOW_SSH, "allow_ssh", True),
        (POLICY_ALLOW_ECHO, "allow_echo", True),
        (POLICY_ACCEPT_UNSPEC, "accept", "unspec"),
        (POLICY_DROP_LINK, "link_protocols", "drop"),
        (POLICY_LAYER3, "layer3", True),
        (POLICY_LOOPBACK, "loopback", True),
        (POLICY_PORT, "port", True),
        *((bits, "track", name) for bits, name in TRACK_NAMES.items()),
    )


def _encode_management(entry: Management) -> bytes:
    return encode(
        "management",
        {
            "source": entry.source.network.to_bytes(16, "big"),
            "source_length": entry.source.length,
            "protocol": protocol_number(entry.protocol),
            "port": entry.port or protocol_number(entry.protocol),
        },
    )


def _decode_management(raw: bytes) -> Management | None:
    """Return the entry, or None for bytes that are no entry."""
    values = decode("management", raw)
    try:
        protocol = parse_protocol(values["protocol"])
    except InvalidInput:
        return None
    if values["source_length"] > ADDRESS_BITS:
        return None
    source = Prefix(int.from_bytes(values["source"], "big"), values["source_length"])
    return Management(source, protocol, values["port"] if has_ports(protocol) else 0)


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


def decode_addresses(raw: bytes) -> tuple[int, InterfaceAddresses]:
    """Return (ifindex, InterfaceAddresses); ifindex 0 is a free slot."""
    values = decode("interface_addresses", raw)
    listed = values["address"]
    addresses = tuple(listed[16 * i : 16 * (i + 1)] for i in range(values["count"]))
    return values["ifindex"], InterfaceAddresses(values["name"].split(b"\0")[0].decode(), addresses)


# ---- slots and counters ----------------------------------------------------------


def slot_for(ifindex: int, taken: Mapping[int, int]) -> int | None:
    """Return the slot of an interface's entry: where it stands, else its home slot, else the first free one, else None.

    `taken` is {slot: ifindex}. The program looks in the home slot, then where `displaced` says (bpf/lib/policy.h).
    """
    home = home_slot(ifindex)
    stands = next((slot for slot, other in taken.items() if other == ifindex), None)
    if stands is not None:
        return stands
    return next((slot for slot in (home, *range(INTERFACES)) if slot not in taken), None)


def slots_for(ifindexes: Iterable[int]) -> dict[int, int]:
    """Return {ifindex: slot} for the entries of an empty table, of which there are at most INTERFACES."""
    taken: dict[int, int] = {}
    for ifindex in ifindexes:
        slot = slot_for(ifindex, taken)
        if slot is not None:
            taken[slot] = ifindex
    return {ifindex: slot for slot, ifindex in taken.items()}


def for_link(policy: Policy, link: Link) -> Policy:
    """Return a policy with the properties of an interface."""
    return replace(policy, layer3=link.layer3, loopback=link.loopback, port=link.port)


def home_slot(ifindex: int) -> int:
    """Return the slot that needs no entry in `displaced`."""
    return ifindex % INTERFACES


def displaced_key(table: int, ifindex: int) -> bytes:
    """Return struct displaced_key."""
    return encode("displaced_key", {"table": table, "ifindex": ifindex})
