# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as draw

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import layout
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import LimitExceeded
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule_options import rules_from_params
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset import compile as compile_module
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset import groups, nodes
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.compile import compile_image
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.groups import (
    FIRST_GROUP_PAGE,
    group_pages,
    interface_groups,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.lookup import Lookup
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.records import SlottedRule, encode_action
from ansible_collections.netedge.tproxy.tests.support import image_reader, rule_sets


def slotted_from(*items):
    options = {"protocol": "tcp", "action": "pass"}
    rules, _warnings = rules_from_params([{**options, **item} for item in items])
    return [SlottedRule(rule, slot) for slot, rule in enumerate(rules, 1)]


def directory(words, number):
    """Return the words of a directory: enum group_word."""
    first = number * layout.PAGE_WORDS + layout.GROUP_BASE
    return list(words[first : first + layout.GROUP_WORDS])


def test_no_rules():
    words = compile_image([], {}, 3)
    actions = FIRST_GROUP_PAGE
    assert len(words) == (actions + 2) * layout.PAGE_WORDS  # one page of actions, an empty source
    expected = {
        layout.HEADER_MAGIC: layout.IMAGE_MAGIC,
        layout.HEADER_FORMAT: layout.IMAGE_FORMAT,
        layout.HEADER_GENERATION: 3,
        layout.HEADER_PAGES: actions + 2,
        layout.HEADER_RULES: 0,
        layout.HEADER_SLOTS: 1,
        layout.HEADER_GROUPS: 1,
        layout.HEADER_ACTIONS: actions,
        layout.HEADER_SOURCE: (actions + 1) * layout.PAGE_WORDS,
        layout.HEADER_SOURCE_BYTES: 8,
    }
    assert {word: words[word] for word in expected} == expected
    assert not any(words[layout.GROUP_BASE : (actions + 1) * layout.PAGE_WORDS])


def test_one_rule_word_by_word():
    words = compile_image(slotted_from({"destination": "10.0.0.0/15", "ports": "80-443"}), {}, 1)
    root = directory(words, 0)
    assert root == [FIRST_GROUP_PAGE] + [0] * 9
    assert words[layout.HEADER_ACTIONS] == FIRST_GROUP_PAGE + 256
    node = (FIRST_GROUP_PAGE + 258) * layout.PAGE_WORDS
    search = layout.NODE_SEARCH << 30 | layout.FIELD4_DPORT << 23 | node // 4
    starts = words[FIRST_GROUP_PAGE * layout.PAGE_WORDS :][:65536]
    assert {index: word for index, word in enumerate(starts) if word} == {0x0A00: search, 0x0A01: search}
    keys = memoryview(words[node : node + 2]).cast("B").cast("H").tolist()
    assert keys == [0, 80, 444, 0xFFFF]
    assert list(words[node + 2 : node + 6]) == [0, 1, 0, 0]


def test_one_rule_for_everything_needs_no_node():
    items = [{"destination": net, "ports": "0-65535", "protocol": "udp"} for net in ("0.0.0.0/0", "::/0")]
    words = compile_image(slotted_from(*items), {}, 1)
    assert directory(words, 0) == [0, FIRST_GROUP_PAGE, 0, 0, 2, 0, 0, 0, 0, 0]
    assert set(words[FIRST_GROUP_PAGE * layout.PAGE_WORDS :][:65536]) == {1}


def test_cover_word_by_word():
    items = [
        {"destination": "10.0.0.0/15", "ports": 80, "action": "tproxy", "tproxy_port": 1},
        {"destination": "10.0.1.0/24", "ports": 80, "action": "pass"},
    ]
    words = compile_image(slotted_from(*items), {}, 1)
    cover = image_reader.read_node(words, directory(words, 0)[layout.GROUP_IPV4_TCP_COVER])
    assert (cover.tag, cover.field) == (layout.NODE_SEARCH, layout.COVER4_DADDR_HIGH)
    assert (cover.keys, cover.values) == ([0, 0x0A00, 0x0A02, 0xFFFF], [0, 1, 0, 0])


def test_cover_of_everything_needs_no_node():
    items = [
        {"destination": net, "ports": 80, "action": "tproxy", "tproxy_port": 1, "interfaces": ["eth0"]}
        for net in ("0.0.0.0/0", "::/0")
    ]
    words = compile_image(slotted_from(*items), {"eth0": 7}, 1)
    assert directory(words, 0) == [0] * 10
    assert directory(words, FIRST_GROUP_PAGE)[6:] == [1, 0, 2, 0]


def test_protocols_without_ports_share_a_root_where_their_number_stands_for_the_port():
    items = [{"destination": "10.0.0.0/15", "protocol": name, "action": "pass"} for name in ("ospf", 112, "gre")]
    words = compile_image(slotted_from(*items), {}, 1)
    assert directory(words, 0) == [0, 0, FIRST_GROUP_PAGE] + [0] * 7
    node = image_reader.read_node(words, words[FIRST_GROUP_PAGE * layout.PAGE_WORDS + 0x0A01])
    assert (node.tag, node.field) == (layout.NODE_SEARCH, layout.FIELD4_DPORT)
    assert node.keys[:7] == [0, 47, 48, 89, 90, 112, 113]
    assert node.values[:7] == [0, 3, 0, 1, 0, 2, 0]


def test_each_protocol_has_a_cover_of_the_rules_that_splice_or_drop():
    items = [
        {"destination": "fc00::/8", "ports": 80, "protocol": "udp", "action": "drop"},
        {"destination": "fd00::/8", "ports": 80, "protocol": "tcp", "action": "drop"},
        {"destination": "fe00::/8", "ports": 80, "protocol": "tcp", "action": "pass"},
        {"destination": "fb00::/8", "protocol": "gre", "action": "drop"},
    ]
    words = compile_image(slotted_from(*items), {}, 1)
    cover = image_reader.read_node(words, directory(words, 0)[layout.GROUP_IPV6_TCP_COVER])
    assert cover.field == layout.FIELD6_DADDR
    assert (cover.keys, cover.values) == ([0, 0xFD00, 0xFE00, 0xFFFF], [0, 2, 0, 0])


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"action": "pass"}, "00" * 16 + "0000 01 00"),
        ({"action": "drop"}, "00" * 16 + "0000 02 00"),
        ({"action": "tproxy", "tproxy_port": 8080}, "00" * 10 + "ffff 7f000001 1f90 03 00"),
        (
            {"destination": "fd00::/8", "action": "tproxy", "tproxy_port": 1, "on_missing": "pass"},
            "00" * 15 + "01 0001 03 01",
        ),
    ],
)
def test_action_bytes(option, expected):
    ((rule, _slot),) = slotted_from({"destination": "10.0.0.0/8", "ports": 80, **option})
    assert encode_action(rule) == bytes.fromhex(expected) + bytes(12)


