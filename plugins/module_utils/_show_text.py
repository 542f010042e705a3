# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""What `tproxy-splicer show` and `doctor` print: the answer of tproxy_info, for a person's eyes."""

from __future__ import annotations

from collections.abc import Mapping

from ._prefix import Prefix
from ._rule_options import DEFAULT_OWNER
from ._table import paragraph, table

SECTIONS = ("interfaces", "rules", "reasons", "routes")
UNITS = ("", "K", "M", "G", "T", "P")


def section(name: str) -> str:
    """Return the name of a section. Raises ValueError."""
    return SECTIONS[SECTIONS.index(name)]


def show_text(answer: Mapping, sections: list, pin_dir: str) -> str:
    """Return the sections that were asked for, or all of them."""
    writers = dict(zip(SECTIONS, (_interfaces, _rules, _reasons, _routes)))
    blocks = [writers[name](answer) for name in sections or SECTIONS]
    if not sections:
        blocks.append(_summary_of_findings(answer["findings"]))
    if answer["program"] is None:
        blocks.append(paragraph(f"No program is pinned in {pin_dir}."))
    return "\n\n".join("\n".join(block) for block in blocks)


def doctor_text(answer: Mapping) -> str:
    """Return the findings, each with what to do."""
    blocks = [_finding(finding) for finding in answer["findings"]]
    nothing = "Nothing is wrong." if answer["attachments"] else "Nothing is wrong, but no interface has the splicer."
    return "\n".join("\n".join(block) for block in blocks) or nothing


def collected_text(answer: Mapping) -> str:
    """Return the rules that were collected, or that there were none."""
    if not answer["removed"]:
        return "Somebody listens for every rule of a router."
    rows = [(rule["destination"], rule["protocol"], rule["ports"], rule["owner"]) for rule in answer["removed"]]
    return "\n".join(table(("REMOVED", "PROTO", "PORTS", "OWNER"), rows))


def _section(title: str, heads: tuple, rows: list) -> list:
    return [title, *table(heads, rows, indent=2)] if rows else [f"{title}: none"]


def _interfaces(answer: Mapping) -> list:
    heads = ("NAME", "STATE", "PROGRAM", "DEFAULT", "ALSO PASSES", "ADDRESSES")
    return _section("Interfaces", heads, [_interface(entry) for entry in answer["attachments"]])


def _interface(entry: Mapping) -> tuple:
    policy = entry["policy"] or {"default_action": "none", "management": []}
    passes = [name for name, option in (("SSH", "allow_ssh"), ("ping", "allow_echo")) if policy.get(option)]
    passes += [f"{one['source']} to {one['protocol']}/{one['port']}" for one in policy["management"]]
    identity = (entry["name"] or "").rpartition(":")[2]
    default, addresses = policy["default_action"], ", ".join(entry["addresses"])
    return entry["interface"], ", ".join(entry["drift"]) or "in force", identity, default, ", ".join(passes), addresses


def _rules(answer: Mapping) -> list:
    image = answer["image"]
    room = f" of {size(image['capacity_bytes'])}" if "capacity_bytes" in image else ""
    title = f"Rules: {len(answer['rules'])}, generation {answer['generation']}, image {size(image['bytes'])}{room}"
    heads = ("PROTO", "DESTINATION", "PORTS", "OUTCOME", "HITS")
    rules = answer["rules"]
    lines = table(heads, [_rule(rule) for rule in rules], [_note(rule) for rule in rules], indent=2)
    return [title, *(lines if rules else [])]


def _rule(rule: Mapping) -> tuple:
    return rule["protocol"], rule["destination"], rule["ports"], outcome(rule), count(rule["hits"]["packets"])


def _note(rule: Mapping) -> str:
    """Return what many rules have not: a source, interfaces, a name, another owner."""
    told = [] if Prefix.parse(rule["source"])[0].bits == 0 else [f"from {rule['source']}"]
    told += [f"on {','.join(rule['interfaces'])}"] if rule["interfaces"] else []
    told += [rule["name"]] if rule["name"] else []
    told += [] if rule["owner"] == DEFAULT_OWNER else [f"owner {rule['owner']}"]
    return ", ".join(told)


def outcome(rule: Mapping) -> str:
    """Return what a rule does, in one word or two."""
    if rule["action"] != "tproxy":
        return rule["action"]
    host = f"[{rule['tproxy_ip']}]" if ":" in rule["tproxy_ip"] else rule["tproxy_ip"]
    return f"{host}:{rule['tproxy_port']}" + (", or pass" if rule["on_missing"] == "pass" else "")


def _reasons(answer: Mapping) -> list:
    heads = ("INTERFACE", "REASON", "PASSED", "BYTES", "DROPPED", "BYTES")
    rows = [
        (entry["interface"], reason, *_counter(verdicts["passed"]), *_counter(verdicts["dropped"]))
        for entry in answer["attachments"]
        for reason, verdicts in entry["reasons"].items()
    ]
    return _section("Reasons", heads, rows)


def _counter(counter: Mapping) -> tuple:
    return (count(counter["packets"]), count(counter["bytes"])) if counter["packets"] else ("", "")


def _routes(answer: Mapping) -> list:
    lines = [line for route in answer["routes"] for line in paragraph(route, indent=2)]
    return ["Routes", *lines] if lines else ["Routes: none"]


def _summary_of_findings(findings: list) -> list:
    if not findings:
        return ["Findings: none"]
    counted = {}
    for finding in findings:
        counted[finding["severity"]] = counted.get(finding["severity"], 0) + 1
    told = ", ".join(f"{number} {severity}" for severity, number in counted.items())
    return [f"Findings: {told} (see `tproxy-splicer doctor`)"]


def _finding(finding: Mapping) -> list:
    code = f" [{finding['code']}]" if finding.get("code") else ""
    head = paragraph(f"{finding['severity']}: {finding['found']}{code}")
    return [*head, *paragraph(finding["remedy"], indent=4)]


def count(number: int) -> str:
    """Return a counter of 64 bits in at most eight characters: 9999999, 10000K."""
    thousands = 0
    while number >= 10_000_000:
        number, thousands = number // 1000, thousands + 1
    return f"{number}{UNITS[thousands]}"


def size(number: int) -> str:
    """Return bytes in KiB or MiB."""
    return f"{number >> 10} KiB" if number < 10 << 20 else f"{number >> 20} MiB"
