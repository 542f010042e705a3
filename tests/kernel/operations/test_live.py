# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The helper on this kernel: rules that change in place, under traffic, beside other writers, killed half way."""

from __future__ import annotations

import random
import socket

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import HIT_COUNTERS
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.divert import collect
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.helper import Helper
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.confirm import confirm_change
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.execute import execute
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.rules import apply_rules
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources import hit_counters, rules_incremental
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.operation import Operation
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.pins import splicer_pins
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.rule_table import rule_table
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.ruleset.nodes import FullCompileNeeded
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf, bpffs, journal, mapped_array
from ansible_collections.netedge.tproxy.tests.kernel.traffic.test_changes import SPLICED, Stream
from ansible_collections.netedge.tproxy.tests.support.router import transparent

CHANGES = 2000
NOBODY = 65534


def words(operation: str, host: int, low: int, *more: str, length: int = 32, port: int = 4000) -> list:
    """Return a router's call."""
    where = ["-c", f"100.64.{host >> 8}.{host & 255}", "-m", str(length), "-p", "udp", "-o", "0.0.0.0", "-n", "0"]
    ports = ["-l", str(low), "-h", str(low + 9)]
    return [operation, *where, *ports, *(["-t", str(port), "-s", f"s{host}"] if operation == "-I" else []), *more]


@pytest.fixture
def helper(router):
    """Return a helper on a router with the program at lan0, and the rule that a Stream needs."""
    router.route()
    router.attach()
    router.rules(SPLICED)
    helper = Helper(router.pin_dir, router.system())
    yield helper
    helper._forget()


def ask(helper: Helper, call: list, user: int = NOBODY) -> tuple:
    """Return the helper's answer to a call."""
    return helper.answer("\0".join(call).encode(), user)[:2]


def in_force(router) -> set:
    """Return (destination, ports, owner) of the rules that the image has."""
    return {(rule["destination"], rule["ports"], rule["owner"]) for rule in router.info()["rules"]}


def test_a_call_is_in_force_when_it_is_answered_and_again_changes_nothing(router, client, helper):
    assert ask(helper, words("-I", 1, 80)) == (0, "")
    assert ("100.64.0.1/32", "80-89", "ziti:s1") in in_force(router)
    generation = router.info()["generation"]
    assert helper.answer("\0".join(words("-I", 1, 80)).encode(), NOBODY) == (0, "", False)
    assert router.info()["generation"] == generation
    assert ask(helper, words("-D", 1, 80)) == (0, "")
    assert ask(helper, words("-D", 1, 80)) == (0, "")
    assert len(in_force(router)) == 1


