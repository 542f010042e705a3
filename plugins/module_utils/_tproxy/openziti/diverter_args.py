# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The words by which an OpenZiti router calls its diverter, and whose rule is meant by them. Nothing is done here.

What a router does that nobody would expect (openziti/ziti, tunnel/intercept/tproxy/tproxy_linux.go):

1. `-h` is the high port. `-s` may be anything, a word that begins with a dash included.
2. Host bits are not masked. Without a source it says `-o 0.0.0.0 -n 0`, beside an IPv6 destination too; a bare source
   gets `-n 32`, an IPv6 one too.
3. It deletes without saying for which service. It has closed that service's sockets by then.
4. One call is one interface; the calls for one rule add up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Callable, NamedTuple

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


KEPT_OF_LONG_ID = 22


class Request(NamedTuple):
    """What is asked for: of an insert the Rules, of a delete their Identities, with owner "" for whoever has left."""

    operation: str
    rules: list
    warnings: list


def parse(words: Iterable) -> Request:
    """Read a command line without its first word. Raises InvalidInput with every fault."""
    given = _Given(list(words))
    if len(given.operations) != 1:
        raise InvalidInput([f"give one of {', '.join(OPERATIONS)} and -V"])
    operation = OPERATIONS[given.operations.pop()]
    missing = [name for name in NEEDED.get(operation, ()) if name not in given.values]
    if missing:
        raise InvalidInput([f"{name}: missing; give {VALUES[name]}" for name in missing])
    if operation == "insert":
        return Request(operation, rules_from_params(_params(given), single=True)[0], given.warnings)
    if operation == "delete":
        identities = identities_from_params(_params(given), single=True)[0]
        nobody = "-s" not in given.values
        return Request(operation, [one._replace(owner="") if nobody else one for one in identities], given.warnings)
    return Request(operation, [], given.warnings)


class _Given:
    """The words, sorted out. Unknown options are named in `warnings`, with the word that follows if it is a value."""

    def __init__(self, words: list):
        self.operations, self.values, self.interfaces, self.warnings = set(), {}, [], []
        self.denies = False
        while words:
            self._take(words.pop(0), words)

    def _take(self, word: str, rest: list) -> None:
        if word in OPERATIONS:
            self.operations.add(word)
        elif word == DENY:
            self.denies = True
        elif word[:2] in VALUES:
            self._set(word[:2], word[2:] or self._next(word, rest))
        else:
            value = f" {rest.pop(0)}" if rest and not rest[0].startswith("-") else ""
            self.warnings.append(f"unknown option {word}{value} is ignored")

    def _next(self, word: str, rest: list) -> str:
        if not rest:
            raise InvalidInput([f"{word}: missing; give {VALUES[word]}"])
        return rest.pop(0)

    def _set(self, name: str, value: str) -> None:
        if name == "-N":
            self.interfaces += [] if value in self.interfaces else [value]
        else:
            self.values[name] = value


def _params(given: _Given) -> list:
    """Return options of tproxy_rule, one set for each interface, or one for all of them."""
    values = given.values
    params = {
        "destination": f"{values['-c']}/{values['-m']}",
        "source": _source(values),
        "protocol": values["-p"],
        "ports": f"{values['-l']}-{values['-h']}",
        "owner": _owner(values),
        **_outcome(given),
    }
    return [{**params, "interfaces": names} for names in ([name] for name in given.interfaces)] or [params]


def _outcome(given: _Given) -> dict:
    """Return what becomes of the flow. Port 0 leaves it to the host, as it did in zfw."""
    port = given.values.get("-t")
    if given.denies:
        return {"action": "drop"}
    return {"action": "pass"} if port == "0" else {"action": "tproxy", "tproxy_port": port}


def _source(values: dict) -> str | None:
    address, length = values.get("-o"), values.get("-n")
    if address is None:
        return None
    if length is None or (length == "32" and _is_ipv6_host(address)):
        return address
    return f"{address}/{length}"


def _is_ipv6_host(address: str) -> bool:
    """Whether an address is IPv6 and has bits beyond its 32nd, which no network of that length has."""
    try:
        prefix = Prefix.parse(address)[0]
    except InvalidInput:
        return False
    return prefix.family == 6 and bool(prefix.network << 32 & (1 << 128) - 1)


def _owner(values: dict) -> str:
    """Return whose rule it is. Routers before 1.1.3 do not name their services: then the port tells them apart."""
    owner = OWNER_PREFIX + (values.get("-s") or f"port-{values.get('-t', '')}")
    raw = owner.encode("utf-8", "surrogateescape")
    if len(raw) <= OWNER_BYTES:
        return owner
    return f"{raw[:KEPT_OF_LONG_ID].decode('ascii', 'replace')}~{hashlib.sha256(raw).hexdigest()[:8]}"


def flow_of(rule: Rule | Identity) -> Identity:
    """Return what the rules of several services for the same flow have in common."""
    identity = rule.identity if isinstance(rule, Rule) else rule
    return identity._replace(owner="")


def leaving(wanted: Identity, users: list, listens: Callable[[Rule], bool]) -> list:
    """Return the rules that a delete removes, of `users`, the router's rules for that flow.

    Without an owner: the only one, else those whose service listens no more. Raises Conflict when all still do.
    """
    if wanted.owner:
        return [rule for rule in users if rule.owner == wanted.owner]
    gone = users if len(users) == 1 else [rule for rule in users if not listens(rule)]
    if users and not gone:
        owners = ", ".join(sorted(rule.owner[len(OWNER_PREFIX) :] for rule in users))
        raise Conflict(f"{wanted}: {owners} all still listen; say by -s which of them leaves; nothing was changed")
    return gone


def superseded(rule: Rule, users: list, listens: Callable[[Rule], bool]) -> list:
    """Return the rules of `users` that an insert replaces: other services' that listen no more, left by a crash.

    One of them might be tried first, and send the flow to a port where nobody is.
    """
    return [other for other in users if other.owner != rule.owner and not listens(other)]
