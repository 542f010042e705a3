# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The reserved ports of this host in the map `reserved_ports`: those of SSH daemons and of management entries.

An OpenZiti controller can put a service on an address of its router, with any range of ports. The rule of that service
takes no reserved port of an own address, so operators can still reach the router. The map follows the host and is no
part of the wanted state: runs that change policies or addresses bring it up to date, and so does the watcher.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress

from ..abi import structs as codec
from ..abi.structs import decode, encode, size_of
from ..errors import KernelRefused, TproxyError
from ..model.policy import Policy
from ..system.system import Bpf, System
from .interfaces import PolicyTable
from .pins import Pins, splicer_pins

MAP_NAME = STRUCT_NAME = "reserved_ports"
# systemd holds the socket of ssh.socket until the first client comes. No listing tells the sockets of units apart.
SSH_DAEMONS = ("sshd", "dropbear", "systemd")
_SET_BYTES = re.compile(rb"[^\0]")
AGAIN_NS = 5 * 10**9  # no event tells that a daemon listens

Port = tuple[str, int]  # protocol and number


def ports_of_policies(policies: Iterable[Policy]) -> set[Port]:
    """Return the ports of all management entries, whatever their interface and source."""
    entries = (entry for policy in policies for entry in policy.management)
    return {(entry.protocol, entry.port) for entry in entries if entry.protocol in ("tcp", "udp")}


def ports_of_ssh(system: System) -> set[Port] | None:
    """Return the ports where an SSH daemon listens. None: this process or this kernel cannot tell."""
    inodes = system.processes.sockets_of(SSH_DAEMONS)
    try:
        listening = system.sockets.listeners("tcp")
    except KernelRefused:
        return None
    return None if inodes is None else {("tcp", each.port) for each in listening if each.inode in inodes}


def ports_of_host(system: System, policies: Iterable[Policy], unseen: Collection[Port] = ()) -> set[Port]:
    """Return the ports of this moment; `unseen` are those of SSH daemons where nothing tells them."""
    of_ssh = ports_of_ssh(system)
    return ports_of_policies(policies).union(unseen if of_ssh is None else of_ssh)


def encode_ports(ports: Collection[Port]) -> bytes:
    """Return struct reserved_ports."""
    bits = {protocol: sum(1 << number for at, number in set(ports) if at == protocol) for protocol in ("tcp", "udp")}
    size = size_of(STRUCT_NAME) // len(bits)
    return encode(STRUCT_NAME, {protocol: each.to_bytes(size, "little") for protocol, each in bits.items()})


def decode_ports(raw: bytes) -> set[Port]:
    """Return the ports in struct reserved_ports."""
    return {(protocol, port) for protocol, bits in decode(STRUCT_NAME, raw).items() for port in _numbers(bits)}


def _numbers(bits: bytes) -> Iterator[int]:
    for byte in _SET_BYTES.finditer(bits):
        yield from (8 * byte.start() + bit for bit in range(8) if byte[0][0] >> bit & 1)


def reserved_ports(bpf: Bpf, pins: Pins) -> set[Port]:
    """Return the ports in the map; none while it is not pinned, as with an older release."""
    if not pins.has(MAP_NAME):
        return set()
    return decode_ports(bpf.lookup(pins.fd(MAP_NAME), codec.key(0), size_of(STRUCT_NAME)) or b"")


def follow_reserved_ports(system: System, pins: Pins) -> bool:
    """Bring the map up to date with daemons and management entries. Return whether a port changed.

    A process that cannot see the daemons removes no port. Nothing happens while a map is not pinned.
    """
    if not pins.complete or MAP_NAME not in pins.shapes:
        return False
    have = reserved_ports(system.bpf, pins)
    want = ports_of_host(system, PolicyTable(system.bpf, pins).load().entries.values(), have)
    if want != have:
        system.bpf.update(pins.fd(MAP_NAME), codec.key(0), encode_ports(want), MAP_NAME)
    return want != have


class ReservedPortsWatch:
    """The care of the watcher: it looks at the daemons now and then."""

    def __init__(self, system: System, pin_dir: str) -> None:
        self._system, self._pin_dir = system, pin_dir
        self._rests_until = 0

    def follow(self) -> None:
        """Bring the map up to date, unless this was done a moment ago. If that fails, the next restoration says why."""
        now = self._system.background.monotonic_ns()
        if now < self._rests_until:
            return
        self._rests_until = now + AGAIN_NS
        with suppress(TproxyError), splicer_pins(self._system.bpf, self._system.bpffs, self._pin_dir) as pins:
            follow_reserved_ports(self._system, pins)
