# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import InvalidInput
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import (
    Prefix,
    family_of,
    format_address,
    parse_address,
)

MAPPED = 0xFFFF << 32

# text, canonical form, family, native length, host bits were set
GOOD = [
    ("10.0.0.0/8", "10.0.0.0/8", 4, 8, False),
    ("10.1.2.3/8", "10.0.0.0/8", 4, 8, True),
    ("0.0.0.0/0", "0.0.0.0/0", 4, 0, False),
    ("1.2.3.4/0", "0.0.0.0/0", 4, 0, True),
    ("192.0.2.1", "192.0.2.1/32", 4, 32, False),
    ("255.255.255.255/32", "255.255.255.255/32", 4, 32, False),
    ("fd00::/8", "fd00::/8", 6, 8, False),
    ("FD00:0:0:0::1/64", "fd00::/64", 6, 64, True),
    ("2001:0db8::1", "2001:db8::1/128", 6, 128, False),
    ("::/0", "::/0", 6, 0, False),
    ("::/96", "::/96", 6, 96, False),
    ("::ffff:10.0.0.0/104", "10.0.0.0/8", 4, 8, False),
    ("::ffff:a00:1", "10.0.0.1/32", 4, 32, False),
    ("::ffff:0:0/96", "0.0.0.0/0", 4, 0, False),
    ("::fffe:0:0/95", "::fffe:0:0/95", 6, 95, False),
]

BAD = [
    ("", "is no IPv4 or IPv6 address"),
    ("example.org", "names are not resolved"),
    ("10.0.0/8", "is no IPv4 or IPv6 address"),
    ("10.0.0.256", "is no IPv4 or IPv6 address"),
    ("['10.0.0.0/8']", "expected one address or prefix, got ['10.0.0.0/8']; write a rule for each"),
    ("[fd00::1]", "is no IPv4 or IPv6 address; names are not resolved"),
    ("10.0.0.0/33", "give 0 to 32"),
    ("10.0.0.0/-1", "give 0 to 32"),
    ("10.0.0.0/08", "give 0 to 32"),
    ("10.0.0.0/", "give 0 to 32"),
    ("10.0.0.0/255.0.0.0", "give 0 to 32"),
    ("10.0.0.0/8/8", "give 0 to 32"),
    ("fd00::/129", "give 0 to 128"),
    ("fd00::/x", "give 0 to 128"),
    ("010.0.0.1/8", "leading zero"),
    ("10.0.0.01", "leading zero"),
    ("::ffff:10.010.0.1", "leading zero"),
    ("fe80::1%eth0", "carries a zone"),
    ("fe80::1%eth0/64", "carries a zone"),
    (" 10.0.0.0/8", "is no IPv4 or IPv6 address"),
    (":::1", "is no IPv4 or IPv6 address"),
]


@pytest.mark.parametrize(("text", "canonical", "family", "bits", "masked"), GOOD)
def test_parse(text, canonical, family, bits, masked):
    prefix, was_masked = Prefix.parse(text)
    assert (str(prefix), prefix.family, prefix.bits, was_masked) == (canonical, family, bits, masked)


@pytest.mark.parametrize("canonical", [row[1] for row in GOOD])
def test_canonical_text_parses_to_itself(canonical):
    prefix, masked = Prefix.parse(canonical)
    assert str(prefix) == canonical
    assert not masked


@pytest.mark.parametrize(("text", "sentence"), BAD)
def test_parse_refuses(text, sentence):
    with pytest.raises(InvalidInput) as refusal:
        Prefix.parse(text)
    assert len(refusal.value.faults) == 1
    assert sentence in refusal.value.faults[0]
    assert repr(text.split("/")[0])[1:-1] in refusal.value.faults[0]


def test_any_of_holds_its_family_only():
    ipv4, ipv6 = MAPPED | 0x0A000001, 0xFD << 120
    assert Prefix.any_of(4).contains(ipv4)
    assert not Prefix.any_of(4).contains(ipv6)
    assert Prefix.any_of(6).contains(ipv6)
    assert (Prefix.any_of(4), Prefix.any_of(6)) == (Prefix.parse("0.0.0.0/0")[0], Prefix.parse("::/0")[0])


@pytest.mark.parametrize("text", ["10.1.0.0/16", "10.1.2.3/32", "0.0.0.0/0", "fd00::/8", "fd00::1/128", "::/0"])
def test_contains_up_to_its_edges(text):
    prefix = Prefix.parse(text)[0]
    assert prefix.contains(prefix.network)
    assert prefix.contains(prefix.last)
    if prefix.length:
        assert not prefix.contains(prefix.network - 1)
        assert not prefix.contains(prefix.last + 1)


def test_prefixes_hash_and_order():
    texts = ["10.0.0.0/8", "10.0.0.0/16", "10.1.0.0/16", "fd00::/8"]
    prefixes = [Prefix.parse(text)[0] for text in texts]
    assert sorted([prefixes[2], prefixes[0], prefixes[3], prefixes[1]]) == prefixes
    assert len({*prefixes, Prefix.parse("10.0.0.1/8")[0]}) == 4


def test_prefix_is_frozen():
    with pytest.raises(AttributeError):
        Prefix.any_of(4).length = 8


@pytest.mark.parametrize(
    ("text", "raw", "canonical"),
    [
        ("10.0.0.1", "00000000000000000000ffff0a000001", "10.0.0.1"),
        ("::ffff:10.0.0.1", "00000000000000000000ffff0a000001", "10.0.0.1"),
        ("::1", "00000000000000000000000000000001", "::1"),
        ("2001:DB8:0::5", "20010db8000000000000000000000005", "2001:db8::5"),
    ],
)
def test_addresses(text, raw, canonical):
    address = parse_address(text)
    assert address.hex() == raw
    assert format_address(address) == canonical
    assert family_of(int.from_bytes(address, "big")) == (6 if ":" in canonical else 4)


@pytest.mark.parametrize("text", ["10.0.0.1/32", "['10.0.0.1']", "fe80::1%eth0", "localhost", "010.0.0.1", ""])
def test_parse_address_refuses(text):
    with pytest.raises(InvalidInput):
        parse_address(text)
