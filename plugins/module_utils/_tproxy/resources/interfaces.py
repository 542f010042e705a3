# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The tables of interfaces: policy and recorded addresses, keyed by ifindex.

Each entry stands in one of the PROBES slots that follow its ifindex, where the program looks for it. An update of one
entry is what the kernel makes of it; entries of other interfaces are never touched.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from ..abi import structs as codec
from ..abi.layout import INTERFACES, PROBES, REASONS, VERDICTS
from ..errors import InvalidInput, LimitExceeded
from ..model.policy import UNFILTERED, Policy
from .interface_records import decode_addresses, decode_policy, encode_addresses, encode_policy, slot_for
from .reconcile import Changes, restore_table

RECORDED_SCOPES = (0, 253)  # RT_SCOPE_UNIVERSE, RT_SCOPE_LINK: include/uapi/linux/rtnetlink.h


class InterfaceTable:
    """{ifindex: value} in one array map; `decode` and `encode` are the codec's."""

    map_name = ""
    struct_name = ""

    def __init__(self, bpf, pins):
        self._bpf, self._pins = bpf, pins
        self._writes: list = []
        self._new: list = []

    def observe(self) -> dict:
        """Return {ifindex: value}; {} while there are no maps."""
        return dict(self._slots().values())

    def prepare(self, changes: Changes, want: Mapping) -> None:
        """Find every entry its place. Raises LimitExceeded when one has none."""
        stand = {slot: ifindex for slot, (ifindex, _value) in self._slots().items()}
        taken = {slot: ifindex for slot, ifindex in stand.items() if ifindex in want}
        nothing = bytes(codec.size_of(self.struct_name))
        self._writes = [(slot, nothing) for slot, ifindex in stand.items() if ifindex in changes.deletes]
        self._new = []
        for ifindex, value in changes.puts.items():
            slot = self._place(ifindex, taken)
            if slot not in taken:
                self._new.append((slot, ifindex, value))
            taken[slot] = ifindex
            self._writes.append((slot, self.encode(ifindex, value)))

    def apply(self, changes: Changes, want: Mapping) -> None:
        """Write what was prepared."""
        self._pins.ensure()
        for entry in self._new:
            self.confirm_entry(*entry)
        for slot, raw in self._writes:
            self._bpf.update(self._pins.fd(self.map_name), codec.key(slot), raw, self.map_name)

    def restore(self, have: Mapping) -> None:
        """Write back what a failed apply() changed."""
        restore_table(self, have)

    def slots(self) -> dict:
        """Return {ifindex: slot}."""
        return {ifindex: slot for slot, (ifindex, _value) in self._slots().items()}

    def has(self, ifindex: int) -> bool:
        """Whether an interface has an entry: a look-up where it may stand, not everywhere."""
        descriptor, size = self._pins.fd(self.map_name), codec.size_of(self.struct_name)
        places = (codec.key((ifindex + probe) % INTERFACES) for probe in range(PROBES))
        return any(struct.unpack_from("=I", self._bpf.lookup(descriptor, key, size))[0] == ifindex for key in places)

    def confirm_entry(self, slot: int, ifindex: int, value) -> None:
        """Prepare a slot for the entry of an interface that is new to it."""

    def encode(self, ifindex: int, value) -> bytes:
        """Return the entry's bytes."""
        raise NotImplementedError

    def decode(self, raw: bytes) -> tuple:
        """Return (ifindex, value)."""
        raise NotImplementedError

    def _slots(self) -> dict:
        """Return {slot: (ifindex, value)} of the slots in use; {} while there is no map."""
        if self.map_name in self._pins.missing():
            return {}
        descriptor, size = self._pins.fd(self.map_name), codec.size_of(self.struct_name)
        found = {}
        for slot in range(INTERFACES):
            raw = self._bpf.lookup(descriptor, codec.key(slot), size)
            if any(raw[:4]):
                found[slot] = self.decode(raw)
        return found

    def _place(self, ifindex: int, taken: Mapping[int, int]) -> int:
        slot = slot_for(ifindex, taken)
        if slot is None:
            crowd = f"the {PROBES} slots of interface {ifindex} are taken"
            raise LimitExceeded(f"interfaces in {self.map_name}", len(taken) + 1, INTERFACES, crowd)
        return slot


class PolicyTable(InterfaceTable):
    """{ifindex: Policy}; an interface that gets a slot starts with its drop reasons at zero.

    What holds past the deadline, in the second half of the map, is no part of the set.
    """

    map_name = "policy"
    struct_name = "policy"

    def encode(self, ifindex: int, value) -> bytes:
        """Return struct policy."""
        return encode_policy(ifindex, value)

    def decode(self, raw: bytes) -> tuple:
        """Return (ifindex, Policy)."""
        return decode_policy(raw)

    def confirm_entry(self, slot: int, ifindex: int, value) -> None:
        """Set the slot's counters to zero. An interface that is new under a deadline was unfiltered before."""
        if value.deadline:
            self.write_previous(slot, ifindex, UNFILTERED)
        zero = codec.no_counters(self._bpf.possible_cpus())
        first = slot * REASONS * VERDICTS
        for index in range(first, first + REASONS * VERDICTS):
            self._bpf.update(self._pins.fd("reasons"), codec.key(index), zero, "reasons")

    def write_previous(self, slot: int, ifindex: int, policy: Policy) -> None:
        """Say what holds for an interface past the deadline."""
        self._update_previous(slot, encode_policy(ifindex, policy))

    def forget_previous(self) -> None:
        """Remove all that would hold past a deadline."""
        descriptor, size = self._pins.fd(self.map_name), codec.size_of(self.struct_name)
        for slot in range(INTERFACES):
            if any(self._bpf.lookup(descriptor, codec.key(slot + INTERFACES), size)):
                self._update_previous(slot, bytes(size))

    def _update_previous(self, slot: int, raw: bytes) -> None:
        self._bpf.update(self._pins.fd(self.map_name), codec.key(slot + INTERFACES), raw, self.map_name)


class AddressTable(InterfaceTable):
    """{ifindex: InterfaceAddresses}."""

    map_name = "ifindex_ip_map"
    struct_name = "interface_addresses"

    def encode(self, ifindex: int, value) -> bytes:
        """Return struct interface_addresses."""
        return encode_addresses(ifindex, value)

    def decode(self, raw: bytes) -> tuple:
        """Return (ifindex, InterfaceAddresses)."""
        return decode_addresses(raw)


def links_by_name(netlink, names: list, option: str = "interfaces") -> list:
    """Return the interfaces of these names. Raises InvalidInput for all that do not exist, naming those that do."""
    found = [netlink.link(name) for name in names]
    foreign = [name for name, link in zip(names, found) if link is None]
    if foreign:
        there = ", ".join(sorted(entry.name for entry in netlink.interfaces()))
        raise InvalidInput([f"{option}: there is no {name!r} on this machine; it has {there}" for name in foreign])
    return found


def kernel_addresses(netlink, link) -> list:
    """Return the addresses of an interface that are worth recording, each as 16 bytes."""
    return [entry.address for entry in netlink.addresses(link.ifindex) if entry.scope in RECORDED_SCOPES]
