# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of one line in the modules that compile rules, and in those that judge the compiler; see of_the_program.py."""

from __future__ import annotations

from of_the_program import Mutant

PACKAGE = "plugins/module_utils/_tproxy/"
RULE = PACKAGE + "model/rule.py"
INTERVALS, TREE, NODES = (PACKAGE + f"ruleset/{name}.py" for name in ("intervals", "trie", "nodes"))
IMAGE, CLASSES, ACTION = (PACKAGE + f"ruleset/{name}.py" for name in ("compile", "groups", "records"))
RULESET, VERIFY = (PACKAGE + f"ruleset/{name}.py" for name in ("reference", "verify"))

MUTANTS = (
    Mutant(INTERVALS, "if last + 1 < start:", "if last + 2 < start:", "a gap of one address between prefixes"),
    Mutant(
        INTERVALS,
        "_append(partition, last + 1, enclosing[-1][1] if enclosing else gap)",
        "_append(partition, last + 1, gap)",
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
        "return partition if high == PORTS - 1 else [*partition, (high + 1, ())]",
        "return partition",
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
        "merged.append((under[at][0], candidates, under[at][1]))",
        "merged.append((under[at][0], (), under[at][1]))",
        "a range over two ranges of its parent",
    ),
    Mutant(
        TREE,
        "while ancestors and (ancestors[-1][0] ^ network) >> bits - ancestors[-1][1]:",
        "while ancestors and ancestors[-1][0] >> bits - ancestors[-1][1] != network >> bits - ancestors[-1][1] + 1:",
        "which prefixes lie around another",
    ),
    Mutant(
        TREE,
        "profile = self._profile(claims, ancestors[-1][2] if ancestors else NOTHING)",
        "profile = self._profile(claims, NOTHING)",
        "fall-through to shorter prefixes",
    ),
    Mutant(TREE, "if not candidates[0][1]:", "if candidates[0][1] < 2:", "sources of one bit"),
    Mutant(
        TREE,
        "key = candidates, NO_MATCH if covers_all(candidates) else fallback",
        "key = candidates, NO_MATCH",
        "fall-through past a source",
    ),
    Mutant(
        TREE,
        "if self._nodes.steps_of(partition) > self._family.chain_steps:",
        "if False:",
        "walks longer than the program's",
    ),
    Mutant(TREE, "found += parent.claims", "found = parent.claims + found", "precedence where a chain is cut"),
    Mutant(
        TREE,
        "words = [(*prefix, claims[0].candidate[2]) for prefix, claims in claims_by_prefix.items()]",
        "words = [(*prefix, claims[-1].candidate[2]) for prefix, claims in claims_by_prefix.items()]",
        "which rule covers a destination",
    ),
    Mutant(
        NODES, "inner = [(0, last)] if start & low else []", "inner = []", "the values before a change within a field"
    ),
    Mutant(
        NODES,
        "yield field + 1, [(0, inner[-1][1])]",
        "yield field + 1, [(0, inner[0][1])]",
        "the values behind the last",
    ),
    Mutant(NODES, "key = field, tuple(partition)", "key = tuple(partition)", "equal nodes of different fields"),
    Mutant(NODES, "word = row[-1][1]", "word = row[0][1]", "values that go on in the next page"),
    Mutant(
        NODES,
        "words[at + number] = self.move(self._from[old + number])",
        "words[at + number] = self._from[old + number]",
        "a node that leads to where its children were",
    ),
    Mutant(NODES, "keys = 4 << width", "keys = 4", "nodes of more than four keys"),
    Mutant(
        NODES,
        "for number in range(values, values + keys):",
        "for number in range(values, values + keys - 1):",
        "the last value of a full node",
    ),
    Mutant(
        NODES,
        "return word & ~NODE_POINTER_MASK | at // UNIT_WORDS",
        "return word & ~NODE_POINTER_MASK | at // UNIT_WORDS + 1",
        "where a moved node is",
    ),
    Mutant(
        NODES,
        "self.nodes.words[first + number] = self.move(self._from[old + number])",
        "self.nodes.words[first + number] = self._from[old + number]",
        "a page that leads to where its children were",
    ),
    Mutant(
        NODES,
        "moved = self._search(word) if word >> NODE_TAG_SHIFT == NODE_SEARCH else self._page(word)",
        "moved = self._search(word)",
        "pages taken for short nodes",
    ),
    Mutant(
        IMAGE, "if not slot or slot in view.restricted:", "if not slot or view.restricted:", "the interfaces of a rule"
    ),
    Mutant(
        IMAGE,
        "tables = tables_of(sorted(slotted, key=lambda pair: (pair[0].precedence, pair[0].protocol)))",
        "tables = tables_of(slotted)",
        "precedence",
    ),
    Mutant(
        IMAGE,
        'if rule.action == "tproxy":',
        'if rule.action != "drop":',
        "rules that pass count as intercepts",
    ),
    Mutant(IMAGE, "if view.restricted or 0 in ours:", "if view.restricted:", "classes without rules of their own"),
    Mutant(
        CLASSES,
        "page[2 * slot], page[2 * slot + 1] = ifindex, bound[ifindex]",
        "page[2 * slot], page[2 * slot + 1] = ifindex, bound[ifindex] - 1",
        "pages of the classes",
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
        RULESET,
        "rules.sort(key=lambda rule: rule.precedence, reverse=True)",
        "rules.sort(key=lambda rule: rule.precedence)",
        "the look-up that judges the compiler",
    ),
    Mutant(
        VERIFY,
        "want = self._index.cover(address, view.interface)",
        "want = self._index.cover(address, None)",
        "the judge of covers",
    ),
)
