# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encoding and decoding are inverse, an entry lies in the slot that the program probes. test_layout.py has bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as draw

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import structs as codec
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import (
    ADDRESSES,
    INTERFACES,
    MANAGEMENT,
    NO_GENERATION,
    STRUCTS,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.policy import (
    InterfaceAddresses,
    Management,
    Mark,
    Policy,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import Prefix, mask
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.interfaces import (
    decode_addresses,
    decode_policy,
    encode_addresses,
    encode_policy,
    slot_for,
    slots_for,
)

WORDS = draw.integers(0, 2**32 - 1)
IFINDEXES = draw.integers(1, 2**31 - 1)


@draw.composite
def prefixes(choose):
    length = choose(draw.integers(0, 128))
    return Prefix(choose(draw.integers(0, 2**128 - 1)) & mask(length), length)


@draw.composite
def marks(choose):
    """Draw a mark as parse_mark() returns it: another one counts as damage."""
    mask = choose(draw.integers(1, 2**32 - 1))
    return Mark(choose(WORDS) & mask or mask, mask)


POLICIES = draw.builds(
    Policy,
    default_action=draw.sampled_from(["drop", "pass"]),
    allow_ssh=draw.booleans(),
    accept=draw.sampled_from(["ok", "unspec"]),
    management=draw.lists(
        draw.one_of(
            draw.builds(Management, prefixes(), draw.sampled_from(["tcp", "udp"]), draw.integers(1, 65535)),
            draw.builds(Management, prefixes(), draw.sampled_from(["ospf", "vrrp", "gre", "255"])),
        ),
        max_size=MANAGEMENT,
    ).map(tuple),
    mark=marks(),
    layer3=draw.booleans(),
    loopback=draw.booleans(),
    deadline=draw.integers(0, 2**64 - 1),
    generation=draw.integers(0, NO_GENERATION),
)
ENTRIES = draw.builds(
    InterfaceAddresses,
    draw.text("abcdefgh0123456789.-", min_size=1, max_size=15),
    draw.lists(draw.binary(min_size=16, max_size=16), max_size=ADDRESSES).map(tuple),
)


@given(IFINDEXES, POLICIES)
def test_a_policy_comes_back(ifindex, policy):
    raw = encode_policy(ifindex, policy)
    assert len(raw) == codec.size_of("policy")
    assert decode_policy(raw) == (ifindex, policy)


@given(IFINDEXES, ENTRIES)
def test_addresses_come_back(ifindex, entry):
    raw = encode_addresses(ifindex, entry)
    assert len(raw) == codec.size_of("interface_addresses")
    assert decode_addresses(raw) == (ifindex, entry)


@pytest.mark.parametrize("name", STRUCTS)
def test_no_member_is_nothing_but_zeros(name):
    assert codec.encode(name, {}) == bytes(codec.size_of(name))


def test_an_empty_slot_is_the_interface_0():
    assert decode_policy(bytes(codec.size_of("policy")))[0] == 0
    assert decode_addresses(bytes(codec.size_of("interface_addresses")))[0] == 0


@pytest.mark.parametrize(("member", "value"), [("kind", 256), ("tproxy_port", 65536), ("flags", -1)])
def test_a_number_that_does_not_fit_is_no_other_number(member, value):
    with pytest.raises(struct.error):
        codec.encode("action", {member: value})


def test_an_unknown_member_is_refused():
    with pytest.raises(KeyError):
        codec.encode("action", {"port": 1})


# ---- places -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ifindex", "taken", "slot"),
    [
        (5, {}, 5),
        (261, {}, 5),
        (256, {}, 0),
        (261, {5: 5}, 0),
        (261, {5: 5, 0: 256}, 1),
        (261, {5: 5, 77: 261}, 77),
        (261, {6: 261}, 6),  # it stays where it stands
        (5, {slot: 1000 + slot for slot in range(INTERFACES - 1)}, INTERFACES - 1),
        (5, {slot: 1000 + slot for slot in range(INTERFACES)}, None),
    ],
)
def test_an_entry_stands_where_it_stood_or_in_its_home_slot_or_in_the_first_free_one(ifindex, taken, slot):
    assert slot_for(ifindex, taken) == slot


@given(draw.lists(IFINDEXES, unique=True, max_size=300))
def test_any_interfaces_have_slots_of_their_own(ifindexes):
    slots = slots_for(ifindexes)
    assert list(slots) == ifindexes[:INTERFACES]
    assert len(set(slots.values())) == len(slots) and set(slots.values()) <= set(range(INTERFACES))
