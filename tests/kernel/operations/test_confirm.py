# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes that wait for their confirmation, on the real kernel, with real guards and real time."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import InvalidInput, Unconfirmed
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources import lock
from ansible_collections.netedge.tproxy.tests.kernel.operations.confirming import DROP, LONG, PASS, Confirming
from ansible_collections.netedge.tproxy.tests.support.router import LAN, OWN, eventually

SHORT, LOADING = 4, 6  # the latter where the verifier has its say before the change is in force
# four classes of interfaces, more pages than a fresh image map holds
MANY = [
    {**PASS, "ports": "80", "protocol": way, "interfaces": [name]} for way in ("tcp", "udp") for name in ("lo", LAN)
]
DROP_ALL = pathlib.Path(__file__).parents[2] / "system" / "commit_confirm" / "drop_all.c"


@pytest.fixture
def confirming(router, monkeypatch):
    """Return a router on which a change may wait for as short as four seconds."""
    monkeypatch.setattr(lock, "CONFIRM_MIN", SHORT)
    confirming = Confirming(router)
    yield confirming
    confirming.forget()


def rolled_back(confirming) -> None:
    """Wait for the guard."""
    eventually(lambda: confirming.outcome() == "rolled_back" and not confirming.is_guarded())


# ---- confirmed ------------------------------------------------------------------------------------


def test_a_confirmed_change_stays_and_its_guard_ends(confirming):
    confirming.router.attach()
    token = confirming.rules(PASS)["confirm"]["token"]
    assert confirming.is_guarded() and confirming.verdict() == "pass"
    assert confirming.say("confirmed", token=token)["changed"]
    eventually(lambda: not confirming.is_guarded())
    assert confirming.verdict() == "pass"
    assert not confirming.say("confirmed", token=token)["changed"]
    assert not confirming.rules(PASS)["changed"]


def test_a_run_that_changes_nothing_arms_nothing(confirming):
    confirming.router.attach()
    confirming.router.rules(PASS)
    assert confirming.rules(PASS)["confirm"] is None
    assert confirming.latest() is None


def test_where_no_program_is_attached_there_is_nothing_to_confirm(confirming):
    answer = confirming.rules(PASS)
    assert (answer["changed"], answer["confirm"]) == (True, None)
    assert any("nothing to confirm" in text for text in answer["warnings"])


# ---- not confirmed: the guard ------------------------------------------------------------------------


def test_rules_that_nobody_confirms_are_as_before(confirming):
    confirming.router.attach()
    confirming.router.rules(PASS)
    confirming.rules(DROP, seconds=SHORT)
    assert confirming.verdict() == "drop"
    rolled_back(confirming)
    assert confirming.verdict() == "pass"
    assert [rule["action"] for rule in confirming.router.info()["rules"]] == ["pass"]
    assert not confirming.router.rules(PASS)["changed"]


def test_an_image_that_outgrew_its_map_is_as_before(confirming):
    confirming.router.attach()
    confirming.router.rules(PASS)
    confirming.rules(*MANY, DROP, seconds=SHORT)
    assert confirming.verdict() == "drop"
    rolled_back(confirming)
    assert confirming.verdict() == "pass"
    assert [rule["ports"] for rule in confirming.router.info()["rules"]] == ["443"]


def test_a_policy_that_nobody_confirms_is_as_before(confirming):
    confirming.router.attach(policy={"default_action": "pass"})
    confirming.attach(SHORT, policy={"default_action": "drop", "allow_ssh": False})
    assert confirming.verdict(22, OWN) == "drop"
    rolled_back(confirming)
    assert confirming.verdict() == confirming.verdict(22, OWN) == "pass"
    assert confirming.router.info()["attachments"][0]["policy"]["default_action"] == "pass"


def test_a_first_attach_that_nobody_confirms_leaves_nothing(confirming):
    confirming.attach(LOADING)
    assert confirming.verdict() == "drop"
    rolled_back(confirming)
    assert confirming.verdict() == "unfiltered"
    assert confirming.router.pinned() == {}
    assert "clsact" not in confirming.router.netns.run(f"tc qdisc show dev {LAN}")


def test_a_program_that_drops_everything_is_replaced(confirming, compiler):
    from ansible_collections.netedge.tproxy.tests.support.splicer import program_source

    confirming.router.attach(policy={"default_action": "pass"})
    sources = {**program_source(), "drop_all.c": DROP_ALL.read_text(encoding="utf-8")}
    before = confirming.router.info()["attachments"][0]["name"]
    confirming.attach(LOADING, blob_content=None, source="drop_all.c", source_files=sources)
    assert confirming.router.info()["attachments"][0]["name"] != before
    rolled_back(confirming)
    assert confirming.router.info()["attachments"][0]["name"] == before


