# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Rules and management entries for the would-be drops of `default_action: audit`.

1. By default only a flow with an answer counts. The tracker on egress counts answers (note_answer() of
   bpf/lib/drop_log.h).
2. A source with more refused flows than answered ones is a scanner. None of its flows counts.
3. Packets of a flow that began in the opposite direction are replies. They need `track: all`, and no rule.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ..errors import InvalidInput
from ..model.prefix import ADDRESS_BITS, MAPPED_BITS, Prefix, family_of, is_multicast, mask, parse_address
from ..model.protocol import has_ports, parse_protocol, protocol_name
from ..model.rule import ports_text
from ..resources.drop_log import Drop, read_drops
from ..resources.host_addresses import written
from ..resources.lock import refuse_without_capabilities
from ..resources.operation import Answer, Options
from ..resources.pins import Pins, splicer_pins
from ..system.system import System

REASONS = ("default", "other")  # of packets that no rule matched
FIRST_FREE_PORT = 1024  # below it a kernel gives no port to a client
IPV4_BITS = 32
BROADCAST = Prefix.parse("255.255.255.255")[0].network


class Widths(NamedTuple):
    """How far entries are joined: prefix lengths by family, and the distance of ports that become one range."""

    sources: Mapping[int, int]
    destinations: Mapping[int, int]
    port_gap: int

    @classmethod
    def of(cls, options: Options) -> Widths:
        """Return the widths of the options. Raise InvalidInput with all faults."""
        faults: list[str] = []
        sources, destinations = (_lengths(option, options[option], faults) for option in ("sources", "destinations"))
        if options["port_gap"] < 1:
            faults.append(f"port-gap: expected a distance of ports, 1 or more, got {options['port_gap']}")
        if faults:
            raise InvalidInput(faults)
        return cls(sources, destinations, options["port_gap"])


class Flow(NamedTuple):
    """What the entries of the drop log say about one flow, in the form that an entry of the suggestion joins."""

    interface: str
    protocol: str
    source: Prefix
    destination: Prefix
    port: int
    packets: int


class Suggestion(NamedTuple):
    """The flows that an operator can let in, and the reasons against the others.

    `apart` has (source, refused flows, answered flows) of each scanner. `replies` has the interfaces that let in
    replies to flows that began inside. `unanswered` is a number of flows.
    """

    management: tuple[Flow, ...]
    rules: tuple[Flow, ...]
    apart: tuple[tuple[str, int, int], ...]
    replies: tuple[str, ...]
    unanswered: int


def suggest(options: Options, system: System) -> Answer:
    """Return entries of interfaces and rules as tproxy_router takes them, and the flows left out.

    Raise InvalidInput, Unsupported, LayoutMismatch, KernelRefused.
    """
    widths = Widths.of(options)
    refuse_without_capabilities(system)
    system.bpffs.refuse_foreign(options["pin_dir"])
    with system.netlink() as netlink, splicer_pins(system.bpf, system.bpffs, options["pin_dir"]) as pins:
        pins.check()
        names = {link.ifindex: link.name for link in netlink.interfaces()}
        suggestion = suggestion_of(
            read_drops(system.bpf, pins), _own(system, pins), lambda ifindex: names.get(ifindex, ""), options["all"]
        )
    return answer_of(suggestion, widths)


def _own(system: System, pins: Pins) -> frozenset[int]:
    if not pins.has("own_addresses"):
        return frozenset()
    return frozenset(int.from_bytes(key, "big") for key in written(system.bpf, pins.fd("own_addresses")))


def suggestion_of(
    drops: Iterable[Drop], own: Collection[int], name_of: Callable[[int], str], take_all: bool = False
) -> Suggestion:
    """Return the suggestion for a drop log. `own` has the addresses of this host as numbers.

    `name_of` returns the name of an interface, "" for one that is gone. With `take_all` a flow needs no answer.
    """
    asked = [drop for drop in drops if drop.verdict == "would_drop" and drop.reason in REASONS and _can_name(drop)]
    replies = set(_replies(asked))
    begun = [drop for drop in asked if drop not in replies]
    apart = _scanners(begun)
    scanners = {source for source, _refused, _answered in apart}
    trusted = [drop for drop in begun if drop.source not in scanners and name_of(drop.ifindex)]
    taken = [drop for drop in trusted if drop.answers or (take_all and not drop.refusals)]
    flows = [_flow(drop, name_of(drop.ifindex)) for drop in taken]
    here = {flow for flow in flows if has_ports(flow.protocol) and _is_here(flow.destination.network, own)}
    return Suggestion(
        management=tuple(sorted(here)),
        rules=tuple(sorted(set(flows) - here)),
        apart=apart,
        replies=tuple(sorted({name_of(drop.ifindex) for drop in replies} - {""})),
        unanswered=sum(not drop.answers for drop in trusted),
    )


def _can_name(drop: Drop) -> bool:
    """Return whether a rule can name the protocol of an entry."""
    try:
        parse_protocol(drop.protocol)
    except InvalidInput:
        return False
    return bool(drop.source)


