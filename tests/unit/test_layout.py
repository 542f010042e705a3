# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One source of truth for bytes: bpf/abi.h. Python agrees with the compiler, and with hands.

The golden bytes below were written by hand from bpf/abi.h, so that a wrong generator does not agree with itself.
"""

from __future__ import annotations

import pathlib
import shutil
import struct
import subprocess
import sys

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import layout
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import structs as codec
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.policy import (
    Management,
    Mark,
    Policy,
    interface_addresses,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import Prefix, parse_address
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule_options import rules_from_params
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.hit_counters import HitCounters
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.interfaces import (
    decode_addresses,
    decode_policy,
    encode_addresses,
    encode_policy,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.records import decode_action, encode_action

GENERATOR = pathlib.Path(__file__).resolve().parents[2] / "bpf" / "gen_layout.py"

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the golden bytes are little-endian")


def golden(text: str, size: int) -> bytes:
    """Return the hexadecimal bytes before the first `|` of each line, filled with zeros to `size`."""
    told = bytes.fromhex("".join(line.split("|")[0] for line in text.splitlines()))
    return told.ljust(size, b"\0")


@pytest.mark.skipif(not shutil.which("cc"), reason="NO C COMPILER HERE: _layout.py was NOT held against abi.h")
def test_the_kernel_keeps_the_whole_name_of_each_map():
    """A run that finds maps without a pin knows them by it (BPF_OBJ_NAME_LEN is 16, with a zero)."""
    assert [name for name in layout.MAPS if len(name) > 15] == []


def test_the_layout_is_what_the_compiler_says():
    done = subprocess.run([sys.executable, str(GENERATOR), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ---- struct policy, struct management -----------------------------------------------------------

POLICY = """
    07 00 00 00                                      | ifindex 7
    0b 00 00 00                                      | default pass (1), SSH (2), accept unspec (8)
    20 01 00 00    f0 ff 00 00                       | mark 0x120, mask 0xfff0
    08 07 06 05 04 03 02 01                          | deadline 0x0102030405060708
    03 00 00 00    00 00 00 00                       | three management entries
    00 00 00 00 00 00 00 00 00 00 ff ff 0a 01 00 00  | ::ffff:10.1.0.0
    70 06 1f 46    00 00 00 00                       | /112, TCP, port 8006 in network order
    20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 00  | 2001:db8::
    20 11 00 a1    00 00 00 00                       | /32, UDP, port 161
    00 00 00 00 00 00 00 00 00 00 ff ff 0a 01 00 00  | ::ffff:10.1.0.0
    70 59 00 59    00 00 00 00                       | /112, OSPF, which is its own port
"""
OPEN = Policy(
    default_action="pass",
    accept="unspec",
    mark=Mark(0x120, 0xFFF0),
    deadline=0x0102030405060708,
    management=(
        Management(Prefix.parse("10.1.0.0/16")[0], "tcp", 8006),
        Management(Prefix.parse("2001:db8::/32")[0], "udp", 161),
        Management(Prefix.parse("10.1.0.0/16")[0], "ospf"),
    ),
)


def test_policy_with_management():
    raw = encode_policy(7, OPEN)
    assert raw == golden(POLICY, 1568)
    assert decode_policy(raw) == (7, OPEN)


@pytest.mark.parametrize(
    ("policy", "flags"),
    [
        (Policy(default_action="drop", allow_ssh=False), 0),
        (Policy(default_action="pass", allow_ssh=False), layout.POLICY_DEFAULT_PASS),
        (Policy(), layout.POLICY_ALLOW_SSH),
        (Policy(allow_ssh=False, accept="unspec"), layout.POLICY_ACCEPT_UNSPEC),
        (Policy(allow_ssh=False, loopback=True), layout.POLICY_LOOPBACK),
        (Policy(allow_ssh=False, layer3=True), layout.POLICY_LAYER3),
    ],
)
def test_each_flag_of_a_policy_is_one_bit(policy, flags):
    raw = encode_policy(1, policy)
    assert raw[4:8] == flags.to_bytes(4, "little")
    assert decode_policy(raw) == (1, policy)


# ---- struct interface_addresses -----------------------------------------------------------------------

ADDRESSES = """
    05 01 00 00    02 00 00 00                       | ifindex 261, two addresses
    6c 61 6e 30 00 00 00 00 00 00 00 00 00 00 00 00  | "lan0"
    00 00 00 00 00 00 00 00 00 00 ff ff 0a 01 00 01  | 10.1.0.1
    fe 80 00 00 00 00 00 00 00 00 00 00 00 00 00 01  | fe80::1
