# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls of routers on the fake machine, also those of the first edge routers: rules in force and exit status."""

from __future__ import annotations

import errno
import syslog

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import HELPER_SOCKET
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import KernelRefused
from ansible_collections.netedge.tproxy.tests.support.command_line import CommandLine
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import Machine
from ansible_collections.netedge.tproxy.tests.support.scenarios import attaching, play, rule, ruling

FLOW = ("-c", "172.16.1.0", "-m", "28", "-p", "tcp", "-o", "0.0.0.0", "-n", "0", "-l", "30000", "-h", "40000")
MINE = "192.0.2.0/24"


class Journal(list):
    """The lines that were logged."""

    def log(self, _priority, text):
        self.append(text)


@pytest.fixture
def journal(monkeypatch):
    kept = Journal()
    monkeypatch.setattr(syslog, "openlog", lambda *_about: None)
    monkeypatch.setattr(syslog, "syslog", kept.log)
    return kept


@pytest.fixture
def run(monkeypatch, capsys, journal):
    machine = Machine()
    for step in (attaching("lan0"), ruling(rule(MINE))):
        play(machine, step)
    return CommandLine(machine, monkeypatch, capsys)


def insert(run, service: str, port: int, *more: str):
    run.machine.listeners.add(("tcp", port))
    return run("-I", *FLOW, "-t", str(port), "-s", service, *more)


def in_force(run) -> list:
    """Return (owner, proxy port, interfaces) of the rules that routers made."""
    rules = play(run.machine, ruling(), check=True)["rules"]
    assert [one["destination"] for one in rules if one["owner"] == "ansible"] == [MINE]
    found = [(one["owner"], one["tproxy_port"], one["interfaces"]) for one in rules if one["owner"] != "ansible"]
    return sorted(found)


def test_an_insert_is_in_force_and_prints_nothing(run):
    assert insert(run, "a", 33401) == (0, "", "")
    assert in_force(run) == [("ziti:a", 33401, [])]


def test_a_user_that_may_not_read_its_capabilities_is_refused_as_one_without_them(run, journal):
    """As in a profile of AppArmor."""

    def refuse(_number):
        raise KernelRefused(errno.EACCES, "read", "/proc/thread-self/status")

    run.machine.sysctl.has_capability = refuse
    status, _out, err = insert(run, "a", 33401)
    missing = "CAP_NET_ADMIN and CAP_SYS_ADMIN missing: call it as root, or as a member of"
    assert status == 1
    assert err.startswith(f"tproxy-splicer: {missing}") and journal[0].startswith(missing)


def test_a_running_helper_executes_the_call(run, monkeypatch):
    asked = []

    def helper(path, words):
        asked.append((path, words))
        return 1, "not so"

    run.machine.helper = helper
    assert insert(run, "a", 33401) == (1, "", "tproxy-splicer: not so\n")
    monkeypatch.setenv("TPROXY_SPLICER_HELPER", "/run/other")
    run.machine.helper = lambda path, words: asked.append((path, words)) or (0, "")
    assert run("-D", *FLOW) == (0, "", "")
    assert asked == [(HELPER_SOCKET, ["-I", *FLOW, "-t", "33401", "-s", "a"]), ("/run/other", ["-D", *FLOW])]
    assert in_force(run) == []
    monkeypatch.setenv("TPROXY_SPLICER_HELPER", "")
    assert insert(run, "a", 33401) == (0, "", "")
    assert in_force(run) == [("ziti:a", 33401, [])]
    assert len(asked) == 2


@pytest.mark.parametrize("operation", [("-I", "-t", "33401", "-s", "a"), ("-D",)])
def test_a_flow_whose_ends_can_never_meet_is_not_stored_and_stops_no_other_call(run, operation):
    flow = [*FLOW[:6], "-o", "fd00:1:1::", "-n", "64", *FLOW[10:]]
    run.machine.start_over()
    line = (
        "tproxy-splicer: not stored: source fd00:1:1::/64 and destination 172.16.1.0/28 are of different families,"
        " so no packet has both\n"
    )
    assert run(operation[0], *flow, *operation[1:]) == (0, line, "")
    assert not run.machine.changes
    assert run(operation[0], *flow[:-1], "no port", *operation[1:]).status == 2


