# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Options of tproxy_rule, as Ansible passes them, to rules.

The module validates a user's options. It collects every fault of the whole list, with index and option, and raises
them together. So no partly valid input reaches the kernel. It never looks at rules in force.

None stands for an option that was left out. An entry stands for several rules if it lists protocols or ports: `ports`
may be 80, "80", "80-443", "80:443", "80,443,8000-8100", or a list of these. YAML reads 20:21 without quotes as the
number 1221 (base 60), so a number that can be such a range is refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Callable, NamedTuple, TypeVar

from ..constants import DEFAULT_OWNER
from ..errors import InvalidInput
from .long_list import LongList
from .prefix import Prefix, format_address, parse_address
from .protocol import has_ports, parse_protocol
from .rule import ACTIONS, FRAGMENTS, ON_DEMAND, ON_MISSING, PORT_MAX, Identity, Rule, ports_of_number, ports_text
from .text import fault_of_interface_name, fault_of_text, misleading_characters, utf8_bytes

DEFAULT_TPROXY_IP = {4: "127.0.0.1", 6: "::1"}
NAME_BYTES = 63
OWNER_BYTES = 31

PORTS_ALLOWED = f"give one port as 80, a range as 80-443 (or '80:443'), or several as '80,443', each 0 to {PORT_MAX}"
WARNED = 5  # warnings that are shown one by one
USER_MAX = 2**32 - 2  # the last number means "no user": chown(2)
NAME_ALONE = "a name identifies no rule; give owner, destination, source, protocol, ports and interfaces of the rule"
PORT_NEEDED = f"action tproxy needs the port that the proxy listens on, 1 to {PORT_MAX}"
ANY = {family: Prefix.any_of(family) for family in (4, 6)}  # one object each, for many rules

Read = TypeVar("Read", Rule, Identity)
Users = Callable[[str], "int | None"]

# Nobody writes ranges from ports below 17; the numbers that YAML would make of them are ports such as 80 and 443.
SEXAGESIMAL_MIN, SEXAGESIMAL = 1024, 60

_PORTS = re.compile(r"\s*([0-9]{1,6})\s*(?:[-:]\s*([0-9]{1,6})\s*)?")
_PORT = re.compile(r"[0-9]{1,6}")


def no_user(_name: str) -> None:
    """Return no user: the options come from rules in force, whose users are numbers."""


def rules_from_params(
    items: list[Any], single: bool = False, owner: str | None = None, users: Users = no_user
) -> tuple[list[Rule], list[str]]:
    """Return (rules, warnings) of option dicts. Raises InvalidInput with every fault of the whole list.

    `single`: the one item stands at the top level of a module, so texts say `ports` and not `rule number 1: ports`.
    `owner` is that of the items that name none. `users` returns the number of a user by name.
    """
    rules, warnings = _read_all(items, single, owner, partial(_rules, lru_cache(users)))
    if isinstance(items, LongList):
        items[:] = rules
        items.warnings = warnings = items.warnings or warnings
    return rules, warnings


def identities_from_params(
    items: list[Any], single: bool = False, owner: str | None = None
) -> tuple[list[Identity], list[str]]:
    """Return (identities, warnings): for deletion, which needs no action. Otherwise as rules_from_params."""
    return _read_all(items, single, owner, _identities)


def _read_all(
    items: list[Any], single: bool, owner: str | None, read: Callable[[_Reader], list[Read]]
) -> tuple[list[Read], list[str]]:
    """Read item by item, because a list may have 131,071 of them."""
    found: list[tuple[int, Any]] = []
    faults: list[str] = []
    warnings: list[str] = []
    for index, item in enumerate(items):
        if isinstance(item, Rule):
            found.append((index, item))
            continue
        reader = _Reader(item, None if single else index, owner)
        found += [(index, each) for each in read(reader)]
        faults += reader.faults
        warnings += reader.warnings
    faults += _duplicates(items, found)
    if faults:
        raise InvalidInput(faults)
    was_read = bool(items) and isinstance(items[0], Rule)  # then the warnings are known
    overlaps: list[str] = [] if was_read else list(_overlaps(items, found))
    told = [*grouped(warnings, "prefixes with host bits set"), *grouped(overlaps, "rules that overlap")]
    return [each for _index, each in found], told


