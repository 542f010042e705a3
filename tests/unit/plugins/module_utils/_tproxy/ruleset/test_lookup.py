# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import layout
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import VerificationFailed
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.compile import compile_image
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.groups import COVERS, FIRST_GROUP_PAGE
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.lookup import Lookup, fields_of
from ansible_collections.netedge.tproxy.tests.support import image_reader, precedence, rule_sets

OTHER_IFINDEX = 9


def compare(plain, flows, note):
    """Compile the plain rules and ask the lookup, and brute force, about each flow."""
    words = compile_image(rule_sets.to_slotted(plain), rule_sets.INTERFACES, 1)
    lookup, covering = Lookup(words), rule_sets.covering(plain)
    for flow in flows:
        family, destination, source, protocol, port, interface = flow
        ifindex, address = rule_sets.INTERFACES.get(interface, OTHER_IFINDEX), rule_sets.mapped(family, destination)
        found = lookup.slot(ifindex, address, rule_sets.mapped(family, source), protocol, port)
        assert found == slot_of(precedence.winner(plain, flow)), f"{note}, {flow}, rules {plain}"
        if protocol in COVERS:
            covered = lookup.cover(lookup.group_of(ifindex), protocol, address)
            expected = precedence.cover(plain, covering, (family, destination, protocol, interface))
            assert covered == slot_of(expected), f"{note}, cover for {flow}, rules {plain}"
    return words


def slot_of(index):
    """Return the slot that to_slotted() gives."""
    return 0 if index is None else index + 1


