# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The command line of an OpenZiti router for its diverter, and the rules that it names. Nothing is changed here.

A router has surprising habits (openziti/ziti, tunnel/intercept/tproxy/tproxy_linux.go):

1. `-h` is the high port. `-s` may have any value, also one that begins with a dash.
2. The router does not mask host bits. Without a source it passes `-o 0.0.0.0 -n 0`, also with an IPv6 destination. A
   source without a length gets `-n 32`, also an IPv6 one.
3. A delete does not name the OpenZiti service. The router has closed the sockets of that service before.
4. One call is for one interface. The calls for one rule add up.
5. If a service has a range of ports with its ends exchanged, so has the call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, NamedTuple

from ..errors import Conflict, InvalidInput
from ..model.prefix import Prefix
from ..model.rule import OWNER_PREFIX, Identity, Rule
from ..model.rule_options import OWNER_BYTES, identities_from_params, rules_from_params

OPERATIONS = {"-I": "insert", "-D": "delete", "-L": "list", "-F": "flush"}
VALUES = {
    "-c": "the destination address",
    "-m": "its prefix length",
    "-o": "a source address",
    "-n": "its prefix length",
    "-p": "the protocol, tcp or udp",
    "-l": "the low port",
    "-h": "the high port",
    "-t": "the port that the router listens on",
    "-s": "the service's id",
    "-N": "an interface",
}
NEEDED = {"insert": ("-c", "-m", "-p", "-l", "-h", "-t"), "delete": ("-c", "-m", "-p", "-l", "-h")}
DENY = "-d"
ANY_SOURCE = ("0.0.0.0", "0")

KEPT_OF_LONG_ID = 22


class Request(NamedTuple):
    """A request of a router: an insert has rules, a delete has identities, other operations have neither.

    An identity with owner "" names the flow of a service that the router has stopped. `warnings` are for the router's
    log. A flow that no packet can have makes a warning and no rule: the router would skip calls after a refusal.
    """

    operation: str
    rules: Sequence[Rule | Identity]
    warnings: list[str]


def parse(words: Iterable[str]) -> Request:
    """Return the request of a command line without its first word. Raise InvalidInput with every fault."""
    given = _Arguments(list(words))
    if len(given.operations) != 1:
        raise InvalidInput([f"give one of {', '.join(OPERATIONS)} and -V"])
    operation = OPERATIONS[given.operations.pop()]
    missing = [name for name in NEEDED.get(operation, ()) if name not in given.values]
    if missing:
        raise InvalidInput([f"{name}: missing; give {VALUES[name]}" for name in missing])
    mixed = _mixed_families(given.values) if operation in NEEDED else ""
    if mixed:
        given.values["-o"], given.values["-n"] = ANY_SOURCE
        _read_rules(operation, given)  # every other fault is still refused
        return Request(operation, [], [*given.warnings, mixed])
    return Request(operation, _read_rules(operation, given), given.warnings)


def _read_rules(operation: str, given: _Arguments) -> list[Rule | Identity]:
    """Return the rules of an insert, the identities of a delete, and [] for other operations. Raise InvalidInput."""
    found: list[Rule | Identity] = []
    if operation == "insert":
        found += rules_from_params(_params(given), single=True)[0]
    elif operation == "delete":
        identities = identities_from_params(_params(given), single=True)[0]
        found += identities if "-s" in given.values else [one._replace(owner="") for one in identities]
    return found


def _mixed_families(values: Mapping[str, str]) -> str:
    """Return the sentence about a source and a destination of different families, "" if they can meet."""
    try:
        source = Prefix.parse(_source(values) or "/".join(ANY_SOURCE))[0]
        destination = Prefix.parse(f"{values['-c']}/{values['-m']}")[0]
    except InvalidInput:  # the rule reports it
        return ""
    if not source.bits or source.family == destination.family:
        return ""
    return f"not stored: source {source} and destination {destination} are of different families, so no packet has both"


class _Arguments:
    """The options of a command line. `warnings` names unknown options, each with its value."""

    def __init__(self, words: list[str]) -> None:
        self.operations: set[str] = set()
        self.values: dict[str, str] = {}
        self.interfaces: list[str] = []
        self.warnings: list[str] = []
        self.denies = False
        while words:
            self._take(words.pop(0), words)

    def _take(self, word: str, rest: list[str]) -> None:
        if word in OPERATIONS:
            self.operations.add(word)
        elif word == DENY:
            self.denies = True
        elif word[:2] in VALUES:
            self._set(word[:2], word[2:] or self._next(word, rest))
        else:
            value = f" {rest.pop(0)}" if rest and not rest[0].startswith("-") else ""
            self.warnings.append(f"unknown option {word}{value} is ignored")

    def _next(self, word: str, rest: list[str]) -> str:
        if not rest:
            raise InvalidInput([f"{word}: missing; give {VALUES[word]}"])
        return rest.pop(0)

    def _set(self, name: str, value: str) -> None:
        if name == "-N":
            self.interfaces += [] if value in self.interfaces else [value]
        else:
            self.values[name] = value


