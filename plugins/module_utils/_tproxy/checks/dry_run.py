# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Dry run: test before a change whether the operator could still reach the router.

The dry run loads the new program on private maps that hold the new policies, rules or addresses. Maps that do not
change are the pinned ones. It runs the program on the first packet of a new connection for the SSH session of this run,
on the outer packets of the tunnels that it comes by (see session_path.py), and on a packet of every management entry.
The verifier needs about 100 ms for the program. So the program is not loaded if there is no SSH session or management
entry to test, or if the old and new images give the same answer.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Callable, NamedTuple

from ..abi import structs as codec
from ..abi.layout import (
    PAGE_BYTES,
    PAGE_WORDS,
    TABLE_ADDRESSES,
    TABLE_POLICY,
    TYPE_ARRAY_OF_MAPS,
    TYPE_LRU_HASH,
    TYPE_PERCPU_ARRAY,
)
from ..errors import VerificationFailed
from ..model.flow import Flow
from ..model.policy import InterfaceAddresses, Policy
from ..model.prefix import ADDRESS_BITS, family_of
from ..program.blob import Blob
from ..resources.host_addresses import KIND, host_addresses
from ..resources.host_addresses import MAP_NAME as HOST_ADDRESSES
from ..resources.interfaces import (
    RECORDED_SCOPES,
    AddressTable,
    PolicyTable,
    displaced_key,
    encode_addresses,
    encode_policy,
    slots_for,
)
from ..resources.pins import Pins, inner_shape
from ..resources.reserved_ports import MAP_NAME as RESERVED_PORTS
from ..resources.reserved_ports import encode_ports, ports_of_host
from ..ruleset.lookup import Lookup
from ..system.bpf import Shape
from ..system.netlink.messages import Link
from ..system.system import Netlink, System
from .findings import Finding, management_cut, ssh_cut
from .session_path import Crossing, SessionPath
from .test_run import Trace, ask

# More than one, because the program reports "established" for a port that has a session.
CLIENT_PORTS = (49152, 49153, 49154)
GETS_IN = ("management", "ssh", "rule", "local", "default", "other")  # the last one for the outer packets of a tunnel


class Probe(NamedTuple):
    """A flow that must enter by an interface. `cut` returns the finding for a reason why it would not."""

    link: Link
    flow: Flow
    cut: Callable[[str], Finding]


# ---- probes ------------------------------------------------------------------------------------


def probes_of(netlink: Netlink, policies: Mapping[int, Policy], path: SessionPath) -> list[Probe]:
    """Return the probes of the interfaces that have these policies, by ifindex. Loopback has none."""
    probes = [_ssh_probe(each) for each in path.crossings if each.link.ifindex in policies and not each.link.loopback]
    for link in netlink.interfaces():
        if link.ifindex in policies and not link.loopback:
            probes += _management_probes(link, netlink, policies[link.ifindex])
    return probes


def _ssh_probe(crossing: Crossing) -> Probe:
    link, flow = crossing.link, crossing.flow
    return Probe(link, flow, partial(ssh_cut, link.name, flow, crossing.carries))


def _management_probes(link: Link, netlink: Netlink, policy: Policy) -> list[Probe]:
    if not policy.management:
        return []
    own = [entry.address for entry in netlink.addresses(link.ifindex) if entry.scope in RECORDED_SCOPES]
    numbers = [int.from_bytes(address, "big") for address in own]
    found = []
    for entry in policy.management:
        source = entry.source.network + (entry.source.length < ADDRESS_BITS)
        ours = next((number for number in numbers if family_of(number) == entry.source.family), None)
        if ours is not None:
            ports = (CLIENT_PORTS[0], entry.port) if entry.port else (0, 0)
            flow = Flow(entry.protocol, source, ports[0], ours, ports[1])
            found.append(Probe(link, flow, partial(management_cut, link.name, str(entry))))
    return found


def affected(
    probes: Iterable[Probe], before: array[int] | memoryview | None, after: array[int] | memoryview | None
) -> list[Probe]:
    """Return the probes for which two images, given by their u32 words, differ. None means that there is no image."""
    try:
        old, new = (None if image is None else Lookup(image) for image in (before, after))
        return [probe for probe in probes if _action(old, probe) != _action(new, probe)]
    except VerificationFailed:
        return list(probes)


def _action(lookup: Lookup | None, probe: Probe) -> bytes | None:
    """Return struct action of the rule that an image has for the flow of a probe, or None without a rule."""
    flow = probe.flow
    if lookup is None:
        return None
    slot = lookup.slot(probe.link.ifindex, flow.destination, flow.source, flow.protocol, flow.port)
    return lookup.action(slot) if slot else None


class New(NamedTuple):
    """The parts that a change replaces: policies and recorded addresses by ifindex, and the image. None: it stays."""

    policies: Mapping[int, Policy] | None
    image: array[int] | memoryview | None
    addresses: Mapping[int, InterfaceAddresses] | None


# ---- dry run -----------------------------------------------------------------------------------


def dry_run(
    system: System,
    pins: Pins,
    blob: Blob,
    probes: Sequence[Probe],
    policies: Mapping[int, Policy] | None = None,
    image: array[int] | memoryview | None = None,
    addresses: Mapping[int, InterfaceAddresses] | None = None,
) -> list[Finding]:
    """Return a finding for each probe that the program would not pass, with the new policies, image or addresses."""
    if not probes:
        return []
    with ExitStack() as opened:
        maps = _Maps(system, pins, opened, New(policies, image, addresses))
        descriptors = {name: maps.of(name, shape) for name, shape in blob.maps.items()}
        program = system.bpf.load_program(blob.bind(descriptors), blob.function)
        opened.callback(os.close, program)
        traces = [(probe, _trace(system, program, probe)) for probe in probes]
    return [probe.cut(f"{trace.verdict}, {trace.reason}") for probe, trace in traces if not _gets_in(trace)]


