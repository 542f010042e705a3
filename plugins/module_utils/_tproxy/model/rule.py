# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""A rule: its flows, and the action for them.

The module defines a rule, the identity of rules and their precedence. It never reads user input (rule_options.py
does), and never looks at other rules.

1. A rule has one canonical form, so equality is equality of fields: `interfaces` sorted without doubles; tproxy_ip,
   tproxy_port, on_missing and user empty unless the action is tproxy; `fragments` ON_DEMAND then.
2. The identity is the match and the owner of a rule. A rule with a known identity changes that rule's action. It is
   never a second rule.
3. Precedence is a total order of the rules that can match one packet. It never depends on the order of insertion.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from .prefix import Prefix, endpoint
from .protocol import has_ports, protocol_number, table_of

ACTIONS = ("tproxy", "pass", "drop")
ON_MISSING = ("drop", "pass")
ON_DEMAND, ALWAYS, DROP = FRAGMENTS = ("on_demand", "always", "drop")
PORT_MAX = 65535
UNKNOWN_LISTENER = 0  # the kernel's cookies begin with 1 (__sock_gen_cookie() in net/core/sock_diag.c)


class Identity(NamedTuple):
    """The identity of a rule; see 2 above."""

    owner: str
    destination: Prefix
    source: Prefix
    protocol: str
    low: int
    high: int
    interfaces: tuple[str, ...]

    def __str__(self) -> str:
        origin = "" if self.source == Prefix.any_of(self.source.family) else f" from {self.source}"
        where = f" on {','.join(self.interfaces)}" if self.interfaces else ""
        ports = f" ports {ports_text(self.low, self.high)}" if has_ports(self.protocol) else ""
        return f"{self.protocol} {self.destination}{ports}{origin}{where}"


class Rule(NamedTuple):
    """One rule. Ports are 0 to 65535 and inclusive; interfaces () means all.

    `protocol` is a canonical name. A protocol without ports has its number as `low` and `high`, as in the image.
    `listener` is the cookie (SO_COOKIE) of the only socket that gets packets, for a rule of a router. With
    UNKNOWN_LISTENER no socket gets any. None means each socket at the proxy address. `user` is the number of the only
    user whose sockets get packets, None for all users. `fragments` tells when datagrams in fragments reach the proxy:
    after the first of them, always, or never.
    """

    destination: Prefix
    source: Prefix
    protocol: str
    low: int
    high: int
    interfaces: tuple[str, ...]
    action: str
    tproxy_ip: str = ""
    tproxy_port: int = 0
    on_missing: str = ""
    name: str = ""
    owner: str = "ansible"
    listener: int | None = None
    user: int | None = None
    fragments: str = ON_DEMAND

    @property
    def identity(self) -> Identity:
        """The identity of the rule."""
        return Identity(self.owner, self.destination, self.source, self.protocol, self.low, self.high, self.interfaces)

    @property
    def table(self) -> str:
        """The table of an image that has the rule; see protocol.TABLES."""
        return table_of(self.protocol)

    @property
    def precedence(self) -> tuple[object, ...]:
        """Sort key, best first, among rules that match the same packet.

        Texts compare by code point, which is the byte order of their UTF-8.
        """
        return (
            -self.destination.length,
            -self.source.length,
            self.high - self.low,
            self.low,
            not self.interfaces,
            len(self.interfaces),
            self.interfaces,
            self.owner,
        )

    def to_params(self) -> dict[str, Any]:
        """Return the rule as options of tproxy_rule, every value in canonical form."""
        return {
            "destination": str(self.destination),
            "source": _text_of_many(self.source),
            "protocol": self.protocol,
            "ports": ports_text(self.low, self.high) if has_ports(self.protocol) else "",
            "interfaces": list(self.interfaces),
            "action": self.action,
            "tproxy_ip": self.tproxy_ip,
            "tproxy_port": self.tproxy_port,
            "tproxy_user": "" if self.user is None else str(self.user),
            "on_missing": self.on_missing,
            "fragments": self.fragments if self.action == "tproxy" else "",
            "name": self.name,
            "owner": self.owner,
        }

    def __str__(self) -> str:
        """Return one line for a person, e.g. in a diff."""
        name = f"{self.name}, " if self.name else ""
        return f"{self.identity}: {self.outcome} ({name}owner {self.owner})"

    @property
    def outcome(self) -> str:
        """What becomes of a packet, in words. Rules with the same words do the same."""
        if self.action != "tproxy":
            return self.action
        user = "" if self.user is None else f" of user {self.user}"
        large = "" if self.fragments == ON_DEMAND else f", fragments {self.fragments}"
        return f"tproxy {endpoint(self.tproxy_ip, self.tproxy_port)}{user}, {self.on_missing} without a listener{large}"


@lru_cache(maxsize=1024)  # many rules have the same source
def _text_of_many(prefix: Prefix) -> str:
    return str(prefix)


def ports_of_number(protocol: str) -> tuple[int, int]:
    """Return `low` and `high` of a rule for a protocol without ports."""
    number = protocol_number(protocol)
    return number, number


def ports_text(low: int, high: int) -> str:
    """Return `80` or `80-443`."""
    return str(low) if low == high else f"{low}-{high}"


def is_of_a_service(rule: Rule) -> bool:
    """Return whether a rule exists only as long as an OpenZiti router wants it."""
    return is_routers(rule.owner)


def sorted_rules(rules: Mapping[Identity, Rule]) -> list[Rule]:
    return sorted(rules.values(), key=reading_order)


def reading_order(rule: Rule) -> tuple[object, ...]:
    """Return the sort key of printed rules: destination, then precedence."""
    return (rule.destination, rule.protocol, rule.precedence)


OWNER_PREFIX = "ziti:"


# ---- whose rule ----------------------------------------------------------------------------------


def is_routers(owner: str) -> bool:
    """Return whether rules of this owner belong to an OpenZiti router."""
    return owner.startswith(OWNER_PREFIX)