def test_actions_lie_by_slot():
    rules = [rule for rule, _slot in rule_sets.to_slotted(rule_sets.draw_rules(1, 70))]
    slots = random.Random(1).sample(range(1, 200), 70)
    words = compile_image(list(map(SlottedRule, rules, slots)), {}, 1)
    first = words[layout.HEADER_ACTIONS] * layout.PAGE_WORDS
    assert words[layout.HEADER_SLOTS] == max(slots) + 1
    actions = {slot: words[first + 8 * slot : first + 8 * slot + 8].tobytes() for slot in range(max(slots) + 1)}
    expected = {slot: encode_action(rule) for rule, slot in zip(rules, slots)}
    assert actions == {slot: expected.get(slot, bytes(32)) for slot in actions}


def test_order_of_rules_does_not_matter():
    slotted = rule_sets.to_slotted(rule_sets.draw_rules(5, 80))
    words = compile_image(slotted, rule_sets.INTERFACES, 1)
    mixed = random.Random(5).sample(slotted, len(slotted))
    assert compile_image(mixed, rule_sets.INTERFACES, 1) == words


def test_classes_share_what_is_equal():
    slotted = slotted_from(
        {"destination": "10.0.0.0/8", "ports": 80},
        {"destination": "10.0.0.0/8", "ports": 53, "protocol": "udp"},
        {"destination": "fd00::/8", "ports": 80, "interfaces": ["eth0", "eth1"]},
        {"destination": "10.0.0.0/8", "ports": 80, "interfaces": ["eth2", "gone0"]},
    )
    words = compile_image(slotted, {"eth0": 2, "eth1": 3, "eth2": 4, "eth3": 5}, 1)
    assert words[layout.HEADER_GROUPS] == 3
    everyone, eth01, eth2 = (directory(words, number) for number in (0, FIRST_GROUP_PAGE, FIRST_GROUP_PAGE + 1))
    assert eth01[:2] == everyone[:2]
    assert (everyone[3], eth2[3]) == (0, 0)
    assert eth01[3] != 0
    assert eth2[0] != everyone[0]
    assert eth2[1] == everyone[1]
    assert words[layout.HEADER_ACTIONS] == FIRST_GROUP_PAGE + 2 + 3 * 256


