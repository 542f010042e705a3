# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The refusals of preflight about the path of the SSH session, and about VRFs, in check mode as in a real run."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import REASON_DEFAULT, VERDICT_DROP
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import Refused, Unsupported
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import parse_address
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.messages import Route
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.tunnels import Tunnel
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import Machine
from ansible_collections.netedge.tproxy.tests.support.scenarios import (
    CLOSED,
    attaching,
    detaching,
    play,
    prepared,
    steering,
)

CLIENT, INNER, REMOTE = "172.30.0.1", "172.30.0.12", "10.1.0.2"
RUNS = ["attach", "router"]
BOTH_MODES = pytest.mark.parametrize("check", [True, False], ids=["check", "real"])


def by_a_tunnel(kind: str, tunnel: Tunnel | None) -> Machine:
    """Return a machine with an SSH session by a tunnel, which lan0 carries. Its programs drop each packet."""
    machine = prepared()
    machine.plug("tunnel0", 20, (INNER,))
    machine.links["tunnel0"] = machine.links["tunnel0"]._replace(kind=kind, tunnel=tunnel)
    machine.processes.ssh = (CLIENT, "40000", INNER, "22")
    own = parse_address("10.1.0.1")
    machine.ways = {CLIENT: Route(2, bytes(16), 0, 1, 0, 3, 20), REMOTE: Route(2, bytes(16), 0, 1, 0, 3, 3, b"", own)}
    machine.fate = REASON_DEFAULT, VERDICT_DROP
    return machine


@BOTH_MODES
@pytest.mark.parametrize(
    ("kind", "tunnel", "words"),
    [
        (
            "vxlan",
            Tunnel("udp", remote=parse_address(REMOTE), port=4789),
            rf"would not pass udp from {REMOTE} to 10\.1\.0\.1 port 4789 \(drop, default\), the outer packets of tun.*"
            rf"add {{source: {REMOTE}, protocol: udp, port: 4789}} to `management`",
        ),
        (
            "gre",
            Tunnel("gre", remote=parse_address(REMOTE)),
            rf"would not pass gre .*add {{source: {REMOTE}, protocol: gre}} to `management`",
        ),
    ],
)
def test_the_carrier_of_the_session_is_refused(check, kind, tunnel, words):
    machine = by_a_tunnel(kind, tunnel)
    before = machine.everything()
    with pytest.raises(Refused, match=words):
        play(machine, attaching("lan0"), check)
    assert machine.everything() == before


@BOTH_MODES
def test_a_router_with_the_carrier_is_refused(check):
    machine = by_a_tunnel("vxlan", Tunnel("udp", remote=parse_address(REMOTE), port=4789))
    with pytest.raises(Refused, match="the outer packets of tunnel0"):
        play(machine, steering(interfaces=("lan0",)), check)


@BOTH_MODES
def test_an_interface_that_carries_nothing_is_left_alone(check):
    machine = by_a_tunnel("gre", Tunnel("gre", remote=parse_address(REMOTE)))
    assert play(machine, attaching("lan1"), check)["warnings"] == []


@BOTH_MODES
def test_a_tunnel_that_cannot_be_followed_is_a_warning(check):
    (warning,) = play(by_a_tunnel("tun", None), attaching("lan0"), check)["warnings"]
    assert "comes by tunnel0 (tun), and the outer packets of that tunnel are not known" in warning


@BOTH_MODES
def test_a_run_that_changes_nothing_says_nothing_of_it(check):
    machine = by_a_tunnel("tun", None)
    play(machine, attaching("lan0"))
    assert play(machine, attaching("lan0"), check)["warnings"] == []


@BOTH_MODES
@pytest.mark.parametrize("fields", [{"kind": "vrf"}, {"master": 30, "master_kind": "vrf"}])
@pytest.mark.parametrize(
    "run", [attaching("lan0", policy=CLOSED, force=True), steering(interfaces=("lan0",), force=True)], ids=RUNS
)
def test_a_vrf_is_refused_with_force_too(check, fields, run):
    machine = prepared()
    machine.links["lan0"] = machine.links["lan0"]._replace(**fields)
    before = machine.everything()
    with pytest.raises(Unsupported, match=r"lan0 is a VRF device or belongs to one.*Nothing was changed"):
        play(machine, run, check)
    assert machine.everything() == before


def test_a_program_leaves_an_interface_that_joined_a_vrf():
    machine = prepared(attaching("lan0"))
    machine.links["lan0"] = machine.links["lan0"]._replace(master=30, master_kind="vrf")
    assert play(machine, detaching("lan0"))["changed"]