"""


def test_interface_addresses():
    entry = interface_addresses("lan0", [parse_address("fe80::1"), parse_address("10.1.0.1")])
    raw = encode_addresses(261, entry)
    assert raw == golden(ADDRESSES, 2072)
    assert decode_addresses(raw) == (261, entry)


def test_a_full_entry_with_the_longest_name():
    entry = interface_addresses("fifteen-bytes-0", [parse_address(f"10.1.0.{host}") for host in range(128)])
    raw = encode_addresses(1, entry)
    assert len(raw) == 2072
    assert decode_addresses(raw) == (1, entry)


# ---- struct action ----------------------------------------------------------------------------------------

RULE = {"destination": "192.0.2.0/24", "protocol": "tcp", "ports": 443}
ACTIONS = [
    ({"action": "pass"}, "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00   00 00   01   00"),
    ({"action": "drop"}, "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00   00 00   02   00"),
    ({"tproxy_port": 8443}, "00 00 00 00 00 00 00 00 00 00 ff ff 7f 00 00 01   20 fb   03   00"),
    (
        {"tproxy_port": 1, "tproxy_ip": "10.1.0.1", "on_missing": "pass"},
        "00 00 00 00 00 00 00 00 00 00 ff ff 0a 01 00 01   00 01   03   01",
    ),
    (
        {"tproxy_port": 65535, "destination": "2001:db8::/32"},
        "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01   ff ff   03   00",
    ),
    (
        {"tproxy_port": 8443, "fragments": "drop"},
        "00 00 00 00 00 00 00 00 00 00 ff ff 7f 00 00 01   20 fb   03   40",
    ),
    (
        {"tproxy_port": 8443, "fragments": "always"},
        "00 00 00 00 00 00 00 00 00 00 ff ff 7f 00 00 01   20 fb   03   80",
    ),
]


@pytest.mark.parametrize(("given", "text"), ACTIONS)
def test_action(given, text):
    """Proxy address, port in network order, kind, flags."""
    rule = rules_from_params([{**RULE, **given}])[0][0]
    raw = encode_action(rule)
    assert raw == golden(text, 32)
    proxy = (rule.tproxy_ip, rule.tproxy_port, rule.on_missing, None, None, rule.fragments)
    assert decode_action(raw) == (rule.action, *proxy)


def test_action_of_one_listener():
    """The cookie is the last member. Cookie 0 is one that is not known yet."""
    rule = rules_from_params([{**RULE, "tproxy_port": 8443}])[0][0]
    for cookie in (1, 2**40 + 7, 0):
        raw = encode_action(rule._replace(listener=cookie))
        assert raw == golden(f"{ACTIONS[2][1][:-2]} 02 00 00 00 00 {cookie.to_bytes(8, 'little').hex()}", 32)
        assert decode_action(raw) == ("tproxy", "127.0.0.1", 8443, "drop", cookie, None, "on_demand")


def test_action_of_one_user():
    """The user stands before the cookie. User 0 is root."""
    rule = rules_from_params([{**RULE, "tproxy_port": 8443}])[0][0]
    for user in (0, 998, 2**32 - 2):
        raw = encode_action(rule._replace(user=user))
        assert raw == golden(f"{ACTIONS[2][1][:-2]} 10 {user.to_bytes(4, 'little').hex()}", 32)
        assert decode_action(raw) == ("tproxy", "127.0.0.1", 8443, "drop", None, user, "on_demand")


# ---- struct counter, struct meta, keys -------------------------------------------------------------------------

COUNTER = """
    03 00 00 00 00 00 00 00    2c 01 00 00 00 00 00 00  | CPU 0: 3 packets, 300 bytes
    ff ff ff ff 00 00 00 00    00 00 00 00 01 00 00 00  | CPU 1: 4294967295 packets, 2**32 bytes
"""
META = """
    01 00 00 00    02 00 00 00    05 00 00 00    75 00 00 00                                         | 1, 2, 5, 117
    aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa  | identity
    bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb  | of the source
    68 65 6c 6c 6f                                                                                   | the blob
"""


def test_counters_are_summed_over_the_cpus():
    words = memoryview(golden(COUNTER, 32)).cast("Q")
    assert HitCounters(words, slots=1, cpus=2).read([0]) == {0: {"packets": 2**32 + 2, "bytes": 2**32 + 300}}


def test_outcomes_are_summed_over_the_cpus():
    numbers = {1: (1, 60), layout.VERDICTS * layout.REASON_ARP + layout.VERDICT_DROP: (2, 120)}
    raw = b"".join(struct.pack("=2Q", *numbers.get(outcome, (0, 0))) for outcome in range(layout.OUTCOMES))
    found = codec.sum_outcomes(raw * 3)
    assert found[layout.REASON_OTHER, layout.VERDICT_DROP] == {"packets": 3, "bytes": 180}
    assert found[layout.REASON_ARP, layout.VERDICT_DROP] == {"packets": 6, "bytes": 360}
    assert sum(each["packets"] for each in found.values()) == 9


def test_meta():
    values = {"layout": 1, "instructions": 2, "blob_bytes": 5, "program_id": 117}
    digests = {"identity": b"\xaa" * 32, "source_sha256": b"\xbb" * 32}
    raw = codec.encode("meta", {**values, **digests, "blob": b"hello"})
    assert raw == golden(META, 80 + layout.BLOB_BYTES)
    assert {name: codec.decode("meta", raw)[name] for name in (*values, *digests)} == {**values, **digests}


def test_a_key_is_a_number_in_host_order():
    assert codec.key(0x01020304) == bytes.fromhex("04 03 02 01")


@pytest.mark.parametrize("name", layout.STRUCTS)
def test_members_lie_one_after_the_other_and_fill_the_struct(name):
    """Padding by the compiler would have no name, and would hold old bytes of memory."""
    size, members = layout.STRUCTS[name]
    at = 0
    for offset, length in members.values():
        assert offset == at
        at += length
    assert at == size
