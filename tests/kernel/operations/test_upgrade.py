# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a release with another map layout to this one and back, under traffic: nothing is lost, nothing gets through."""

from __future__ import annotations

import errno
import functools
import os
import sys
import time

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import LAYOUT
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import KernelRefused
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.confirm import confirm_change
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.interfaces import AddressTable
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.lock import pending_change
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.open_all import open_system
from ansible_collections.netedge.tproxy.tests.kernel.operations import older_release
from ansible_collections.netedge.tproxy.tests.kernel.traffic.test_changes import SPLICED, Stream, rule
from ansible_collections.netedge.tproxy.tests.support.router import LAN

OTHERS = [rule("5060", owner="ziti:4HgX", name="voice"), rule("55-60", action="drop", interfaces=["lan1"])]
MANAGEMENT = {"management": [{"source": "10.9.0.0/16", "port": 8006}]}


@pytest.fixture
def older(router, tmp_path):
    """Return the release before, at work on two interfaces of the same machine."""
    router.netns.veth("lan1", "lan1-peer")
    older_release.copy_package(tmp_path)
    older = older_release.OlderRouter(router.netns, older_release.older_blob(), router.folder)
    older.hook = "clsact"  # 0.1 knows no other
    older.route(LAN, "lan1")
    older.attach(policy=MANAGEMENT)
    older.attach("lan1")
    older.rules(SPLICED, *OTHERS)
    older.record()
    yield older
    for name in [name for name in sys.modules if name.startswith(older_release.PACKAGE)]:
        del sys.modules[name]


def expect_within(seconds: int, seen) -> None:
    """Wait until something is so."""
    limit = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < limit
        time.sleep(0.1)


def deploy(release, *interfaces: str) -> None:
    """Run the role's operations in its order, with the rules of one owner."""
    release.rules(SPLICED, purge=True, owner="ansible")
    release.route(*interfaces)
    release.record(interfaces=list(interfaces))
    for interface in interfaces:
        release.attach(interface)


def layouts(router) -> list:
    return sorted(os.listdir(router.pin_dir))


def told(router) -> dict:
    """Return the configuration of the router, as tproxy_info shows it."""
    info = router.info()
    kept = ("interface", "policy", "addresses", "drift")
    known = [{key: entry[key] for key in kept} for entry in info["attachments"]]
    return {"attachments": known, "rules": [{**entry, "hits": None} for entry in info["rules"]]}


def ports(answer: dict) -> set:
    return {entry["ports"] for entry in answer["rules"]}


def test_one_interface_after_the_other_is_taken_over_with_all_that_was_told(router, older, client):
    before = told(older)
    with Stream(client) as stream:
        router.attach()
        assert layouts(router) == ["v2", f"v{LAYOUT}"]
        router.attach("lan1")
    stream.judge(2)
    assert told(router) == before
    assert layouts(router) == [f"v{LAYOUT}"]
    assert not router.attach()["changed"]


def test_the_role_takes_over_and_leaves_the_rules_of_others_alone(router, older, client):
    before = told(older)
    with Stream(client) as stream:
        deploy(router, LAN, "lan1")
    stream.judge(5)
    after = told(router)
    assert ports(before) == {"53", "5060", "55-60"}
    assert ports(after) == {"53", "5060"}
    assert after["attachments"] == before["attachments"]
    assert layouts(router) == [f"v{LAYOUT}"]


def test_check_mode_foretells_a_take_over_and_touches_nothing(router, older):
    before = router.pinned()
    operations = {
        "rules": lambda **how: router.rules(SPLICED, purge=True, **how),
        "record": lambda **how: router.record(interfaces=[LAN], **how),
        "attach": lambda **how: router.attach(policy={"default_action": "pass"}, **how),
    }
    for name, operation in operations.items():
        predicted = operation(check=True)
        assert router.pinned() == before, name
        real = operation()
        assert (predicted["changed"], predicted["diff"]) == (real["changed"], real["diff"]), name
        router.folder.clear()
        older.rules(SPLICED, *OTHERS)
        older.record()
        older.attach(policy=MANAGEMENT)
        older.attach("lan1")
        before = router.pinned()


def test_a_rule_alone_takes_over_and_says_what_is_left_to_do(router, older):
    answer = router.rules(rule("99"))
    assert ports(answer) == {"53", "55-60", "99", "5060"}
    waits, older_release = sorted(answer["warnings"], reverse=True)
    assert "lan0, lan1: the program of an older release still runs here" in older_release
    assert "ports 99 is stored, not in force until an interface has the program" in waits
    assert not router.rules(rule("99"))["changed"]
    router.attach()
    (warning,) = router.rules(rule("99"))["warnings"]
    assert warning.startswith("lan1: the program of an older release")
    router.attach("lan1")
    assert router.rules(rule("99"))["warnings"] == []


