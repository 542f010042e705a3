# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A saved state as text: it comes back as it was, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import LayoutMismatch, VerificationFailed
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.policy import (
    InterfaceAddresses,
    Management,
    Mark,
    Policy,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import Prefix, parse_address
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule_options import rules_from_params
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.saved_state import (
    SavedAttachment,
    SavedRoute,
    SavedState,
    body_of,
    decode_closed,
    decode_state,
    encode_closed,
    encode_state,
    merge_lost,
    persistent,
    state_of,
    verify_checksum,
    with_checksum,
)

RULES = rules_from_params(
    [
        {"destination": "192.0.2.0/24", "protocol": "tcp", "ports": "443", "tproxy_port": 8443, "name": "a wéb"},
        {"destination": "fd00::/8", "protocol": "udp", "ports": "53", "action": "drop", "owner": "ziti:abc"},
        {"destination": "fd00::/8", "protocol": "esp", "action": "pass"},
    ]
)[0]
MANAGEMENT = (Management(Prefix.parse("10.9.0.0/24")[0], "udp", 161),)
LAN = SavedAttachment(
    "lan0", 10, 1, Policy("pass", False, True, "unspec", MANAGEMENT, Mark(2, 3)), (parse_address("10.1.0.1"),), True
)
WAN = SavedAttachment("wan0", 10, 1, Policy(), None, False)
ROUTES = tuple(SavedRoute("ipv4", name, 1080, Mark(), 1080) for name in ("lan0", "wan0"))
RECORDED = (InterfaceAddresses("lo", (parse_address("192.0.2.1"), parse_address("fd00::1"))),)
STATE = SavedState("/sys/fs/bpf/x", '{"blob": 1}\n', tuple(RULES), (LAN, WAN), ROUTES, "fail_closed", RECORDED)


def test_a_state_comes_back_as_it_was():
    assert decode_state(encode_state(STATE)) == STATE
    assert decode_closed(encode_closed(STATE)) == (STATE.pin_dir, STATE.attachments)


def test_a_state_of_release_0_1_has_no_own_addresses():
    body = body_of(STATE)
    del body["recorded"]
    assert state_of(body) == replace(STATE, recorded=())


def test_a_name_that_release_0_1_saved_does_not_keep_a_boot_from_its_state():
    forged = tuple(rule._replace(name="a\u202eb\u2028", owner="ansible\x1b") for rule in RULES)
    found = decode_state(encode_state(replace(STATE, rules=forged))).rules
    assert found == tuple(rule._replace(name="a?b?", owner="ansible?") for rule in RULES)


def test_a_text_cut_anywhere_is_refused():
    text = encode_state(STATE)
    for end in range(0, len(text) - 1, 7):
        with pytest.raises(VerificationFailed, match="cut or overwritten"):
            decode_state(text[:end])


def test_a_flipped_bit_is_refused():
    text = encode_state(STATE)
    for place in range(0, len(text) - 1, 11):
        flipped = text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :]
        with pytest.raises(VerificationFailed):
            decode_state(flipped)


@pytest.mark.parametrize("text", ["", "[]", "7", "null", "{}", '{"digest": 1}', "\0" * 40, "�" * 9])
def test_what_is_no_saved_state_is_refused(text):
    with pytest.raises(VerificationFailed):
        decode_state(text)
    with pytest.raises(VerificationFailed):
        decode_closed(text)


def test_a_state_of_another_release_is_told_from_a_damaged_one():
    body = verify_checksum(encode_state(STATE))
    with pytest.raises(LayoutMismatch, match="format 99, this release reads 1"):
        decode_state(with_checksum({**body, "format": 99}))


@pytest.mark.parametrize(
    "change",
    [
        {"rules": [{"destination": "nowhere"}]},
        {"attachments": [{}]},
        {"routes": [{"mark": "0x0/0x0"}]},
        {"routes": None},
    ],
)
def test_a_whole_text_with_senseless_contents_is_refused(change):
    with pytest.raises(VerificationFailed, match="no state of this release"):
        decode_state(with_checksum({**verify_checksum(encode_state(STATE)), **change}))


def test_the_text_is_json_for_people_too():
    assert json.loads(encode_state(STATE))["attachments"][0]["addresses"] == ["10.1.0.1"]


def test_rules_of_services_do_not_last():
    assert [rule.owner for rule in persistent(STATE).rules] == ["ansible", "ansible"]


def test_what_went_behind_our_back_stays_saved():
    seen = SavedState(STATE.pin_dir, "", STATE.rules, (WAN,), ROUTES[1:])
    kept = merge_lost(seen, STATE)
    assert (kept.attachments, kept.routes, kept.blob) == (STATE.attachments, ROUTES, STATE.blob)


def test_what_a_run_took_away_does_not():
    seen = SavedState(STATE.pin_dir, "new", (), (WAN,), ROUTES[1:])
    assert merge_lost(seen, STATE, ["lan0"]) == seen


def test_what_is_in_force_replaces_what_was_saved():
    changed = LAN._replace(policy=Policy("drop"))
    moved = SavedRoute("ipv4", "lan0", 7, Mark(), 7)
    kept = merge_lost(SavedState(STATE.pin_dir, "new", (), (changed, WAN), (moved,)), STATE)
    assert kept.attachments == (changed, WAN)
    assert kept.routes == (moved, ROUTES[1])
