# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""What `tproxy-splicer show` and `doctor` print: the answer of tproxy_info, for a person's eyes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..model.flow import flow_text
from ..model.prefix import Prefix
from ..model.rule_options import DEFAULT_OWNER

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


# One sentence for each reason of bpf/abi.h; {proxy} and {action} are the rule's, {verdict} is the answer's.
WHY = {
    "other": "It is neither TCP nor UDP: the interface's default action is {verdict}.",
    "arp": "ARP always passes.",
    "vlan": "It is tagged for a VLAN interface, which judges it.",
    "malformed": "Its header is cut or contradicts itself: such packets are dropped whatever the policy says.",
    "management": "The interface's management list lets this source reach this port, before any rule is asked.",
    "dhcp": "Answers of a DHCP server always pass.",
    "ssh": "SSH to an address of this interface passes (allow_ssh), or to any address while none is recorded.",
    "icmp": "It is ICMP that a host needs, or an echo request: the interface's allow_echo or default action judges it.",
    "fragment": "It is a fragment, whose ports cannot be trusted.",
    "established": "It belongs to a session that this host has already.",
    "rule": "The rule's action is {action}.",
    "local": "A rule names the flow, but to this interface's own address: the host itself gets it.",
    "spliced": "The rule gives this flow to the proxy on {proxy}, and somebody listens there.",
    "no_listener": "The rule gives this flow to the proxy on {proxy}, but nobody listens there: its on_missing is"
    " {verdict}.",
    "assign_error": "The rule gives this flow to the proxy on {proxy}, but the kernel refused to hand over its socket:"
    " one with SO_REUSEPORT needs Linux 6.6.",
    "default": "No rule names this flow: the interface's default action is {verdict}.",
}


def explain_text(answer: Mapping) -> str:
    """Return verdict, reason and rule of the first flow of a tproxy_verdict answer."""
    flow, rule = answer["flows"][0], answer["rule"]
    lines = [*paragraph(flow_text(flow)), f"verdict: {answer['verdict']}", f"reason:  {answer['reason']}"]
    if rule:
        lines += paragraph(f"rule:    {_rule_line(rule)}")
    return "\n".join([*lines, *paragraph(why(answer))])


def why(answer: Mapping) -> str:
    """Return the reason in words."""
    rule = answer["rule"] or {"action": ""}
    proxy = outcome(rule).partition(",")[0]
    return WHY[answer["reason"]].format(verdict=answer["verdict"], action=rule["action"], proxy=proxy)


def _rule_line(rule: Mapping) -> str:
    name = f"{rule['name']!r} of " if rule["name"] else ""
    flow = f"{rule['protocol']} {rule['destination']} ports {rule['ports']} from {rule['source']}"
    return f"{flow}: {outcome(rule)} ({name}owner {rule['owner']})"


COLUMNS = 80
GAP = 2
NARROWEST = 5
NOTE_INDENT = 4


def table(heads: Sequence, rows: Sequence, notes: Sequence = (), indent: int = 0, columns: int = COLUMNS) -> list:
    """Return the lines of a table. Cells become text; a column whose cells are all empty is left out.

    Where it does not fit, the widest columns yield and their cells go on in the next line. A row's note, if there is
    one for each row, stands below it.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    used = [number for number in range(len(heads)) if any(row[number] for row in cells)]
    lines = [[heads[number] for number in used], *([row[number] for number in used] for row in cells)]
    widths = _fit([list(column) for column in zip(*lines)], columns - indent)
    told = []
    for row, note in zip(lines, ["", *(notes or [""] * len(rows))]):
        told += [" " * indent + line for line in _row(row, widths)]
        told += paragraph(note, indent + NOTE_INDENT, columns) if note else []
    return told


def paragraph(text: str, indent: int = 0, columns: int = COLUMNS) -> list:
    """Return the lines of a text."""
    return [" " * indent + line for line in _wrap(text, columns - indent)]


def _fit(cells: list, columns: int) -> list:
    """Return the width of each column of cells, so that they fit: without breaking words, else as NARROWEST allows."""
    widths = [max(map(len, column)) for column in cells]
    words = [max(len(word) for cell in column for word in cell.split() or [""]) for column in cells]
    excess = sum(widths) + GAP * (len(widths) - 1) - columns
    for least in (words, [NARROWEST] * len(widths)):
        while excess > 0 and (yielding := [at for at, width in enumerate(widths) if width > least[at]]):
            widths[max(yielding, key=widths.__getitem__)] -= 1
            excess -= 1
    return widths


def _row(row: list, widths: list) -> list:
    """Return the lines of one row."""
    if all(len(cell) <= width for cell, width in zip(row, widths)):
        return [_line(row, widths)]
    wrapped = [_wrap(cell, width) for cell, width in zip(row, widths)]
    height = max(map(len, wrapped))
    return [_line([cell[at] if at < len(cell) else "" for cell in wrapped], widths) for at in range(height)]


def _line(cells: list, widths: list) -> str:
    return (" " * GAP).join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip()


def _wrap(text: str, width: int) -> list:
    if len(text) <= width:
        return [text]
    import textwrap  # brings `re`, which many commands do without

    return textwrap.wrap(text, width, break_on_hyphens=False)
