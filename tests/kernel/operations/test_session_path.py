# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hooks that the packets of an SSH session cross, with real interfaces, and real packets where a client sends them.

SSH_CONNECTION names the session, as sshd sets it. The listener is one of the test.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import Refused, Unsupported
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink import conntrack
from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, OWN
from ansible_collections.netedge.tproxy.tests.support.visitors import visited
from ansible_collections.netedge.tproxy.tests.support.wireguard import set_wireguard

INNER, INNER_CLIENT, PORT, REDIRECTED = "172.30.0.12", "172.30.0.1", 2022, 2222
BOTH_MODES = pytest.mark.parametrize("check", [True, False], ids=["check", "real"])
TUNNELS = {
    "vxlan": "type vxlan id 5 dstport 4789 local {own} remote {remote}",
    "geneve": "type geneve id 5 remote {remote}",
    "gre": "type gre local {own} remote {remote}",
    "gretap": "type gretap remote {remote}",
    "ipip": "type ipip local {own} remote {remote}",
    "sit": "type sit mode any local {own} remote {remote}",
}
OUTER = {
    "vxlan": ("udp", 4789),
    "geneve": ("udp", 6081),
    "gre": ("gre", 0),
    "gretap": ("gre", 0),
    "ipip": ("ipip", 0),
    "sit": ("ipip", 0),
}


def with_session(router, monkeypatch, client: str, server: str, port: int = PORT, client_port: int = 40000) -> None:
    """Let the runs of a router have an SSH session from a client to its address."""
    session = (client, str(client_port), server, str(port))
    monkeypatch.setattr(router, "system", visited(router.system, *session))


def entry(source: str, port: int, protocol: str = "tcp") -> dict:
    return {"source": source, "protocol": protocol, "port": str(port)}


def reaches(client, address: str, port: int) -> bool:
    """Return whether a new connection of the client gets to the listener."""
    with client.socket(socket.SOCK_STREAM) as made:
        made.settimeout(3)
        try:
            made.connect((address, port))
        except OSError:
            return False
    return True


def make_tunnel(netns, kind: str, own: str, remote: str) -> None:
    if not netns.can(f"ip link add tunnel0 {TUNNELS[kind].format(own=own, remote=remote)}"):
        pytest.skip(f"this kernel has no {kind}")
    netns.run("ip link set tunnel0 up")


# ---- tunnels -------------------------------------------------------------------------------------


@BOTH_MODES
@pytest.mark.parametrize("kind", TUNNELS)
def test_a_default_drop_on_the_carrier_of_a_tunnel_is_refused(router, monkeypatch, kind, check):
    make_tunnel(router.netns, kind, OWN, CLIENT)
    router.netns.run(f"ip address add {INNER}/24 dev tunnel0")
    with_session(router, monkeypatch, INNER_CLIENT, INNER)
    before = router.pinned()
    protocol, port = OUTER[kind]
    at = f" port {port}" if port else ""
    words = rf"lan0 would not pass {protocol} from {CLIENT} to {OWN}{at} \(drop, .*outer packets of tunnel0"
    with pytest.raises(Refused, match=words) as refusal:
        router.attach(check=check)
    cure = f"{{source: {CLIENT}, protocol: udp, port: {port}}} to `management`" if port else "`default_action: pass`"
    assert cure in str(refusal.value)
    assert router.pinned() == before


@pytest.mark.parametrize("kind", TUNNELS)
def test_a_carrier_that_lets_the_tunnel_in_is_no_reason_to_refuse(router, monkeypatch, kind):
    make_tunnel(router.netns, kind, OWN, CLIENT)
    router.netns.run(f"ip address add {INNER}/24 dev tunnel0")
    with_session(router, monkeypatch, INNER_CLIENT, INNER)
    protocol, port = OUTER[kind]
    policy = {"management": [entry(CLIENT, port, protocol)]} if port else {"default_action": "pass"}
    assert router.attach(policy=policy)["warnings"] == []


def test_the_answer_about_a_tunnel_is_that_of_the_wire(router, client, monkeypatch):
    """The same with packets: the client opens a connection through the tunnel."""
    make_tunnel(router.netns, "vxlan", OWN, CLIENT)
    router.netns.run(f"ip address add {INNER}/24 dev tunnel0")
    with client.inside():
        make_tunnel(router.netns, "vxlan", CLIENT, OWN)
        router.netns.run(f"ip address add {INNER_CLIENT}/24 dev tunnel0")
    with_session(router, monkeypatch, INNER_CLIENT, INNER)
    with socket.create_server((INNER, PORT)):
        assert reaches(client, INNER, PORT)
        router.attach(policy={"management": [entry(CLIENT, 4789, "udp")]})
        assert reaches(client, INNER, PORT)
        with pytest.raises(Refused, match="outer packets of tunnel0"):
            router.attach(policy={"management": []})
        assert reaches(client, INNER, PORT)
        router.attach(policy={"management": []}, force=True)
        assert not reaches(client, INNER, PORT)


