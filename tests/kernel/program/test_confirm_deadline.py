# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The confirm deadline: the program's verdicts before and after it, without any action of user space."""

from __future__ import annotations

import time

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.policy import (
    UNFILTERED,
    Management,
    Mark,
    Policy,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import Prefix
from ansible_collections.netedge.tproxy.tests.support.packets import ethernet, tcp_frame, udp_frame
from ansible_collections.netedge.tproxy.tests.support.splicer import told

LAN, WAN = 1, 2
SERVER, OWN, CLIENT = "192.0.2.1", "10.1.0.1", "10.1.0.2"
NEVER, LONG_PAST = 2**63 - 1, 1
WEB, SSH = tcp_frame(SERVER, 443), tcp_frame(OWN, 22)
PAST = pytest.mark.parametrize(("deadline", "is_past"), [(0, False), (NEVER, False), (LONG_PAST, True)])


def web(action: str) -> dict:
    return {"destination": SERVER, "protocol": "tcp", "ports": 443, "action": action}


@PAST
def test_a_change_of_rules_holds_until_its_deadline(splicer, deadline, is_past):
    splicer.rules(web("pass"))
    splicer.rules(web("drop"), generation=1)
    splicer.policy(LAN, deadline=deadline)
    splicer.previous_policy(LAN, Policy(generation=1))
    assert told(splicer.ask(WEB, LAN)) == ("drop" if is_past else "pass", "rule")


@PAST
def test_a_change_of_policy_holds_until_its_deadline(splicer, deadline, is_past):
    splicer.policy(LAN, allow_ssh=False, deadline=deadline)
    splicer.previous_policy(LAN, Policy(default_action="pass", accept="unspec", generation=1))
    assert told(splicer.ask(SSH, LAN)) == (("unspec", "ssh") if is_past else ("drop", "default"))
    assert told(splicer.ask(WEB, LAN)) == ("unspec" if is_past else "drop", "default")


@PAST
def test_management_and_mark_are_part_of_it(splicer, deadline, is_past):
    entry = Management(Prefix.parse(f"{CLIENT}/32")[0], "tcp", 8080)
    splicer.rules({"destination": SERVER, "protocol": "tcp", "ports": 443, "tproxy_port": 9})
    splicer.policy(LAN, mark=Mark(1, 1), deadline=deadline)
    splicer.previous_policy(LAN, Policy(management=(entry,), generation=1))
    assert splicer.ask(tcp_frame(OWN, 8080), LAN).reason == ("management" if is_past else "default")


@PAST
def test_a_first_attach_holds_until_its_deadline_and_then_all_passes(splicer, deadline, is_past):
    splicer.rules(web("drop"))
    splicer.rules(web("drop"), generation=1)
    splicer.policy(LAN, allow_ssh=False, deadline=deadline)
    splicer.previous_policy(LAN, UNFILTERED)
    cut = ethernet(bytes(20))
    action = "unspec" if is_past else "drop"
    answers = [told(splicer.ask(frame, LAN)) for frame in (WEB, SSH, udp_frame(SERVER, 53), cut)]
    reasons = ["default", "ssh", "default", "malformed"] if is_past else ["rule", "default", "default", "malformed"]
    assert answers == [(action, reason) for reason in reasons]


def test_an_interface_without_a_deadline_goes_by_the_current_rules(splicer, netns):
    netns.run("ip link add name wan0 index 2 type bridge")
    splicer.rules(web("pass"))
    splicer.rules(web("drop"), generation=1)
    splicer.policy(LAN, deadline=LONG_PAST)
    splicer.previous_policy(LAN, Policy(generation=1))
    splicer.policy(WAN)
    assert [splicer.ask(WEB, ifindex).action for ifindex in (LAN, WAN)] == ["drop", "pass"]


@pytest.mark.parametrize("foreign", [None, 257], ids=["none", "of-another-interface"])
def test_an_interface_without_a_previous_policy_is_closed_but_for_ssh(splicer, foreign):
    splicer.policy(LAN, default_action="pass", allow_ssh=False, deadline=LONG_PAST)
    if foreign:
        splicer.previous_policy(foreign, Policy(default_action="pass", allow_ssh=False, generation=1))
    assert told(splicer.ask(SSH, LAN)) == ("pass", "ssh")
    assert told(splicer.ask(WEB, LAN)) == ("drop", "default")


def test_without_a_previous_image_nothing_matches(splicer):
    splicer.rules(web("pass"))
    splicer.rules(web("pass"), generation=1)
    splicer.no_image(generation=1)
    splicer.policy(LAN, deadline=LONG_PAST)
    splicer.previous_policy(LAN, Policy(generation=1))
    assert told(splicer.ask(WEB, LAN)) == ("drop", "default")


def test_what_falls_back_is_counted_for_its_interface(splicer, wires):
    wires.lay(45)
    before = splicer.counted(45).get(("default", "pass"), (0, 0))[0]
    splicer.policy(45, deadline=LONG_PAST)
    splicer.previous_policy(45, Policy(default_action="pass", generation=1))
    wires.send(45, WEB)
    assert splicer.counted(45)["default", "pass"][0] == before + 1


def test_the_deadline_is_monotonic_time(splicer):
    """As bpf_ktime_get_ns() is: a clock that is set has no say. It passes while the test looks on."""
    deadline = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + 300_000_000
    splicer.policy(LAN, deadline=deadline)
    splicer.previous_policy(LAN, Policy(default_action="pass", generation=1))
    seen = set()
    while time.clock_gettime_ns(time.CLOCK_MONOTONIC) <= deadline:
        asked_in_time = splicer.ask(WEB, LAN).action
        if time.clock_gettime_ns(time.CLOCK_MONOTONIC) <= deadline:
            seen.add(asked_in_time)
        time.sleep(0.01)
    assert seen == {"drop"}
    assert splicer.ask(WEB, LAN).action == "pass"