@pytest.mark.parametrize("seed", range(60))
def test_lookup_agrees_with_brute_force(seed):
    plain = rule_sets.draw_rules(seed, (3, 25, 80)[seed % 3], families=((4,), (6,), (4, 6))[seed // 3 % 3])
    compare(plain, rule_sets.draw_flows(seed, plain, 300), f"seed {seed}")


@pytest.mark.parametrize("seed", range(4))
def test_lookup_agrees_in_large_sets(seed):
    plain = rule_sets.draw_rules(seed, 700)
    compare(plain, rule_sets.draw_flows(seed, plain, 250), f"seed {seed}")


def ranges(family, prefix, count, chance):
    """Return rules with `count` ranges on one prefix, close enough to need every kind of node."""
    starts = chance.sample(range(3000), count)
    return [(family, prefix, (0, 0), "tcp", low, low + chance.randrange(3), (), "ansible") for low in starts]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("count", [16, 33, 900])
def test_many_ranges_on_nested_prefixes(family, count):
    chance = random.Random(count)
    base, bits = rule_sets.BASES[family], precedence.BITS[family]
    plain = []
    for length in (0, bits // 2, bits - 1):
        plain += ranges(family, (base >> bits - length << bits - length, length), count, chance)
    words = compare(plain, rule_sets.draw_flows(count, plain, 300), f"{count} ranges")
    tags = {node.tag for node in image_reader.reachable(words).values()}
    expected = {16: layout.NODE_SEARCH, 33: layout.NODE_HIGH, 900: layout.NODE_LOW}[count]
    assert expected in tags


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("spread", [16, 64, 4096])
def test_many_hosts(family, spread):
    chance = random.Random(spread)
    bits, base = precedence.BITS[family], rule_sets.BASES[family]
    hosts = {base ^ chance.getrandbits(20) % spread for _number in range(400)}
    plain = [(family, (host, bits), (0, 0), "udp", 53, 53, (), "ansible") for host in sorted(hosts)]
    plain += [(family, (base, bits), (host, bits), "udp", 53, 53, (), "ansible") for host in sorted(hosts)]
    compare(plain, rule_sets.draw_flows(spread, plain, 300), f"spread {spread}")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("seed", range(3))
def test_deep_nests_with_sources(family, seed):
    """Chains long enough to be cut: every prefix around one host, each with its own ports and sources."""
    chance = random.Random(seed)
    base, bits = rule_sets.BASES[family], precedence.BITS[family]
    plain = {}
    for length in range(bits + 1):
        network = base >> bits - length << bits - length, length
        for _number in range(4):
            source_length = chance.choice((0, bits - 2, bits - 1, bits))
            source = (base >> bits - source_length << bits - source_length), source_length
            low = chance.randrange(12)
            plain[family, network, source, "tcp", low, low + chance.randrange(3), (), "ansible"] = None
    compare(list(plain), rule_sets.draw_flows(seed, list(plain), 300), f"seed {seed}")


def test_function_and_walker_agree():
    plain = rule_sets.draw_rules(8, 40)
    words = compile_image(rule_sets.to_slotted(plain), rule_sets.INTERFACES, 1)
    for family, destination, source, protocol, port, _interface in rule_sets.draw_flows(8, plain, 20):
        flow = rule_sets.mapped(family, destination), rule_sets.mapped(family, source), protocol, port
        assert Lookup(words).slot(2, *flow) == Lookup(words.tobytes()).slot(2, *flow)


def test_fields():
    ipv4 = fields_of(0xFFFF << 32 | 0x0A000102, 0xFFFF << 32 | 0xC0000203, 80)
    assert ipv4[layout.FIELD4_DADDR_LOW] == 0x0102
    assert ipv4[layout.FIELD4_DPORT] == 80
    assert (ipv4[layout.FIELD4_SADDR_HIGH], ipv4[layout.FIELD4_SADDR_LOW]) == (0xC000, 0x0203)
    ipv6 = fields_of(0x20010DB8 << 96 | 7, 0xFE80 << 112 | 9, 80)
    assert ipv6[layout.FIELD6_DADDR : layout.FIELD6_DADDR + 8] == [0x2001, 0x0DB8, 0, 0, 0, 0, 0, 7]
    assert ipv6[layout.FIELD6_SADDR : layout.FIELD6_SADDR + 8] == [0xFE80, 0, 0, 0, 0, 0, 0, 9]
    assert ipv6[layout.FIELD6_DPORT] == 80


ROOT = FIRST_GROUP_PAGE * layout.PAGE_WORDS
HOST = 0xFFFF << 32


def hand_made(word):
    """Return an image whose IPv4 TCP root holds this word everywhere."""
    words = compile_image(rule_sets.to_slotted([(4, (0, 0), (0, 0), "tcp", 0, 65535, (), "ansible")]), {}, 1)
    words[ROOT] = word
    return words


@pytest.mark.parametrize(
    "word",
    [
        layout.NODE_HIGH << 30 | 0x7FFFFF,  # beyond the image
        layout.NODE_LOW << 30 | 0x7FFFFF,
        layout.NODE_SEARCH << 30 | 0x7FFFFF,
        layout.NODE_SEARCH << 30 | 3 << 28 | 63,  # 32 keys at the end of a page
        layout.NODE_HIGH << 30 | 17 << 23,  # no such field
        layout.NODE_HIGH << 30 | FIRST_GROUP_PAGE,  # a root as a node: in a circle for ever
    ],
)
def test_damaged_words_end_the_lookup(word):
    with pytest.raises(VerificationFailed):
        Lookup(hand_made(word)).slot(2, HOST, HOST, "tcp", 80)


def test_directory_beyond_the_image():
    words = hand_made(1)
    words[layout.GROUP_BASE] = words[layout.HEADER_PAGES] - 255
    with pytest.raises(VerificationFailed):
        Lookup(words).slot(2, HOST, HOST, "tcp", 80)


@pytest.mark.parametrize("pages", [0, 1, 100000])
def test_size_in_the_header_differs(pages):
    words = hand_made(1)
    words[layout.HEADER_PAGES] = pages
    with pytest.raises(VerificationFailed):
        Lookup(words)


def test_no_image_at_all():
    with pytest.raises(VerificationFailed):
        Lookup(b"")


@pytest.mark.parametrize("page", [1, FIRST_GROUP_PAGE + 1, 100000])
def test_group_without_a_directory(page):
    slotted = rule_sets.to_slotted([(4, (0, 0), (0, 0), "tcp", 0, 65535, ("eth0",), "ansible")])
    words = compile_image(slotted, rule_sets.INTERFACES, 1)
    assert Lookup(words).slot(rule_sets.INTERFACES["eth0"], HOST, HOST, "tcp", 80) == 1
    (pair,) = [at for at in range(layout.PAGE_WORDS, FIRST_GROUP_PAGE * layout.PAGE_WORDS, 2) if words[at]]
    words[pair + 1] = page
    with pytest.raises(VerificationFailed):
        Lookup(words).slot(rule_sets.INTERFACES["eth0"], HOST, HOST, "tcp", 80)