def test_a_steady_flow_loses_and_leaks_nothing_during_changes_in_place(router, client, helper):
    chance, known = random.Random(7), []
    ask(helper, words("-I", 1, 80))
    number = image_number(router)
    with Stream(client) as stream:
        for _change in range(CHANGES):
            if known and chance.random() < 0.45:
                call = words("-D", *known.pop(chance.randrange(len(known))))
            else:
                known.append((chance.randrange(600), 10 * chance.randrange(1000)))
                call = words("-I", *known[-1])
            assert ask(helper, call)[0] == 0
    stream.judge(CHANGES // 4)
    assert image_number(router) == number, "the image was replaced: these changes were to be in place"
    assert router.reasons()["spliced", "passed"] == stream.sent + 1
    assert not router.rules(SPLICED)["changed"]


def image_number(router) -> int:
    """Return the id of the inner map in force."""
    system = router.system()
    with splicer_pins(system.bpf, system.bpffs, router.pin_dir) as pins:
        return rule_table(system, pins).number()


def test_what_another_writer_commits_is_followed(router, client, helper):
    ask(helper, words("-I", 1, 80))
    router.rules({"destination": "198.51.100.0/24", "protocol": "tcp", "ports": "80", "action": "drop"})
    ask(helper, words("-I", 2, 80))
    router.rules({"destination": "198.51.100.0/24", "protocol": "tcp", "ports": "80", "action": "drop"}, state="absent")
    ask(helper, words("-I", 3, 80))
    assert in_force(router) == {
        ("192.0.2.0/24", "53", "ansible"),
        *((f"100.64.0.{host}/32", "80-89", f"ziti:s{host}") for host in (1, 2, 3)),
    }


def test_counters_of_rules_outlive_the_helper_and_a_new_rule_begins_with_none(router, client, helper):
    with Stream(client) as stream:
        ask(helper, words("-I", 1, 80))
    hits = {rule["destination"]: rule["hits"]["packets"] for rule in router.info()["rules"]}
    assert hits == {"192.0.2.0/24": stream.sent + 1, "100.64.0.1/32": 0}


def counters_of(router) -> int:
    """Return the number of rules that the map of hits can count."""
    with splicer_pins(bpf, bpffs, router.pin_dir) as pins:
        return hit_counters.slots_of(bpf, pins.fd("hits"))


def test_a_call_for_which_there_is_no_counter_makes_more(router, client, helper):
    counters = [counters_of(router)]
    router.rules(*({**SPLICED, "ports": str(2000 + number)} for number in range(HIT_COUNTERS // 8)))
    with Stream(client) as stream:
        for host in range(2):
            assert ask(helper, words("-I", host, 80)) == (0, "")
            counters.append(counters_of(router))
    stream.judge(1)
    assert counters == [HIT_COUNTERS, 2 * HIT_COUNTERS, 2 * HIT_COUNTERS]
    assert router.info()["attachments"][0]["drift"] == []


@pytest.mark.parametrize("left", range(6))
def test_a_helper_killed_between_two_words_is_followed_by_one_that_mends_it(router, client, helper, monkeypatch, left):
    ask(helper, words("-I", 1, 80))

    def killed(memory, begin, fresh, flips):
        store(memory, begin, fresh, flips[:left])
        raise KeyboardInterrupt

    store = mapped_array.store
    monkeypatch.setattr(mapped_array, "store", killed)
    with pytest.raises(KeyboardInterrupt):
        ask(helper, words("-I", 2, 80))
    monkeypatch.setattr(mapped_array, "store", store)
    assert router.info()["drift"] == ["change_unfinished"]
    assert ask(Helper(router.pin_dir, router.system()), words("-I", 3, 80)) == (0, "")
    assert ("100.64.0.3/32", "80-89", "ziti:s3") in in_force(router)
    assert not router.rules(SPLICED)["changed"]


def test_what_a_killed_helper_left_is_compiled_anew_by_the_next_run(router, client, helper, monkeypatch):
    ask(helper, words("-I", 1, 80))
    store = mapped_array.store
    monkeypatch.setattr(
        mapped_array, "store", lambda memory, begin, fresh, flips: store(memory, begin, fresh, flips[:2])
    )
    ask(helper, words("-I", 2, 80))
    assert router.rules(SPLICED)["changed"]
    assert not router.rules(SPLICED)["changed"]


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"",
        b"\xff\xfe",
        b"-I",
        b"-X\0-c",
        b"-I\0-c\0x\0-m\0y\0-p\0tcp\0-l\0a\0-h\0b\0-t\0c",
        b"-F",
        b"-L",
        b"\0" * 99,
    ],
)
def test_a_hostile_request_is_refused_in_one_line_and_changes_nothing(router, client, helper, data):
    before = router.info()["generation"]
    status, line, changed = helper.answer(data, NOBODY, "the request is too long" if data is None else "")
    assert (status, changed) == (2, False)
    assert line
    assert "\n" not in line
    assert router.info()["generation"] == before


def test_only_root_flushes(router, client, helper):
    ask(helper, words("-I", 1, 80))
    assert ask(helper, ["-F"], user=0) == (0, "")
    assert in_force(router) == {("192.0.2.0/24", "53", "ansible")}


def test_rules_are_collected_when_their_listener_is_gone_and_never_while_it_lives(router, client, helper):
    with transparent(socket.SOCK_DGRAM, 4001):
        ask(helper, words("-I", 1, 80, port=4001))
        ask(helper, words("-I", 2, 80, port=4002))
        assert [rule.owner for rule in helper.collect()] == ["ziti:s2"]
        assert ("100.64.0.1/32", "80-89", "ziti:s1") in in_force(router)
    assert collect({"pin_dir": router.pin_dir}, router.system(), True).changed
    assert [rule.owner for rule in helper.collect()] == ["ziti:s1"]
    assert in_force(router) == {("192.0.2.0/24", "53", "ansible")}


def test_no_packet_meets_the_state_between_while_a_service_replaces_a_crashed_one(router, client, helper, monkeypatch):
    """The program is asked after each store of a word that it may read."""
    store, met = mapped_array.store, []

    def store_one_by_one(memory, begin, fresh, flips):
        store(memory, begin, fresh, [])
        for flip in flips:
            store(memory, [], [], [flip])
            met.extend(owner_at(router, host, port) for host, port in ((1, 83), (2, 83), (1, 95)))

    wide = ["-c", "100.64.0.0", "-m", "10", "-p", "udp", "-o", "0.0.0.0", "-n", "0", "-l", "0", "-h", "65535"]
    ask(helper, ["-I", *wide, "-t", "4009", "-s", "wide"])
    for number, (stale, fresh, port) in enumerate((("b", "a", 4001), ("a", "b", 4002), ("b", "a", 4003))):
        with transparent(socket.SOCK_DGRAM, 4009), transparent(socket.SOCK_DGRAM, port):
            if not number:
                ask(helper, ["-I", *service(stale, 4000)])
            met.clear()
            with monkeypatch.context() as patched:
                patched.setattr(mapped_array, "store", store_one_by_one)
                assert ask(helper, ["-I", *service(fresh, port)]) == (0, "")
        assert len(met) > 9, "the change was not made in place"
        # A new rule has no name until its entry in the journal is published.
        assert set(met[0::3]) <= {f"ziti:{stale}", f"ziti:{fresh}", "spliced"}, "a packet met the state between"
        assert met[0] == f"ziti:{stale}"
        assert met[-3] == f"ziti:{fresh}"
        assert set(met[1::3] + met[2::3]) == {"ziti:wide"}


def service(name: str, port: int) -> list:
    """Return the words of a service for one flow of host 1."""
    return [*words("-I", 1, 80, port=port)[1:-1], name]


def owner_at(router, host: int, port: int):
    """Return the owner of the rule that the loaded program finds for a port, or its reason if the rule is unknown."""
    from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.verdict import ask_verdict

    flow = {"destination": f"100.64.0.{host}", "source": "10.1.0.9", "protocol": "udp", "port": str(port)}
    answer = router._run(ask_verdict, "tproxy_verdict", False, interface="lan0", **flow)
    return answer["rule"]["owner"] if answer["rule"] else answer["reason"]


def test_several_flows_change_at_once(router, client, helper):
    for host in (1, 2, 3):
        ask(helper, words("-I", host, 80))
    number = image_number(router)
    assert ask(helper, ["-F"], user=0) == (0, "")
    assert image_number(router) != number, "one update put all changes in force"
    assert in_force(router) == {("192.0.2.0/24", "53", "ansible")}


def test_slots_of_removed_rules_are_used_again(router, client, helper, monkeypatch):
    ask(helper, words("-I", 1, 80))
    image = helper._opened.current._image
    image._free = image._free[:2]
    number = image_number(router)
    for host in range(2, 12):
        assert ask(helper, words("-I", host, 80)) == (0, "")
        assert ask(helper, words("-D", host, 80)) == (0, "")
    assert image_number(router) == number, "each change was in place"
    assert spliced_to(router, 1, 80) == "ziti:s1"


def test_a_change_that_no_image_can_hold_is_refused_with_the_figures(router, client, helper, monkeypatch):
    ask(helper, words("-I", 1, 80))
    monkeypatch.setattr(rules_incremental, "RULES", 2)
    status, line = ask(helper, words("-I", 2, 80))
    assert (status, line) == (1, "rules: 3 wanted, at most 2 fit; nothing was changed")
    monkeypatch.undo()
    monkeypatch.setattr(rules_incremental, "RuleImage", no_space)
    monkeypatch.setattr(rules_incremental, "COMPILED_EACH_TIME", 2)
    helper._forget()
    status, line = ask(helper, words("-I", 2, 80))
    assert status == 1
    assert line.startswith(
        "rules that are compiled anew for each change: 3 wanted, at most 2 fit; no image of them has"
    )
    assert len(in_force(router)) == 2


def no_space(*_arguments):
    """Refuse to compile an image with free space."""
    raise FullCompileNeeded("on purpose")


def test_the_table_of_a_pending_change_begins_with_the_compiled_rules(router, client, helper, monkeypatch):
    ask(helper, words("-I", 1, 80))
    compiled = helper._opened.current._image
    change = Operation("tproxy_rule", apply_rules, execute, confirmable=True)
    flow = {"destination": "198.51.100.0/24", "protocol": "tcp", "ports": "80", "action": "drop"}
    router._run(change.execute, "tproxy_rule", False, rules=[flow], confirm_timeout=3600)
    assert ask(helper, words("-I", 2, 80)) == (0, "")
    assert helper._opened.previous._image is compiled
    assert router._run(confirm_change, "tproxy_confirm", False, state="rolled_back")["changed"]
    assert ask(helper, words("-I", 3, 80)) == (0, "")
    assert {owner for _where, _ports, owner in in_force(router)} == {"ansible", "ziti:s1", "ziti:s2", "ziti:s3"}


def test_a_rule_without_a_program_is_stored_and_said_to_be_not_in_force(router, client, helper, netns):
    netns.veth("lan1", "lan1-peer")
    status, line = ask(helper, words("-I", 1, 80, "-N", "lan1"))
    assert status == 0
    assert "stored, not in force until lan1 has the program" in line
    line = "stored, not in force until notyet0 has the program"
    assert ask(helper, words("-I", 1, 80, "-N", "notyet0")) == (0, line)
    assert ask(helper, words("-I", 1, 80, "-N", "lan0")) == (0, "")
    assert {tuple(rule["interfaces"]) for rule in router.info()["rules"]} == {(), ("lan1",), ("lan0",), ("notyet0",)}


def test_the_programs_answer_follows_each_change(router, client, helper):
    """Through the loaded program: the same random sequence in place and by the compiler give the same rule."""
    chance, known = random.Random(3), set()
    for _change in range(60):
        host, low = chance.randrange(6), 10 * chance.randrange(4)
        operation = "-D" if (host, low) in known else "-I"
        known ^= {(host, low)}
        assert ask(helper, words(operation, host, low))[0] == 0
        for asked in ((host, low), (chance.randrange(6), 10 * chance.randrange(4))):
            assert spliced_to(router, *asked) == (f"ziti:s{asked[0]}" if asked in known else None)


def test_the_first_rule_that_names_an_interface_is_in_force_when_it_is_answered(router, client, helper):
    assert ask(helper, words("-I", 1, 80)) == (0, "")
    assert ask(helper, words("-I", 2, 80, "-N", "lan0")) == (0, "")
    assert spliced_to(router, 2, 80) == "ziti:s2"


def spliced_to(router, host: int, port: int):
    """Return the owner of the rule that the loaded program finds."""
    from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.verdict import ask_verdict

    flow = {"destination": f"100.64.0.{host}", "source": "10.1.0.9", "protocol": "udp", "port": str(port + 3)}
    answer = router._run(ask_verdict, "tproxy_verdict", False, interface="lan0", **flow)
    return answer["rule"] and answer["rule"]["owner"]


def test_each_change_leaves_one_line_in_the_trail_and_a_repeated_call_none(router, client, helper, monkeypatch):
    lines = []
    monkeypatch.setattr(journal, "record", lambda text, _fields: lines.append(text))
    begin = router.info()["generation"]
    for call in (words("-I", 1, 80), words("-I", 1, 80), words("-D", 1, 80), words("-D", 1, 80)):
        assert ask(helper, call)[0] == 0
    ask(helper, words("-I", 2, 80, port=4002))
    helper.collect()
    user = f"helper by uid {NOBODY}: rules of ziti:"
    gone = "helper by itself, for lack of a listener: rules of ziti:s2: 0 added, 0 changed, 1 removed"
    counted = [line.rpartition("; generation ") for line in lines]
    assert [text for text, _generation, _number in counted] == [
        f"{user}s1: 1 added, 0 changed, 0 removed",
        f"{user}s1: 0 added, 0 changed, 1 removed",
        f"{user}s2: 1 added, 0 changed, 0 removed",
        gone,
    ]
    numbers = [int(number) for _text, _generation, number in counted]
    assert numbers == list(range(numbers[0], numbers[0] + 4))
    assert begin < numbers[0] < numbers[-1] == router.info()["generation"]
