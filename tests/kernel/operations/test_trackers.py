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


def attach(router, track: str | None = "own", **given) -> dict:
    policy = {} if track is None else {"track": track}
    return router.attach(policy={**policy, "default_action": given.pop("default_action", "drop")}, **given)


@pytest.mark.parametrize(
    ("action", "track", "found"),
    [("drop", "own", "own"), ("drop", None, "none"), ("drop", "none", "none"), ("pass", "all", "all")],
)
def test_the_policy_decides_whether_there_is_one(wired, action, track, found):
    for check in (True, False):
        assert attach(wired, track, default_action=action, check=check)["policy"]["track"] == found
    assert tracker(wired) == ("" if found == "none" else wanted(wired))
    assert not attach(wired, track, default_action=action)["changed"]
    assert wired.info()["attachments"][0]["drift"] == []


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
    for lose in (take_away, lambda router: router.attach(state="absent")):
        lose(wired)
        restored = restore_state({"path": path, "interface": None}, wired.system(), False)
        assert any(wanted(wired) in line for line in restored.data["changes"])
        assert tracker(wired) == wanted(wired)
        assert not restore_state({"path": path, "interface": None}, wired.system(), False).changed


def test_a_program_without_one_is_refused_if_the_option_asks_for_it(wired):
    bare = dataclasses.replace(wired.blob, tracker=None).to_json()
    for check in (True, False):
        with pytest.raises(Unsupported, match="this program has no tracker"):
            attach(wired, "own", blob_content=bare, check=check)
    assert attach(wired, None, blob_content=bare)["policy"]["track"] == "none"


def test_a_foreign_qdisc_without_egress_is_no_reason_for_a_refusal_by_default(wired):
    if wired.hook == "tcx":
        pytest.skip("TCX needs no qdisc")
    wired.netns.run(f"tc qdisc add dev {LAN} ingress")
    assert attach(wired, None)["policy"]["track"] == "none"
    for check in (True, False):
        with pytest.raises(Conflict, match="no egress hook"):
            attach(wired, "own", check=check)
