# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory of large sets: it grows with the number of rules, and no step keeps another form of the whole set."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.long_list import LongList
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule_options import rules_from_params
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.compile import compile_image
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.records import SlottedRule, read_image
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.verify import verify_image

COUNT = 1500
# Bytes of a rule at the peak of a step, beyond the rules themselves. The steps of release 0.1, in the same order,
# took 1,000, 4,500, 4,300 and 700 bytes.
LIMITS = {"read": 700, "compile": 2600, "verify": 1700, "decode": 800}


def options(count):
    chance = random.Random(count)
    hosts = chance.sample(range(1 << 20), count)
    return [
        {
            "destination": f"10.{host >> 16}.{host >> 8 & 255}.{host & 255}" + chance.choice(["", "", "/28"]),
            "protocol": chance.choice(["tcp", "udp"]),
            "ports": str(chance.randrange(1, 60000)),
            "tproxy_port": 15001,
        }
        for host in hosts
    ]


def peak(function, *arguments):
    tracemalloc.start()
    try:
        result = function(*arguments)
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def distinct(items):
    """Return the items without those that name the same flows as an earlier one."""
    found = {}
    for item in items:
        address, _slash, length = item["destination"].partition("/")
        last = int(address.rsplit(".", 1)[1]) & (240 if length else 255)
        found.setdefault((address.rsplit(".", 1)[0], last, length, item["protocol"], item["ports"]), item)
    return list(found.values())


def peaks(count):
    """Return {step: bytes of a rule at its peak}."""
    items = LongList(distinct(options(count)))
    (rules, _warnings), read = peak(rules_from_params, items)
    slotted = [SlottedRule(rule, slot) for slot, rule in enumerate(rules, 1)]
    words, compiled = peak(compile_image, slotted, {}, 1)
    _points, verified = peak(verify_image, words, slotted, {})
    contents, decoded = peak(read_image, words)
    assert contents.rules == slotted
    found = {"read": read, "compile": compiled, "verify": verified, "decode": decoded}
    return {step: size / len(rules) for step, size in found.items()}


@pytest.fixture(scope="module")
def measured():
    empty = peaks(1)
    return {
        count: {step: size - empty[step] / count for step, size in peaks(count).items()} for count in (COUNT, 2 * COUNT)
    }


@pytest.mark.parametrize("step", LIMITS)
def test_memory_of_a_rule(measured, step):
    small, large = (measured[count][step] for count in (COUNT, 2 * COUNT))
    assert large < LIMITS[step], f"{step} takes {large:.0f} bytes for a rule, expected less than {LIMITS[step]}"
    assert large < 1.15 * small, f"{step} takes {small:.0f} and {large:.0f} bytes for a rule of twice as many"
