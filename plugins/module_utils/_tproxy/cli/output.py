# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Format results of tproxy_info and tproxy_verdict as text of at most 80 columns: show, doctor, gc and explain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..constants import DEFAULT_OWNER
from ..model.flow import flow_text
from ..model.prefix import Prefix
from ..model.rule import ON_DEMAND

SECTIONS = ("interfaces", "rules", "reasons", "flows", "routes")
UNITS = ("", "K", "M", "G", "T", "P")

Answer = Mapping[str, Any]  # a result of a module, or a part of it


def section(name: str) -> str:
    """Return the name of a section. Raise ValueError."""
    return SECTIONS[SECTIONS.index(name)]


def show_text(answer: Answer, sections: Sequence[str], pin_dir: str, unused: bool = False) -> str:
    """Return the named sections, or all of them. `unused`: of the rules those without a hit."""
    rules = _unused_rules if unused else _rules
    writers: dict[str, Callable[[Answer], list[str]]] = dict(
        zip(SECTIONS, (_interfaces, rules, _reasons, _flows, _routes))
    )
    blocks = [writers[name](answer) for name in sections or SECTIONS]
    if not sections:
        blocks.append(_summary_of_findings(answer["findings"]))
    if answer["program"] is None:
        blocks.append(paragraph(f"No program is pinned in {pin_dir}."))
    return "\n\n".join("\n".join(block) for block in blocks)


def doctor_text(answer: Answer) -> str:
    """Return the findings, each with its remedy. Notes are no faults."""
    blocks = [_finding(finding) for finding in answer["findings"]]
    nothing = "Nothing is wrong." if answer["attachments"] else "Nothing is wrong, but no interface has the splicer."
    if all(finding["severity"] == "note" for finding in answer["findings"]):
        blocks.insert(0, [nothing])
    return "\n".join("\n".join(block) for block in blocks)


def collected_text(answer: Answer) -> str:
    """Return the removed rules, or a sentence if there are none."""
    if not answer["removed"]:
        return "Every rule of an OpenZiti router has a listener."
    rows = [(rule["destination"], rule["protocol"], rule["ports"], rule["owner"]) for rule in answer["removed"]]
    return "\n".join(table(("REMOVED", "PROTO", "PORTS", "OWNER"), rows))