def _replies(drops: Sequence[Drop]) -> Iterator[Drop]:
    """Yield the entries whose addresses an earlier entry has in the opposite direction.

    An entry has no source port, so a reply is known by its destination port: that of a client.
    """
    begun = {(drop.protocol, drop.source, drop.destination): drop.first_seen for drop in reversed(drops)}
    for drop in drops:
        first = begun.get((drop.protocol, drop.destination, drop.source))
        if first is not None and first < drop.first_seen and drop.port >= FIRST_FREE_PORT:
            yield drop


def _scanners(drops: Iterable[Drop]) -> tuple[tuple[str, int, int], ...]:
    """Return (source, refused flows, answered flows) of each source with more of the former."""
    answered: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for drop in drops:
        answered[drop.source] += bool(drop.answers)
        refused[drop.source] += bool(drop.refusals and not drop.answers)
    return tuple(
        (source, refused[source], answered[source]) for source in sorted(refused) if refused[source] > answered[source]
    )


def _flow(drop: Drop, interface: str) -> Flow:
    source, destination = (_host(text) for text in (drop.source, drop.destination))
    return Flow(interface, protocol_name(drop.protocol), source, destination, drop.port, drop.packets)


def _host(text: str) -> Prefix:
    return Prefix(int.from_bytes(parse_address(text), "big"), ADDRESS_BITS)


def _is_here(address: int, own: Collection[int]) -> bool:
    return address in own or address == BROADCAST or is_multicast(address)


# ---- joined entries ----------------------------------------------------------------------------------------------


def answer_of(suggestion: Suggestion, widths: Widths) -> Answer:
    """Return the suggestion in the form of module options."""
    interfaces: dict[str, list[Answer]] = defaultdict(list)
    for (interface, protocol, source, port), packets in _joined_management(suggestion.management, widths).items():
        entry = {"source": str(source), "protocol": protocol, "port": port}
        interfaces[interface].append({"entry": entry, "packets": packets})
    return {
        "interfaces": [{"name": name, "management": entries} for name, entries in sorted(interfaces.items())],
        "rules": list(_joined_rules(suggestion.rules, widths)),
        "apart": [
            {"source": source, "refused": refused, "answered": answered}
            for source, refused, answered in suggestion.apart
        ],
        "replies": list(suggestion.replies),
        "unanswered": suggestion.unanswered,
    }


def _joined_management(flows: Iterable[Flow], widths: Widths) -> Mapping[tuple[str, str, Prefix, int], int]:
    """Return {(interface, protocol, source, port): packets}."""
    joined: Counter[tuple[str, str, Prefix, int]] = Counter()
    for flow in flows:
        joined[flow.interface, flow.protocol, _widened(flow.source, widths.sources), flow.port] += flow.packets
    return joined


def _joined_rules(flows: Iterable[Flow], widths: Widths) -> Iterator[Answer]:
    """Yield a rule for all flows with the same interface, protocol, destination and source, when these are widened."""
    joined: dict[tuple[str, str, Prefix, Prefix], Counter[int]] = defaultdict(Counter)
    for flow in flows:
        destination, source = _widened(flow.destination, widths.destinations), _widened(flow.source, widths.sources)
        joined[flow.interface, flow.protocol, destination, source][flow.port] += flow.packets
    for (interface, protocol, destination, source), ports in sorted(joined.items()):
        entry = {"destination": str(destination), "source": str(source), "protocol": protocol}
        if has_ports(protocol):
            entry["ports"] = ",".join(_ranges(sorted(ports), widths.port_gap))
        yield {"entry": {**entry, "interfaces": [interface], "action": "pass"}, "packets": sum(ports.values())}


def _ranges(ports: Sequence[int], gap: int) -> Iterator[str]:
    """Yield the ranges of sorted ports, where ports at a distance of at most `gap` belong to one range."""
    first = last = ports[0]
    for port in ports[1:]:
        if port - last > gap:
            yield ports_text(first, last)
            first = port
        last = port
    yield ports_text(first, last)


def _widened(host: Prefix, lengths: Mapping[int, int]) -> Prefix:
    length = lengths[family_of(host.network)]
    return Prefix(host.network & mask(length), length)


def _lengths(option: str, text: str, faults: list[str]) -> dict[int, int]:
    """Return {family: length of the mapped prefix} of `24` or `24,64`. Append a fault."""
    words = [word.strip() for word in text.split(",")]
    lengths = [int(word) if word.isascii() and word.isdigit() else -1 for word in words]
    lengths += [ADDRESS_BITS] * (len(lengths) == 1)
    if len(lengths) != 2 or not (0 <= lengths[0] <= IPV4_BITS and 0 <= lengths[1] <= ADDRESS_BITS):
        faults.append(
            f"{option}: expected a prefix length of IPv4, or one of IPv4 and one of IPv6: 24,64; got {text!r}"
        )
        return {}
    return {4: lengths[0] + MAPPED_BITS, 6: lengths[1]}
