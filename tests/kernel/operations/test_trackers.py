# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tracker on egress follows the program on ingress: it comes, moves, changes and goes with it."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import Conflict, Unsupported
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.state import save_state
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.persistence.restore import restore_state
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources import attachments
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.hooks import has_tcx, programs_on
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.client import Netlink
from ansible_collections.netedge.tproxy.tests.kernel.operations.test_router import gathered, steer
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.router import LAN

NEWER = {"source_sha256": "1" * 64}
EGRESS = f"dev {LAN} egress"


@pytest.fixture(params=["tcx", "clsact"])
def wired(request, bare_router, client):
    """Return a router with a client whose attachments are of one kind."""
    with Netlink() as netlink:
        if request.param == "tcx" and not has_tcx(bpf, netlink.link(LAN).ifindex, "egress"):
            pytest.skip("this kernel has no TCX")
    bare_router.hook = request.param
    return bare_router


def tracker(router) -> str:
    """Return the name of the tracker on egress, "" without one. It has the kind of hook of the program."""
    with Netlink() as netlink:
        entries = programs_on(bpf, netlink, netlink.link(LAN).ifindex, "egress", "tproxy_tracker")
    ours = [entry for entry in entries if entry.name.startswith("tproxy_tracker:")]
    assert len(ours) <= 1 and all(entry.hook_kind == router.hook for entry in ours)
    return ours[0].name if ours else ""


def wanted(router, **changed) -> str:
    return f"tproxy_tracker:{dataclasses.replace(router.blob, **changed).identity[:12]}"


def codes(router) -> set:
    """Return the codes of the findings."""
    return {finding["code"] for finding in router.info()["findings"]}


def default_of(action: str) -> str:
    return "none" if action == "pass" else "own"


def attach(router, track: str | None = "own", **given) -> dict:
    policy = {} if track is None else {"track": track}
    return router.attach(policy={**policy, "default_action": given.pop("default_action", "drop")}, **given)


@pytest.mark.parametrize(
    ("action", "track", "found"),
    [
        ("drop", None, "own"),
        ("audit", None, "own"),
        ("pass", None, "none"),
        ("drop", "none", "none"),
        ("pass", "all", "all"),
    ],
)
def test_the_policy_decides_whether_there_is_one(wired, action, track, found):
    for check in (True, False):
        assert attach(wired, track, default_action=action, check=check)["policy"]["track"] == found
    assert tracker(wired) == ("" if found == "none" else wanted(wired))
    for same in (track, found, None if found == default_of(action) else found):
        for check in (True, False):
            assert not attach(wired, same, default_action=action, check=check)["changed"]
    assert wired.info()["attachments"][0]["drift"] == []
    assert "untracked" not in codes(wired)


def test_a_run_without_a_policy_leaves_it_as_it_is(wired):
    attach(wired, "none")
    assert not wired.attach()["changed"]
    assert wired.info()["attachments"][0]["policy"]["track"] == "none"


def test_it_comes_and_goes_with_the_option(wired):
    for track in ("none", "own", "all", "none"):
        assert attach(wired, track, check=True)["changed"]
        assert attach(wired, track)["changed"]
        assert bool(tracker(wired)) == (track != "none")


def test_it_is_replaced_with_the_program(wired):
    attach(wired)
    blob = dataclasses.replace(wired.blob, **NEWER).to_json()
    attach(wired, blob_content=blob)
    assert tracker(wired) == wanted(wired, **NEWER)


def test_it_goes_with_the_program(wired):
    attach(wired)
    wired.attach(state="absent")
    assert (tracker(wired), wired.pinned()) == ("", {})
    assert "clsact" not in wired.netns.run(f"tc qdisc show dev {LAN}")


def test_it_moves_with_the_program(wired):
    if wired.hook == "clsact":
        pytest.skip("the other case moves there and back")
    attach(wired)
    for hook in ("clsact", "tcx"):
        wired.hook = hook
        assert attach(wired)["changed"]
        assert tracker(wired) == wanted(wired)


def test_a_failure_leaves_the_state_before(wired, monkeypatch):
    attach(wired, "none")
    put = attachments.HookPoint.attach

    def refuse(point, *arguments):
        put(point, *arguments)
        if point.hook.direction == "ingress":
            raise Conflict("no")

    monkeypatch.setattr(attachments.HookPoint, "attach", refuse)
    with pytest.raises(Conflict):
        attach(wired, "own", blob_content=dataclasses.replace(wired.blob, **NEWER).to_json())
    monkeypatch.undo()
    assert tracker(wired) == ""
    assert not attach(wired, "none")["changed"]


