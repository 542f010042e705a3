# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import layout
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import VerificationFailed
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import family_of
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.compile import compile_image
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.groups import FIRST_GROUP_PAGE
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.lookup import Lookup
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.records import SlottedRule
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.verify import verify_image
from ansible_collections.netedge.tproxy.tests.support import image_reader, rule_sets

INTERFACES = rule_sets.INTERFACES


def made(seed, count, families=(4, 6)):
    plain = rule_sets.draw_rules(seed, count, families)
    slotted = rule_sets.to_slotted(plain)
    return plain, slotted, compile_image(slotted, INTERFACES, 1)


@pytest.mark.parametrize("seed", range(12))
def test_what_the_compiler_makes_is_right(seed):
    _plain, slotted, words = made(seed, (1, 10, 60, 200)[seed % 4])
    assert verify_image(words, slotted, INTERFACES) >= 4 * len(slotted)


def test_covers_are_looked_at_on_every_edge():
    """A hundred rules on one prefix: its first and last address and those beside it, once."""
    rules = [(6, (0xFD << 120, 8), (0, 0), "udp", port, port, (), "ansible") for port in range(100)]
    splicing = [SlottedRule(rule_sets.to_rule(rule, 2), slot) for slot, rule in enumerate(rules, 1)]
    passing = [SlottedRule(rule_sets.to_rule(rule, 0), slot) for slot, rule in enumerate(rules, 1)]
    points = [verify_image(compile_image(slotted, {}, 1), slotted, {}) for slotted in (splicing, passing)]
    assert points[0] == points[1] + 4


def test_no_rules():
    assert verify_image(compile_image([], {}, 1), [], {}) == 0


@pytest.mark.parametrize("family", [4, 6])
def test_rules_of_interfaces_that_are_not_there(family):
    plain = [(family, (0, 0), (0, 0), "tcp", 80, 80, ("gone0",), "ansible")]
    slotted = [SlottedRule(rule_sets.to_rule(rule, 2), slot) for slot, rule in enumerate(plain, 1)]
    verify_image(compile_image(slotted, {}, 1), slotted, {})


def refused(words, slotted, ifindexes=None):
    ifindexes = INTERFACES if ifindexes is None else ifindexes
    with pytest.raises(VerificationFailed) as refusal:
        verify_image(words, slotted, ifindexes)
    return str(refusal.value)


def test_another_set_of_rules():
    _plain, slotted, words = made(1, 30)
    refused(words, made(2, 30)[1])
    refused(words, [pair for pair in slotted if pair[0].interfaces])


def test_message_names_rule_and_point():
    plain = [(4, (0x0A000000, 8), (0, 0), "tcp", 80, 80, (), "ansible")]
    slotted = rule_sets.to_slotted(plain)
    words = compile_image(rule_sets.to_slotted([(*plain[0][:5], 81, *plain[0][6:])]), {}, 1)
    text = refused(words, slotted)
    assert "tcp 10.0.0.0 port 81" in text or "tcp 10.255.255.255 port 81" in text
    assert "belongs to no rule, the image gives slot 1 (tcp 10.0.0.0/8 ports 80: pass" in text


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        (((0x0A000000, 15), (0, 0)), ((0x0A000000, 16), (0, 0))),
        (((0x0A000000, 15), (0, 0)), ((0x0A010000, 16), (0, 0))),
        (((0, 0), (0x0A000000, 15)), ((0, 0), (0x0A000000, 16))),
        (((0, 0), (0x0A000000, 15)), ((0, 0), (0x0A010000, 16))),
    ],
)
def test_an_image_that_reaches_too_far(wide, narrow):
    """Inside the narrow prefix all is right; only the address beside it tells."""
    made_of, asked = (
        rule_sets.to_slotted([(4, destination, source, "tcp", 80, 80, (), "ansible")])
        for destination, source in (wide, narrow)
    )
    refused(compile_image(made_of, {}, 1), asked, {})


@pytest.mark.parametrize("interfaces", [(), ("eth1",)])
@pytest.mark.parametrize("column", [layout.GROUP_IPV4_TCP_COVER, layout.GROUP_IPV6_TCP_COVER])
def test_a_wrong_cover(column, interfaces):
    networks = {4: (0x0A000000, 8), 6: (0xFD << 120, 8)}
    plain = [(family, network, (0, 0), "tcp", 80, 80, interfaces, "ansible") for family, network in networks.items()]
    slotted = [SlottedRule(rule_sets.to_rule(rule, 2), slot) for slot, rule in enumerate(plain, 1)]
    words = compile_image(slotted, INTERFACES, 1)
    assert verify_image(words, slotted, INTERFACES)
    words[(FIRST_GROUP_PAGE * layout.PAGE_WORDS if interfaces else 0) + layout.GROUP_BASE + column] = 0
    text = refused(words, slotted)
    assert "the cover lookup of tcp " in text
    assert f"belongs to {slotted[column == layout.GROUP_IPV6_TCP_COVER][0]}, the image gives slot 0" in text


