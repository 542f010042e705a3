# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A damaged or stale saved state is reported, predicted by check mode and repaired."""

from __future__ import annotations

import os

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import STATE_FILE, UNSAVED
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.state import save_state
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.persistence.restore import restore_state
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.persistence.state_file import closed_path
from ansible_collections.netedge.tproxy.tests.kernel.operations.damage import lose_program
from ansible_collections.netedge.tproxy.tests.kernel.operations.test_restore import RULE
from ansible_collections.netedge.tproxy.tests.support.router import LAN

OTHER = {**RULE, "ports": "8080"}


@pytest.fixture
def saved(router):
    """Return a router with its state saved where a boot reads it."""
    router.route()
    router.rules(RULE)
    router.record(interfaces=[LAN])
    router.attach(policy={"default_action": "drop"})
    save(router)
    assert told(router) == []
    yield router
    for path in (STATE_FILE, closed_path(STATE_FILE), UNSAVED):
        if os.path.exists(path):
            os.unlink(path)


def save(router, check: bool = False) -> bool:
    """Run tproxy_state; return whether it changed anything."""
    return router._run(save_state, "tproxy_state", check, path=STATE_FILE, failure="fail_closed")["changed"]


def told(router) -> list:
    """Return the machine's words of drift."""
    info = router.info()
    assert set(info["drift"]) <= {finding["code"] for finding in info["findings"]}
    return info["drift"]


def what_is_found(router) -> str:
    """Return the text of the finding for a stale state."""
    return next(one["found"] for one in router.info()["findings"] if one["code"] == "state_stale").partition(": ")[2]


def cut(path: str) -> None:
    """Let a file end in the middle."""
    os.truncate(path, os.path.getsize(path) // 2)


@pytest.mark.parametrize("path", [STATE_FILE, closed_path(STATE_FILE)], ids=["state", "interfaces-to-close"])
@pytest.mark.parametrize("damage", [cut, os.unlink], ids=["cut", "removed"])
def test_a_file_that_no_boot_could_go_by_is_named(saved, path, damage):
    damage(path)
    gone = damage is os.unlink and path == STATE_FILE  # then nobody wants it kept
    assert told(saved) == ([] if gone else ["state_damaged"])
    assert save(saved, check=True)
    assert save(saved)
    assert told(saved) == []
    assert not save(saved)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda router: router.rules(OTHER), "rules"),
        (lambda router: router.attach(policy={"default_action": "pass"}), f"the attachment of {LAN}"),
        (lambda router: router.record(interfaces=[LAN], addresses=["10.1.0.9"]), ""),
        (lambda router: router.route(mark="0x2/0x2"), f"the attachment of {LAN}, routes"),
    ],
    ids=["rules", "policy", "addresses-that-follow", "route"],
)
def test_a_state_that_is_no_longer_in_force_is_named_with_what_differs(saved, change, what):
    change(saved)
    assert ("state_stale" in told(saved)) == bool(what)
    if what:
        assert what_is_found(saved) == what
        assert save(saved, check=True)
    save(saved)
    assert "state_stale" not in told(saved)
    assert not save(saved)


def test_what_was_saved_may_be_put_back_instead(saved):
    saved.attach(policy={"default_action": "pass"})
    assert told(saved) == ["state_stale"]
    assert restore_state({"path": STATE_FILE, "interface": None}, saved.system(), False).changed
    assert told(saved) == []


def test_a_change_that_could_not_be_saved_is_named(saved):
    os.makedirs(os.path.dirname(UNSAVED), exist_ok=True)
    with open(UNSAVED, "w", encoding="utf-8") as note:
        note.write("disk full")
    assert told(saved) == ["state_stale"]
    save(saved)
    assert told(saved) == []


def test_what_the_kernel_lost_and_what_lasts_for_a_service_only_are_no_stale_state(saved):
    saved.rules({**OTHER, "owner": "ziti:4HgX"})
    lose_program(saved)
    saved.netns.run("ip -6 rule delete priority 1080")
    assert told(saved) == []


def test_an_interface_that_came_again_without_its_program_is_named_until_it_is_restored(saved):
    saved.netns.run(f"ip link delete {LAN}")
    assert "state_not_restored" not in told(saved)
    saved.netns.run(f"ip link add {LAN} type veth peer name {LAN}-peer")
    assert "state_not_restored" in told(saved)
    assert [one["severity"] for one in saved.info()["findings"] if one["code"] == "state_not_restored"] == ["error"]
    assert restore_state({"path": STATE_FILE, "interface": LAN}, saved.system(), False).changed
    assert "state_not_restored" not in told(saved)
