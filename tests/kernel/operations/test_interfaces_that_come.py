# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that name an interface apply when it comes, or comes again with another index: by real packets."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.persistence.watch import watch
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.monitor import Events
from ansible_collections.netedge.tproxy.tests.kernel.operations.test_restore import RULE, Kept
from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, OWN, Client, eventually

LATER, INDEX, VIRTUAL = "later0", 4711, "10.1.0.254"
HERE = {**RULE, "interfaces": [LAN]}
POLICY = {"default_action": "drop"}


def drift(router) -> list:
    """Return the words of drift: of the machine, then of each attachment."""
    info = router.info()
    return [info["drift"], *(entry["drift"] for entry in info["attachments"])]


def plug(netns, name: str, index: int) -> Client:
    """Make an interface of this index, and a client behind it."""
    netns.run(f"ip link add {name} index {index} type veth peer name {name}-peer")
    netns.run(f"ip address add {OWN}/24 dev {name}")
    netns.run(f"ip link set {name} up")
    return Client(netns, f"{name}-peer", name, CLIENT, OWN)


@pytest.fixture
def waiting(bare_router, tmp_path):
    """Return a router with rules for interfaces that are not there."""
    bare_router.rules({**RULE, "interfaces": [LATER, LAN]}, {**HERE, "ports": "80"})
    return Kept(bare_router, tmp_path)


def test_attaching_binds_the_rules_that_waited_for_the_interface(waiting):
    router = waiting.router
    behind = plug(router.netns, LATER, INDEX)
    router.route(LATER)
    router.record(interfaces=[LATER])
    assert "image_stale" in router.info()["drift"]
    predicted = router.attach(LATER, policy=POLICY, check=True)
    assert "image_stale" in router.info()["drift"]
    real = router.attach(LATER, policy=POLICY)
    assert predicted["changed"] and real["changed"]
    assert predicted["diff"] == real["diff"]
    assert (real["diff"]["before"]["rules_bound"], real["diff"]["after"]["rules_bound"]) == (False, True)
    assert router.info()["drift"] == []
    assert waiting.is_spliced(behind)
    assert not router.attach(LATER, policy=POLICY)["changed"]
    assert not router.rules({**HERE, "ports": "80"})["changed"]


def test_attaching_again_binds_them_to_an_interface_that_was_made_anew(waiting):
    router = waiting.router
    plug(router.netns, LATER, INDEX)
    router.route(LATER)
    router.attach(LATER, policy=POLICY)
    router.netns.run(f"ip link delete {LATER}")
    behind = plug(router.netns, LATER, INDEX + 1)
    router.record(interfaces=[LATER])
    assert router.attach(LATER)["changed"]
    assert waiting.is_spliced(behind)
    assert router.info()["drift"] == []


def test_attaching_elsewhere_binds_them_too(waiting):
    """The filter stands already when the rules lose their index: nothing but they is to be put right."""
    router = waiting.router
    plug(router.netns, LATER, INDEX)
    router.attach(LATER, policy=POLICY)
    plug(router.netns, LAN, INDEX + 2)
    assert router.attach(LATER, check=True)["changed"]
    assert router.attach(LATER)["changed"]
    assert not router.attach(LATER, check=True)["changed"]


class Over(Exception):
    """The watcher has to end."""


@contextmanager
def watched(kept: Kept):
    """Let a watcher go by the saved state."""
    over = threading.Event()

    class UntilOver(Events):
        def wait(self, seconds):
            deadline = None if seconds is None else time.monotonic() + seconds
            while deadline is None or time.monotonic() < deadline:
                if over.is_set():
                    raise Over
                if super().wait(0.05):
                    return True
            return False

    system, said = replace(kept.router.system(), events=UntilOver), []

    def go_on() -> None:
        with suppress(Over):
            said.extend(watch({"path": kept.path, "pin_dir": kept.router.pin_dir}, system, False))

    watcher = threading.Thread(target=go_on)
    watcher.start()
    try:
        yield said
    finally:
        over.set()
        watcher.join()


def test_the_watcher_alone_binds_rules_to_an_interface_that_comes_again(router, client, tmp_path):
    kept = Kept(router, tmp_path)
    router.route()
    router.attach(policy=POLICY)
    router.record(interfaces=[LAN])
    kept.save()
    router.netns.run(f"ip link delete {LAN}")
    with watched(kept) as said:
        router.rules(HERE)
        kept.save()
        behind = plug(router.netns, LAN, INDEX)
        eventually(lambda: drift(router) == [[], []])
        assert kept.is_spliced(behind)
    assert "rules: compiled anew for the interfaces of today" in said


def test_the_watcher_alone_follows_a_virtual_address_that_comes_and_goes(router, client, tmp_path):
    """As VRRP moves it: no run is between. The address is not on lan0, and counts there all the same."""
    kept = Kept(router, tmp_path)
    router.netns.run("ip link add vrrp0 type bridge")
    router.netns.run("ip link set vrrp0 up")
    router.route()
    router.attach(policy=POLICY)
    kept.save()
    asked = {"interface": LAN, "source": CLIENT, "destination": VIRTUAL, "protocol": "tcp", "port": 22}
    with watched(kept):
        assert router.verdict(**asked)["reason"] == "default"
        router.netns.run(f"ip address add {VIRTUAL}/32 dev vrrp0")
        eventually(lambda: router.verdict(**asked)["reason"] == "ssh")
        router.netns.run(f"ip address delete {VIRTUAL}/32 dev vrrp0")
        eventually(lambda: router.verdict(**asked)["reason"] == "default")