def _section(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [title, *table(heads, rows, indent=2)] if rows else [f"{title}: none"]


def _interfaces(answer: Answer) -> list[str]:
    heads = ("NAME", "STATE", "PROGRAM", "DEFAULT", "ALSO PASSES", "ADDRESSES")
    lines = _section("Interfaces", heads, [_interface(entry) for entry in answer["attachments"]])
    others = [(entry["interface"], ", ".join(entry["addresses"])) for entry in answer["own_addresses"]]
    return lines + (_section("Own addresses of other interfaces", ("NAME", "ADDRESSES"), others) if others else [])


def _interface(entry: Answer) -> tuple[str, ...]:
    policy = entry["policy"] or {"default_action": "none", "management": []}
    passes = [name for name, option in (("SSH", "allow_ssh"), ("ping", "allow_echo")) if policy.get(option)]
    passes += [f"sessions ({policy['track']})"] if policy.get("track", "none") != "none" else []
    passes += [
        f"{one['source']} to {one['protocol']}" + (f"/{one['port']}" if one["port"] else "")
        for one in policy["management"]
    ]
    identity = (entry["name"] or "").rpartition(":")[2]
    default, addresses = policy["default_action"], ", ".join(entry["addresses"])
    return entry["interface"], ", ".join(entry["drift"]) or "in force", identity, default, ", ".join(passes), addresses


def _rules(answer: Answer) -> list[str]:
    image = answer["image"]
    capacity = f" of {size(image['capacity_bytes'])}" if "capacity_bytes" in image else ""
    title = f"Rules: {len(answer['rules'])}, generation {answer['generation']}, image {size(image['bytes'])}{capacity}"
    return [title, *_rule_lines(answer["rules"])]


def _unused_rules(answer: Answer) -> list[str]:
    found = [rule for rule in answer["rules"] if not rule["hits"]["packets"]]
    return [f"Rules without a hit: {len(found)} of {len(answer['rules'])}", *_rule_lines(found)]


def _rule_lines(rules: Sequence[Answer]) -> list[str]:
    heads = ("PROTO", "DESTINATION", "PORTS", "OUTCOME", "HITS")
    lines = table(heads, [_rule(rule) for rule in rules], [_note(rule) for rule in rules], indent=2)
    return lines if rules else []


def _rule(rule: Answer) -> tuple[str, ...]:
    return rule["protocol"], rule["destination"], rule["ports"], outcome(rule), count(rule["hits"]["packets"])


def _note(rule: Answer) -> str:
    """Return the source, interfaces, name and owner of a rule, if they differ from the defaults."""
    parts = [] if Prefix.parse(rule["source"])[0].bits == 0 else [f"from {rule['source']}"]
    parts += [f"on {','.join(rule['interfaces'])}"] if rule["interfaces"] else []
    parts += [rule["name"]] if rule["name"] else []
    service = f" ({rule['service']})" if rule["service"] else ""
    parts += [] if rule["owner"] == DEFAULT_OWNER else [f"owner {rule['owner']}{service}"]
    parts += [] if rule["in_force"] else ["not in force"]
    return ", ".join(parts)


def outcome(rule: Answer) -> str:
    """Return the proxy of a rule, or its action."""
    if rule["action"] != "tproxy":
        return str(rule["action"])
    host = f"[{rule['tproxy_ip']}]" if ":" in rule["tproxy_ip"] else rule["tproxy_ip"]
    user = f", user {rule['tproxy_user']}" if rule["tproxy_user"] else ""
    missing = ", or pass" if rule["on_missing"] == "pass" else ""
    large = "" if rule["fragments"] == ON_DEMAND else f", fragments {rule['fragments']}"
    return f"{host}:{rule['tproxy_port']}{user}{missing}{large}"


def _reasons(answer: Answer) -> list[str]:
    heads = ("INTERFACE", "REASON", "PASSED", "BYTES", "DROPPED", "BYTES", "WOULD DROP", "BYTES")
    rows = [
        (entry["interface"], reason, *(part for counter in verdicts.values() for part in _counter(counter)))
        for entry in answer["attachments"]
        for reason, verdicts in entry["reasons"].items()
    ]
    return _section("Reasons", heads, rows)


def _counter(counter: Mapping[str, int]) -> tuple[str, str]:
    return (count(counter["packets"]), count(counter["bytes"])) if counter["packets"] else ("", "")


def _flows(answer: Answer) -> list[str]:
    rows = [(name, str(table["entries"]), str(table["size"])) for name, table in answer["flows"].items()]
    return _section("Flows", ("TABLE", "LIVE", "SIZE"), rows)


def _routes(answer: Answer) -> list[str]:
    lines = [line for route in answer["routes"] for line in paragraph(route, indent=2)]
    return ["Routes", *lines] if lines else ["Routes: none"]


def _summary_of_findings(findings: Sequence[Answer]) -> list[str]:
    if not findings:
        return ["Findings: none"]
    counted: dict[str, int] = {}
    for finding in findings:
        counted[finding["severity"]] = counted.get(finding["severity"], 0) + 1
    counts = ", ".join(f"{number} {severity}" for severity, number in counted.items())
    return [f"Findings: {counts} (see `tproxy-splicer doctor`)"]


def _finding(finding: Answer) -> list[str]:
    code = f" [{finding['code']}]" if finding.get("code") else ""
    head = paragraph(f"{finding['severity']}: {finding['found']}{code}")
    return [*head, *paragraph(finding["remedy"], indent=4)]


def count(number: int) -> str:
    """Return a 64-bit counter in at most eight characters: 9999999, 10000K."""
    thousands = 0
    while number >= 10_000_000:
        number, thousands = number // 1000, thousands + 1
    return f"{number}{UNITS[thousands]}"


def size(number: int) -> str:
    """Return a number of bytes in KiB or MiB."""
    return f"{number >> 10} KiB" if number < 10 << 20 else f"{number >> 20} MiB"


# One sentence for each reason of bpf/abi.h; {proxy} and {action} are those of the rule.
WHY = {
    "other": "It is neither TCP nor UDP, and no rule matches it: the default action of the interface is {verdict}.",
    "arp": "ARP always passes.",
    "vlan": "It has a VLAN tag: the hook of the VLAN interface decides.",
    "malformed": "Its header is incomplete or invalid: the program drops such packets under every policy.",
    "management": "A management entry of the interface passes this source and port, before all rules.",
    "dhcp": "Answers of a DHCP server always pass.",
    "ssh": "SSH to an address of this host passes (allow_ssh).",
    "icmp": "It is ICMP that a host needs, or an echo request: allow_echo or the default action decides.",
    "fragment": "It is a fragment: it gets what the first fragment of its datagram got.",
    "established": "It belongs to a session of this host.",
    "session": "No rule matches it, but it answers a flow that began inside and left by a tracked interface.",
    "rule": "The rule's action is {action}.",
    "local": "A rule matches the flow, but it goes to an address of this host: the host itself receives it.",
    "undeliverable": "A rule matches the flow, but the host gives no proxy such a packet: the default action of"
    " the interface is {verdict}.",
    "link": "It is neither IPv4 nor IPv6 (link_protocols of the policy decides), or for another host on the link.",
    "spliced": "The rule gives this flow to the proxy on {proxy}, and a socket listens there. If clients get no answer,"
    " run `tproxy-splicer doctor`.",
    "wrong_listener": "The rule gives this flow to the proxy on {proxy}, but the socket there is not the one that the"
    " rule was made for, or belongs to another user: it gets nothing.",
    "no_listener": "The rule gives this flow to the proxy on {proxy}, but no socket listens there: its on_missing is"
    " {verdict}.",
    "assign_error": "The rule gives this flow to the proxy on {proxy}, but the kernel refused to assign its socket:"
    " a socket with SO_REUSEPORT needs Linux 6.6.",
    "default": "No rule matches this flow: the default action of the interface is {verdict}.",
}

REPLY = "Its reply enters by {interface}: {verdict} ({reason})."
REPLIES = {
    ("pass", ""): "Its reply enters by {interface}, which has no program: it passes.",
    ("pass", "session"): "Its reply enters by {interface}, which has track: all: it passes as session.",
    ("pass", "default"): "Its reply enters by {interface}, whose default action is pass.",
    ("drop", "default"): "Its reply enters by {interface}, where no rule matches it: the default action drops it. Set"
    " track: all on {interface}, or add a rule.",
    ("would_drop", "default"): "Its reply enters by {interface}, where no rule matches it: audit passes it. Set track:"
    " all on {interface} before you drop.",
}

MANAGEMENT_ENTRY = "{{source: {source}, protocol: {protocol}, port: {port}}}"
PASS_RULE = (
    "{{destination: {destination}, protocol: {protocol}, ports: {port}, interfaces: [{interface}], action: pass}}"
)

VERDICT_TEXTS = {"would_drop": "audit, which passes it and counts a would-be drop"}


def explain_text(answer: Answer) -> str:
    """Return the verdict, reason and rule of the first flow of a tproxy_verdict result."""
    flow, rule = answer["flows"][0], answer["rule"]
    lines = [*paragraph(flow_text(flow)), f"verdict: {answer['verdict']}", f"reason:  {answer['reason']}"]
    if rule:
        lines += paragraph(f"rule:    {_rule_line(rule)}")
    reply = answer.get("reply")
    after = paragraph(REPLIES.get((reply["verdict"], reply["reason"]), REPLY).format(**reply)) if reply else []
    return "\n".join([*lines, *paragraph(why(answer)), *after, *_entries_for(answer)])


def _entries_for(answer: Answer) -> list[str]:
    """Return the lines with the entries that would let a flow in, or its rule for other interfaces, if it has none."""
    if answer["reason"] != "default" or answer["verdict"] == "pass":
        return []
    elsewhere = answer.get("rule_elsewhere")
    if elsewhere:
        names = ", ".join(elsewhere["interfaces"])
        return paragraph(f"A rule has this flow on {names}, and not on this interface: {_rule_line(elsewhere)}")
    management, rule = (text.format(**answer["flows"][0]) for text in (MANAGEMENT_ENTRY, PASS_RULE))
    return [
        *paragraph("To let it in, add to `management` of the interface if the destination is this router:"),
        *paragraph(management, NOTE_INDENT),
        *paragraph("or, if the destination is another host, to the rules:"),
        *paragraph(rule, NOTE_INDENT),
    ]


def why(answer: Answer) -> str:
    """Return one sentence about the reason."""
    rule = answer["rule"] or {"action": ""}
    proxy = outcome(rule).partition(",")[0]
    verdict = VERDICT_TEXTS.get(answer["verdict"], answer["verdict"])
    return WHY[answer["reason"]].format(verdict=verdict, action=rule["action"], proxy=proxy)


def _rule_line(rule: Answer) -> str:
    name = f"{rule['name']!r} of " if rule["name"] else ""
    ports = f" ports {rule['ports']}" if rule["ports"] else ""
    flow = f"{rule['protocol']} {rule['destination']}{ports} from {rule['source']}"
    return f"{flow}: {outcome(rule)} ({name}owner {rule['owner']})"


COLUMNS = 80
GAP = 2
NARROWEST = 5
NOTE_INDENT = 4


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[object]],
    notes: Sequence[str] = (),
    indent: int = 0,
    columns: int = COLUMNS,
) -> list[str]:
    """Return the lines of a table. It omits columns without content.

    If it does not fit, the widest columns shrink and their cells continue on the next line. `notes` has none, or one
    for each row, which follows below that row.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    used = [number for number in range(len(heads)) if any(row[number] for row in cells)]
    lines = [[heads[number] for number in used], *([row[number] for number in used] for row in cells)]
    widths = _fit([list(column) for column in zip(*lines)], columns - indent)
    output = []
    for row, note in zip(lines, ["", *(notes or [""] * len(rows))]):
        output += [" " * indent + line for line in _row(row, widths)]
        output += paragraph(note, indent + NOTE_INDENT, columns) if note else []
    return output


def paragraph(text: str, indent: int = 0, columns: int = COLUMNS) -> list[str]:
    """Return the lines of a text."""
    return [" " * indent + line for line in _wrap(text, columns - indent)]


def _fit(cells: Sequence[Sequence[str]], columns: int) -> list[int]:
    """Return the width of each column, so that the table fits: without broken words, otherwise down to NARROWEST."""
    widths = [max(map(len, column)) for column in cells]
    words = [max(len(word) for cell in column for word in cell.split() or [""]) for column in cells]
    excess = sum(widths) + GAP * (len(widths) - 1) - columns
    for least in (words, [NARROWEST] * len(widths)):
        while excess > 0 and (yielding := [at for at, width in enumerate(widths) if width > least[at]]):
            widths[max(yielding, key=widths.__getitem__)] -= 1
            excess -= 1
    return widths


def _row(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Return the lines of one row."""
    if all(len(cell) <= width for cell, width in zip(row, widths)):
        return [_line(row, widths)]
    wrapped = [_wrap(cell, width) for cell, width in zip(row, widths)]
    height = max(map(len, wrapped))
    return [_line([cell[at] if at < len(cell) else "" for cell in wrapped], widths) for at in range(height)]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return (" " * GAP).join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip()


def _wrap(text: str, width: int) -> list[str]:
    if len(text) <= width:
        return [text]
    import textwrap  # it imports `re`, which many commands do not need

    return textwrap.wrap(text, width, break_on_hyphens=False)