def grouped(warnings: list[str], what: str, more: int = 0) -> list[str]:
    """Return warnings of one kind. Many become one, with the first of them; `more` are those that have no text."""
    more += len(warnings) - WARNED
    return warnings if more <= 0 else [f"{'; '.join(warnings[:WARNED])}; and {more} more {what}"]


def place_of(item: Mapping[str, Any], index: int) -> str:
    """Return the name and the number of a rule in its list, for messages. A bad name is left to its own fault."""
    name = str(item.get("name") or "")
    is_good = name.isprintable() and 0 < (utf8_bytes(name) or 0) <= NAME_BYTES
    return f"rule {name!r} (number {index + 1})" if is_good else f"rule number {index + 1}"


def _duplicates(items: Sequence[Any], found: Iterable[tuple[int, Identity | Rule]]) -> list[str]:
    """Return a fault for each item that names the same flows, for the same owner, as an earlier one."""
    first: dict[Identity, int] = {}
    faults = []
    for index, item in found:
        identity = item if isinstance(item, Identity) else item.identity
        earlier = first.setdefault(identity, index)
        if earlier != index:
            both = f"{place_of(items[index], index)} and {place_of(items[earlier], earlier)}"
            faults.append(f"{both} are the same rule ({identity}); keep one of them")
    return faults


def _overlaps(items: Sequence[Any], found: Iterable[tuple[int, Identity | Rule]]) -> Iterator[str]:
    """Yield a warning for each range of ports that laps over another one of the same flows with another outcome.

    A range within another one is no mistake: it is an exception from the other one.
    """
    ranges: dict[tuple[object, ...], list[tuple[int, Rule]]] = {}
    for index, each in found:
        if isinstance(each, Rule) and each.low < each.high:
            ranges.setdefault((each.destination, each.source, each.protocol, each.interfaces), []).append((index, each))
    for alike in ranges.values():
        alike.sort(key=lambda pair: (pair[1].low, -pair[1].high))
        index, one = alike[0]
        for other_index, other in alike[1:]:
            if other.low <= one.high < other.high and one.outcome != other.outcome:
                winner = min(one, other, key=lambda rule: rule.precedence)
                yield (
                    f"{place_of(items[index], index)} and {place_of(items[other_index], other_index)} overlap in ports"
                    f" {ports_text(other.low, one.high)} of {one.destination} and have different outcomes; there"
                    f" {ports_text(winner.low, winner.high)} decides; separate the ranges"
                )
            if other.high > one.high:
                index, one = other_index, other


def shared_flows(found: Iterable[Identity | Rule]) -> list[str]:
    """Return warnings of flows for which rules of several owners have different outcomes."""
    first: dict[Identity, Rule] = {}
    told = []
    for each in found:
        if not isinstance(each, Rule):
            continue
        other = first.setdefault(each.identity._replace(owner=""), each)
        if other.owner != each.owner and other.outcome != each.outcome:
            winner, loser = sorted((other, each), key=lambda rule: rule.precedence)
            told.append(
                f"rules of the owners {winner.owner!r} and {loser.owner!r} name one flow ({each.identity}) and have"
                f" different outcomes; {winner.owner!r} sorts first, so its rule decides ({winner.outcome}); remove"
                " one of them, or give one a longer prefix"
            )
    return grouped(told, "flows with rules of several owners")


