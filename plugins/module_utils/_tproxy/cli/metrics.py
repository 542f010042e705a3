# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Format the result of tproxy_info as metrics, in the text format 0.0.4 of Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..abi.structs import COUNTER_NAMES, VERDICT_NAMES
from ..constants import VERSION
from ..model.text import replaced

PREFIX = "tproxy_splicer_"
RULE_LABELS = ("owner", "service", "name", "destination", "source", "protocol", "ports", "interfaces", "action")
VERDICTS = {counter: VERDICT_NAMES[verdict] for verdict, counter in COUNTER_NAMES.items()}
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


def metrics_text(answer: Answer) -> str:
    """Return every metric that has samples, each with HELP and TYPE."""
    return "".join(_family(family) for family in _families(answer) if family.samples)


def _families(answer: Answer) -> list[Family]:
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
        *_attachments(answer["attachments"]),
        *_rules(answer["rules"]),
        Family("findings", "gauge", "Findings by severity.", _findings(answer["findings"])),
        Family("findings_by_code", "gauge", "Findings by severity and code.", _findings_by_code(answer["findings"])),
        Family(
            "drift", "gauge", "1 for each drift of the machine.", [Sample({"drift": one}, 1) for one in answer["drift"]]
        ),
    ]


def _attachments(entries: Sequence[Answer]) -> list[Family]:
    drift = [
        Sample({"interface": one["interface"], "drift": ",".join(one["drift"])}, int(bool(one["drift"])))
        for one in entries
    ]
    counted = [
        Counted({"interface": one["interface"], "reason": reason, "verdict": VERDICTS[verdict]}, counter)
        for one in entries
        for reason, verdicts in one["reasons"].items()
        for verdict, counter in verdicts.items()
    ]
    return [
        Family("attachment_drift", "gauge", "1 if an interface has drift.", drift),
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