def test_an_insert_again_changes_nothing(run):
    insert(run, "a", 33401)
    run.machine.start_over()
    assert insert(run, "a", 33401) == (0, "", "")
    assert not run.machine.changes


def test_an_insert_of_the_same_service_with_a_new_port_is_a_change(run):
    insert(run, "a", 33401)
    insert(run, "a", 40000)
    assert in_force(run) == [("ziti:a", 40000, [])]


def test_two_services_keep_the_same_rule_until_the_last_delete(run):
    insert(run, "a", 33401)
    insert(run, "b", 33402)
    assert len(in_force(run)) == 2
    run.machine.listeners.discard(("tcp", 33401))
    assert run("-D", *FLOW) == (0, "", "")
    assert in_force(run) == [("ziti:b", 33402, [])]
    run.machine.listeners.discard(("tcp", 33402))
    assert run("-D", *FLOW) == (0, "", "")
    assert in_force(run) == []


def test_interfaces_add_up_and_are_deleted_one_by_one(run):
    assert insert(run, "a", 33401, "-N", "lan0") == (0, "", "")
    line = "tproxy-splicer: stored, not in force until later has the program\n"
    assert insert(run, "a", 33401, "-N", "later") == (0, line, "")
    assert in_force(run) == [("ziti:a", 33401, ["lan0"]), ("ziti:a", 33401, ["later"])]
    assert run("-D", *FLOW, "-N", "lan0") == (0, "", "")
    assert in_force(run) == [("ziti:a", 33401, ["later"])]


def test_a_delete_of_an_unknown_rule_succeeds(run):
    assert run("-D", *FLOW) == (0, "", "")


def test_flush_removes_the_rules_of_routers_only(run):
    insert(run, "a", 33401)
    assert run("-F") == (0, "", "")
    assert in_force(run) == []


def test_list_shows_all_rules(run):
    insert(run, "a", 33401)
    status, out, _err = run("-L")
    assert status == 0
    assert all(fact in out for fact in ("172.16.1.0/28", "ziti:a", MINE))


def test_after_a_crash_the_old_rule_does_not_hide_the_new_one(run):
    insert(run, "a", 33401)
    run.machine.listeners.clear()
    insert(run, "b", 33402)
    assert in_force(run) == [("ziti:b", 33402, [])]


@pytest.mark.parametrize(("more", "where"), [((), "an interface"), (("-N", "lan1"), "lan1")])
def test_an_insert_that_is_not_in_force_says_so_and_succeeds(run, journal, more, where):
    if not more:
        play(run.machine, attaching("lan0", state="absent"))
    line = f"tproxy-splicer: stored, not in force until {where} has the program\n"
    assert insert(run, "a", 33401, *more) == (0, line, "")
    assert "ziti:a" in [rule["owner"] for rule in play(run.machine, ruling(), check=True)["rules"]]
    assert journal == []


def test_without_its_filter_an_interface_enforces_nothing(run):
    run.machine.lose_filters()
    line = "stored, not in force until an interface has the program\n"
    assert insert(run, "a", 33401) == (0, f"tproxy-splicer: {line}", "")
    words = ("172.16.240.0", "24", "5060", "5060", "58997", "17")
    assert run(*words, name="map_update") == (1, "", f"map_update: {line}")
    play(run.machine, attaching("lan0"))
    assert insert(run, "a", 33401) == (0, "", "")
    assert run(*words, name="map_update").status == 0


def test_a_refused_insert_changes_nothing_and_fails_with_one_line(run, journal):
    status, out, err = run("-I", *FLOW, "-t", "0x10", "-s", "a")
    assert (status, out, err.count("\n"), len(journal)) == (2, "", 1, 1)
    assert in_force(run) == []