class _Reader:
    """Reads the options of one rule. Each method returns a canonical value, or None after noting a fault."""

    __slots__ = ("_index", "_options", "_owner", "family", "faults", "given", "warnings")

    def __init__(self, options: Mapping[str, Any], index: int | None, owner: str | None):
        self._options, self._index, self._owner = options, index, owner
        self.given = options.get  # the value of an option, None if it was left out
        self.family: int | None = None  # of the destination, once that is read
        self.faults: list[str] = []
        self.warnings: list[str] = []

    def at(self, option: str) -> str:
        """Return the full name of an option, for messages."""
        return option if self._index is None else f"{place_of(self._options, self._index)}: {option}"

    def fault(self, option: str, sentence: str) -> None:
        """Note a fault of an option."""
        self.faults.append(f"{self.at(option)}: {sentence}")

    def choice(self, option: str, allowed: Collection[str], default: str | None = None) -> str | None:
        value = self.given(option) or default
        if value in allowed:
            return str(value)
        listed = ", ".join(allowed)
        self.fault(option, f"missing; give one of {listed}" if value is None else f"{value!r} is not one of {listed}")
        return None

    def prefix(self, option: str) -> Prefix | None:
        text = self.given(option)
        if text is None:
            self.fault(option, "missing; give a prefix as 10.0.0.0/8 or fd00::/8, or an address")
            return None
        try:
            prefix, masked = Prefix.parse(text)
        except InvalidInput as wrong:
            self.faults += [f"{self.at(option)}: {sentence}" for sentence in wrong.faults]
            return None
        if masked:
            self.warnings.append(f"{self.at(option)}: {text} has host bits set; it means {prefix}")
        return prefix

    def destination(self) -> Prefix | None:
        """Return the destination prefix, and remember its family for the other addresses."""
        prefix = self.prefix("destination")
        self.family = prefix.family if prefix else None
        return prefix

    def source(self) -> Prefix | None:
        """Return the source prefix; `any`, of either family, takes the family of the destination."""
        if self.given("source") is None:
            return ANY[self.family or 6]
        source = self.prefix("source")
        if source is None or self.family is None or self.family == source.family:
            return source
        if source.bits == 0:
            return ANY[self.family]
        self.fault("source", f"{source} is not of the family of the destination (IPv{self.family}); use two rules")
        return None

    def matches(self) -> list[tuple[str, int, int]]:
        """Return (protocol, low, high) of each rule that the entry stands for."""
        protocols = self._protocols()
        portless = [protocol for protocol in protocols if not has_ports(protocol)]
        if not portless:
            # Without a known protocol it is not known whether ports are missing.
            is_unknown = self.given("ports") is None and self.given("protocol") is not None and not protocols
            ranges = [] if is_unknown else self._ports()
            return [(protocol, *ports) for protocol in protocols for ports in ranges]
        if len(portless) < len(protocols):
            self.fault("protocol", f"{portless[0]} has no ports, but {protocols[0]} has; use two rules")
        elif self.given("ports") not in (None, "", []):
            self.fault(
                "ports", f"{self.given('ports')!r} has no meaning for {portless[0]}, without ports; leave it out"
            )
        return [(protocol, *ports_of_number(protocol)) for protocol in portless]

    def _protocols(self) -> list[str]:
        """Return the canonical names of the protocols."""
        given = self.given("protocol")
        found: list[str] = []
        for value in given if isinstance(given, (list, tuple)) and given else [given]:
            try:
                found.append(_protocol(value))
            except InvalidInput as wrong:
                self.faults += [f"{self.at('protocol')}: {sentence}" for sentence in wrong.faults]
        self._refuse_doubles("protocol", found)
        return found

    def _ports(self) -> list[tuple[int, int]]:
        """Return (low, high) of each range."""
        given = self.given("ports")
        parts = list(given) if isinstance(given, (list, tuple)) and given else [given]
        texts = [text for part in parts for text in (part.split(",") if isinstance(part, str) else [part])]
        found = [ports for ports in map(self._range, texts) if ports]
        self._refuse_doubles("ports", found)
        return found

    def _refuse_doubles(self, option: str, found: Sequence[object]) -> None:
        if len(set(found)) < len(found):
            self.fault(option, f"{self.given(option)!r} has an element twice; keep one of them")

    def _range(self, value: Any) -> tuple[int, int] | None:
        """Return (low, high) of a port or a range."""
        text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
        match = _PORTS.fullmatch(text)
        if not match:
            found = "missing" if value is None else f"{value!r} is no port or range"
            self.fault("ports", f"{found}; {PORTS_ALLOWED}")
            return None
        if isinstance(value, int) and _can_be_a_range(value):
            written = "{}:{}".format(*divmod(value, SEXAGESIMAL))
            self.fault(
                "ports",
                f"{value} is the port, or what YAML reads for {written} without quotes; write '{value}' for the port,"
                f" or {written.replace(':', '-')} for the range",
            )
            return None
        low = int(match[1])
        high = int(match[2]) if match[2] else low
        if low > PORT_MAX or high > PORT_MAX:
            self.fault("ports", f"{text} goes beyond {PORT_MAX}; {PORTS_ALLOWED}")
        elif low > high:
            self.fault("ports", f"{text} runs backwards; give the lower port first: {high}-{low}")
        else:
            return low, high
        return None

    def text(self, option: str, default: str, longest: int) -> str:
        """Return free text that fits `longest` bytes of UTF-8 and prints on one line."""
        given = self.given(option)
        return self._checked(option, default if given is None else str(given), longest)

    def owner(self) -> str:
        """Return the owner. In a list with an owner, an empty one counts as none."""
        if self._owner is not None and not self.given("owner"):
            return self._checked("owner", self._owner, OWNER_BYTES)
        return self.text("owner", DEFAULT_OWNER, OWNER_BYTES)

    def _checked(self, option: str, value: str, longest: int) -> str:
        if len(value) <= longest and value.isascii() and value.isprintable():
            return value
        size = utf8_bytes(value)
        if size is None:
            self.fault(option, f"{value!r} is not valid UTF-8")
        elif size > longest:
            self.fault(option, f"{value!r} has {size} bytes in UTF-8; at most {longest} fit")
        if misleading_characters(value):
            self.fault(option, fault_of_text(value))
        return value

    def interfaces(self) -> tuple[str, ...]:
        """Return the interface names, sorted, each once."""
        given = self.given("interfaces")
        if not given:
            return ()
        names = {str(name) for name in ([given] if isinstance(given, str) else given)}
        for name in sorted(names):
            fault = fault_of_interface_name(name)
            if fault:
                self.fault("interfaces", fault)
        return tuple(sorted(names))


