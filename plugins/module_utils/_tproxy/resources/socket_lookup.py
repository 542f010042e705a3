# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The program for socket lookups, and the listeners that it finds.

The stack forgets the assigned socket of a packet that came in fragments, or that it clones for a packet socket. The
program for socket lookups gives such packets to the listener of their rule. It belongs to the network namespace, and it
stays as long as the pin of its link. It costs each socket lookup of the machine some time, so it is attached when the
first packet needs it, or for a rule with `fragments: always`.

The program on ingress notes the listeners that are wanted. A program of its hook can put no socket into a map (Linux
7.3), and this process has no descriptor of a proxy's socket, so it duplicates the proxy's.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..abi import structs as codec
from ..abi.layout import ACTION_CHECK_LISTENER, ACTION_CHECK_USER, LISTENERS_WANTED
from ..abi.layout import LISTENERS as LISTENERS_MAX
from ..constants import SK_LOOKUP
from ..errors import Unsupported
from ..model.prefix import endpoint, format_address, parse_address
from ..model.protocol import PROTOCOL_NAMES, protocol_number
from ..model.rule import ALWAYS, Rule
from ..program.blob import Blob, program_name
from ..ruleset.records import listener_checks
from ..system.bpf import SK_LOOKUP as SK_LOOKUP_TYPE
from ..system.system import Bpf, ListeningSocket, Sockets
from .pins import Pins
from .programs import SK_LOOKUP_PIN

DESCRIPTOR = TIME = struct.Struct("=Q")
LISTENERS, WANTED = "listeners", "wanted_sockets"
ANYWHERE_IPV4, ANYWHERE = parse_address("0.0.0.0"), parse_address("::")


class WantedListener(NamedTuple):
    """A listener as rules describe it: the proxy's address and port, and the cookie or the user that rules name."""

    protocol: str
    address: bytes
    port: int
    cookie: int | None
    user: int | None

    def __str__(self) -> str:
        """Return protocol, address and port, for messages."""
        return f"{self.protocol} {endpoint(format_address(self.address), self.port)}"

    def is_met_by(self, found: ListeningSocket) -> bool:
        """Return whether a socket is one that rules give packets to."""
        is_ipv4 = self.address[:12] == ANYWHERE_IPV4[:12]
        takes_all = found.address == (ANYWHERE_IPV4 if is_ipv4 and not found.dual else ANYWHERE)
        return (
            found.port == self.port
            and (found.address == self.address or takes_all)
            and self.cookie in (None, found.cookie)
            and self.user in (None, found.user)
        )


