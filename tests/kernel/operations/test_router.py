# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tproxy_router on the real kernel: gathered fed to replaced, and check mode before the real run."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.router import manage_router
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.router import LAN, OWN, without_counters

MANAGEMENT = [{"source": "10.1.0.0/24", "port": "22"}]
INTERFACE = {"name": LAN, "policy": {"allow_ssh": False, "management": MANAGEMENT}}
WEB = {"name": "web", "destination": "192.0.2.0/24", "protocol": "tcp", "ports": "443", "tproxy_port": "8443"}
MAIL = {"destination": "198.51.100.7", "protocol": "tcp", "ports": "25", "action": "drop", "owner": "site"}


def steer(router, check: bool = False, **given) -> dict:
    """Run tproxy_router without files of ours."""
    given = {"persist": False, "cli": False, "blob_content": router.blob.to_json(), "pin_dir": router.pin_dir, **given}
    return manage_router(options("tproxy_router", **given), router.system(), check).as_dict()


def gathered(router) -> dict:
    """Return the state as options of tproxy_router, without those that belong to files."""
    found = steer(router, state="gathered")["gathered"]
    return {name: found[name] for name in ("interfaces", "rules", "routes")}


@pytest.fixture
def wired(bare_router):
    """Return a router without the splicer, with an interface that has addresses."""
    bare_router.netns.run(f"ip link add {LAN} type veth peer name {LAN}-peer")
    bare_router.netns.run(f"ip address add {OWN}/24 dev {LAN}")
    bare_router.netns.run(f"ip link set {LAN} up")
    return bare_router


def told(answer: dict) -> dict:
    return {name: value for name, value in answer.items() if name != "warnings"}


def test_check_mode_tells_what_the_run_does(wired):
    predicted = steer(wired, check=True, interfaces=[INTERFACE], rules=[WEB, MAIL])
    assert gathered(wired) == {"interfaces": [], "rules": [], "routes": []}
    assert told(predicted) == told(steer(wired, interfaces=[INTERFACE], rules=[WEB, MAIL]))
    assert predicted["changed"] and (predicted["added"], predicted["rules"]) == (2, 2)
    info = wired.info()
    assert [(each["interface"], each["drift"]) for each in info["attachments"]] == [(LAN, [])]
    assert not steer(wired, interfaces=[INTERFACE], rules=[WEB, MAIL])["changed"]


def test_gathered_fed_to_replaced_changes_nothing_and_makes_the_same_anew(wired):
    wired.attach(policy={"allow_echo": True}, priority=20)
    wired.record()
    wired.route(mark="0x2/0x2", table=7)
    wired.rules(WEB, MAIL)
    found, before = gathered(wired), without_counters(wired.info())
    assert not steer(wired, state="replaced", **found)["changed"]
    assert without_counters(wired.info()) == before
    steer(wired, state="absent")
    assert gathered(wired) == {"interfaces": [], "rules": [], "routes": []}
    assert not wired.pinned()
    answer = steer(wired, state="replaced", **found)
    assert answer["changed"]
    assert gathered(wired) == found


def test_replaced_removes_the_rest(wired):
    steer(wired, interfaces=[INTERFACE], rules=[WEB, MAIL])
    answer = steer(wired, state="replaced", interfaces=[INTERFACE], rules=[WEB])
    assert (answer["removed"], answer["rules"]) == (1, 1)
    assert answer["diff"]["after"] == ""
    assert "198.51.100.7/32" in answer["diff"]["before"]
