# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The answer of tproxy_info as metrics, in Prometheus' text format 0.0.4. It knows no HTTP and no file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..constants import VERSION

PREFIX = "tproxy_splicer_"
RULE_LABELS = ("owner", "name", "destination", "source", "protocol", "ports", "interfaces", "action")
VERDICTS = {"passed": "pass", "dropped": "drop"}
SEVERITIES = ("error", "warning", "note")


class Family(NamedTuple):
    """One metric: its samples are (labels, value)."""

    name: str
    kind: str
    meaning: str
    samples: Iterable


def metrics_text(answer: Mapping) -> str:
    """Return every metric, each with HELP and TYPE; one without samples is left out."""
    return "".join(_family(family) for family in _families(answer) if family.samples)


def _families(answer: Mapping) -> list:
    program, image = answer["program"] or {}, answer["image"]
    build = {"version": VERSION, "identity": program.get("identity", ""), "layout": str(program.get("layout", ""))}
    return [
        Family("build_info", "gauge", "Version of the command, identity of the pinned program.", [(build, 1)]),
        Family("generation", "gauge", "Number of the rule set in force.", [({}, answer["generation"])]),
        Family("rules", "gauge", "Rules in force.", [({}, len(answer["rules"]))]),
        Family("image_bytes", "gauge", "Size of the compiled rules.", [({}, image["bytes"])]),
        Family(
            "image_capacity_bytes",
            "gauge",
            "Size to which the compiled rules can grow before their map is replaced.",
            [({}, image["capacity_bytes"])] if "capacity_bytes" in image else [],
        ),
        *_attachments(answer["attachments"]),
        *_rules(answer["rules"]),
        Family("findings", "gauge", "What is wrong or will be, by severity.", _findings(answer["findings"])),
    ]


def _attachments(entries: list) -> list:
    drift = [
        ({"interface": one["interface"], "drift": ",".join(one["drift"])}, int(bool(one["drift"]))) for one in entries
    ]
    counted = [
        ({"interface": one["interface"], "reason": reason, "verdict": VERDICTS[way]}, counter)
        for one in entries
        for reason, ways in one["reasons"].items()
        for way, counter in ways.items()
    ]
    return [
        Family("attachment_drift", "gauge", "1 where the hook of an interface is not as it was left.", drift),
        *_counters("", "that the program judged", counted),
    ]


def _rules(rules: list) -> list:
    hits = [({label: _text(rule[label]) for label in RULE_LABELS}, rule["hits"]) for rule in rules]
    return _counters("rule_", "that a rule spliced or dropped: the first of a connection, every datagram", hits)


def _counters(name: str, meaning: str, counted: list) -> list:
    """Return two families, of the packets and the bytes of [(labels, {packets, bytes})]."""
    return [
        Family(
            f"{name}{unit}_total",
            "counter",
            f"{unit.capitalize()} {meaning}.",
            [(labels, counter[unit]) for labels, counter in counted],
        )
        for unit in ("packets", "bytes")
    ]


def _findings(findings: list) -> list:
    severities = [finding["severity"] for finding in findings]
    return [({"severity": severity}, severities.count(severity)) for severity in SEVERITIES]


def _text(value) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)


def _family(family: Family) -> str:
    name = PREFIX + family.name
    lines = [f"# HELP {name} {family.meaning}", f"# TYPE {name} {family.kind}"]
    lines += [f"{name}{_labels(labels)} {value}" for labels, value in family.samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping) -> str:
    return "{%s}" % ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