class SocketLookup:
    """The program for socket lookups of one pin folder."""

    def __init__(self, bpf: Bpf, pins: Pins) -> None:
        self._bpf, self._pins = bpf, pins

    @property
    def is_possible(self) -> bool:
        """Return whether the maps are there. Those of release 0.1 have none for listeners."""
        return self._pins.has(LISTENERS) and self._pins.has(WANTED)

    def is_attached(self) -> bool:
        """Return whether the link is pinned."""
        return SK_LOOKUP_PIN in self._pins.names()

    def runs(self, identity: str) -> bool:
        """Return whether the attached program has an identity, and uses the maps that are pinned now."""
        link = self._bpf.open_pin(self._pins.path(SK_LOOKUP_PIN))
        if link is None:
            return False
        try:
            program = self._bpf.program_by_id(self._bpf.linked_program(link))
        finally:
            os.close(link)
        try:
            info = self._bpf.program_info(program)
        finally:
            os.close(program)
        is_same = info.name == program_name(SK_LOOKUP, identity)
        return is_same and set(info.map_ids) <= self._pins.map_ids()

    def attach(self, blob: Blob) -> None:
        """Attach the program of a blob, in the place of an older one. Raises KernelRefused, Unsupported."""
        found = _program_in(blob)
        descriptors = {name: self._pins.fd(name) for name in found.maps}
        name = program_name(SK_LOOKUP, found.identity)
        program = self._bpf.load_program(found.bind(descriptors), name, SK_LOOKUP, SK_LOOKUP_TYPE)
        try:
            self._link(program)
        finally:
            os.close(program)

    def _link(self, program: int) -> None:
        link = self._bpf.open_pin(self._pins.path(SK_LOOKUP_PIN))
        if link is not None:
            try:
                self._bpf.update_link(link, program)
            finally:
                os.close(link)
            return
        link = self._bpf.attach_sk_lookup(program)
        try:
            self._pins.replace(SK_LOOKUP_PIN, link)
        finally:
            os.close(link)

    def wanted(self) -> dict[bytes, WantedListener]:
        """Return the listeners that packets needed, by their keys in the maps."""
        keys = self._bpf.keys(self._pins.fd(WANTED), codec.size_of("listener_key"), LISTENERS_WANTED)
        return {key: _decoded(key) for key in keys}

    def unfound(self, rules: Sequence[Rule], since: int) -> list[WantedListener]:
        """Return the listeners of rules that datagrams in fragments cannot reach, as the program is not attached.

        They are the kept ones, and those that a packet needed at a time or before (CLOCK_MONOTONIC ns).
        """
        if not self.is_possible or self.is_attached():
            return []
        wanted = self._pins.fd(WANTED)
        times = {key: self._bpf.lookup(wanted, key, TIME.size) for key in self.wanted()}
        late = {key for key, time in times.items() if time is not None and TIME.unpack(time)[0] <= since}
        known = {key_of(rule) for rule in rules if rule.action == "tproxy"} if late else set()
        return [_decoded(key) for key in sorted((late & known) | set(kept_listeners(rules)))]

    def missing(self, keys: Iterable[bytes]) -> list[bytes]:
        """Return the keys without a listener in the map. A listener that closed is not in it."""
        wanted = list(keys)
        if not wanted:
            return []
        there = set(self._bpf.keys(self._pins.fd(LISTENERS), codec.size_of("listener_key"), LISTENERS_MAX))
        return [key for key in wanted if key not in there]

    def has_listeners(self) -> bool:
        """Return whether listeners are there. The program on ingress then passes fragments for the stack to find them.

        The link ends with its pin, the map does not.
        """
        return bool(self._bpf.keys(self._pins.fd(LISTENERS), codec.size_of("listener_key"), 1))  # one is enough

    def put(self, key: bytes, descriptor: int) -> None:
        """Let packets reach a listener. Raises KernelRefused."""
        self._bpf.update(self._pins.fd(LISTENERS), key, DESCRIPTOR.pack(descriptor), LISTENERS)

    def forget_wanted(self, key: bytes) -> None:
        """Forget that packets needed a listener."""
        self._bpf.delete(self._pins.fd(WANTED), key, WANTED)


def kept_listeners(rules: Iterable[Rule]) -> dict[bytes, WantedListener]:
    """Return the listeners of rules with `fragments: always`, by their keys in the maps."""
    return {key: _decoded(key) for key in {key_of(rule) for rule in rules if rule.fragments == ALWAYS}}


def key_of(rule: Rule) -> bytes:
    """Return the key of a rule's listener: set_listener_key() in bpf/lib/listeners.h."""
    return codec.encode(
        "listener_key",
        {
            "address": parse_address(rule.tproxy_ip),
            "cookie": rule.listener or 0,
            "user": rule.user or 0,
            "port": rule.tproxy_port,
            "protocol": protocol_number(rule.protocol),
            "checks": listener_checks(rule),
        },
    )


def listening(sockets: Sockets, wanted: Mapping[bytes, WantedListener]) -> dict[bytes, int]:
    """Return the inode of the socket that listens for each wanted listener; one at exactly its address comes first."""
    found: dict[bytes, int] = {}
    for key, each in wanted.items():
        there = [entry for entry in sockets.listeners(each.protocol, each.port) if each.is_met_by(entry)]
        exact = [entry for entry in there if entry.address == each.address]
        if there:
            found[key] = (exact or there)[0].inode
    return found


def _decoded(key: bytes) -> WantedListener:
    values = codec.decode("listener_key", key)
    return WantedListener(
        PROTOCOL_NAMES[values["protocol"]],
        values["address"],
        values["port"],
        values["cookie"] if values["checks"] & ACTION_CHECK_LISTENER else None,
        values["user"] if values["checks"] & ACTION_CHECK_USER else None,
    )


def _program_in(blob: Blob) -> Blob:
    if blob.sk_lookup is None:
        raise Unsupported(
            f"this program has no {SK_LOOKUP}: put its source beside that of the program, and build again"
        )
    return blob.in_this_build(blob.sk_lookup)
