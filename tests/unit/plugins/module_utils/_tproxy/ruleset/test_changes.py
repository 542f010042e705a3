# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image that changes in place gives the same answers as a new one, after each change and during it.

`LIVE_CHANGES=100000 pytest .../ruleset/test_changes.py` is the longer form of the fuzzer.
"""

from __future__ import annotations

import os
import random
from array import array

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import layout
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.compile import RuleImage
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.digest import ImageDigest, is_edited
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.lookup import Lookup
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.nodes import FullCompileNeeded
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.records import SlottedRule, read_image
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.reference import Reference
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.verify import verify_image
from ansible_collections.netedge.tproxy.tests.support import rule_sets

CHANGES = int(os.environ.get("LIVE_CHANGES", "200"))
CHECKED_EVERY = 25


def steps(writes, words):
    """Return [(word, value)] in the order of their writing."""
    fresh = [(at + n, words[at + n]) for at, count in writes.fresh for n in range(count)]
    return [*writes.begin, *fresh, *writes.published]


class Machine:
    """An image in force, kept by Writes alone; compiled anew when it must be."""

    def __init__(self, rules=()):
        self.anew, self.image, self.memory = 0, None, None
        self._compile({rule.identity: rule for rule in rules})

    def _compile(self, rules):
        slotted = [SlottedRule(rule, slot) for slot, rule in enumerate(rules.values(), 1)]
        self.image = RuleImage(slotted, rule_sets.INTERFACES, 1, layout.IMAGE_PAGES_MIN)
        self.memory = array("I", self.image.words)
        self.anew += 1

    def change(self, removes=(), puts=()):
        after = {key: rule for key, (rule, _slot) in self.image.rules.items() if key not in removes}
        after.update({rule.identity: rule for rule in puts})
        try:
            writes = self.image.change(list(removes), list(puts))
        except FullCompileNeeded:
            self._compile(after)
            return None
        for at, value in steps(writes, self.image.words):
            self.memory[at] = value
        return writes

    def slotted(self):
        return sorted(self.image.rules.values(), key=lambda pair: pair[1])

    def check(self):
        assert self.memory == self.image.words
        verify_image(self.memory, self.slotted(), rule_sets.INTERFACES)
        assert read_image(self.memory).rules == self.slotted()
        assert not read_image(self.memory).interrupted
        assert self.memory[layout.HEADER_DIGEST] == ImageDigest(self.memory).value


def drawn(seed, count, **options):
    return [
        rule_sets.to_rule(plain, number) for number, plain in enumerate(rule_sets.draw_rules(seed, count, **options))
    ]


def calm(rules):
    """Return the rules without interfaces, because those need a full compile most of the time."""
    return [rule for rule in rules if not rule.interfaces]


@pytest.mark.parametrize("seed", range(4))
def test_any_sequence_of_changes_is_what_the_compiler_makes_of_it(seed):
    chance, pool = random.Random(seed), drawn(seed, 90)
    machine = Machine(pool[:30])
    for number in range(CHANGES // 4):
        known = list(machine.image.rules)
        kind = chance.random()
        if kind < 0.4 and known:
            machine.change(removes=[chance.choice(known)])
        elif kind < 0.5 and known:
            rule = machine.image.rules[chance.choice(known)][0]
            machine.change(puts=[chance.choice([one for one in pool if one.identity == rule.identity])])
        else:
            machine.change(puts=[chance.choice(pool)])
        if number % CHECKED_EVERY == 0:
            machine.check()
    machine.check()
    assert machine.anew < CHANGES // 4


def test_ten_ranges_of_eighty_services_never_need_the_compiler():
    machine = Machine()
    for rule in services(80, 10):
        assert machine.change(puts=[rule])
    machine.check()
    assert machine.anew == 1
    for rule in services(80, 10):
        assert machine.change(removes=[rule.identity])
    machine.check()
    assert machine.anew == 1


def services(count, ranges):
    base = rule_sets.MAPPED | 0x64400001
    for service in range(count):
        for number in range(ranges):
            plain = (4, (base + service & 0xFFFFFFFF, 32), (0, 0), "tcp", 100 * number, 100 * number + 9, (), "ziti:x")
            yield rule_sets.to_rule(plain, 3 * (service % 7) + 2)


def test_rules_with_the_last_slots_leave_slots_for_those_that_follow():
    """As after a router has inserted as many rules as there are slots, and removed nearly all of them."""
    drawn = [rule_sets.to_rule(plain) for plain in rule_sets.draw_rules("late", 40)]
    slotted = [SlottedRule(rule, layout.RULES - number) for number, rule in enumerate(drawn[:20])]
    image = RuleImage(slotted, rule_sets.INTERFACES, 1, layout.IMAGE_PAGES_MIN)
    for rule in [rule for rule in drawn[20:] if not rule.interfaces]:
        image.change([], [rule])
    verify_image(image.words, list(image.rules.values()), rule_sets.INTERFACES)


@pytest.mark.parametrize("seed", range(3))
def test_at_each_written_word_a_packet_has_the_old_answer_or_the_new(seed):
    rules = calm(drawn(seed + 50, 60))
    machine, chance = Machine(rules[:20]), random.Random(seed)
    for rule in rules[20:]:
        for options in ({"puts": [rule]}, {"removes": [rule.identity]})[: 1 + (chance.random() < 0.5)]:
            _check_words_on_the_way(machine, rule, options)


def _check_words_on_the_way(machine, rule, options):
    before, memory = dict(machine.image.rules), array("I", machine.memory)
    writes = machine.change(**options)
    if writes is None:
        return
    slots = [{key: slot for key, (_rule, slot) in rules.items()} for rules in (before, machine.image.rules)]
    indexes = [Reference(pair[0] for pair in rules.values()) for rules in (before, machine.image.rules)]
    address, source = rule.destination.network, rule.source.network
    answers = set()
    for index, known in zip(indexes, slots):
        best = index.best(address, source, rule.protocol, rule.low)
        answers.add(known[best.identity] if best else 0)
    for at, value in steps(writes, machine.image.words):
        memory[at] = value
        assert Lookup(memory).slot(0, address, source, rule.protocol, rule.low) in answers


def _outcome(memory, packet):
    """Return the bytes of the action that a packet meets, None without a rule."""
    lookup = Lookup(memory)
    slot = lookup.slot(*packet)
    return lookup.action(slot) if slot else None


@pytest.mark.parametrize("is_known", [False, True], ids=["a new rule", "a rule with another port"])
@pytest.mark.parametrize("seed", range(12))
def test_at_each_written_word_a_rule_that_replaces_another_is_there_or_that_one(seed, is_known):
    """A call that supersedes the rule of a crashed service changes one flow, in nested prefixes and port ranges."""
    chance = random.Random(seed)
    rules = calm(drawn(seed + 1000, 40, families=(4, 6)[seed % 2 :][:1]))
    machine = Machine(rules)
    for stale in chance.sample([rule for rule in rules if rule.action == "tproxy"], 3):
        fresh = stale._replace(owner=chance.choice(("a", "ziti:0", "ziti:zz")), tproxy_port=chance.randrange(1, 60000))
        if is_known:
            machine.change(puts=[fresh._replace(tproxy_port=7)])
        others = chance.sample(rules, 6)
        packets = [
            (1, rule.destination.network | last, stale.source.network, stale.protocol, port)
            for rule in (stale, *others)
            for last in (0, (1 << 128 - rule.destination.length) - 1)
            for port in (stale.low, stale.high, min(stale.high + 1, 65535))
        ]
        memory = array("I", machine.memory)
        before = [_outcome(memory, packet) for packet in packets]
        writes = machine.change(removes=[stale.identity], puts=[fresh])
        if writes is None:
            continue
        after = [_outcome(machine.memory, packet) for packet in packets]
        assert not is_known or before != after
        written = steps(writes, machine.image.words)
        asked_at = set(chance.sample(range(len(written)), min(len(written), 40))) | {len(written) - 3}
        for number, (at, value) in enumerate(written):
            memory[at] = value
            if number in asked_at or number >= len(written) - 12:
                met = [_outcome(memory, packet) for packet in packets]
                assert all(answer in pair for answer, *pair in zip(met, before, after)), (stale, fresh, number)


def test_a_covering_prefix_may_change_while_hosts_fall_through_to_it():
    hosts = [(4, (0x64400001 + n, 32), (0, 0), "tcp", 80, 80, (), "ziti:x") for n in range(600)]
    wide = [(4, (0x64400000, 10), (0, 0), "tcp", low, low, (), "ziti:y") for low in range(1000, 1040)]
    machine = Machine([rule_sets.to_rule(wide[0]), *map(rule_sets.to_rule, hosts)])
    for plain in wide[1:]:
        writes = machine.change(puts=[rule_sets.to_rule(plain)])
        assert writes
        assert len(writes.published) < 8
    machine.check()


def test_a_rule_that_names_an_interface_changes_in_place_once_its_class_is_there():
    plain = [(4, (0x0A000000 + n, 32), (0, 0), "udp", 53, 53, ("eth0",), "ziti:x") for n in range(40)]
    machine = Machine([rule_sets.to_rule(plain[0])])
    for one in plain[1:]:
        assert machine.change(puts=[rule_sets.to_rule(one, 2)])
    machine.check()
    assert machine.change(puts=[rule_sets.to_rule((*plain[0][:6], ("wan",), "ziti:x"))]) is None
    machine.check()


def test_another_port_of_the_proxy_is_one_word():
    machine = Machine(services(1, 1))
    ((rule, _slot),) = machine.image.rules.values()
    changed = rule._replace(tproxy_port=4242)
    writes = machine.change(puts=[changed])
    assert writes.published[0][1] & 0xFFFF == 4242 >> 8 | (4242 & 0xFF) << 8
    machine.check()


@pytest.mark.parametrize("before", [None, 0, 41, 1 << 40])
def test_another_listener_counts_from_its_port_on(before):
    """Until then the old port goes with the new user, and the new cookie or a half of it: no socket has that."""
    rule = rule_sets.to_rule(rule_sets.draw_rules(1, 1)[0])._replace(
        action="tproxy", tproxy_ip="127.0.0.1", tproxy_port=4001, on_missing="drop", listener=before
    )
    machine = Machine([rule])
    after = rule._replace(tproxy_port=4002, listener=2 << 32 | 42, user=7)
    writes = machine.change(puts=[after])
    assert machine.anew == 1
    machine.check()
    action = machine.image.words[layout.HEADER_ACTIONS] * layout.PAGE_WORDS + layout.ACTION_WORDS
    places = [word - action for word, _value in writes.published if 0 <= word - action < layout.ACTION_WORDS]
    assert places == [5, 6, 7, 4]


def test_a_change_that_was_cut_off_is_seen():
    machine = Machine(services(2, 1))
    memory = array("I", machine.memory)
    writes = machine.change(removes=[next(iter(machine.image.rules))])
    for at, value in steps(writes, machine.image.words)[:-1]:
        memory[at] = value
        assert read_image(memory).interrupted
        assert not is_edited(memory)


def test_a_word_that_is_edited_between_two_changes_is_seen_after_them():
    machine = Machine(services(2, 10))
    assert not is_edited(machine.memory)
    machine.memory[-1] ^= 1
    for rule in services(3, 10):
        machine.change(puts=[rule])
        assert is_edited(machine.memory)
    machine.memory[-1] ^= 1
    assert not is_edited(machine.memory)
