# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report says about one router, and about all of them: pure functions of the results of tproxy_info.

A result has every rule, so the controller keeps a row for each router instead. A row has counts, and the first few
entries of each list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Answer = Mapping[str, Any]  # the registered result of tproxy_info, or a part of it
Row = Mapping[str, Any]

LISTED = 20  # findings and unused rules of a row
BUSIEST = 10  # rules with hits of a row, and bars of a chart
SEVERITIES = ("error", "warning", "note")
# From bad to good. A row has the first one that holds.
STATES = ("unreachable", "failed", "error", "warning", "no program", "ok")
# Names of the tables of tracked flows, as the report shows them.
FLOWS = {"own": "own flows", "forwarded": "forwarded flows", "outside": "outside flows"}


def row_of(router: str, answer: Answer, limits: Mapping[str, int]) -> dict[str, Any]:
    """Return the row of a router. `limits` has the number of rules and of interfaces that a router can have."""
    if answer.get("unreachable") or answer.get("failed") or "attachments" not in answer:
        state = "unreachable" if answer.get("unreachable") else "failed"
        return {"router": router, "state": state, "why": str(answer.get("msg") or "no result").strip()}
    findings, rules = answer["findings"], answer["rules"]
    severities = Counter(finding["severity"] for finding in findings)
    used = sorted((rule for rule in rules if rule["hits"]["packets"]), key=lambda rule: -rule["hits"]["packets"])
    unused = [rule for rule in rules if not rule["hits"]["packets"]]
    return {
        "router": router,
        "state": _state(severities, answer),
        "why": "",
        "program": answer["program"],
        "generation": answer["generation"],
        "interfaces": [_interface(one) for one in answer["attachments"]],
        "drift": _drift(answer),
        "findings": {
            **{severity: severities[severity] for severity in SEVERITIES},
            "list": [dict(finding) for finding in findings[:LISTED]],
        },
        "rules": {
            "total": len(rules),
            "unused": len(unused),
            "not_in_force": sum(not rule["in_force"] for rule in rules),
            "busiest": _summed({label(rule): rule["hits"]["packets"]} for rule in used[:BUSIEST]),
            "first_unused": [label(rule) for rule in unused[:LISTED]],
        },
        "drops": _by_reason(answer, "dropped"),
        "would_drops": _by_reason(answer, "would_drop"),
        "last_drops": [dict(drop) for drop in answer["drops"]],
        "capacity": _capacity(answer, limits),
        "image_bytes": answer["image"]["bytes"],
        "daemons": answer["daemons"],
        "change_pending": bool(answer["pending_change"]),
    }


def label(rule: Answer) -> str:
    """Return the text by which an operator knows a rule: its name or service, and the flow that it takes."""
    ports = f" {rule['ports']}" if rule["ports"] else ""
    flow = f"{rule['protocol']} {rule['destination']}{ports}"
    name = rule["name"] or rule["service"]
    return f"{name} ({flow})" if name else flow


def summary_of(rows: Iterable[Row], written: str, collection: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of the report: the rows by name, and sums over all routers.

    `collection` has the version of the collection on the controller and the `source_sha256` of its program.
    """
    ordered = sorted((_with_version(row, collection) for row in rows), key=lambda row: row["router"])
    answered = [row for row in ordered if "rules" in row]
    states = Counter(row["state"] for row in ordered)
    return {
        "written": written,
        "version": collection["version"],
        "routers": len(ordered),
        "states": {state: states[state] for state in STATES},
        "rules": sum(row["rules"]["total"] for row in answered),
        "unused_rules": sum(row["rules"]["unused"] for row in answered),
        "drops": _summed(row["drops"] for row in answered),
        "would_drops": _summed(row["would_drops"] for row in answered),
        "busiest_rules": _summed(row["rules"]["busiest"] for row in answered),
        "fullest": fullest(answered),
        "rows": ordered,
    }


def fullest(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the tables with the highest share of their size, over all routers, the fullest one first."""
    found = [{"router": row["router"], **row["capacity"][0]} for row in rows if row["capacity"]]
    return sorted(found, key=lambda one: -one["percent"])[:BUSIEST]


def _with_version(row: Row, collection: Mapping[str, str]) -> dict[str, Any]:
    """Return a row with the version of its program: that of the collection if the sources are the same, else ""."""
    same = (row.get("program") or {}).get("source_sha256") == collection["source_sha256"]
    return {**row, "version": collection["version"] if same else ""}


def _state(severities: Mapping[str, int], answer: Answer) -> str:
    for severity in ("error", "warning"):
        if severities[severity]:
            return severity
    return "ok" if any(one["name"] for one in answer["attachments"]) else "no program"


def _interface(one: Answer) -> dict[str, Any]:
    policy = one["policy"] or {}
    return {
        "name": one["interface"],
        "hook": one["hook"] or "",
        "default_action": policy.get("default_action", ""),
        "drift": list(one["drift"]),
    }


def _drift(answer: Answer) -> list[dict[str, str]]:
    """Return each difference with its interface; "" is the router as a whole."""
    found = [{"interface": "", "code": code} for code in answer["drift"]]
    return found + [
        {"interface": one["interface"], "code": code} for one in answer["attachments"] for code in one["drift"]
    ]


def _by_reason(answer: Answer, verdict: str) -> dict[str, int]:
    """Return the packets of a verdict by reason, summed over the interfaces, most packets first."""
    return _summed(
        {reason: counted.get(verdict, {}).get("packets", 0) for reason, counted in one["reasons"].items()}
        for one in answer["attachments"]
    )


def _summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sums by key, the greatest first, without those of 0."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return {key: count for key, count in total.most_common() if count}


def _capacity(answer: Answer, limits: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return what can be full, the fullest one first."""
    sizes = [
        ("rules", len(answer["rules"]), limits["rules"]),
        ("interfaces", len(answer["attachments"]), limits["interfaces"]),
        *((FLOWS.get(name, name), table["entries"], table["size"]) for name, table in answer["flows"].items()),
    ]
    found = [
        {"what": what, "used": used, "size": size, "percent": round(100 * used / size, 1)}
        for what, used, size in sizes
        if size
    ]
    return sorted(found, key=lambda one: -one["percent"])