def take_away(router) -> None:
    with Netlink() as netlink:
        ifindex = netlink.link(LAN).ifindex
    if router.hook == "clsact":
        router.netns.run(f"tc filter del {EGRESS} pref 10")
        return
    listed = bpf.tcx_programs(ifindex, "egress")
    bpf.detach_tcx(ifindex, "egress", bpf.program_by_id(listed.ids[0]), listed.revision)


def test_its_loss_is_drift_and_the_next_run_repairs_it(wired):
    attach(wired)
    take_away(wired)
    info = wired.info()
    assert info["attachments"][0]["drift"] == ["no_tracker"]
    assert ("no_tracker", "warning") in {(each["code"], each["severity"]) for each in info["findings"]}
    assert attach(wired)["changed"]
    assert tracker(wired) == wanted(wired)
    assert wired.info()["attachments"][0]["drift"] == []


def test_a_restore_puts_it_back(wired, tmp_path):
    attach(wired, "all")
    path = str(tmp_path / "kept" / "state.json")
    save_state(options("tproxy_state", path=path, pin_dir=wired.pin_dir), wired.system(), False)
    program = wired.info()["attachments"][0]["name"]
    noun = {"tcx": "TCX program", "clsact": "filter"}[wired.hook]
    for lose, lost in (
        (take_away, wanted(wired)),
        (lambda router: router.attach(state="absent"), f"{program} and its tracker"),
    ):
        lose(wired)
        restored = restore_state({"path": path, "interface": None}, wired.system(), False)
        lines = [line for line in restored.data["changes"] if noun in line]
        assert lines == [f"{LAN}: {noun} {lost} put back"]
        assert tracker(wired) == wanted(wired)
        assert not restore_state({"path": path, "interface": None}, wired.system(), False).changed


def test_a_program_without_one_is_refused_if_the_option_asks_for_it(wired):
    bare = dataclasses.replace(wired.blob, tracker=None).to_json()
    for check in (True, False):
        with pytest.raises(Unsupported, match=f"own of {LAN} needs .* and this program has no tracker: .*; put"):
            attach(wired, "own", blob_content=bare, check=check)
    for check in (True, False):
        assert attach(wired, None, blob_content=bare, check=check)["policy"]["track"] == "none"


def test_a_foreign_qdisc_without_egress_is_no_reason_for_a_refusal_by_default(wired):
    if wired.hook == "tcx":
        pytest.skip("TCX needs no qdisc")
    wired.netns.run(f"tc qdisc add dev {LAN} ingress")
    for check in (True, False):
        answer = attach(wired, None, check=check)
        assert answer["policy"]["track"] == "none"
        assert [warning for warning in answer["warnings"] if "[untracked]" in warning and "no egress hook" in warning]
    assert not attach(wired, None)["changed"]
    assert ("untracked", "warning") in {(each["code"], each["severity"]) for each in wired.info()["findings"]}
    for check in (True, False):
        with pytest.raises(Conflict, match=f"own of {LAN} needs .* no egress hook: nothing was changed; remove it"):
            attach(wired, "own", check=check)
    attach(wired, None, default_action="pass")
    assert "untracked" not in codes(wired)


def test_the_default_leaves_a_foreign_filter_in_its_place(wired):
    if wired.hook == "tcx":
        pytest.skip("TCX has no places")
    attach(wired, "none")
    words = f"tc filter add {EGRESS} pref 10 handle 1 bpf da bytecode".split()
    wired.netns.run_words(*words, "1,6 0 0 0")
    before = wired.netns.run(f"tc filter show {EGRESS}")
    assert attach(wired, None)["policy"]["track"] == "none"
    assert wired.netns.run(f"tc filter show {EGRESS}") == before
    assert "untracked" in codes(wired)


def test_a_router_as_a_whole_has_the_same_default(wired):
    if wired.hook == "tcx":
        pytest.skip("one kind of hook is enough")
    for action, found in (("drop", "own"), ("pass", "none"), ("audit", "own")):
        given = {"name": LAN, "policy": {"default_action": action}}
        assert steer(wired, interfaces=[given])["changed"]
        assert gathered(wired)["interfaces"][0]["policy"]["track"] == found
        for state in ("merged", "replaced"):
            assert not steer(wired, state=state, **{**gathered(wired), "interfaces": [given]})["changed"]
            assert not steer(wired, state=state, **gathered(wired))["changed"]