def _can_be_a_range(number: int) -> bool:
    """Return whether YAML 1.1 reads a range of ports with a colon as this number. Both its ports are below 60."""
    low, high = divmod(number, SEXAGESIMAL)
    return number >= SEXAGESIMAL_MIN and low < high


@lru_cache(maxsize=256)
def _protocol_of_text(text: str) -> str:
    return parse_protocol(text)


def _protocol(value: object) -> str:
    """Return the canonical name of a protocol. Raise InvalidInput."""
    return _protocol_of_text(value) if isinstance(value, str) else parse_protocol(value)


class _Match(NamedTuple):
    """The options that rules of one entry share, and the rest of their identities."""

    owner: str
    destination: Prefix
    source: Prefix
    matches: list[tuple[str, int, int]]
    interfaces: tuple[str, ...]


def _match(reader: _Reader) -> _Match | None:
    destination = reader.destination()
    source = reader.source()
    matches = reader.matches()
    interfaces = reader.interfaces()
    owner = reader.owner()
    if not owner:
        reader.fault("owner", f"is empty; give 1 to {OWNER_BYTES} bytes, or leave it out for {DEFAULT_OWNER!r}")
    if reader.faults or not (destination and source):
        return None
    return _Match(owner, destination, source, matches, interfaces)


def _identities(reader: _Reader) -> list[Identity]:
    """Return the identities of the rules that an entry stands for."""
    if reader.given("name") and reader.given("destination") is None:
        reader.fault("name", NAME_ALONE)
    match = _match(reader)
    if match is None:
        return []
    owner, destination, source, matches, interfaces = match
    return [Identity(owner, destination, source, *each, interfaces) for each in matches]


class _Proxy(NamedTuple):
    """The options of a proxy, as Rule has them."""

    ip: str = ""
    port: int = 0
    on_missing: str = ""
    user: int | None = None
    fragments: str = ON_DEMAND