def test_going_back_and_forth_under_traffic(router, older, client):
    with Stream(client) as stream:
        for _round in range(3):
            deploy(router, LAN, "lan1")
            deploy(older, LAN, "lan1")
    stream.judge(30)
    assert not any(entry["drift"] for entry in older.info()["attachments"])


def test_what_the_older_release_was_told_meanwhile_is_taken_over(router, older):
    deploy(router, LAN, "lan1")
    deploy(older, LAN, "lan1")
    older.rules(rule("7000", owner="other"))
    deploy(router, LAN, "lan1")
    assert ports(router.info()) == {"53", "7000"}
    assert layouts(router) == [f"v{LAYOUT}"]


def test_what_the_older_release_was_told_half_way_is_taken_over(router, older):
    router.rules(rule("99"))
    older.rules(rule("7000", owner="other"))
    router.attach()
    router.attach("lan1")
    assert ports(router.info()) == {"53", "55-60", "5060", "7000"}


def test_a_take_over_that_fails_leaves_the_older_release_as_it_was(router, older, monkeypatch):
    def refuse(*_arguments):
        raise KernelRefused(errno.ENOMEM, "update", "ifindex_ip_map")

    before = router.pinned(), told(older)
    monkeypatch.setattr(AddressTable, "apply", refuse)
    with pytest.raises(KernelRefused, match="ENOMEM"):
        router.attach()
    assert (router.pinned(), told(older)) == before


def test_a_removal_takes_what_an_older_release_left(router, older):
    router.attach(state="absent")
    assert layouts(router) == ["v2", f"v{LAYOUT}"]
    assert router.attach("lan1", state="absent")["changed"]
    assert not os.path.exists(router.pin_dir)
    for interface in (LAN, "lan1"):
        assert "clsact" not in router.netns.run(f"tc qdisc show dev {interface}")


def test_rules_without_a_program_are_taken_over_at_once(router, older):
    older.attach("lan1", state="absent")
    older.attach(state="absent")
    older.rules(SPLICED)
    assert layouts(router) == ["v2"]
    assert router.rules(purge=True)["removed"] == 1
    assert not os.path.exists(router.pin_dir)


def test_what_an_older_release_left_in_force_is_shown_as_such(router, older):
    before = told(older)
    assert told(router) == {**before, "attachments": [aged(entry) for entry in before["attachments"]]}
    router.rules(rule("99"))
    assert [entry["drift"] for entry in told(router)["attachments"]] == [["older_release"]] * 2
    router.attach()
    assert [entry["drift"] for entry in told(router)["attachments"]] == [[], ["older_release"]]


def aged(entry: dict) -> dict:
    return {**entry, "drift": ["older_release"]}


def confirming(router, token: str, **given) -> dict:
    return router._run(confirm_change, "tproxy_confirm", False, token=token, **given)


def upgrade(router, token: str) -> None:
    """Replace the older release on both interfaces, as one change that waits for confirmation."""
    confirming(router, token, state="begun", confirm_timeout=60)
    router.attach(confirm_token=token)
    router.attach("lan1", confirm_token=token)


def test_an_upgrade_is_confirmed_and_only_then_do_the_old_pins_go(router, older, client):
    before = told(older)
    with Stream(client) as stream:
        upgrade(router, "mine")
        assert layouts(router) == ["v2", f"v{LAYOUT}"]
        confirming(router, "mine", state="confirmed")
    stream.judge(2)
    assert told(router) == before
    assert layouts(router) == [f"v{LAYOUT}"]


def test_an_upgrade_is_rolled_back_to_the_program_and_the_rules_of_the_older_release(router, older, client):
    before = told(older)
    with Stream(client) as stream:
        upgrade(router, "mine")
        router.rules(rule("99"), confirm_token="mine")
        confirming(router, "mine", state="rolled_back")
        assert told(older) == before
        deploy(router, LAN, "lan1")
    stream.judge(3)
    assert ports(router.info()) == {"53", "5060"}
    assert layouts(router) == [f"v{LAYOUT}"]


def test_an_upgrade_that_nobody_confirms_is_rolled_back_by_the_watchdog(router, older):
    before = told(older)
    confirming(router, "mine", state="begun", confirm_timeout=5)
    router.attach(confirm_token="mine", policy={"allow_ssh": False})
    expect_within(30, lambda: pending_change(open_system(), router.pin_dir) is None)
    assert told(older) == before


def test_rules_of_an_older_release_without_a_program_come_back_when_a_change_is_not_confirmed(router, older):
    older.attach("lan1", state="absent")
    older.attach(state="absent")
    older.rules(SPLICED)
    say = functools.partial(router._run, confirm_change, "tproxy_confirm", False, token="mine")
    say(state="begun", confirm_timeout=60)
    router.rules(rule("99"), purge=True, confirm_token="mine")
    assert ports(router.info()) == {"99"}
    say(state="rolled_back")
    assert ports(router.info()) == {"53"}
