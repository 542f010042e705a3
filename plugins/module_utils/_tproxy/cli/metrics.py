# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Format the result of tproxy_info as metrics, in the text format 0.0.4 of Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ..abi.layout import INTERFACES, RULES
from ..abi.structs import COUNTER_NAMES, VERDICT_NAMES
from ..constants import VERSION
from ..model.rule import is_routers
from ..model.text import replaced
from ..system.files import write_bytes

PREFIX = "tproxy_splicer_"
RULE_LABELS = ("owner", "service", "name", "destination", "source", "protocol", "ports", "interfaces", "action")
VERDICTS = {counter: VERDICT_NAMES[verdict] for verdict, counter in COUNTER_NAMES.items()}
ROUTERS = "ziti"  # the owner of all rules of OpenZiti routers
FILE_MODE = 0o644  # node_exporter runs as a user of its own
SEVERITIES = ("error", "warning", "note")


Answer = Mapping[str, Any]  # the result of tproxy_info, or a part of it


class Sample(NamedTuple):
    """The value of a metric for some labels."""

    labels: Mapping[str, str]
    value: int


class Counted(NamedTuple):
    """The packets and bytes of a counter for some labels."""

    labels: Mapping[str, str]
    counter: Mapping[str, int]


class Family(NamedTuple):
    """One metric with its samples."""

    name: str
    kind: str
    meaning: str
    samples: Sequence[Sample]


def written(text: str, path: str | None) -> str:
    """Write metrics to a file as a whole, and return "". Without a file return them. Raises KernelRefused."""
    if path is None:
        return text.rstrip("\n")
    write_bytes(path, text.encode(), FILE_MODE)
    return ""


def metrics_text(answer: Answer, each_rule: bool = True) -> str:
    """Return every metric that has samples, each with HELP and TYPE. `each_rule`: with the counters of each rule."""
    return "".join(_family(family) for family in _families(answer, each_rule) if family.samples)


def _families(answer: Answer, each_rule: bool) -> list[Family]:
    program, image = answer["program"] or {}, answer["image"]
    build = {"version": VERSION, "identity": program.get("identity", ""), "layout": str(program.get("layout", ""))}
    return [
        Family("build_info", "gauge", "Version of the command, identity of the pinned program.", [Sample(build, 1)]),
        Family("generation", "gauge", "Number of the rule set in force.", [Sample({}, answer["generation"])]),
        Family("rules", "gauge", "Rules in force.", [Sample({}, len(answer["rules"]))]),
        Family("image_bytes", "gauge", "Size of the compiled rules.", [Sample({}, image["bytes"])]),
        Family(
            "image_capacity_bytes",
            "gauge",
            "Size to which the compiled rules can grow before a larger map replaces theirs.",
            [Sample({}, image["capacity_bytes"])] if "capacity_bytes" in image else [],
        ),
        *_flows(answer["flows"]),
        Family("rules_not_in_force", "gauge", "Rules that no interface enforces now.", _not_in_force(answer["rules"])),
        Family("interfaces_capacity", "gauge", "Interfaces that can have a policy.", [Sample({}, INTERFACES)]),
        Family("rules_capacity", "gauge", "Rules that an image can have.", [Sample({}, RULES)]),
        *_control(answer),
        *_attachments(answer["attachments"], answer["findings"]),
        *_owners(answer["rules"]),
        *(_rules(answer["rules"]) if each_rule else ()),
        Family("findings", "gauge", "Findings by severity.", _findings(answer["findings"])),
        Family("findings_by_code", "gauge", "Findings by severity and code.", _findings_by_code(answer["findings"])),
        Family("drift", "gauge", "Drifts by code.", _drift(answer)),
    ]


def _not_in_force(rules: Sequence[Answer]) -> list[Sample]:
    return [Sample({}, sum(not rule["in_force"] for rule in rules))]


