# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change an image in place between packets. After each change program and model must agree.

The rules that come and go are those of a setup. Packets are drawn for all of them, removed rules included.
"""

from __future__ import annotations

import random
from collections import Counter

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.rule_table import RuleTable
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.rules_incremental import IncrementalTable
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf, mapped_array

from .host import INTERFACES
from .packets import Packets
from .program import Program, read_rules
from .setup import FIRST, draw_setup
from .trial import Trial

CHANGES = 25
PACKETS_PER_CHANGE = 20
RULES_PER_CHANGE = 3
ON_ALL_INTERFACES = 0.8  # of the setups: a rule that names an interface is mostly a reason to compile anew


class Maps:
    """The maps of the program, in place of pins. An image that outgrows its maps is a fault of this test."""

    def __init__(self, maps: dict):
        self._maps = maps

    def fd(self, name: str) -> int:
        """Return a map's descriptor."""
        return self._maps[name]

    def has(self, name: str) -> bool:
        """Return whether there is such a map."""
        return name in self._maps

    def missing(self) -> list:
        """Return the names of the maps that are not there."""
        return []


class LiveProgram(Program):
    """A program with an image that changes in place. `anew` counts the full compiles."""

    def tell(self, setup: dict) -> None:
        """Put a setup in force, in an image with free space."""
        super().tell(setup)
        table = RuleTable(bpf, Maps(self.maps), INTERFACES.get, None)
        self._live = IncrementalTable(bpf, mapped_array, table, lambda _member: None)
        self._live.refresh()
        self._table, self.anew, self._number = table, 0, table.number()

    def change(self, removes: list, puts: list) -> None:
        """Remove rules and put others, given as the setup has them."""
        gone, come = read_rules(removes), read_rules(puts)
        self._live.refresh()
        self._live.change([rule.identity for rule in gone], come)
        self.anew += self._table.number() != self._number
        self._number = self._table.number()

    def slots(self, rules: list) -> list:
        """Return the slots of rules, as the image in force records them."""
        have = {rule.identity: slot for rule, slot in self._table.load().contents.rules}
        wanted = [rule.identity for rule in read_rules(rules)]
        assert have.keys() == set(wanted)
        return [have[identity] for identity in wanted]


class LiveTrial(Trial):
    """Both sides, told the same changes."""

    kind = LiveProgram

    def change(self, removes: list, puts: list) -> None:
        """Remove rules and put others on both sides."""
        self.program.change(removes, puts)
        rules = [rule for rule in self.setup["rules"] if rule not in removes] + puts
        firsts = self._router.firsts
        self._tell_model({**self.setup, "rules": rules, "slots": self.program.slots(rules)})
        self._router.firsts = firsts


def try_changes(trial: LiveTrial, name: str) -> Counter:
    """Change the rules of the setup that is drawn from `name`; return how often each reason was given.

    Raises AssertionError, which says after how many changes program and model part.
    """
    chance = random.Random(name)
    setup = {**draw_setup(chance), "image": FIRST}
    if chance.random() < ON_ALL_INTERFACES:
        setup["rules"] = list({_about(rule): {**rule, "interfaces": []} for rule in setup["rules"]}.values())
    universe, seen = setup["rules"], Counter()
    source = Packets(setup, trial.host.sockets, chance)
    trial.tell(_with_rules(setup, [rule for rule in universe if chance.random() < 0.5]))
    for number in range(CHANGES):
        if trial.host.is_stale():  # on a slow machine the sockets in TIME_WAIT would end
            trial.tell(_with_rules(setup, trial.setup["rules"]))
        drawn = chance.sample(universe, min(len(universe), chance.randint(1, RULES_PER_CHANGE)))
        for rule in drawn:  # a change of several flows is compiled anew
            is_here = rule in trial.setup["rules"]
            trial.change([rule] if is_here else [], [] if is_here else [rule])
        for _packet in range(PACKETS_PER_CHANGE):
            arrived = source.draw()
            said, wanted = trial.ask(arrived)
            assert said == wanted, f"{name}, change {number}, {arrived}: the program says {said}, the model {wanted}"
            seen[said.reason] += 1
    return seen


def _with_rules(setup: dict, rules: list) -> dict:
    return {**setup, "rules": rules, "slots": list(range(1, len(rules) + 1))}


def _about(rule: dict) -> str:
    """Return the match of a rule that holds on all interfaces."""
    return repr([rule[option] for option in ("owner", "destination", "source", "protocol", "ports")])
