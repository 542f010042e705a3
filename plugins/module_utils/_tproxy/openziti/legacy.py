# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The operations of map_update and map_delete_elem, with the arguments that the first edge routers pass to them.

Both record the addresses of the interfaces, as those programs did. Their rules have an owner of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..errors import InvalidInput
from ..model.prefix import Prefix
from ..model.protocol import PROTOCOL_NAMES
from ..model.rule import Identity, Rule
from ..model.rule_options import rules_from_params
from ..operations.addresses import record_addresses
from ..operations.execute import execute
from ..operations.rules import change_rules
from ..resources.in_force import AttachedInterfaces
from ..resources.lost_pins import living_pins
from ..resources.operation import Operation, Options, Result
from ..system.system import System

OWNER = "map_update"
UPDATE_WORDS = ("ip dest address or prefix", "prefix length", "low_port", "high_port", "tproxy_port", "protocol id")
PROTOCOL_IDS = {str(number): name for number, name in PROTOCOL_NAMES.items()}
DELETE_WORDS = ("ip dest address or prefix", "prefix len", "low_port", "protocol id")


def map_update(options: Options, system: System, check: bool) -> Result:
    """Add a rule, or change its port. The tproxy port 0 passes the flow to the host.

    `not_enforced_reason` says why the rule is not in force, or is "".
    """
    address, length, low, high, port, protocol = options["words"]
    outcome = {"action": "pass"} if port == "0" else {"action": "tproxy", "tproxy_port": port}
    rule = _rule(address, length, f"{low}-{high}", protocol, outcome)
    _record(options, system, check)
    result = change_rules(lambda have: {**have, rule.identity: rule}, options["pin_dir"], system, check, True)
    with system.netlink() as netlink, living_pins(system, lambda: netlink, options["pin_dir"]) as pins:
        not_enforced_reason = AttachedInterfaces().not_enforced_reason([rule], pins, system)
    return replace(
        result, data={"rules": [str(rule)], "not_enforced_reason": not_enforced_reason}, diff=None, warnings=()
    )


def map_delete_elem(options: Options, system: System, check: bool) -> Result:
    """Remove every port range of the prefix that begins with the low port. `rules` has the removed rules."""
    address, length, low, protocol = options["words"]
    asked = _rule(address, length, low, protocol, {"action": "pass"})
    gone: list[Rule] = []

    def intend(have: Mapping[Identity, Rule]) -> dict[Identity, Rule]:
        gone.extend(rule for rule in have.values() if _key(rule) == _key(asked))
        return {key: rule for key, rule in have.items() if rule not in gone}

    _record(options, system, check)
    result = change_rules(intend, options["pin_dir"], system, check, False)
    return replace(
        result, data={"rules": [str(rule) for rule in gone], "not_enforced_reason": ""}, diff=None, warnings=()
    )


def _key(rule: Rule) -> tuple[str, Prefix, str, int]:
    return rule.owner, rule.destination, rule.protocol, rule.low


def _rule(address: str, length: str, ports: str, protocol: str, outcome: Mapping[str, str]) -> Rule:
    """Return the rule. Raise InvalidInput with every fault."""
    params = {"destination": f"{address}/{length}", "ports": ports, "owner": OWNER, **outcome}
    name = PROTOCOL_IDS.get(protocol)
    faults = [] if name else [f"protocol id: {protocol!r} is neither 6 (tcp) nor 17 (udp)"]
    rules: list[Rule] = []
    try:
        rules = rules_from_params([{**params, "protocol": name or "tcp"}], single=True)[0]
    except InvalidInput as wrong:
        faults += wrong.faults
    if faults:
        raise InvalidInput(faults)
    return rules[0]


def _record(options: Options, system: System, check: bool) -> None:
    all_attached = {"interfaces": None, "addresses": None, "purge": False, "state": "present"}
    record_addresses({**all_attached, "pin_dir": options["pin_dir"]}, system, check)


PROGRAMS = {
    "map_update": (Operation("map_update", map_update, execute), UPDATE_WORDS),
    "map_delete_elem": (Operation("map_delete_elem", map_delete_elem, execute), DELETE_WORDS),
}
