# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The settings of an interface: its policy, and its recorded addresses.

Pure values, as a user gives them and as a diff shows them. Bytes are the codec's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ..abi.layout import ADDRESSES, DEFAULT_MARK, DEFAULT_MARK_MASK, MANAGEMENT, NO_GENERATION
from ..errors import InvalidInput, LimitExceeded
from .prefix import Prefix, format_address
from .protocol import has_ports, parse_protocol
from .rule import PORT_MAX

GIVEN = ("default_action", "allow_ssh", "allow_echo", "accept", "track", "link_protocols")
RESERVED_TABLES = (0, 253, 254, 255)  # unspec, default, main, local: include/uapi/linux/rtnetlink.h
Options = Mapping[str, Any]
CHOICES = {
    "default_action": ("drop", "pass", "audit"),
    "accept": ("ok", "unspec"),
    "track": ("none", "own", "all"),
    "link_protocols": ("pass", "drop"),
}


@dataclass(frozen=True)
class Mark:
    """A packet mark: `value` in the bits of `mask`, as `ip rule` writes it."""

    value: int = DEFAULT_MARK
    mask: int = DEFAULT_MARK_MASK

    def __str__(self) -> str:
        return f"{self.value:#x}/{self.mask:#x}"


def parse_mark(text: str) -> Mark:
    """Return the mark written as VALUE or VALUE/MASK, decimal or 0x. Raises InvalidInput."""
    value, slash, mask = str(text).partition("/")
    try:
        mark = Mark(int(value, 0), int(mask, 0) if slash else 0xFFFFFFFF)
    except ValueError:
        raise InvalidInput([f"mark: {text!r} is not VALUE or VALUE/MASK, such as 0x10000000/0x10000000"]) from None
    if not 0 < mark.value <= mark.mask <= 0xFFFFFFFF or mark.value & ~mark.mask:
        raise InvalidInput([f"mark: {text!r} must be above 0, of 32 bits, and lie within its mask"])
    return mark


@dataclass(frozen=True)
class Management:
    """A management entry: packets from a source prefix to this host always pass, by protocol and port.

    `port` is 0 for a protocol without ports.
    """

    source: Prefix
    protocol: str
    port: int = 0

    def to_params(self) -> dict[str, Any]:
        """Return the entry as a user writes it. A protocol without ports has None as port."""
        return {"source": str(self.source), "protocol": self.protocol, "port": self.port or None}

    def __str__(self) -> str:
        return f"{self.source} to {self.protocol}" + (f"/{self.port}" if self.port else "")


@dataclass(frozen=True)
class Policy:
    """The policy of one interface.

    `track` names the flows whose answers pass as sessions: none, those of this host, or forwarded ones too.
    `link_protocols` is the verdict on frames that are neither IP nor ARP.
    `layer3`, `loopback` and `port` are properties of the interface; a port is one of a bridge or bond.
    `deadline` is CLOCK_MONOTONIC ns, 0 = confirmed; `generation` is that of the image that goes with it. `damaged` says
    that the bytes in the map are not as this release writes them.
    """

    default_action: str = "drop"
    allow_ssh: bool = True
    allow_echo: bool = False
    accept: str = "ok"
    management: tuple[Management, ...] = ()
    mark: Mark = field(default_factory=Mark)
    layer3: bool = False
    loopback: bool = False
    port: bool = False
    deadline: int = 0
    generation: int = 0
    damaged: bool = False
    track: str = "none"
    link_protocols: str = "pass"

    def to_params(self) -> dict[str, Any]:
        """Return the policy as a user writes it, with the mark that it sets."""
        return {
            "default_action": self.default_action,
            "allow_ssh": self.allow_ssh,
            "allow_echo": self.allow_echo,
            "accept": self.accept,
            "track": self.track,
            "link_protocols": self.link_protocols,
            "management": [entry.to_params() for entry in self.management],
            "mark": str(self.mark),
        }


def policy_of(given: Mapping[str, Any]) -> Policy:
    """Return the policy of the given fields. Without `track`, a closed interface tracks the flows of this host."""
    policy = Policy(**given)
    is_open = policy.default_action == "pass"
    return policy if "track" in given or is_open else replace(policy, track="own")


# As if the program were not there: what was before it came.
UNFILTERED = Policy(default_action="pass", accept="unspec", loopback=True, generation=NO_GENERATION)


def policy_from_params(params: Options | None) -> dict[str, Any]:
    """Return the fields of Policy that a user gives. Raises InvalidInput with every fault."""
    params = params or {}
    faults: list[str] = []
    entries = [
        _management(entry, f"policy.management[{number}]", faults)
        for number, entry in enumerate(params.get("management") or [])
    ]
    if len(entries) > MANAGEMENT:
        faults.append(f"policy.management: {len(entries)} entries, at most {MANAGEMENT} fit")
    if faults:
        raise InvalidInput(faults)
    given = {name: params[name] for name in GIVEN if params.get(name) is not None}
    return {**given, "management": tuple(entries)}


