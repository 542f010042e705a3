# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Promises of single operations, beside those of all of them (test_promises.py)."""

from __future__ import annotations

import struct

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import HIT_COUNTERS, INTERFACES, LAYOUT
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import INFO_MEMBERS
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import (
    Conflict,
    InvalidInput,
    LimitExceeded,
    MissingLibrary,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.info import inspect
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.rules import apply_rules
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.messages import RouteRule
from ansible_collections.netedge.tproxy.tests.support.fakes.kernel import Program
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import FakeNetlink, Machine
from ansible_collections.netedge.tproxy.tests.support.fakes.system import CPUS
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.scenarios import (
    BOTH,
    CLOSED,
    MAIL,
    WEB,
    attaching,
    detaching,
    play,
    prepared,
    recording,
    routing,
    rule,
    ruling,
    steering,
)

INET, INET6 = 2, 10


def told(machine: Machine) -> dict:
    return play(machine, (inspect, options("tproxy_info")))


def refused(machine: Machine, run: tuple, error: type) -> str:
    """Return the words with which a run is refused, in check mode too, and nothing changed."""
    before, words = machine.everything(), set()
    for check in (True, False):
        with pytest.raises(error) as raised:
            play(machine, run, check)
        words.add(str(raised.value))
        assert machine.everything() == before
    assert len(words) == 1
    return words.pop()


# ---- rules ---------------------------------------------------------------------------------------


def test_a_purge_is_of_one_owner():
    machine = prepared(ruling(WEB, MAIL), ruling(WEB, rule("10.0.0.0/8"), owner="ziti:a"))
    answer = play(machine, ruling(WEB, owner="ziti:a", purge=True))
    assert (answer["added"], answer["changed_rules"], answer["removed"]) == (0, 0, 1)
    assert sorted((one["owner"], one["ports"]) for one in answer["rules"]) == [
        ("ansible", "25"),
        ("ansible", "443"),
        ("ziti:a", "443"),
    ]
    assert play(machine, ruling(owner="ziti:a", purge=True))["removed"] == 1
    assert play(machine, ruling(owner="nobody", purge=True))["changed"] is False


@pytest.mark.parametrize("check", [True, False])
def test_an_answer_has_the_rules_of_its_change_or_all_or_none(check):
    def ports(returns, key):
        machine = prepared(ruling(WEB, MAIL), ruling(rule("10.0.0.0/8"), owner="other"))
        answer = play(machine, ruling({**WEB, "tproxy_port": "1"}, purge=True, return_rules=returns), check=check)
        assert (answer["added"], answer["changed_rules"], answer["removed"]) == (0, 1, 1)
        return [(one["owner"], one["ports"], one["tproxy_port"]) for one in answer[key]]

    changed, removed = [("ansible", "443", 1)], [("ansible", "25", 0)]
    assert (ports("changed", "rules"), ports("changed", "removed_rules")) == (changed, removed)
    assert sorted(ports("all", "rules")) == [*changed, ("other", "443", 8443)]
    assert ports("all", "removed_rules") == removed
    assert (ports("none", "rules"), ports("none", "removed_rules")) == ([], [])


def test_a_run_without_changes_returns_no_rules():
    answer = play(prepared(ruling(WEB, MAIL)), ruling(WEB, MAIL, return_rules="changed"))
    assert (answer["rules"], answer["removed_rules"], answer["added"]) == ([], [], 0)


def layered(purge=False, **layers):
    return apply_rules, options("tproxy_rule", layers=layers, purge=purge, return_rules="all")


def test_one_commit_applies_all_layers_and_each_purges_its_own_owner():
    machine = prepared(ruling(WEB), ruling(WEB, MAIL, owner="site"), ruling(MAIL, owner="other"))
    generation = play(machine, ruling(WEB))["generation"]
    bare = {name: value for name, value in MAIL.items() if name != "owner"}
    answer = play(machine, layered(site=[bare], branch=[bare], gone=[], purge=True))
    assert (answer["added"], answer["removed"], answer["generation"]) == (1, 1, generation + 1)
    assert sorted((one["owner"], one["ports"]) for one in answer["rules"]) == [
        ("ansible", "443"),
        ("branch", "25"),
        ("other", "25"),
        ("site", "25"),
    ]
    assert play(machine, layered(site=[], branch=[]))["changed"] is False
    assert play(machine, layered(site=[], branch=[], purge=True))["removed"] == 2


def test_all_faults_of_all_layers_come_together():
    wrong = {"destination": "x", "protocol": "tcp", "ports": 80, "tproxy_port": 1}
    machine = prepared()
    with pytest.raises(InvalidInput) as refusal:
        play(machine, layered(site=[wrong], branch=[{"port": 80, "hits": 1, "owner": "site"}], none="x", words=["web"]))
    assert [fault.partition(";")[0] for fault in refusal.value.faults] == [
        "layer 'site': rule number 1: destination: 'x' is no IPv4 or IPv6 address",
        "layer 'branch': rule number 1: there is no option 'hits'",
        "layer 'branch': rule number 1: owner: 'site' is not the owner of the layer",
        "layer 'none': expected a list of rules, got 'x'",
        "layer 'words': rule number 1: expected a dictionary, got 'web'",
    ]


def test_a_rule_of_another_owner_is_another_rule():
    machine = prepared(ruling(WEB))
    assert not play(machine, ruling(WEB, owner="ziti:a", state="absent"))["changed"]
    assert play(machine, ruling(WEB, owner="ziti:a"))["added"] == 1


def test_counts_tell_added_from_changed():
    machine = prepared(ruling(WEB))
    answer = play(machine, ruling({**WEB, "tproxy_port": 1}, MAIL))
    assert (answer["added"], answer["changed_rules"], answer["removed"], answer["generation"]) == (1, 1, 0, 2)


@pytest.mark.parametrize("ifindexes", [(9,), (9, 10)], ids=["came", "came-anew"])
def test_an_interface_that_comes_later_is_bound_by_the_next_run(ifindexes):
    limited = rule("203.0.113.0/24", interfaces=["lan9"])
    machine = prepared(*BOTH, ruling(WEB, limited))
    for ifindex in ifindexes:
        if "lan9" in machine.links:
            machine.unplug("lan9")
        machine.plug("lan9", ifindex)
        predicted = play(machine, ruling(limited), check=True)
        before = machine.in_force()
        answer = play(machine, ruling(limited))
        assert predicted == answer
        assert answer["changed"] and (answer["added"], answer["changed_rules"], answer["removed"]) == (0, 0, 0)
        assert machine.in_force() != before
        assert not play(machine, ruling(limited))["changed"]


HITS = "/sys/fs/bpf/tproxy_splicer/v3/hits"


def count_hits(machine, slot):
    """Let the first CPU count 3 packets of 9 bytes, and the second one 4 of 8."""
    memory = machine.files[HITS].memory
    for cpu, counter in enumerate(((3, 9), (4, 8))):
        struct.pack_into("=2Q", memory, 16 * (cpu * HIT_COUNTERS + slot), *counter)


def test_a_rule_keeps_its_hits_for_as_long_as_it_lives():
    machine = prepared(*BOTH, ruling(WEB, MAIL))
    for slot in (1, 2):
        count_hits(machine, slot)
    assert [one["hits"] for one in told(machine)["rules"]] == [{"packets": 7, "bytes": 17}] * 2
    play(machine, ruling({**WEB, "action": "drop", "tproxy_port": None}, rule("10.0.0.0/8")))
    play(machine, ruling(MAIL, state="absent"))
    play(machine, ruling(MAIL))
    hits = {(one["destination"], one["ports"]): one["hits"]["packets"] for one in told(machine)["rules"]}
    assert hits == {("192.0.2.0/24", "443"): 7, ("10.0.0.0/8", "443"): 0, ("198.51.100.7/32", "25"): 0}


def test_more_rules_than_counters_get_a_longer_map_of_hits():
    machine = prepared(*BOTH, ruling(WEB))
    count_hits(machine, 1)
    play(machine, ruling(*({**WEB, "ports": str(2000 + number)} for number in range(HIT_COUNTERS))))
    assert machine.files[HITS].shape[3] == CPUS * 2 * HIT_COUNTERS
    assert [one["hits"]["packets"] for one in told(machine)["rules"] if one["hits"]["packets"]] == [7]
    assert all(entry["drift"] == [] for entry in told(machine)["attachments"])


@pytest.mark.parametrize(
    "subset", [[name] for name in INFO_MEMBERS] + [["rules", "findings"], ["all"], ["rules", "all"]]
)
def test_an_answer_has_the_members_that_were_asked_for_as_a_whole_answer_has_them(subset):
    machine = prepared(*BOTH, ruling(WEB))
    whole = told(machine)
    part = play(machine, (inspect, options("tproxy_info", gather_subset=subset)))
    assert (set(INFO_MEMBERS) & set(part)) == set(INFO_MEMBERS if "all" in subset else subset)
    assert part == {name: whole[name] for name in part}
    assert set(whole) - set(part) <= set(INFO_MEMBERS)


def test_faults_of_rules_are_told_all_at_once():
    words = refused(prepared(), ruling({**WEB, "ports": "70000"}, {**MAIL, "destination": "x"}), InvalidInput)
    assert words.startswith("2 faults: rule number 1: ports: ") and "; rule number 2: destination: " in words


# ---- programs --------------------------------------------------------------------------------------


def test_a_router_from_which_the_compiler_went_keeps_what_was_compiled():
    machine = prepared(*BOTH)
    machine.has_compiler = False
    assert not play(machine, attaching("lan0"))["changed"]
    machine.unplug("lan1")
    machine.plug("lan1", 7)
    answer = play(machine, attaching("lan1"))
    assert answer["changed"] and not answer["program"]["compiled"]
    assert "install it" in refused(machine, attaching("lan0", "version 2"), MissingLibrary)


def test_the_second_interface_needs_no_compilation():
    answers = [play(machine := prepared(), attaching("lan0")), play(machine, attaching("lan1"))]
    assert [answer["program"]["compiled"] for answer in answers] == [True, False]
    assert len({answer["attachment"]["program_id"] for answer in answers}) == 1


def test_without_the_option_a_policy_stays_as_it_is():
    machine = prepared(attaching("lan0", policy=CLOSED))
    answer = play(machine, attaching("lan0", "version 2"))
    assert answer["policy"]["management"] == [{"source": "10.9.0.0/24", "protocol": "tcp", "port": 22}]
    answer = play(machine, attaching("lan0", "version 2", policy={}))
    assert answer["policy"]["management"] == []


@pytest.mark.parametrize("name", ["tproxy_splicer", "somebody:000000000000", ""])
def test_a_filter_of_somebody_else_in_our_place_is_a_conflict(name):
    machine = prepared()
    machine.clsact.add(3)
    machine.filters[(3, "ingress")] = {(10, 1): (name, Program(99, b"\x95" + bytes(7), "x", []))}
    words = refused(machine, attaching("lan0"), Conflict)
    assert "priority 10 handle 0x1 of ingress is taken by a filter that is not ours" in words


def test_a_filter_of_somebody_else_beside_ours_stays_and_so_does_the_qdisc():
    machine = prepared(attaching("lan0"))
    somebody = ("somebody", Program(99, b"\x95" + bytes(7), "x", []))
    machine.filters[(3, "ingress")][(20, 1)] = somebody
    play(machine, attaching("lan0", "version 2"))
    play(machine, detaching("lan0"))
    assert (machine.filters[(3, "ingress")], machine.clsact) == ({(20, 1): somebody}, {3})


def test_faults_of_an_attachment_are_told_all_at_once():
    wrong = {"priority": 0, "handle": 0, "direction": "egress", "policy": {"management": [{"source": "x", "port": 0}]}}
    words = refused(prepared(), attaching("lan0", **wrong), InvalidInput)
    assert words.startswith("5 faults: ")
    for place in ("policy.management[0].source", "policy.management[0].port", "priority", "handle", "direction"):
        assert f"{place}: " in words


def test_an_interface_that_is_not_there_is_named_with_those_that_are():
    words = refused(prepared(), attaching("lan7"), InvalidInput)
    assert words == "interface: there is no 'lan7' on this machine; it has lan0, lan1, lo"
    assert not play(prepared(), detaching("lan7"))["changed"]


def test_maps_in_use_stay_although_one_of_them_lost_its_pin():
    machine = prepared(*BOTH, ruling(WEB))
    del machine.files["/sys/fs/bpf/tproxy_splicer/v3/reasons"]
    play(machine, detaching("lan0"))
    assert {"image", "policy", "program", "reasons"} <= {path.rpartition("/")[2] for path in machine.files}
    assert [(entry["interface"], entry["drift"]) for entry in told(machine)["attachments"]] == [("lan1", [])]
    assert len(told(machine)["rules"]) == 1


# ---- interfaces that come and go --------------------------------------------------------------------------


def test_what_was_told_of_an_interface_that_is_gone_is_forgotten():
    machine = prepared(*BOTH, recording())
    for ifindex in range(100, 124):
        machine.unplug("lan1")
        machine.plug("lan1", ifindex)
        play(machine, attaching("lan1"))
        play(machine, recording())
    entries = machine.everything()["maps"]
    assert [len(entries[f"/sys/fs/bpf/tproxy_splicer/v3/{name}"]) for name in ("policy", "ifindex_ip_map")] == [2, 2]


SAME_HOME = [5 + INTERFACES * number for number in range(INTERFACES + 1)]


def test_any_interfaces_fit_and_one_more_is_refused_with_the_figures():
    machine = prepared()
    for number, ifindex in enumerate(SAME_HOME):
        machine.plug(f"if{number}", ifindex)
    names = [f"if{number}" for number in range(INTERFACES)]
    play(machine, steering(interfaces=tuple(names)))
    attachments = told(machine)["attachments"]
    assert sorted(entry["interface"] for entry in attachments) == sorted(names)
    assert not any(entry["drift"] for entry in attachments)
    words = refused(machine, attaching(f"if{INTERFACES}"), LimitExceeded)
    assert f"interfaces in policy: {INTERFACES + 1} wanted, at most {INTERFACES} fit" in words


def test_a_displaced_entry_goes_with_its_interface():
    machine = prepared()
    for name, ifindex in (("if0", SAME_HOME[0]), ("if1", SAME_HOME[1])):
        machine.plug(name, ifindex)
        play(machine, attaching(name))
    displaced = f"/sys/fs/bpf/tproxy_splicer/v{LAYOUT}/displaced"
    assert len(machine.everything()["maps"][displaced]) == 1
    play(machine, detaching("if0"))
    assert [entry["interface"] for entry in told(machine)["attachments"]] == ["if1"]
    play(machine, attaching("if0"))
    play(machine, detaching("if1"))
    assert machine.everything()["maps"][displaced] == {}


# ---- routes -------------------------------------------------------------------------------------------------


def test_the_mark_is_told_whichever_comes_first():
    for runs in (
        (routing("lan0", mark="0x2/0x2"), attaching("lan0")),
        (attaching("lan0"), routing("lan0", mark="0x2/0x2")),
    ):
        assert [entry["policy"]["mark"] for entry in told(prepared(*runs))["attachments"]] == ["0x2/0x2"]


def test_rules_and_routes_of_somebody_else_stay():
    machine = prepared()
    theirs = RouteRule(INET, 5, "", 1, 1, 1080, protocol=3)
    machine.rules.append(theirs)
    machine.local_defaults.add((1080, INET))
    play(machine, routing("lan0"))
    play(machine, routing("lan0", state="absent"))
    assert (machine.rules, machine.local_defaults) == ([theirs], {(1080, INET)})


def test_the_local_route_goes_with_the_last_rule_that_leads_to_it():
    machine = prepared(routing("lan0", "lan1"))
    play(machine, routing("lan0", state="absent"))
    assert machine.local_defaults == {(1080, INET), (1080, INET6)}
    play(machine, routing("lan1", state="absent"))
    assert (machine.rules, machine.local_defaults) == ([], set())


@pytest.mark.parametrize(
    ("wrong", "place"),
    [({"mark": "0"}, "mark"), ({"table": 254}, "table"), ({"table": 0}, "table"), ({"priority": 0}, "priority")],
)
def test_a_route_that_would_do_harm_is_refused(wrong, place):
    assert f"{place}: " in refused(prepared(), routing("lan0", **wrong), InvalidInput)


# ---- what is read ----------------------------------------------------------------------------------------------


def test_a_bare_machine_has_nothing_to_tell():
    answer = told(prepared())
    assert (answer["attachments"], answer["rules"], answer["routes"], answer["program"]) == ([], [], [], None)
    assert not any(finding["severity"] == "error" for finding in answer["findings"])


def test_drift_is_seen():
    machine = prepared(*BOTH)
    FakeNetlink(machine).delete_filter(3, "ingress", 10, 1)
    del machine.files["/sys/fs/bpf/tproxy_splicer/v3/hits"]
    assert [entry["drift"] for entry in told(machine)["attachments"]] == [["no_filter"], ["other_maps"]]
    errors = [finding["interface"] for finding in told(machine)["findings"] if finding["severity"] == "error"]
    assert errors == ["lan0", "lan1", None]