def _params(given: _Arguments) -> list[dict[str, Any]]:
    """Return options of tproxy_rule: one set for each interface, or one for all interfaces."""
    values = given.values
    params = {
        "destination": f"{values['-c']}/{values['-m']}",
        "source": _source(values),
        "protocol": values["-p"],
        "ports": _ports(values),
        "owner": _owner(values),
        **_outcome(given),
    }
    return [{**params, "interfaces": names} for names in ([name] for name in given.interfaces)] or [params]


def _ports(values: Mapping[str, str]) -> str:
    """Return the range of ports, its ends in order: after a refusal the router would skip the calls that follow."""
    ends = values["-l"], values["-h"]
    try:
        low, high = sorted(ends, key=int)
    except ValueError:
        low, high = ends  # the rule reports it
    return f"{low}-{high}"


def _outcome(given: _Arguments) -> dict[str, str | None]:
    """Return the action of the rule and its options. Port 0 passes the flow to the host, as zfw does."""
    port = given.values.get("-t")
    if given.denies:
        return {"action": "drop"}
    return {"action": "pass"} if port == "0" else {"action": "tproxy", "tproxy_port": port}


def _source(values: Mapping[str, str]) -> str | None:
    address, length = values.get("-o"), values.get("-n")
    if address is None:
        return None
    if length is None or (length == "32" and _is_ipv6_host(address)):
        return address
    return f"{address}/{length}"


def _is_ipv6_host(address: str) -> bool:
    """Return whether an address is IPv6 and has bits beyond its 32nd. A network of that length has none."""
    try:
        prefix = Prefix.parse(address)[0]
    except InvalidInput:
        return False
    return prefix.family == 6 and bool(prefix.network << 32 & (1 << 128) - 1)


def _owner(values: Mapping[str, str]) -> str:
    """Return the owner of the rule. Routers before 1.1.3 do not name the service, so the port distinguishes them."""
    owner = OWNER_PREFIX + (values.get("-s") or f"port-{values.get('-t', '')}")
    raw = owner.encode("utf-8", "surrogateescape")
    if len(raw) <= OWNER_BYTES:
        return owner
    return f"{raw[:KEPT_OF_LONG_ID].decode('ascii', 'replace')}~{hashlib.sha256(raw).hexdigest()[:8]}"


def flow_of(rule: Rule | Identity) -> Identity:
    """Return the identity of the flow, without an owner: rules of several services may share it."""
    identity = rule.identity if isinstance(rule, Rule) else rule
    return identity._replace(owner="")


def removed_by(entry: Rule | Identity, users: Sequence[Rule], listens: Callable[[Rule], bool]) -> list[Rule]:
    """Return the rules of `users` that an inserted rule or a deleted identity removes. Raise Conflict."""
    return (
        superseded_rules(entry, users, listens) if isinstance(entry, Rule) else rules_to_delete(entry, users, listens)
    )


def rules_to_delete(wanted: Identity, users: Sequence[Rule], listens: Callable[[Rule], bool]) -> list[Rule]:
    """Return the rules that a delete removes. `users` are the rules of routers for that flow.

    Without an owner it removes the only rule, or else the rules without a listener. Raise Conflict if each rule has a
    listener.
    """
    if wanted.owner:
        return [rule for rule in users if rule.owner == wanted.owner]
    gone = list(users) if len(users) == 1 else [rule for rule in users if not listens(rule)]
    if users and not gone:
        owners = ", ".join(sorted(rule.owner[len(OWNER_PREFIX) :] for rule in users))
        raise Conflict(f"{wanted}: {owners} still listen; name one of them with -s; nothing was changed")
    return gone


def superseded_rules(rule: Rule, users: Sequence[Rule], listens: Callable[[Rule], bool]) -> list[Rule]:
    """Return the rules of `users` that an insert replaces: rules of other services without a listener, after a crash.

    Such a rule might precede the new one and lead the flow to a port without a listener.
    """
    return [other for other in users if other.owner != rule.owner and not listens(other)]