def test_a_cover_that_reaches_too_far():
    plain = [(4, (0x0A000000, length), (0, 0), "tcp", 80, 80, (), "ansible") for length in (15, 16)]
    wide, narrow = ([SlottedRule(rule_sets.to_rule(rule, 2), 1)] for rule in plain)
    words, cover = compile_image(narrow, {}, 1), layout.GROUP_BASE + layout.GROUP_IPV4_TCP_COVER
    node = image_reader.read_node(words, words[cover])
    other = compile_image(wide, {}, 1)
    words[node.at : node.at + node.words] = other[image_reader.read_node(other, other[cover]).at :][: node.words]
    assert "the cover lookup of tcp 10.1.0.0" in refused(words, narrow, {})


def test_a_wrong_action():
    _plain, slotted, words = made(3, 30)
    words[words[layout.HEADER_ACTIONS] * layout.PAGE_WORDS + 30 * layout.ACTION_WORDS + 4] ^= 1 << 16
    assert str(slotted[29][0]) in refused(words, slotted)


def test_interfaces_that_came_and_went():
    _plain, slotted, words = made(4, 60)
    assert "groups the interfaces" in refused(words, slotted, {**INTERFACES, "gone0": 44})
    assert "groups the interfaces" in refused(words, slotted, {"eth0": 2})


def test_interface_in_the_class_of_another():
    _plain, slotted, words = made(5, 60)
    numbers = [at for at in range(layout.PAGE_WORDS + 1, FIRST_GROUP_PAGE * layout.PAGE_WORDS, 2) if words[at]]
    words[numbers[0]], words[numbers[1]] = words[numbers[1]], words[numbers[0]]
    refused(words, slotted)


def corner_flows(plain):
    """Return (ifindex, destination, source, protocol, port): first and last of everything, and the ports beside."""
    flows = set()
    for family, destination, source, protocol, low, high, _interfaces, _owner in plain:
        first, second = (rule_sets.to_prefix(family, prefix) for prefix in (destination, source))
        for address in (first.network, first.last):
            if family_of(address) != family:
                continue  # an IPv6 prefix may end inside ::ffff:0:0/96, where no IPv6 packet can be
            for origin in (second.network, second.last):
                for port in sorted({max(low - 1, 0), low, high, min(high + 1, 65535)}):
                    flows |= {(ifindex, address, origin, protocol, port) for ifindex in (2, 131, 9)}
    return sorted(flows)


def cover_corners(plain):
    """Return (ifindex, protocol, destination): first and last of each rule that covers fragments."""
    rules = [plain[index] for index in rule_sets.covering(plain)]
    return sorted({(corner[0], corner[3], corner[1]) for corner in corner_flows(rules)})


def answers(words, flows, corners):
    """Return the slot for each flow, and the cover at each corner; a walk that ends in damage answers -1."""
    lookup, found = Lookup(words), []
    questions = [(lookup.slot, flow) for flow in flows]
    questions += [(lookup.cover, (lookup.group_of(ifindex), *corner)) for ifindex, *corner in corners]
    for ask, arguments in questions:
        try:
            found.append(ask(*arguments))
        except VerificationFailed:
            found.append(-1)
    return found


def node_words(words):
    """Return the indexes of all words that a walk can read: roots and nodes, not the actions nor the source."""
    places = {at for node in image_reader.reachable(words).values() for at in range(node.at, node.at + node.words)}
    return sorted(places | set(range(2 * layout.PAGE_WORDS, words[layout.HEADER_ACTIONS] * layout.PAGE_WORDS)))


@pytest.mark.parametrize("families", [(4,), (6,)])
def test_corruption_is_found(families):
    """Of many damaged images, each one that answers differently at a corner is refused."""
    plain, slotted, words = made(6, 25, families)
    places, corners, chance = node_words(words), (corner_flows(plain), cover_corners(plain)), random.Random(6)
    if families == (4,):
        nodes = [at for at in places if at >= words[layout.HEADER_ACTIONS] * layout.PAGE_WORDS]
        roots = [at for at in places if at < nodes[0] and words[at]]
        places = nodes + chance.sample(roots, len(nodes))
    expected = answers(words, *corners)
    changed = found = 0
    for _number in range(160):
        damaged = words[:]
        damaged[chance.choice(places)] ^= 1 << chance.randrange(32)
        differs = answers(damaged, *corners) != expected
        try:
            verify_image(damaged, slotted, INTERFACES)
        except VerificationFailed:
            found += differs
        changed += differs
    assert changed > 15
    assert found == changed, f"{found} of {changed} changes were found"
