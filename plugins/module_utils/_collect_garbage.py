# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The story of rules that outlived their service: a router that crashed removes none, and comes back on other ports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ._apply_rules import change_rules, reading_order
from ._diverter import is_routers
from ._doors import Doors
from ._prefix import parse_address
from ._rule import Rule


def collect(options: Mapping, doors: Doors, check: bool) -> dict:
    """Remove a router's rules to whose port nobody listens, in one commit; return {changed, removed}: rules."""
    gone = []

    def intend(have: Mapping) -> dict:
        gone.extend(left_behind(have.values(), doors))
        identities = {rule.identity for rule in gone}
        return {key: rule for key, rule in have.items() if key not in identities}

    answer = change_rules(intend, options["pin_dir"], doors, check, False)
    removed = [rule.to_params() for rule in sorted(gone, key=reading_order)]
    return {"changed": answer["changed"], "removed": removed, "warnings": answer["warnings"]}


def left_behind(rules: Iterable, doors: Doors) -> list:
    """Return the rules of a router whose listener is gone. Rules that splice nothing have none, and stay."""
    asked = {}

    def listens(rule: Rule) -> bool:
        proxy = rule.protocol, rule.tproxy_ip, rule.tproxy_port
        if proxy not in asked:
            asked[proxy] = doors.sockets.is_listening(rule.protocol, parse_address(rule.tproxy_ip), rule.tproxy_port)
        return asked[proxy]

    return [rule for rule in rules if is_routers(rule.owner) and rule.action == "tproxy" and not listens(rule)]
