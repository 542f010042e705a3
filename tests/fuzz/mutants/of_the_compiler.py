# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of one line in the modules that compile rules, and in those that judge the compiler; see of_the_program.py."""

from __future__ import annotations

from of_the_program import Mutant

PACKAGE = "plugins/module_utils/_tproxy/"
RULE, PROTOCOL = PACKAGE + "model/rule.py", PACKAGE + "model/protocol.py"
INTERVALS, TRIE, NODES = (PACKAGE + f"ruleset/{name}.py" for name in ("intervals", "trie", "nodes"))
IMAGE, GROUPS, ACTION = (PACKAGE + f"ruleset/{name}.py" for name in ("compile", "groups", "records"))
REFERENCE, VERIFY = (PACKAGE + f"ruleset/{name}.py" for name in ("reference", "verify"))

MUTANTS = (
    Mutant(INTERVALS, "if last + 1 < start:", "if last + 2 < start:", "a gap of one address between prefixes"),
    Mutant(
        INTERVALS,
        "_append(intervals, last + 1, enclosing[-1][1] if enclosing else gap)",
        "_append(intervals, last + 1, gap)",
        "behind a prefix in a prefix nothing holds",
    ),
    Mutant(
        INTERVALS,
        "closing.setdefault(high + 1, []).append(rank)",
        "closing.setdefault(high, []).append(rank)",
        "the last port of a range",
    ),
    Mutant(
        INTERVALS,
        "return intervals if high == PORTS - 1 else [*intervals, (high + 1, ())]",
        "return intervals",
        "ports above the only range of a prefix",
    ),
    Mutant(
        INTERVALS,
        "if any(shift >= below and network >> shift in seen for shift, seen in networks.items()):",
        "if any(network >> shift in seen for shift, seen in networks.items()):",
        "a source around a better rule's source",
    ),
    Mutant(
        INTERVALS,
        "merged.append((under[at][0], sources, under[at][1]))",
        "merged.append((under[at][0], (), under[at][1]))",
        "a range over two ranges of its parent",
    ),
    Mutant(
        TRIE,
        "return network.length <= other.length and not (network.address ^ other.address) >> bits - network.length",
        "return network.length < other.length and network.address >> bits - network.length == other.address",
        "which prefixes lie around another",
    ),
    Mutant(
        TRIE,
        "table.parent = around[-1] if around else None",
        "table.parent = None",
        "fall-through to shorter prefixes",
    ),
    Mutant(TRIE, "if not sources[0].length:", "if sources[0].length < 2:", "sources of one bit"),
    Mutant(
        TRIE,
        "key = sources, NO_MATCH if matches_all(sources) else fallback",
        "key = sources, NO_MATCH",
        "fall-through past a source",
    ),
    Mutant(
        TRIE,
        "if table.steps > self._most_steps:",
        "if False:",
        "lookups longer than the program's",
    ),
    Mutant(TRIE, "found += table.matches", "found = table.matches + found", "precedence where a chain is cut"),
    Mutant(
        TRIE,
        "table.intervals = [(0, table.ranked[0][1].source.node)]",
        "table.intervals = [(0, table.ranked[-1][1].source.node)]",
        "which rule covers a destination",
    ),
    Mutant(
        NODES, "inner = [(0, last)] if start & low else []", "inner = []", "the values before a change within a field"
    ),
    Mutant(
        NODES,
        "yield value + 1, [(0, inner[-1][1])]",
        "yield value + 1, [(0, inner[0][1])]",
        "the values behind the last",
    ),
    Mutant(NODES, "key = field, tuple(intervals)", "key = 0, tuple(intervals)", "equal nodes of different fields"),
    Mutant(NODES, "node = row[-1][1]", "node = row[0][1]", "values that go on in the next page"),
    Mutant(
        NODES,
        "words[at + number] = self.move(content[number])",
        "words[at + number] = content[number]",
        "a node that leads to where its children were",
    ),
    Mutant(
        NODES,
        "keys, count = 4 << width, SEARCH_WORDS[width]",
        "keys, count = 4, SEARCH_WORDS[width]",
        "nodes of more than four keys",
    ),
    Mutant(
        NODES,
        "for number in range(values, values + keys):",
        "for number in range(values, values + keys - 1):",
        "the last value of a full node",
    ),
    Mutant(
        NODES,
        "return node & ~NODE_POINTER_MASK | at // UNIT_WORDS",
        "return node & ~NODE_POINTER_MASK | at // UNIT_WORDS + 1",
        "where a moved node is",
    ),
    Mutant(
        NODES,
        "self.nodes.words[number] = self.move(value)",
        "self.nodes.words[number] = value",
        "a page that leads to where its children were",
    ),
    Mutant(
        NODES,
        "copy = self._search if node >> NODE_TAG_SHIFT == NODE_SEARCH else self._page",
        "copy = self._search",
        "pages taken for short nodes",
    ),
    Mutant(
        IMAGE,
        "if not pair.rule.interfaces or pair.slot in view.slots:",
        "if not pair.rule.interfaces or view.slots:",
        "the interfaces of a rule",
    ),
    Mutant(
        IMAGE,
        "pairs.sort(key=lambda pair: pair.rule.precedence)",
        "pairs.sort(key=lambda pair: pair.slot)",
        "precedence",
    ),
    Mutant(
        GROUPS,
        'COVERING = ("tproxy", "drop")',
        'COVERING = ("tproxy", "drop", "pass")',
        "rules that pass cover fragments",
    ),
    Mutant(IMAGE, "elif seen or 0 in named:", "elif seen:", "groups without rules of their own"),
    Mutant(
        GROUPS,
        "words[2 * place], words[2 * place + 1] = ifindex, group_of[ifindex]",
        "words[2 * place], words[2 * place + 1] = ifindex, group_of[ifindex] - 1",
        "pages of the groups",
    ),
    Mutant(
        PROTOCOL,
        "return protocol if protocol in PROTOCOLS else PORTLESS",
        'return protocol if protocol in PROTOCOLS else "udp"',
        "the table of protocols without ports",
    ),
    Mutant(RULE, "self.high - self.low,", "self.low - self.high,", "the narrowest range goes first"),
    Mutant(RULE, "not self.interfaces,", "bool(self.interfaces),", "a rule that names the interface goes first"),
    Mutant(
        ACTION,
        'MISSING_FLAGS = {"": 0, "drop": 0, "pass": ACTION_PASS_WHEN_MISSING}',
        'MISSING_FLAGS = {"": 0, "drop": ACTION_PASS_WHEN_MISSING, "pass": 0}',
        "on_missing",
    ),
    Mutant(
        ACTION,
        "return special | ACTION_ONE_ADDRESS | spares",
        "return special | spares",
        "rules for one own address",
    ),
    Mutant(ACTION, "special = ACTION_SPECIAL_RANGE if is_special", "special = 0 if is_special", "special addresses"),
    Mutant(ACTION, "is_routers(rule.owner) and not is_special", "not is_special", "reserved ports, other owners"),
    Mutant(ACTION, "is_routers(rule.owner) and not is_special", "is_routers(rule.owner)", "reserved ports, loopback"),
    Mutant(
        REFERENCE,
        "rules.sort(key=lambda rule: rule.precedence, reverse=True)",
        "rules.sort(key=lambda rule: rule.precedence)",
        "the reference of the verifier",
    ),
    Mutant(
        VERIFY,
        "expected = best_cover(interval.around, view.interface)",
        "expected = best_cover(interval.around, None)",
        "the verification of covers",
    ),
)
