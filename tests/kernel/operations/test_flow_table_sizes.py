# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of tracked flows get another size on this kernel: their flows stay, and each program moves to them."""

from __future__ import annotations

import errno

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import FLOWS
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import KernelRefused
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.state import save_state
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.persistence.restore import restore_state
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf
from ansible_collections.netedge.tproxy.tests.kernel.operations.damage import lose_program
from ansible_collections.netedge.tproxy.tests.kernel.operations.test_flow_tables import MINUTE, fill
from ansible_collections.netedge.tproxy.tests.kernel.operations.test_router import INTERFACE, steer
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.router import LAN

SECOND = "lan1"
TRACKED = {"default_action": "drop", "track": "all"}


@pytest.fixture
def tracking(router):
    """Return a router with the splicer and its tracker on two interfaces, one hook of each kind."""
    router.netns.run(f"ip link add {SECOND} type veth peer name {SECOND}-peer")
    router.netns.run(f"ip link set {SECOND} up")
    router.attach(policy=TRACKED)
    router.attach(SECOND, policy=TRACKED, hook="clsact")
    return router


def flows(router) -> dict:
    return {name: (table["entries"], table["size"]) for name, table in router.info()["flows"].items()}


def drift(router) -> list:
    return [each["drift"] for each in router.info()["attachments"]]


def resize(router, check: bool = False, **sizes) -> dict:
    return steer(router, check=check, blob_content=None, flow_tables=sizes)


def test_flows_stay_and_each_program_moves_to_the_new_tables(tracking):
    fill(tracking, "flows_own", 9000, MINUTE)
    fill(tracking, "flows_forwarded", 3, MINUTE)
    predicted = resize(tracking, check=True, own=131072, forwarded=4096)
    assert flows(tracking) == {"own": (9000, FLOWS), "forwarded": (3, FLOWS), "outside": (0, FLOWS)}
    answer = resize(tracking, own=131072, forwarded=4096)
    assert (answer["diff"], answer["changed_parts"]) == (predicted["diff"], ["flow tables", "filters"])
    assert flows(tracking) == {"own": (9000, 131072), "forwarded": (3, 4096), "outside": (0, FLOWS)}
    assert drift(tracking) == [[], []]
    assert not resize(tracking, own=131072, forwarded=4096)["changed"]


def test_a_smaller_table_keeps_flows_up_to_its_size(tracking):
    fill(tracking, "flows_own", 9000, MINUTE)
    resize(tracking, own=4096)
    entries, size = flows(tracking)["own"]
    assert size == 4096 and 0 < entries <= size


def test_a_refused_attachment_leaves_tables_programs_and_flows(tracking, monkeypatch):
    fill(tracking, "flows_own", 5, MINUTE)
    before, pinned = flows(tracking), tracking.pinned()
    attach_tcx = bpf.attach_tcx

    def refuse(ifindex, direction, *given):
        if direction == "ingress":
            raise KernelRefused(errno.ENOMEM, "attach", "TCX program")
        return attach_tcx(ifindex, direction, *given)

    monkeypatch.setattr(bpf, "attach_tcx", refuse)
    with pytest.raises(KernelRefused):
        resize(tracking, own=8192)
    monkeypatch.undo()
    assert flows(tracking) == before
    assert sorted(tracking.pinned()) == sorted(pinned)
    assert drift(tracking) == [[], []]


def test_sizes_are_saved_and_restored(router, tmp_path):
    steer(router, interfaces=[INTERFACE], flow_tables={"forwarded": 8192})
    path = str(tmp_path / "state.json")
    save_state(options("tproxy_state", path=path, pin_dir=router.pin_dir), router.system(), False)
    lose_program(router)
    router.folder.clear()
    assert restore_state({"path": path, "interface": LAN}, router.system(), False).changed
    assert flows(router)["forwarded"] == (0, 8192)
    assert drift(router) == [[]]
    assert not restore_state({"path": path, "interface": None}, router.system(), False).changed
