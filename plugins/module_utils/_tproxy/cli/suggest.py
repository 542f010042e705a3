# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The command suggest: YAML for host_vars, as the role tproxy_splicer reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from ..operations.suggest import suggest
from ..resources.operation import Answer, Options
from ..system.system import System
from .output import count

LAYER = "tproxy_splicer_rules__observed"
NOTHING = (
    "# No would-be drop has an answer. Expected an interface with `default_action: audit` and `track: own` or `all`,",
    "# and traffic. `tproxy-splicer drops` lists what was dropped; --all takes flows without an answer too.",
    "# No entry comes from packets that were dropped: `tproxy-splicer explain` prints the entry for one of these.",
)


def print_suggestion(options: Options, system: System, _check: bool) -> Iterator[str]:
    """Yield the suggestion, as YAML with comments or as JSON."""
    answer = suggest(options, system)
    if options["json"]:
        yield json.dumps(_without_packets(answer), indent=2)
        return
    lines = [*_interfaces(answer["interfaces"]), *_rules(answer["rules"])]
    yield from lines or NOTHING
    yield from _left_out(answer)


def _without_packets(answer: Answer) -> Answer:
    """Return the answer with the entries alone, as tproxy_router takes them."""
    interfaces = [
        {**interface, "management": [each["entry"] for each in interface["management"]]}
        for interface in answer["interfaces"]
    ]
    return {**answer, "interfaces": interfaces, "rules": [each["entry"] for each in answer["rules"]]}


def _interfaces(interfaces: Sequence[Answer]) -> Iterator[str]:
    if interfaces:
        yield "tproxy_splicer_interfaces:"
    for interface in interfaces:
        yield f"  - name: {json.dumps(interface['name'])}"
        yield "    management:"
        yield from (f"      - {_flow_style(each)}" for each in interface["management"])


def _rules(rules: Sequence[Answer]) -> Iterator[str]:
    if rules:
        yield f"{LAYER}:"
    yield from (f"  - {_flow_style(each)}" for each in rules)


def _flow_style(each: Answer) -> str:
    """Return an entry as a flow mapping of YAML. Texts are quoted as in JSON, which is YAML."""
    members = ", ".join(f"{name}: {json.dumps(value)}" for name, value in each["entry"].items())
    packets = each["packets"]
    return f"{{{members}}} # {count(packets)} packet{'s' * (packets != 1)}"


def _left_out(answer: Answer) -> Iterator[str]:
    """Yield comments about the flows that have no entry."""
    for each in answer["apart"]:
        yield (
            f"# Left out: all flows of {each['source']}, a scanner: {each['refused']} were refused,"
            f" {each['answered']} answered."
        )
    for interface in answer["replies"]:
        yield f"# Left out: replies that enter by {interface}. `track: all` on all interfaces lets them in."
    if answer["unanswered"]:
        yield f"# {count(answer['unanswered'])} flows have no answer; see `tproxy-splicer drops`."