def test_classes_share_covers():
    slotted = slotted_from(
        {"destination": "10.0.0.0/8", "ports": 80, "action": "tproxy", "tproxy_port": 1},
        {"destination": "10.0.0.0/8", "ports": 80, "interfaces": ["eth0"]},
        {"destination": "10.0.0.0/8", "ports": 80, "interfaces": ["eth1"], "action": "tproxy", "tproxy_port": 1},
    )
    words = compile_image(slotted, {"eth0": 2, "eth1": 3}, 1)
    everyone, eth0, eth1 = (
        directory(words, number)[layout.GROUP_IPV4_TCP_COVER] for number in (0, FIRST_GROUP_PAGE, FIRST_GROUP_PAGE + 1)
    )
    assert eth0 == everyone
    assert 3 in image_reader.read_node(words, eth1).values


def test_bound_interfaces():
    slotted = slotted_from(
        {"destination": "10.0.0.0/8", "ports": 80, "interfaces": ["eth0", "wan"]},
        {"destination": "10.0.0.0/8", "ports": 81, "interfaces": ["wan"]},
    )
    words = compile_image(slotted, {"eth0": 2, "wan": 130, "lo": 1}, 1)
    assert Lookup(words).grouped() == {2: FIRST_GROUP_PAGE, 130: FIRST_GROUP_PAGE + 1}


@given(draw.lists(draw.integers(1, 2**31 - 1), unique=True, max_size=layout.INTERFACES))
@example([5 + 256 * number for number in range(layout.INTERFACES)])
@example([5 + 128 * number for number in range(layout.INTERFACES)])
@example([1 + number << 23 for number in range(layout.INTERFACES - 1)])
@example(list(range(300, 300 + layout.INTERFACES)))
def test_every_bound_interface_is_near_its_place(ifindexes):
    bound = {ifindex: 1 + ifindex % 47 for ifindex in ifindexes}
    words, seed = group_pages(bound)
    found = {}
    for place in range(layout.GROUP_PAGES * layout.PAIRS_PER_PAGE):
        ifindex, number = words[2 * place], words[2 * place + 1]
        if ifindex:
            product = ifindex * seed % 2**32
            page, pair = divmod(place, layout.PAIRS_PER_PAGE)
            assert page == product >> layout.GROUP_PAGE_SHIFT
            assert (pair - (product >> layout.GROUP_PAIR_SHIFT)) % layout.PAIRS_PER_PAGE < layout.PROBES
            found[ifindex] = number
    assert found == bound


def test_indexes_that_no_seed_places_are_refused(monkeypatch):
    monkeypatch.setattr(groups, "SEEDS", 0)
    assert refused(group_pages, {5: 1}) == (1, layout.INTERFACES)


def refused(call, *arguments):
    with pytest.raises(LimitExceeded) as refusal:
        call(*arguments)
    assert str(refusal.value.wanted) in str(refusal.value)
    assert str(refusal.value.allowed) in str(refusal.value)
    return refusal.value.wanted, refusal.value.allowed


def on_interfaces(count):
    """Return rules that put `count` interfaces into classes of their own, and their indexes."""
    items = [{"destination": "10.0.0.0/8", "ports": n, "interfaces": [f"v{n}"]} for n in range(count)]
    return slotted_from(*items), {f"v{n}": n + 1 for n in range(count)}


