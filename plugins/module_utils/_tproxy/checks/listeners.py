# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The listener of a rule: the one socket that a router's rule was made for, or any socket of one user.

A router that starts again takes its ports from the same range. So another service can listen at the port of an old
rule. A rule knows its listener by the socket's cookie, which no other socket gets. A rule of an operator can name the
user of its proxy. The program compares both for each packet, and this module compares them for each decision about
rules.
"""

from __future__ import annotations

from ..model.prefix import parse_address
from ..model.rule import UNKNOWN_LISTENER, Rule
from ..system.system import SocketOwner, Sockets


class Listeners:
    """The listening sockets at this moment. Each is asked for once."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        self._found: dict[tuple[str, str, int], SocketOwner | None] = {}

    def has(self, rule: Rule) -> bool:
        """Return whether the listener of a rule is there. A rule that names no listener accepts each one."""
        if rule.action != "tproxy":
            return True
        found = self._at_proxy(rule)
        if found is None or rule.listener in (None, UNKNOWN_LISTENER, found.cookie):
            return found is not None
        return rule.listener in self._all_cookies(rule)

    def accept(self, rule: Rule) -> bool:
        """Return whether the program gives packets to the socket at the proxy address, if there is one."""
        found = self._at_proxy(rule)
        return found is None or (rule.listener in (None, found.cookie) and rule.user in (None, found.user))

    def identify(self, rule: Rule) -> Rule:
        """Return a rule with the listener of this moment; with UNKNOWN_LISTENER if there is none.

        The kernel gives packets to each member of a SO_REUSEPORT group, so such a rule names no listener.
        """
        if rule.action != "tproxy":
            return rule
        found = self._at_proxy(rule)
        if found is None:
            return rule._replace(listener=UNKNOWN_LISTENER)
        return rule._replace(listener=None if len(self._all_cookies(rule)) > 1 else found.cookie)

    def identify_unknown(self, rule: Rule) -> Rule | None:
        """Return the rule with its listener if it had none before and has one now, otherwise None."""
        if rule.listener != UNKNOWN_LISTENER or self._at_proxy(rule) is None:
            return None
        return self.identify(rule)

    def _at_proxy(self, rule: Rule) -> SocketOwner | None:
        """Return the socket that would get a new client's packets."""
        proxy = rule.protocol, rule.tproxy_ip, rule.tproxy_port
        if proxy not in self._found:
            protocol, address, port = proxy
            self._found[proxy] = self._sockets.listener_at(protocol, parse_address(address), port)
        return self._found[proxy]

    def _all_cookies(self, rule: Rule) -> set[int]:
        """Return the cookies of the sockets that listen at exactly the proxy address of a rule."""
        address = parse_address(rule.tproxy_ip)
        listed = self._sockets.listeners(rule.protocol, rule.tproxy_port)
        return {each.cookie for each in listed if each.address == address}