def _rules(users: Users, reader: _Reader) -> list[Rule]:
    """Return the rules that an entry stands for."""
    match = _match(reader)
    name = reader.text("name", "", NAME_BYTES)
    action = reader.choice("action", ACTIONS, "tproxy")
    if action == "tproxy" and match and not has_ports(match.matches[0][0]):
        reader.fault("action", f"a proxy takes tcp and udp only; give pass or drop for {match.matches[0][0]}")
        return []
    proxy: _Proxy | None = _Proxy()
    if action == "tproxy":
        proxy = _proxy(reader, users)
    else:
        _refuse_tproxy_options(reader, action)
    if reader.faults or match is None or action is None or proxy is None:
        return []
    owner, destination, source, matches, interfaces = match
    ip, port, on_missing, user, fragments = proxy
    return [
        Rule(destination, source, *each, interfaces, action, ip, port, on_missing, name, owner, None, user, fragments)
        for each in matches
    ]


def _proxy(reader: _Reader, users: Users) -> _Proxy | None:
    """Return the proxy of a rule, or None after a fault."""
    ip, port = _tproxy_ip(reader), _tproxy_port(reader)
    on_missing = reader.choice("on_missing", ON_MISSING, "drop")
    user = _tproxy_user(reader, users)
    fragments = reader.choice("fragments", FRAGMENTS, ON_DEMAND)
    if ip is None or port is None or on_missing is None or fragments is None:
        return None
    return _Proxy(ip, port, on_missing, user, fragments)


def _refuse_tproxy_options(reader: _Reader, action: str | None) -> None:
    """Fault a proxy where none is used. Empty ones, as Rule.to_params writes them, and on_missing do no harm."""
    for option, empty in (("tproxy_ip", ""), ("tproxy_port", 0), ("tproxy_user", ""), ("fragments", "")):
        if action and reader.given(option) not in (None, "", empty):
            reader.fault(option, f"{reader.given(option)!r} has no meaning with action {action}; leave it out")


def _tproxy_port(reader: _Reader) -> int | None:
    value = reader.given("tproxy_port")
    if value is None:
        reader.fault("tproxy_port", f"missing; {PORT_NEEDED}")
    elif isinstance(value, bool) or not _PORT.fullmatch(str(value)):
        reader.fault("tproxy_port", f"{value!r} is no port; {PORT_NEEDED}")
    elif not 1 <= int(value) <= PORT_MAX:
        reader.fault("tproxy_port", f"{value!r} is out of range; {PORT_NEEDED}")
    else:
        return int(value)
    return None


def _tproxy_user(reader: _Reader, users: Users) -> int | None:
    """Return the number of the proxy's user, None for all users."""
    value = reader.given("tproxy_user")
    if value is None or value == "":
        return None
    text = "" if isinstance(value, bool) else str(value)
    if not (text.isascii() and text.isdigit()):
        number = users(text)
        if number is None:
            reader.fault(
                "tproxy_user", f"this machine has no user {text or value!r}; install the proxy first, or give a number"
            )
        return number
    if int(text) <= USER_MAX:
        return int(text)
    reader.fault("tproxy_user", f"{text} is out of range; give a user's name or number, 0 to {USER_MAX}")
    return None


def _tproxy_ip(reader: _Reader) -> str | None:
    """Return the canonical proxy address; its family is that of the destination."""
    text = reader.given("tproxy_ip")
    if not text:
        return None if reader.family is None else DEFAULT_TPROXY_IP[reader.family]
    try:
        canonical, family, is_usable = _socket_address(str(text))
    except InvalidInput as wrong:
        reader.faults += [f"{reader.at('tproxy_ip')}: {sentence}" for sentence in wrong.faults]
        return None
    if not is_usable:
        reader.fault("tproxy_ip", f"{canonical} names no socket; give an address that the proxy listens on")
    elif reader.family not in (None, family):
        reader.fault("tproxy_ip", f"{canonical} is not of the family of the destination (IPv{reader.family})")
    return canonical


@lru_cache(maxsize=1024)  # many rules, few proxies
def _socket_address(text: str) -> tuple[str, int, bool]:
    """Return (canonical text, family, whether a socket may have this address). Raises InvalidInput."""
    canonical = format_address(parse_address(text))
    address = ipaddress.ip_address(canonical)
    return canonical, address.version, not (address.is_unspecified or address.is_multicast)
