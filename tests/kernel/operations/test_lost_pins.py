# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bpffs that goes away under a router: filtering goes on, and the next run pins the living maps again."""

from __future__ import annotations

import os

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.divert import divert
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.diverter_args import parse
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.helper import Helper
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.legacy import map_update
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.rules import apply_rules
from ansible_collections.netedge.tproxy.tests.kernel.operations.confirming import Confirming
from ansible_collections.netedge.tproxy.tests.kernel.operations.damage import has_tcx
from ansible_collections.netedge.tproxy.tests.kernel.operations.test_restore import RULE, Kept
from ansible_collections.netedge.tproxy.tests.kernel.operations.test_router import steer
from ansible_collections.netedge.tproxy.tests.kernel.traffic.test_changes import SPLICED, Stream
from ansible_collections.netedge.tproxy.tests.support.options import options

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
    mounted.router.attach(policy={"track": "own"})
    mounted.router.record(interfaces=["lan0"])
    mounted.save()
    mounted.router.rules(SERVICE)
    return mounted


def lose_mount(router) -> None:
    """Put an empty bpffs in the place of the one with the pins."""
    place = router.folder.path
    router.netns.run(f"umount -l {place}")
    router.netns.run(f"mount -t bpf -o mode=0700 bpf {place}")


def lose_bpffs(router) -> None:
    """Unmount the bpffs with the pins. Below, the folder is in another one."""
    router.netns.run(f"umount -l {router.folder.path}")


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


# ---- the writers ----------------------------------------------------------------------------------

EXTRA = {**RULE, "ports": "8081"}
CALL = ["-I", "-c", "198.51.100.9", "-m", "32", "-p", "tcp", "-l", "80", "-h", "80", "-t", "0", "-s", "7"]


def insert(kept, check: bool) -> dict:
    """Add a rule as an OpenZiti router does, without the helper."""
    given = {"request": parse(CALL), "pin_dir": kept.router.pin_dir}
    return divert(given, kept.router.system(), check).as_dict()


def insert_by_helper(kept, check: bool) -> dict:
    """Add a rule as an OpenZiti router does, by a helper that was open before the loss or was not."""
    if check:
        return insert(kept, True)
    words = ["7443" if word == "0" else word for word in CALL]
    answer = Helper(kept.router.pin_dir, kept.router.system()).answer("\0".join(words).encode(), 1000)
    assert (answer.status, answer.line) == (0, "")
    return {"changed": answer.changed}


def update_map(kept, check: bool) -> dict:
    """Add a rule as the first edge routers do."""
    given = {"words": ["198.51.100.8", "32", "80", "80", "7443", "6"], "pin_dir": kept.router.pin_dir}
    answer = map_update(given, kept.router.system(), check).as_dict()
    assert answer["not_enforced_reason"] == ""
    return answer


WRITERS = {
    "tproxy_rule": lambda kept, check: kept.router.rules(EXTRA, check=check),
    "tproxy_rule, nothing new": lambda kept, check: kept.router.rules(RULE, check=check),
    "tproxy_rule, absent": lambda kept, check: kept.router.rules(RULE, state="absent", check=check),
    "ifindex_ip": lambda kept, check: kept.router.record(interfaces=["lan0"], check=check),
    "tproxy_route": lambda kept, check: kept.router.route(check=check),
    "tproxy_router": lambda kept, check: steer(kept.router, check, interfaces=[{"name": "lan0"}]),
    "-I": insert,
    "-I by the helper": insert_by_helper,
    "map_update": update_map,
}
KEEPS = {"tproxy_rule, absent": {"ziti:4HgX"}}


@pytest.mark.parametrize(
    ("kept", "lose"),
    [("tcx", lose_mount), ("clsact", remove_pins), ("tcx", lose_bpffs)],
    ids=["umount", "rm", "no bpffs"],
    indirect=["kept"],
)
def test_each_writer_pins_the_living_maps_before_it_reads(kept, lose):
    router = kept.router
    for name, write in WRITERS.items():
        router.rules(RULE, SERVICE)
        lose(router)
        predicted = write(kept, True)["changed"]
        if lose is lose_bpffs:
            router.netns.run(f"mount -t bpf -o mode=0700 bpf {router.folder.path}")
        assert (predicted, write(kept, False)["changed"]) == (True, True), name
        info = router.info()
        assert KEEPS.get(name, {"ansible", "ziti:4HgX"}) <= {rule["owner"] for rule in info["rules"]}, name
        assert (info["drift"], [entry["drift"] for entry in info["attachments"]]) == ([], [[]]), name
    assert not kept.restore()["changed"]


@pytest.mark.parametrize("kept", ["tcx"], indirect=True)
def test_a_change_that_waits_for_confirmation_survives_the_loss_and_its_roll_back_too(kept, client):
    router, confirming = kept.router, Confirming(kept.router)
    try:
        lose_mount(router)
        assert confirming.rules(EXTRA)["confirm"]
        lose_mount(router)
        assert confirming.say("confirmed")["changed"]
        assert {rule["ports"] for rule in router.info()["rules"]} == {"8081", "8443"}
        assert confirming.rules(RULE)["confirm"]
        remove_pins(router)
        assert confirming.say("rolled_back")["changed"]
        assert {rule["ports"] for rule in router.info()["rules"]} == {"8081", "8443"}
    finally:
        confirming.forget()


@pytest.mark.parametrize("kept", ["tcx"], indirect=True)
def test_a_saved_state_has_the_rules_that_packets_meet(kept):
    before = [rule["ports"] for rule in kept.router.info()["rules"] if not rule["owner"].startswith("ziti:")]
    remove_pins(kept.router)
    assert (kept.save()["changed"], kept.save()["rules"]) == (False, len(before))


@pytest.mark.parametrize("kept", ["tcx"], indirect=True)
def test_maps_that_another_pin_folder_has_stay_there(kept):
    router = kept.router
    before = router.info()["rules"]
    other = f"{router.folder.path}/other"
    given = options("tproxy_rule", rules=[EXTRA], purge=True, pin_dir=other)
    assert apply_rules(given, router.system(), False).data["added"] == 1
    assert router.info()["rules"] == before


def test_what_was_lost_is_named(kept):
    remove_pins(kept.router)
    drift = kept.router.info()["attachments"]
    assert [entry["drift"] for entry in drift] in ([["other_maps", "no_policy"]], [["no_policy", "other_maps"]])