def _control(answer: Answer) -> list[Family]:
    """Return the families about the saved state, the processes and the pending change. What is not there has none."""
    daemons, pending = answer["daemons"] or {}, answer["pending_change"]
    up = {name: daemons[name] for name in ("watcher", "helper", "boots") if daemons.get(name) is not None}
    left = [Sample({}, pending["seconds_left"])] if pending else []
    saved, changes = daemons.get("saved_at"), daemons.get("watcher_changes")
    return [
        Family(
            "pending_change", "gauge", "1 while a change waits for its confirmation.", [Sample({}, int(bool(left)))]
        ),
        Family("pending_change_seconds_left", "gauge", "Seconds until that change is rolled back.", left),
        Family(
            "unit_up",
            "gauge",
            "1 if a configured unit is as it should be: watcher and helper run, boots is enabled.",
            [Sample({"unit": name}, int(is_up)) for name, is_up in up.items()],
        ),
        Family(
            "state_saved_timestamp_seconds",
            "gauge",
            "Time of the last save of the state for the next boot.",
            [Sample({}, _seconds(saved))] if saved else [],
        ),
        Family(
            "watcher_changes_total",
            "counter",
            "Parts that the watcher restored or saved since the boot.",
            [] if changes is None else [Sample({}, changes)],
        ),
    ]


def _seconds(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp())


def _drift(answer: Answer) -> list[Sample]:
    """Return one sample for each code of the machine and of an interface."""
    found = [Sample({"interface": "", "drift": code}, 1) for code in answer["drift"]]
    for one in answer["attachments"]:
        found += [Sample({"interface": one["interface"], "drift": code}, 1) for code in one["drift"]]
    return found


def _attachments(entries: Sequence[Answer], findings: Sequence[Answer]) -> list[Family]:
    wrong = {(one["interface"], one["code"]) for one in findings if one["severity"] == "error"}
    in_force = [
        Sample(
            {"interface": one["interface"]}, int(not any((one["interface"], code) in wrong for code in one["drift"]))
        )
        for one in entries
    ]
    counted = [
        Counted({"interface": one["interface"], "reason": reason, "verdict": VERDICTS[verdict]}, counter)
        for one in entries
        for reason, verdicts in one["reasons"].items()
        for verdict, counter in verdicts.items()
    ]
    return [
        Family(
            "interface_in_force",
            "gauge",
            "1 if an interface has the program, without drift that is an error.",
            in_force,
        ),
        *_counters("", "that the program handled", counted),
    ]


def _flows(tables: Mapping[str, Answer]) -> list[Family]:
    meanings = (("entries", "Live flows of a table of tracked flows."), ("size", "Flows that fit into the table."))
    return [
        Family(
            f"flow_table_{part}", "gauge", meaning, [Sample({"table": name}, one[part]) for name, one in tables.items()]
        )
        for part, meaning in meanings
    ]


def _owners(rules: Sequence[Answer]) -> list[Family]:
    """Return the counters by owner and action. A router has an owner for each service, which count as one."""
    summed: dict[tuple[str, str], Counter[str]] = {}
    for rule in rules:
        owner = ROUTERS if is_routers(rule["owner"]) else rule["owner"]
        summed.setdefault((owner, rule["action"]), Counter()).update(rule["hits"])
    hits = [Counted({"owner": owner, "action": action}, counter) for (owner, action), counter in sorted(summed.items())]
    return _counters("owner_", "that the rules of an owner handled", hits)


def _rules(rules: Sequence[Answer]) -> list[Family]:
    hits = [Counted({label: _text(rule[label]) for label in RULE_LABELS}, rule["hits"]) for rule in rules]
    return _counters("rule_", "that a rule handled: of tproxy rules the first of a connection and each datagram", hits)


def _counters(name: str, meaning: str, counted: Sequence[Counted]) -> list[Family]:
    """Return two families, one for packets and one for bytes."""
    return [
        Family(
            f"{name}{unit}_total",
            "counter",
            f"{unit.capitalize()} {meaning}.",
            [Sample(labels, counter[unit]) for labels, counter in counted],
        )
        for unit in ("packets", "bytes")
    ]


def _findings(findings: Sequence[Answer]) -> list[Sample]:
    severities = [finding["severity"] for finding in findings]
    return [Sample({"severity": severity}, severities.count(severity)) for severity in SEVERITIES]


def _findings_by_code(findings: Sequence[Answer]) -> list[Sample]:
    counted = Counter((finding["severity"], finding["code"]) for finding in findings)
    return [Sample({"severity": severity, "code": code}, count) for (severity, code), count in sorted(counted.items())]


def _text(value: object) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)


def _family(family: Family) -> str:
    name = PREFIX + family.name
    lines = [f"# HELP {name} {family.meaning}", f"# TYPE {name} {family.kind}"]
    lines += [f"{name}{_labels(labels)} {value}" for labels, value in family.samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    return "{%s}" % ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) if labels else ""


def _escaped(value: str) -> str:
    # The format knows three escapes only, so other misleading characters are replaced.
    return replaced(value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
