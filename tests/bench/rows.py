# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of the live bench, as data: the packets of each row, the rules that they meet, and the receiver."""

from __future__ import annotations

from typing import NamedTuple

import rules as rulesets

WILDCARD_PORT = 15002
# The bases of the figures.
NOTHING, DROP = "nothing attached", "drop at once, TCX"


class Row(NamedTuple):
    """One row of the bench.

    `packets` names their maker, see traffic.py. `receiver` gets those that a peer splices: the `proxy`, the `wildcard`
    socket, a socket of a `session`, the `wire`, or `none`. `base` is the peer from which the figures count.
    """

    name: str
    protocol: str
    packets: str
    receiver: str
    base: str = NOTHING
    action: str = "tproxy"
    track: str = "none"
    egress: bool = False
    quick: tuple = ()  # families of the short bench

    @property
    def counted(self) -> str:
        """The name of one of what is counted."""
        return "connection" if self.packets == "connections" else "packet"

    @property
    def unit(self) -> int:
        """How many packets or connections a run has at least."""
        return 64 if self.packets == "connections" else 2048

    def slotted(self, size: int, family: int) -> list:
        """Return [SlottedRule] of single hosts."""
        rules = [rule._replace(protocol=self.protocol) for rule in rulesets.host_rules(size, family=family)]
        if self.action == "pass":
            # The receiver is the same without any peer, so every rule has its port.
            passing = {"action": "pass", "tproxy_ip": "", "tproxy_port": 0, "on_missing": ""}
            rules = [rule._replace(low=WILDCARD_PORT, high=WILDCARD_PORT, **passing) for rule in rules]
        return rulesets.slotted(rules)


SPLICED_UDP = Row("spliced UDP", "udp", "datagrams", "proxy", quick=(4,))
SPLICED_TCP = Row("spliced TCP session", "tcp", "sessions through the splice", "proxy", quick=(6,))
OWN_TCP = Row("own TCP session", "tcp", "own sessions", "session")
ANSWER_UDP = Row("answer of a UDP session", "udp", "answers", "session", track="own")
PASS = Row("pass by rule", "udp", "datagrams", "wildcard", action="pass")
DROP_UDP = Row("drop, 64-byte UDP", "udp", "strangers", "none", base=DROP, quick=(6,))
DROP_ACK = Row("drop, ACK without a session", "tcp", "strangers", "none", base=DROP)
EGRESS = Row("tracker on egress", "udp", "forwarded", "wire", track="all", egress=True, quick=(4,))
SET_UP = Row("connection set-up", "tcp", "connections", "proxy", quick=(4,))

LIVE = (OWN_TCP, SPLICED_TCP, SPLICED_UDP, ANSWER_UDP, PASS, DROP_UDP, DROP_ACK, EGRESS, SET_UP)
CORES = (OWN_TCP, SPLICED_TCP, SPLICED_UDP, ANSWER_UDP, PASS, DROP_UDP)
