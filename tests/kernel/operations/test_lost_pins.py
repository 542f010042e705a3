# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bpffs that goes away under a router: filtering goes on, and the next look pins the living maps again."""

from __future__ import annotations

import os

import pytest

from ansible_collections.netedge.tproxy.tests.kernel.operations.damage import has_tcx
from ansible_collections.netedge.tproxy.tests.kernel.operations.test_restore import RULE, Kept
from ansible_collections.netedge.tproxy.tests.kernel.traffic.test_changes import SPLICED, Stream

SERVICE = {**RULE, "owner": "ziti:4HgX", "ports": "8443"}


@pytest.fixture
def mounted(router, tmp_path):
    """Return a router with a saved state, and with its pins in a bpffs of its own."""
    netns, place = router.netns, router.folder.path
    netns.run(f"mount -t bpf -o mode=0700 bpf {place}")
    router.route()
    router.rules(SPLICED, RULE)
    kept = Kept(router, tmp_path)
    yield kept
    while os.path.ismount(place):
        netns.run(f"umount -l {place}")


@pytest.fixture(params=["tcx", "clsact"])
def kept(mounted, request):
    """Return that router, by each kind of hook."""
    if request.param == "tcx" and not has_tcx():
        pytest.skip("no TCX before Linux 6.6")
    mounted.router.hook = request.param
    mounted.router.attach()
    mounted.router.record(interfaces=["lan0"])
    mounted.save()
    mounted.router.rules(SERVICE)
    return mounted


def lose_mount(router) -> None:
    """Put an empty bpffs in the place of the one with the pins."""
    place = router.folder.path
    router.netns.run(f"umount -l {place}")
    router.netns.run(f"mount -t bpf -o mode=0700 bpf {place}")


def remove_pins(router) -> None:
    """Remove every pin, as `rm -r` does."""
    for folder, _folders, names in os.walk(router.pin_dir, topdown=False):
        for name in names:
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)


@pytest.mark.parametrize("lose", [lose_mount, remove_pins], ids=["umount", "rm"])
def test_packets_meet_the_same_rules_before_and_after_the_repair(kept, client, lose):
    router = kept.router
    rules = [rule["owner"] for rule in router.info()["rules"]]
    with Stream(client) as stream:
        lose(router)
        received = len(stream.received)
        while len(stream.received) < received + 50:
            pass
        assert kept.restore()["changed"]
        received = len(stream.received)
        while len(stream.received) < received + 50:
            pass
    stream.judge(2)
    assert kept.is_spliced(client)
    info = router.info()
    assert [rule["owner"] for rule in info["rules"]] == rules
    assert (info["drift"], [entry["drift"] for entry in info["attachments"]]) == ([], [[]])
    assert info["attachments"][0]["hook"] == router.hook
    assert not kept.restore()["changed"]


@pytest.mark.parametrize("lose", [lose_mount, remove_pins], ids=["umount", "rm"])
def test_to_attach_again_keeps_the_rules(kept, client, lose):
    router = kept.router
    before = router.info()["rules"]
    lose(router)
    assert router.attach(check=True)["changed"]
    assert router.attach()["changed"]
    after = router.info()
    assert [rule["owner"] for rule in after["rules"]] == [rule["owner"] for rule in before]
    assert after["attachments"][0]["drift"] == []
    assert kept.is_spliced(client)
    assert not router.attach()["changed"]


def test_what_was_lost_is_named(kept):
    remove_pins(kept.router)
    drift = kept.router.info()["attachments"]
    assert [entry["drift"] for entry in drift] in ([["other_maps", "no_policy"]], [["no_policy", "other_maps"]])