# ---- not confirmed: the guard is dead ---------------------------------------------------------------


def test_a_dead_guard_leaves_the_dead_man_switch_and_the_next_run_tidies_up(confirming):
    confirming.router.attach()
    confirming.router.rules(PASS)
    confirming.rules(DROP, seconds=SHORT)
    confirming.kill_guard()
    eventually(lambda: confirming.verdict() == "pass")
    assert [rule["action"] for rule in confirming.router.info()["rules"]] == ["drop"]
    with pytest.raises(Unconfirmed, match="out of force"):
        confirming.router.rules(PASS)
    assert not confirming.rules(PASS)["changed"]
    assert (confirming.outcome(), confirming.verdict()) == ("rolled_back", "pass")


def test_a_first_attach_passes_all_when_its_guard_is_dead(confirming):
    confirming.router.rules(DROP)
    confirming.attach(LOADING)
    confirming.kill_guard()
    assert confirming.verdict() == "drop"
    eventually(lambda: confirming.verdict() == "pass")
    assert confirming.say("rolled_back")["changed"]
    assert confirming.verdict() == "unfiltered"
    assert [rule["action"] for rule in confirming.router.info()["rules"]] == ["drop"]


# ---- by hand, too late, and in each other's way --------------------------------------------------------


def test_a_change_is_rolled_back_by_hand(confirming):
    confirming.router.attach()
    confirming.rules(PASS)
    assert "rules: 1 removed" in confirming.say("rolled_back")["changes"]
    assert confirming.verdict() == "drop"
    eventually(lambda: not confirming.is_guarded())
    assert not confirming.say("rolled_back")["changed"]


def test_a_confirmation_that_comes_too_late_is_refused(confirming):
    confirming.router.attach()
    token = confirming.rules(PASS, seconds=SHORT)["confirm"]["token"]
    confirming.kill_guard()
    eventually(lambda: confirming.verdict() == "drop")
    for meets in ("pending", "rolled_back"):
        assert confirming.outcome() == meets
        with pytest.raises(Unconfirmed, match=r"too late.*rolled back"):
            confirming.say("confirmed", token=token)
    assert confirming.router.info()["rules"] == []


def test_a_second_change_is_refused_while_one_waits(confirming):
    confirming.router.attach()
    token = confirming.rules(PASS)["confirm"]["token"]
    for refused in (confirming.rules, confirming.router.rules):
        with pytest.raises(Unconfirmed, match=r"waits for confirmation, for 3[56][0-9][0-9] s more.*tproxy_confirm"):
            refused(DROP)
    for refused in (confirming.router.attach, confirming.router.record, confirming.router.route):
        with pytest.raises(Unconfirmed):
            refused()
    confirming.say("confirmed", token=token)
    assert confirming.router.rules(DROP)["changed"]


def test_the_token_of_another_change_confirms_nothing(confirming):
    confirming.router.attach()
    confirming.rules(PASS)
    for state in ("confirmed", "rolled_back"):
        with pytest.raises(Unconfirmed, match="not that of token stranger"):
            confirming.say(state, token="stranger")
    assert confirming.outcome() == "pending"


@pytest.mark.parametrize("state", ["confirmed", "rolled_back"])
def test_several_runs_become_one_change(confirming, state):
    token = confirming.say("begun", confirm_timeout=LONG)["confirm"]["token"]
    confirming.router.route(confirm_token=token)
    confirming.router.attach(confirm_token=token)
    confirming.router.record(confirm_token=token)
    confirming.router.rules(PASS, confirm_token=token)
    assert confirming.verdict() == "pass"
    assert confirming.say(state, token=token)["changed"]
    info = confirming.router.info()
    assert (len(info["attachments"]), len(info["rules"]), len(info["routes"])) == (
        (1, 1, 4) if state == "confirmed" else (0, 0, 0)
    )
    with pytest.raises(Unconfirmed):
        confirming.router.rules(DROP, confirm_token=token)


@pytest.mark.parametrize("seconds", [-1, 3601])
def test_a_time_that_protects_nobody_is_refused(confirming, seconds):
    with pytest.raises(InvalidInput, match=f"confirm_timeout: {seconds} is out of range"):
        confirming.rules(PASS, seconds=seconds)