def test_a_vxlan_is_followed_to_the_ends_of_its_forwarding_database(router, monkeypatch):
    router.netns.run("ip link add tunnel0 type vxlan id 5 dstport 4789")
    router.netns.run("ip link set tunnel0 up")
    router.netns.run(f"ip address add {INNER}/24 dev tunnel0")
    router.netns.run(f"bridge fdb append 00:00:00:00:00:00 dev tunnel0 dst {CLIENT}")
    with_session(router, monkeypatch, INNER_CLIENT, INNER)
    with pytest.raises(Refused, match=f"lan0 would not pass udp from {CLIENT} to {OWN} port 4789"):
        router.attach(check=True)


@BOTH_MODES
def test_the_endpoint_of_a_wireguard_peer_is_asked_about(router, monkeypatch, check):
    if not router.netns.can("ip link add wg0 type wireguard"):
        pytest.skip("this kernel has no WireGuard")
    set_wireguard("wg0", 51821, {(CLIENT, 51820): (INNER_CLIENT, 32), (OWN, 1): ("10.99.0.0", 16)})
    router.netns.run(f"ip address add {INNER}/24 dev wg0")
    router.netns.run("ip link set wg0 up")
    with_session(router, monkeypatch, INNER_CLIENT, INNER)
    with pytest.raises(Refused, match=rf"lan0 would not pass udp from {CLIENT} to {OWN} port 51821 .*packets of wg0"):
        router.attach(check=check)
    assert router.attach(check=check, policy={"management": [entry(CLIENT, 51821, "udp")]})["warnings"] == []


@BOTH_MODES
def test_a_tunnel_of_a_process_is_warned_of(router, monkeypatch, check):
    router.netns.run("ip tuntap add tun0 mode tun")
    router.netns.run(f"ip address add {INNER}/24 dev tun0")
    router.netns.run("ip link set tun0 up")
    with_session(router, monkeypatch, INNER_CLIENT, INNER)
    warnings = router.attach(check=check)["warnings"]
    assert len(warnings) == 1 and "comes by tun0 (tun)" in warnings[0] and "[path_unknown]" in warnings[0]


def test_a_session_by_ipsec_is_warned_of(router, monkeypatch):
    if not router.netns.can("ip xfrm policy list"):
        pytest.skip("this kernel has no IPsec")
    template = f"tmpl src {CLIENT} dst {OWN} proto esp mode tunnel"
    router.netns.run(f"ip xfrm policy add src {INNER_CLIENT}/32 dst {INNER}/32 dir in {template}")
    router.netns.run(f"ip address add {INNER}/32 dev lo")
    with_session(router, monkeypatch, INNER_CLIENT, INNER)
    warnings = router.attach(check=True)["warnings"]
    assert len(warnings) == 1 and "comes by IPsec" in warnings[0]


def test_an_interface_that_carries_nothing_of_the_session_is_not_asked_about(router, monkeypatch):
    make_tunnel(router.netns, "vxlan", OWN, CLIENT)
    router.netns.run(f"ip address add {INNER}/24 dev tunnel0")
    router.netns.veth("lan1", "lan1-peer")
    with_session(router, monkeypatch, INNER_CLIENT, INNER)
    assert router.attach("lan1")["warnings"] == []


# ---- redirects -----------------------------------------------------------------------------------


@pytest.fixture
def redirecting(router, client, monkeypatch):
    """Return a router to which the client has a session by a redirected port, and the client."""
    nft = shutil.which("nft") or pytest.skip("no nft to redirect with")
    rules = f"""table ip nat {{ chain prerouting {{ type nat hook prerouting priority -100;
        tcp dport {REDIRECTED} redirect to :{PORT}; }}; }}"""
    subprocess.run([nft, "-f", "-"], input=rules, text=True, check=True)
    with socket.create_server((OWN, PORT)) as sshd, client.socket(socket.SOCK_STREAM) as session:
        session.connect((OWN, REDIRECTED))
        accepted, peer = sshd.accept()
        with accepted:
            assert accepted.getsockname() == (OWN, PORT)
            with_session(router, monkeypatch, CLIENT, OWN, client_port=peer[1])
            yield router, client