def test_an_unknown_option_is_a_warning_on_standard_error(run):
    assert insert(run, "a", 33401, "-r") == (0, "tproxy-splicer: unknown option -r is ignored\n", "")
    assert len(in_force(run)) == 1


# ---- map_update and map_delete_elem ---------------------------------------------------------------


def test_map_update_fails_if_its_rule_matches_no_packet(run):
    play(run.machine, attaching("lan0", state="absent"))
    words = ("172.16.240.0", "24", "5060", "5060", "58997", "17")
    line = "map_update: stored, not in force until an interface has the program\n"
    assert run(*words, name="map_update") == (1, "", line)
    assert [rule["owner"] for rule in play(run.machine, ruling(), check=True)["rules"]] == ["map_update"]


def test_map_update_adds_and_changes_and_map_delete_elem_removes(run):
    rule = "udp 172.16.240.0/24 ports 5060: tproxy 127.0.0.1:58997, drop without a listener (owner map_update)"
    words = ("172.16.240.0", "24", "5060", "5060", "58997", "17")
    assert run(*words, name="map_update") == (0, f"in force: {rule}\n", "")
    assert in_force(run) == [("map_update", 58997, [])]
    run(*words[:4], "1", "17", name="map_update")
    assert in_force(run) == [("map_update", 1, [])]
    status, out, err = run("172.16.240.0", "24", "5060", "17", name="map_delete_elem")
    assert (status, out.startswith("removed: udp 172.16.240.0/24"), err) == (0, True, "")
    assert in_force(run) == []


def test_map_delete_elem_removes_every_range_that_begins_there_and_no_other(run):
    for ports_and_protocol in ("1 9 5 6", "1 8 5 6", "2 9 5 6", "1 9 5 17"):
        run("10.0.0.0", "8", *ports_and_protocol.split(), name="map_update")
    assert len(in_force(run)) == 4
    run("10.0.0.0", "8", "1", "6", name="map_delete_elem")
    assert len(in_force(run)) == 2
    assert run("10.0.0.0", "8", "1", "6", name="map_delete_elem") == (0, "no such rule\n", "")


def test_tproxy_port_0_passes_the_flow_to_the_host(run):
    assert "tcp 10.0.0.1/32 ports 80: pass" in run("10.0.0.1", "32", "80", "80", "0", "6", name="map_update").out


@pytest.mark.parametrize("name", ["map_update", "map_delete_elem"])
def test_both_record_the_addresses_of_the_interfaces(run, name):
    words = ("10.0.0.1", "32", "80", "80", "0", "6") if name == "map_update" else ("10.0.0.1", "32", "80", "6")
    run(*words, name=name)
    assert "10.1.0.1" in run("show", "interfaces").out


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        (
            "map_update",
            "Usage: map_update <ip dest address or prefix> <prefix length> <low_port> <high_port> <tproxy_port>"
            " <protocol id>\n",
        ),
        (
            "map_delete_elem",
            "Usage: map_delete_elem <ip dest address or prefix> <prefix len> <low_port> <protocol id>\n",
        ),
    ],
)
def test_missing_arguments_print_the_usage(run, name, usage):
    assert run(name=name) == (2, "", usage)
    assert run("10.0.0.0", "8", "1", name=name) == (2, "", usage)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("10.0.0.0", "33", "1", "2", "3", "6"), "no valid prefix length"),
        (("10.0.0.0", "8", "1", "2", "3", "1"), "neither 6 (tcp) nor 17 (udp)"),
        (("10.0.0.0", "8", "2", "1", "70000", "icmp"), "3 faults: "),
    ],
)
def test_all_wrong_arguments_are_named(run, words, fault):
    status, out, err = run(*words, name="map_update")
    assert (status, out) == (1, "")
    assert fault in err
    assert in_force(run) == []