def _trace(system: System, program: int, probe: Probe) -> Trace:
    """Return the trace of a new connection. A client port that has a session would pass because of that session."""
    for port in CLIENT_PORTS:
        trace = ask(system.bpf, program, probe.link.ifindex, probe.flow._replace(source_port=port))
        if trace.reason != "established":
            break
    return trace


def _gets_in(trace: Trace) -> bool:
    """Return whether a flow reaches this host itself. A spliced flow reaches a proxy instead."""
    return trace.verdict != "drop" and trace.reason in GETS_IN


class _Maps:
    """The maps of a dry run. Its exit stack closes them."""

    def __init__(self, system: System, pins: Pins, opened: ExitStack, new: New) -> None:
        self._system, self._bpf, self._pins, self._opened, self._changed = system, system.bpf, pins, opened, new

    def of(self, name: str, shape: Shape) -> int:
        """Return the descriptor of a map: a private one for new content and for counters, otherwise the pinned one."""
        policies, image, addresses = self._changed
        if name == "policy" and policies is not None:
            return self._policies(shape, policies)
        if name == "ifindex_ip_map" and addresses is not None:
            return self._addresses(shape, addresses)
        if name == HOST_ADDRESSES:
            return self._host_addresses(shape, addresses)
        if name == RESERVED_PORTS and policies is not None:
            return self._reserved_ports(shape, policies)
        if name == "displaced" and (policies is not None or addresses is not None):
            return self._displaced(shape, policies, addresses)
        if shape[0] == TYPE_ARRAY_OF_MAPS and (image is not None or name in self._pins.missing()):
            return self._image(shape, image)
        if shape[0] in (TYPE_PERCPU_ARRAY, TYPE_LRU_HASH):
            # A lookup beyond one entry counts nothing. A new flow, which the question is, has no session.
            return self._new((*shape[:3], 1, shape[4]), name)
        return self._new(shape, name) if name in self._pins.missing() else self._pins.fd(name)

    def _new(self, shape: Shape, name: str, inner: int = 0) -> int:
        made: int = self._bpf.create_map(shape, name, inner)
        self._opened.callback(os.close, made)
        return made

    def _policies(self, shape: Shape, policies: Mapping[int, Policy]) -> int:
        """Return a map with the policies, without `layer3`: packets of test runs always have an Ethernet header."""
        made = self._new(shape, "policy")
        for ifindex, slot in slots_for(policies).items():
            raw = encode_policy(ifindex, replace(policies[ifindex], layer3=False))
            self._bpf.update(made, codec.key(slot), raw, "policy")
        return made

    def _addresses(self, shape: Shape, addresses: Mapping[int, InterfaceAddresses]) -> int:
        """Return a map with the recorded addresses."""
        made = self._new(shape, "ifindex_ip_map")
        for ifindex, slot in slots_for(addresses).items():
            self._bpf.update(made, codec.key(slot), encode_addresses(ifindex, addresses[ifindex]), "ifindex_ip_map")
        return made

    def _host_addresses(self, shape: Shape, recorded: Mapping[int, InterfaceAddresses] | None) -> int:
        """Return a map with the own addresses of this moment, with the recorded ones."""
        if recorded is None:
            recorded = AddressTable(self._bpf, self._pins).load().entries
        made = self._new(shape, HOST_ADDRESSES)
        with self._system.netlink() as netlink:
            found = host_addresses(netlink.addresses(), recorded)
        for address, kind in found.items():
            self._bpf.update(made, address, KIND.pack(kind), HOST_ADDRESSES)
        return made

    def _reserved_ports(self, shape: Shape, policies: Mapping[int, Policy]) -> int:
        """Return a map with the reserved ports of this moment, with those of the policies."""
        made = self._new(shape, RESERVED_PORTS)
        ports = ports_of_host(self._system, policies.values())
        self._bpf.update(made, codec.key(0), encode_ports(ports), RESERVED_PORTS)
        return made

    def _displaced(
        self,
        shape: Shape,
        policies: Mapping[int, Policy] | None,
        addresses: Mapping[int, InterfaceAddresses] | None,
    ) -> int:
        """Return a map with the slots of policies and addresses, private or pinned."""
        made = self._new(shape, "displaced")
        if policies is None:
            of_policies: Mapping[int, int] = PolicyTable(self._bpf, self._pins).load().slots
        else:
            of_policies = slots_for(policies)
        if addresses is None:
            of_addresses: Mapping[int, int] = AddressTable(self._bpf, self._pins).load().slots
        else:
            of_addresses = slots_for(addresses)
        for table, slots in ((TABLE_POLICY, of_policies), (TABLE_ADDRESSES, of_addresses)):
            for ifindex, slot in slots.items():
                self._bpf.update(made, displaced_key(table, ifindex), codec.key(slot), "displaced")
        return made

    def _image(self, shape: Shape, image: array[int] | memoryview | None) -> int:
        pages = len(image) // PAGE_WORDS if image is not None else 1
        inner = self._new(inner_shape(pages), "pages")
        outer = self._new(shape, "image", inner)
        if image is not None:
            with self._bpf.mapped_memory(inner, pages * PAGE_BYTES, True) as memory:
                memory[: 4 * len(image)] = image.tobytes()
            self._bpf.update(outer, codec.key(0), struct.pack("=I", inner), "image")
        return outer