@BOTH_MODES
def test_a_redirected_session_is_asked_about_by_the_port_before(redirecting, check):
    router, client = redirecting
    with pytest.raises(Refused, match=rf"from {CLIENT} to {OWN} port {REDIRECTED} would not reach sshd") as refusal:
        router.attach(check=check, policy={"management": [entry(CLIENT, PORT)]})
    assert f"{{source: {CLIENT}, port: {REDIRECTED}}}" in str(refusal.value)
    assert reaches(client, OWN, REDIRECTED)


def test_the_answer_about_a_redirect_is_that_of_the_wire(redirecting):
    router, client = redirecting
    assert router.attach(policy={"management": [entry(CLIENT, REDIRECTED)]})["warnings"] == []
    assert reaches(client, OWN, REDIRECTED)
    router.attach(policy={"management": [entry(CLIENT, PORT)]}, force=True)
    assert not reaches(client, OWN, REDIRECTED)


def test_without_ctnetlink_the_listing_of_connections_is_read(redirecting, monkeypatch):
    router, _client = redirecting
    if not os.path.exists(conntrack.LISTING):
        pytest.skip("this kernel has no listing of connections")

    def refuse(*_request):
        raise OSError(22, "no such subsystem")

    monkeypatch.setattr(conntrack, "ask", refuse)
    with pytest.raises(Refused, match=f"to {OWN} port {REDIRECTED}"):
        router.attach(check=True)


# ---- several interfaces --------------------------------------------------------------------------


@BOTH_MODES
def test_each_interface_in_the_subnet_of_the_peer_is_asked_about(router, monkeypatch, check):
    router.netns.veth("lan1", "lan1-peer")
    router.netns.run("ip address add 10.1.0.9/24 dev lan1")
    with_session(router, monkeypatch, CLIENT, OWN)
    for interface in (LAN, "lan1"):
        with pytest.raises(Refused, match=f"from {CLIENT} to {OWN} port {PORT} would not reach sshd by {interface} "):
            router.attach(interface, check=check)


def test_each_interface_in_the_subnet_of_the_next_hop_is_asked_about(router, monkeypatch):
    router.netns.veth("lan1", "lan1-peer")
    router.netns.run("ip address add 10.1.0.9/24 dev lan1")
    router.netns.run(f"ip route add 203.0.113.0/24 via {CLIENT} dev {LAN}")
    with_session(router, monkeypatch, "203.0.113.7", OWN)
    with pytest.raises(Refused, match=r"from 203\.0\.113\.7 to .* would not reach sshd by lan1 "):
        router.attach("lan1", check=True)


@BOTH_MODES
def test_a_port_of_a_bridge_is_asked_about(router, monkeypatch, check):
    router.netns.run("ip link add br0 type bridge")
    router.netns.run(f"ip link set {LAN} master br0")
    router.netns.run(f"ip address del {OWN}/24 dev {LAN}")
    router.netns.run(f"ip address add {OWN}/24 dev br0")
    router.netns.run("ip link set br0 up")
    with_session(router, monkeypatch, CLIENT, OWN)
    with pytest.raises(Refused, match="would not reach sshd by lan0 "):
        router.attach(check=check)


# ---- VRF -----------------------------------------------------------------------------------------


@BOTH_MODES
@pytest.mark.parametrize("interface", [LAN, "red"])
def test_a_vrf_is_refused_with_force_too(router, interface, check):
    if not router.netns.can("ip link add red type vrf table 1000"):
        pytest.skip("this kernel has no VRF")
    router.netns.run("ip link set red up")
    router.netns.run(f"ip link set {LAN} master red")
    before = router.pinned()
    with pytest.raises(Unsupported, match=rf"{interface} is a VRF device or belongs to one.*not supported.*\[vrf\]"):
        router.attach(interface, check=check, force=True)
    assert router.pinned() == before


def test_an_interface_that_joins_a_vrf_later_is_a_finding(router):
    router.attach()
    if not router.netns.can("ip link add red type vrf table 1000"):
        pytest.skip("this kernel has no VRF")
    router.netns.run(f"ip link set {LAN} master red")
    codes = {finding["code"] for finding in router.info()["findings"]}
    assert "vrf" in codes and "port" not in codes
    assert router.attach(state="absent")["changed"]