def test_every_bound_interface_may_be_in_a_class_of_its_own():
    slotted, ifindexes = on_interfaces(layout.INTERFACES)
    assert interface_groups(slotted, ifindexes).group_of == {
        ifindex: ifindex + FIRST_GROUP_PAGE - 1 for ifindex in ifindexes.values()
    }
    words = compile_image(slotted, ifindexes, 1)
    assert words[layout.HEADER_GROUPS] == layout.INTERFACES + 1
    first = FIRST_GROUP_PAGE + layout.INTERFACES
    starts = [directory(words, number)[layout.GROUP_IPV4_TCP] for number in image_reader.directory_pages(words)]
    assert starts == [0, *range(first, first + 256 * layout.INTERFACES, 256)]


def test_limit_of_bound_interfaces():
    assert refused(compile_image, *on_interfaces(257), 1) == (257, 256)


def test_limit_of_slots():
    rule = slotted_from({"destination": "10.0.0.0/8", "ports": 80})[0][0]
    compile_image([SlottedRule(rule, layout.RULES)], {}, 1)
    assert refused(compile_image, [SlottedRule(rule, layout.RULES + 1)], {}, 1) == (layout.RULES + 1, layout.RULES)


@pytest.mark.parametrize(("module", "limit"), [(nodes, "NODE_PAGES_MAX"), (compile_module, "IMAGE_PAGES_MAX")])
def test_limit_of_pages(monkeypatch, module, limit):
    slotted = rule_sets.to_slotted(rule_sets.draw_rules(6, 150))
    pages = compile_image(slotted, {}, 1)[layout.HEADER_PAGES]
    monkeypatch.setattr(module, limit, pages)
    compile_image(slotted, {}, 1)
    monkeypatch.setattr(module, limit, pages - 20)
    assert refused(compile_image, slotted, {}, 1)[1] == pages - 20


@pytest.mark.parametrize("seed", range(4))
def test_every_node_is_well_formed(seed):
    words = compile_image(rule_sets.to_slotted(rule_sets.draw_rules(seed, 300)), rule_sets.INTERFACES, 1)
    nodes = [node for node in image_reader.reachable(words).values() if node.words]
    for node in nodes:
        assert words[layout.HEADER_SOURCE] < node.at < len(words)
        assert node.at % layout.PAGE_WORDS + node.words <= layout.PAGE_WORDS
    for node in (node for node in nodes if node.tag == layout.NODE_SEARCH):
        real = node.keys.index(0xFFFF) + 1 if 0xFFFF in node.keys else len(node.keys)
        assert node.keys[0] == 0
        assert node.keys[:real] == sorted(set(node.keys[:real]))
        assert set(node.keys[real:]) <= {0xFFFF}
        line = node.at // 16
        assert node.at % 16 == 0 if node.words > 16 else (node.at + node.words - 1) // 16 == line


def nested(base, lengths, items):
    return slotted_from(*({"destination": f"{base}/{length}", **item} for length in lengths for item in items))


DEEP = {
    "IPv4": nested("10.1.2.3", range(33), [{"ports": "80-90"}, {"ports": 85}]),
    "IPv4, more than 32 ranges": nested("10.1.2.3", range(33), [{"ports": 2 * n} for n in range(1, 20)]),
    "IPv4, sources": nested("10.1.2.3", range(33), [{"ports": 80, "source": f"192.0.2.{n}"} for n in range(0, 80, 2)]),
    "IPv4, covers": nested("10.1.2.3", range(33), [{"ports": 80, "action": "tproxy", "tproxy_port": 1}]),
    "IPv6": nested("fd00::1:2:3", range(129), [{"ports": "80-90"}, {"ports": 85}]),
    "IPv6, covers": nested("fd00::1:2:3", range(129), [{"ports": 80, "action": "tproxy", "tproxy_port": 1}]),
    "IPv6, sources": nested("fd00::1:2:3", range(129), [{"ports": 80, "source": f"fd01::{n}"} for n in range(3)]),
    "IPv6, many sources": nested(
        "fd00::1:2:3", range(100, 129), [{"ports": 80, "source": f"fd01:{n:x}::{n:x}"} for n in range(0, 80, 2)]
    ),
}


@pytest.mark.parametrize("name", DEEP)
def test_walks_are_bounded(name):
    words = compile_image(DEEP[name], {}, 1)
    bound = layout.LOOKUP4_STEPS if name.startswith("IPv4") else layout.LOOKUP6_STEPS
    assert max(image_reader.longest_walk(words, starts) for starts in image_reader.roots(words).values()) <= bound