def masked_sources(params: Options | None) -> list[str]:
    """Return a sentence for each management source with host bits set: it lets in more than one may think."""
    found = []
    for number, entry in enumerate((params or {}).get("management") or []):
        prefix, masked = Prefix.parse(entry["source"])
        if masked:
            place = f"policy.management[{number}].source"
            found.append(f"{place}: {entry['source']} has host bits set; it means {prefix}")
    return found


def _management(entry: Options, place: str, faults: list[str]) -> Management | None:
    """Return the entry, or add its faults."""
    before = len(faults)
    source, protocol = None, ""
    try:
        if entry.get("source") is None:
            faults.append(f"{place}.source: missing; give a prefix as 10.0.0.0/8, or an address")
        else:
            source = Prefix.parse(entry["source"])[0]
    except InvalidInput as fault:
        faults.append(f"{place}.source: {fault}")
    try:
        protocol = parse_protocol(entry.get("protocol") or "tcp")
    except InvalidInput as wrong:
        faults += [f"{place}.protocol: {fault}" for fault in wrong.faults]
    port = _port(entry.get("port"), protocol, f"{place}.port", faults)
    return Management(source, protocol, port) if source is not None and len(faults) == before else None


def _port(given: object, protocol: str, place: str, faults: list[str]) -> int:
    """Return the port, 0 for a protocol without ports, or add a fault."""
    text = "" if given is None else str(given)
    if protocol and not has_ports(protocol):
        if text:
            faults.append(f"{place}: {protocol} has no ports; leave it out")
    elif not text:
        faults.append(f"{place}: missing; give a port, 1 to {PORT_MAX}")
    elif not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= PORT_MAX:
        faults.append(f"{place}: {text!r} is no port, 1 to {PORT_MAX}")
    else:
        return int(text)
    return 0


@dataclass(frozen=True)
class InterfaceAddresses:
    """The addresses of one interface, each as 16 bytes, sorted; the name is for people."""

    name: str
    addresses: tuple[bytes, ...]

    def to_params(self) -> dict[str, Any]:
        """Return the entry as a user reads it."""
        return {"interface": self.name, "addresses": [format_address(address) for address in self.addresses]}


def interface_addresses(name: str, addresses: Iterable[bytes]) -> InterfaceAddresses:
    """Return the entry, sorted and without doubles. Raises LimitExceeded."""
    unique = tuple(sorted(set(addresses)))
    if len(unique) > ADDRESSES:
        raise LimitExceeded(f"addresses of {name}", len(unique), ADDRESSES, "list in `addresses` those that matter")
    return InterfaceAddresses(name, unique)


class WantedHook(NamedTuple):
    """The hook that a user asks for. `kind` is "auto", "tcx" or "clsact".

    Priority and handle are those of a filter, `before` and `after` name a foreign TCX program.
    """

    direction: str
    priority: int
    handle: int
    kind: str = "auto"
    before: str = ""
    after: str = ""

    @classmethod
    def of(cls, options: Options) -> WantedHook:
        """Return the hook of the options of tc_bpf_attach, or of an interface of tproxy_router."""
        before, after = options.get("before") or "", options.get("after") or ""
        direction, kind = options.get("direction", "ingress"), options.get("hook", "auto")
        return cls(direction, options["priority"], options["handle"], kind, before, after)

    @property
    def is_ordered(self) -> bool:
        """Return whether the program has a place among TCX programs."""
        return bool(self.before or self.after)

    def faults(self) -> list[str]:
        """Return the faults that need no look at the kernel."""
        found = []
        if not 1 <= self.priority <= 65535:
            found.append(f"priority: {self.priority} is out of range, 1 to 65535")
        if not 1 <= self.handle < 2**32:
            found.append(f"handle: {self.handle} is out of range, 1 to 4294967295")
        if self.kind == "clsact" and self.is_ordered:
            found.append("before, after: they order TCX programs, and hook is clsact; use priority instead")
        if self.before and self.after:
            found.append("before, after: give one of them")
        return found


def route_faults(table: int, priority: int) -> list[str]:
    """Return the faults of the table and the priority of a policy route."""
    faults = []
    if table in RESERVED_TABLES or not 0 < table < 2**32:
        faults.append(f"table: {table} is reserved or no table; take one of your own, such as the default")
    if not 0 < priority < 32766:
        faults.append(f"priority: {priority} must lie between table local (0) and table main (32766)")
    return faults
