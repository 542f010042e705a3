# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both kinds of hooks on the real kernel: the choice, the order, and foreign programs of either kind and direction."""

from __future__ import annotations

import dataclasses
import os

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import (
    Conflict,
    InvalidInput,
    Unsupported,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf
from ansible_collections.netedge.tproxy.tests.kernel.operations.damage import has_tcx, ifindex_of, tcx_programs
from ansible_collections.netedge.tproxy.tests.kernel.operations.test_attach import counter
from ansible_collections.netedge.tproxy.tests.kernel.operations.test_router import steer
from ansible_collections.netedge.tproxy.tests.support.router import LAN, OWN

NEXT = -1
CLSACT = f"tc qdisc add dev {LAN} clsact"
U32 = f"tc filter add dev {LAN} ingress prio 50 protocol ip u32 match ip dport 9 0xffff flowid 1:1"
NEWER = {"source_sha256": "ab" * 32}


@pytest.fixture
def wired(bare_router):
    """Return a router with one interface that receives no packets, on a kernel with TCX."""
    if not has_tcx():
        pytest.skip("no TCX before Linux 6.6")
    bare_router.netns.veth()
    bare_router.netns.run(f"ip address add {OWN}/24 dev {LAN}")
    return bare_router


@pytest.fixture
def foreign(wired, program):
    """Return the ids of foreign TCX programs: two on ingress, one on egress."""
    ifindex, found = ifindex_of(wired), []
    for direction in ("ingress", "ingress", "egress"):
        one = program(NEXT)
        bpf.attach_tcx(ifindex, direction, one.fd, bpf.tcx_programs(ifindex, direction).revision)
        found.append(one.id)
    return found


def newer(router, **given) -> dict:
    """Attach the same program under another identity."""
    return router.attach(blob_content=dataclasses.replace(router.blob, **NEWER).to_json(), **given)


def ids(router, direction: str = "ingress") -> tuple:
    return bpf.tcx_programs(ifindex_of(router), direction).ids


def hook_of(router) -> str:
    """Return the kind of hook of our program, which must be the only one and right."""
    entry = router.info()["attachments"][0]
    assert not set(entry["drift"]) - {"filter_overtaken", "tcx_ahead", "filter_ahead"}
    return entry["hook"]


def told(router) -> tuple:
    """Return all that stands on the hooks of the interface."""
    show = [f"tc filter show dev {LAN} {way}" for way in ("ingress", "egress")] + [f"tc qdisc show dev {LAN}"]
    return [router.netns.run(each) for each in show], ids(router), ids(router, "egress")


def foreign_on_egress(router, foreign: list) -> tuple:
    """Return the filters and TCX programs on egress without our tracker."""
    filters = router.netns.run(f"tc filter show dev {LAN} egress").splitlines()
    return [line for line in filters if " bpf " not in line], [
        each for each in ids(router, "egress") if each in foreign
    ]


# ---- the choice ---------------------------------------------------------------------------------


def test_tcx_comes_first_and_needs_no_qdisc(wired):
    before = told(wired)
    predicted, done = wired.attach(check=True), wired.attach()
    assert predicted["diff"] == done["diff"]
    place = [done["attachment"][name] for name in ("hook", "direction", "priority", "handle")]
    assert place == ["tcx", "ingress", None, None]
    assert done["attachment"]["program_id"] == ids(wired)[0]
    assert tcx_programs(ifindex_of(wired)) == ["tp_" + done["program"]["identity"][:12]]
    assert "clsact" not in told(wired)[0][2]
    assert not wired.attach()["changed"]
    assert wired.attach(state="absent")["changed"]
    assert (told(wired), wired.pinned()) == (before, {})


def test_a_foreign_filter_is_not_overtaken_unless_asked_for(wired):
    wired.netns.run(CLSACT)
    wired.netns.run(U32)
    assert wired.attach()["attachment"]["hook"] == "clsact"
    answer = wired.attach(hook="tcx")
    assert answer["attachment"]["hook"] == "tcx"
    assert any("u32 filter at priority 50" in line and "filter_overtaken" in line for line in answer["warnings"])
    assert wired.info()["attachments"][0]["drift"] == ["filter_overtaken"]
    wired.attach(policy={"accept": "unspec"})
    assert wired.info()["attachments"][0]["drift"] == []
    assert "u32" in told(wired)[0][0]


def test_a_filter_stays_until_the_program_changes(wired):
    wired.attach(hook="clsact")
    assert not wired.attach()["changed"]
    assert wired.attach(policy={"default_action": "pass"})["attachment"]["hook"] == "clsact"
    predicted, moved = newer(wired, check=True), newer(wired)
    assert predicted["diff"] == moved["diff"]
    assert [side["hook"] for side in moved["diff"].values()] == ["clsact", "tcx"]
    assert (hook_of(wired), told(wired)[0][0]) == ("tcx", "")
    assert "clsact" not in told(wired)[0][2]
    assert not newer(wired)["changed"]


def test_a_move_back_on_request(wired):
    wired.attach()
    moved = wired.attach(hook="clsact", priority=20)
    assert [(side["hook"], side["priority"]) for side in moved["diff"].values()] == [("tcx", None), ("clsact", 20)]
    assert (hook_of(wired), ids(wired)) == ("clsact", ())
    assert not wired.attach(hook="clsact", priority=20)["changed"]
    assert wired.attach(state="absent")["changed"]
    assert "clsact" not in told(wired)[0][2]


# ---- the order ----------------------------------------------------------------------------------


def test_a_new_program_runs_last_and_the_finding_names_those_before(wired, foreign):
    answer = wired.attach()
    assert ids(wired) == (*foreign[:2], answer["attachment"]["program_id"])
    assert [f"TCX program {number}" in " ".join(answer["warnings"]) for number in foreign[:2]] == [True, True]
    assert wired.info()["attachments"][0]["drift"] == ["tcx_ahead"]


def test_before_and_after_move_it(wired, foreign):
    wired.attach()
    for option, place in (("before", 0), ("after", 1), ("before", 0)):
        given = {option: str(foreign[0])}
        predicted, moved = wired.attach(check=True, **given), wired.attach(**given)
        assert predicted["changed"] and moved["changed"]
        listed = ids(wired)
        assert [number for number in listed if number in foreign] == foreign[:2]
        assert listed.index(moved["attachment"]["program_id"]) == place
        assert not wired.attach(**given)["changed"]
    assert wired.info()["attachments"][0]["drift"] == []


def test_a_replacement_keeps_the_place(wired, foreign):
    wired.attach(before=str(foreign[1]))
    answer = newer(wired)
    assert ids(wired) == (foreign[0], answer["attachment"]["program_id"], foreign[1])


@pytest.mark.parametrize("check", [True, False], ids=["check", "real"])
def test_an_order_without_its_program_is_refused(wired, foreign, check):
    before = told(wired)
    with pytest.raises(Conflict, match="before: cilium is no TCX program on ingress of lan0; there are"):
        wired.attach(before="cilium", check=check)
    with pytest.raises(InvalidInput, match="they order TCX programs, and hook is clsact"):
        wired.attach(before="cilium", hook="clsact", check=check)
    assert (told(wired), wired.pinned()) == (before, {})


# ---- neighbours ---------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["tcx", "clsact"])
def test_foreign_programs_of_both_kinds_and_directions_are_left_alone(wired, foreign, hook):
    wired.netns.run(CLSACT)
    wired.netns.run(U32)
    wired.netns.run(U32.replace("ingress", "egress"))
    before, beside = told(wired), foreign_on_egress(wired, foreign)
    for other in (hook, "tcx", "clsact", hook):
        wired.attach(hook=other)
        newer(wired, hook=other)
        assert [number for number in ids(wired) if number in foreign] == foreign[:2]
        assert foreign_on_egress(wired, foreign) == beside
    assert wired.attach(state="absent")["changed"]
    assert (told(wired), wired.pinned()) == (before, {})


@pytest.mark.parametrize("hook", ["auto", "clsact"])
def test_a_foreign_ingress_qdisc_is_shared_and_stays(wired, hook):
    wired.netns.run(f"tc qdisc add dev {LAN} ingress")
    before = told(wired)
    predicted, done = wired.attach(hook=hook, check=True), wired.attach(hook=hook)
    assert (predicted["changed"], predicted["diff"]) == (True, done["diff"])
    assert hook_of(wired) == ("tcx" if hook == "auto" else "clsact")
    assert not wired.attach(hook=hook)["changed"]
    wired.attach(state="absent")
    assert (told(wired), wired.pinned()) == (before, {})


@pytest.mark.parametrize("check", [True, False], ids=["check", "real"])
@pytest.mark.usefixtures("compiler")
def test_an_ingress_qdisc_has_no_egress_hook(wired, check):
    wired.netns.run(f"tc qdisc add dev {LAN} ingress")
    before = told(wired)
    with pytest.raises(Conflict, match="the qdisc `ingress` of another program has the place of clsact"):
        wired.attach(**counter(direction="egress", hook="clsact", check=check))
    assert (told(wired), wired.pinned()) == (before, {})


# ---- programs other than ours -------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["ingress", "egress"])
@pytest.mark.usefixtures("compiler")
def test_an_operators_program_is_told_by_its_maps(wired, foreign, direction):
    wired.attach()
    before = ids(wired, direction)
    predicted = wired.attach(**counter(direction=direction, check=True))
    answer = wired.attach(**counter(direction=direction))
    assert predicted["diff"] == answer["diff"]
    assert answer["attachment"]["hook"] == "tcx"
    assert ids(wired, direction) == (*before, answer["attachment"]["program_id"])
    assert not wired.attach(**counter(direction=direction))["changed"]
    assert wired.attach(**counter(direction=direction, state="absent"))["changed"]
    assert ids(wired, direction) == before
    assert hook_of(wired) == "tcx"


@pytest.mark.usefixtures("compiler")
def test_an_operators_program_without_maps_gets_a_filter(wired):
    plain = counter(text="int count_packets(struct __sk_buff *skb) { return -1; }")
    assert wired.attach(**plain)["attachment"]["hook"] == "clsact"
    with pytest.raises(Unsupported, match="count_packets has no map, so a later run could not recognise it"):
        wired.attach(**{**plain, "hook": "tcx"})
    assert wired.attach(**{**plain, "state": "absent"})["changed"]
    assert not os.path.exists(wired.pin_dir)


# ---- filters that interfaces share ------------------------------------------------------------


def test_a_shared_filter_block_is_refused_in_check_mode_too_and_takes_a_tcx_program(router):
    router.netns.run("tc qdisc add dev lan0 ingress_block 22 clsact")
    refusals = set()
    for check in (True, False):
        for run in (
            lambda check=check: router.attach(hook="clsact", check=check),
            lambda check=check: steer(router, check, interfaces=[{"name": "lan0", "hook": "clsact"}]),
        ):
            with pytest.raises(Conflict, match="shares filter block 22 with other interfaces") as refused:
                run()
            refusals.add(str(refused.value))
    assert len(refusals) == 1
    assert router.info()["attachments"] == []
    if has_tcx():
        assert router.attach()["attachment"]["hook"] == "tcx"
