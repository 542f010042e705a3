# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The path of the operator's SSH on a fake machine: the interfaces that its packets cross, and each packet form."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.checks.session_path import session_path
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import format_number, parse_address
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.messages import Route
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.path import Ends, InboundPolicy
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.tunnels import Tunnel
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.wireguard import (
    Peer,
    WireGuardDevice,
)
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import Machine

CLIENT, OWN, WAN, REMOTE = "172.30.0.1", "172.30.0.12", "203.0.113.12", "198.51.100.9"
GATEWAY = "203.0.113.1"
FROM_CLIENT = f"tcp {CLIENT} to {OWN} 22"
TUN, PORT = 10, 5


@pytest.fixture
def machine():
    """Return a machine with an SSH session by mgmt0, and with wan0, which leads to the remote end of a tunnel."""
    found = Machine()
    found.processes.ssh = (CLIENT, "40000", OWN, "22")
    found.plug("mgmt0", TUN, (OWN,))
    found.plug("wan0", PORT, (WAN,))
    found.ways = {CLIENT: way(TUN), REMOTE: way(PORT, GATEWAY, WAN)}
    return found


def way(oif: int, gateway: str = "", source: str = "") -> Route:
    hop, own = (parse_address(text) if text else b"" for text in (gateway, source))
    return Route(2, bytes(16), 0, 1, 0, 3, oif, hop, own)


def change(machine, name: str, **fields) -> None:
    machine.links[name] = machine.links[name]._replace(**fields)


def followed(machine) -> tuple:
    """Return the crossings and the lost tunnels as texts."""
    with machine.system().netlink() as netlink:
        path = session_path(machine.system(), netlink)
    return [(each.link.name, shown(each.flow), each.carries) for each in path.crossings], [
        link.name for link in path.lost
    ]


def shown(flow) -> str:
    ends = [format_number(flow.source), "to", format_number(flow.destination)]
    return " ".join([flow.protocol, *ends, *([str(flow.port)] if flow.port else [])])


def test_without_a_session_there_is_no_path(machine):
    machine.processes.ssh = None
    assert followed(machine) == ([], [])


@pytest.mark.parametrize("session", [("?", "1", OWN, "22"), (CLIENT, "1", OWN, "ssh"), (CLIENT, "x", OWN, "22")])
def test_words_that_are_no_addresses_have_no_path(machine, session):
    machine.processes.ssh = session
    assert followed(machine) == ([], [])


def test_it_enters_by_the_interface_of_the_route_back(machine):
    assert followed(machine) == ([("mgmt0", FROM_CLIENT, "")], [])


def test_it_is_followed_to_each_interface_in_the_subnet_of_the_peer(machine):
    machine.plug("mgmt1", 12, ("172.30.0.13",))
    assert followed(machine)[0] == [("mgmt0", FROM_CLIENT, ""), ("mgmt1", FROM_CLIENT, "")]


def test_it_is_followed_to_each_interface_in_the_subnet_of_the_next_hop(machine):
    machine.plug("wan1", 12, ("203.0.113.13",))
    machine.ways[CLIENT] = way(PORT, GATEWAY)
    assert followed(machine)[0] == [("wan0", FROM_CLIENT, ""), ("wan1", FROM_CLIENT, "")]


def test_a_client_of_the_host_itself_enters_by_lo(machine):
    machine.ways[CLIENT] = way(1)
    assert followed(machine)[0] == [("lo", FROM_CLIENT, "")]


def test_a_redirected_port_is_asked_about_as_the_hook_sees_it(machine):
    known = Ends(parse_address(CLIENT), 40000, parse_address(OWN), 22)
    machine.conntrack.originals[known] = known._replace(destination=parse_address("172.30.0.99"), port=2222)
    assert followed(machine)[0] == [("mgmt0", f"tcp {CLIENT} to 172.30.0.99 2222", "")]


@pytest.mark.parametrize("kind", ["bridge", "bond", "team"])
def test_the_ports_below_see_the_same_packet(machine, kind):
    change(machine, "mgmt0", kind=kind)
    machine.plug("eth0", 20, ())
    machine.plug("eth1", 21, ())
    change(machine, "eth0", master=TUN)
    change(machine, "eth1", master=TUN, kind="tun")  # a virtual machine
    assert followed(machine) == ([(name, FROM_CLIENT, "") for name in ("mgmt0", "eth0", "eth1")], [])


def test_the_interface_below_a_macvlan_sees_the_same_packet(machine):
    change(machine, "mgmt0", kind="macvlan", lower=PORT)
    assert followed(machine)[0] == [("mgmt0", FROM_CLIENT, ""), ("wan0", FROM_CLIENT, "")]


def test_the_interface_below_a_vlan_passes_its_frames(machine):
    change(machine, "mgmt0", kind="vlan", lower=PORT)
    assert followed(machine)[0] == [("mgmt0", FROM_CLIENT, "")]


@pytest.mark.parametrize(
    ("kind", "protocol", "port", "outer"),
    [
        ("vxlan", "udp", 4789, f"udp {REMOTE} to {WAN} 4789"),
        ("geneve", "udp", 6081, f"udp {REMOTE} to {WAN} 6081"),
        ("gre", "gre", 0, f"gre {REMOTE} to {WAN}"),
        ("ipip", "", 0, f"ipip {REMOTE} to {WAN}"),
        ("sit", "", 0, f"ipip {REMOTE} to {WAN}"),
    ],
)
def test_the_outer_packets_of_a_tunnel_are_followed(machine, kind, protocol, port, outer):
    change(machine, "mgmt0", kind=kind, tunnel=Tunnel(protocol, b"", parse_address(REMOTE), port))
    assert followed(machine) == ([("mgmt0", FROM_CLIENT, ""), ("wan0", outer, "mgmt0")], [])


def test_the_local_address_and_the_interface_of_a_tunnel_count(machine):
    machine.plug("wan1", 12, ("192.0.2.5",))
    tunnel = Tunnel("gre", parse_address("192.0.2.5"), parse_address(REMOTE), link=12)
    change(machine, "mgmt0", kind="gre", tunnel=tunnel)
    outer = f"gre {REMOTE} to 192.0.2.5"
    assert followed(machine)[0][1:] == [("wan1", outer, "mgmt0"), ("wan0", outer, "mgmt0")]


def test_a_tunnel_in_a_tunnel_is_followed_to_its_end(machine):
    machine.plug("wg0", 30, ("10.66.0.2",))
    change(machine, "wg0", kind="wireguard")
    machine.wireguard.devices[30] = device(Peer(parse_address(REMOTE), 51820, (prefix("10.66.0.0", 24),)))
    machine.ways["10.66.0.1"] = way(30, source="10.66.0.2")
    change(machine, "mgmt0", kind="vxlan", tunnel=Tunnel("udp", remote=parse_address("10.66.0.1"), port=4789))
    assert followed(machine)[0] == [
        ("mgmt0", FROM_CLIENT, ""),
        ("wg0", "udp 10.66.0.1 to 10.66.0.2 4789", "mgmt0"),
        ("wan0", f"udp {REMOTE} to {WAN} 51821", "wg0"),
    ]


def device(*peers: Peer) -> WireGuardDevice:
    return WireGuardDevice(51821, 0, peers)


def prefix(address: str, bits: int) -> tuple:
    return parse_address(address), 96 + bits


def test_the_peer_of_wireguard_is_that_with_the_longest_prefix(machine):
    change(machine, "mgmt0", kind="wireguard")
    wide = Peer(parse_address("192.0.2.200"), 1, (prefix("0.0.0.0", 0),))
    near = Peer(parse_address(REMOTE), 51820, (prefix("172.30.0.0", 16), prefix("10.0.0.0", 8)))
    machine.wireguard.devices[TUN] = device(wide, near)
    assert followed(machine) == ([("mgmt0", FROM_CLIENT, ""), ("wan0", f"udp {REMOTE} to {WAN} 51821", "mgmt0")], [])


@pytest.mark.parametrize(
    "peers", [(), (Peer(b"", 0, (prefix("172.30.0.0", 16),)),), (Peer(b"", 0, (prefix("10.0.0.0", 8),)),)]
)
def test_a_wireguard_peer_without_an_endpoint_is_lost(machine, peers):
    change(machine, "mgmt0", kind="wireguard")
    machine.wireguard.devices[TUN] = device(*peers)
    assert followed(machine)[1] == ["mgmt0"]


@pytest.mark.parametrize("group", [b"", parse_address("239.1.1.1")])
def test_a_vxlan_without_one_remote_is_followed_to_those_that_it_forwards_to(machine, group):
    change(machine, "mgmt0", kind="vxlan", tunnel=Tunnel("udp", remote=group, port=4789))
    assert followed(machine)[1] == ["mgmt0"]
    machine.forwarded[TUN] = [parse_address(REMOTE)]
    assert followed(machine) == (
        [("mgmt0", FROM_CLIENT, ""), ("wan0", f"udp {REMOTE} to {WAN} 4789", "mgmt0")],
        [],
    )


@pytest.mark.parametrize("kind", ["tun", "ppp", "xfrm", "ovpn-dco", "macsec"])
def test_a_tunnel_of_a_process_or_of_ipsec_is_lost(machine, kind):
    change(machine, "mgmt0", kind=kind)
    assert followed(machine) == ([("mgmt0", FROM_CLIENT, "")], ["mgmt0"])


@pytest.mark.parametrize(("source", "lost"), [("172.30.0.0", ["IPsec"]), ("172.31.0.0", [])])
def test_a_session_by_a_policy_of_ipsec_is_lost(machine, source, lost):
    machine.ipsec.policies = [InboundPolicy(prefix(source, 16), prefix("0.0.0.0", 0))]
    assert followed(machine) == ([("mgmt0", FROM_CLIENT, "")], lost)


def test_a_tunnel_whose_remote_is_in_metadata_is_lost(machine):
    change(machine, "mgmt0", kind="gre", tunnel=Tunnel("gre", remote=parse_address(REMOTE), opaque=True))
    assert followed(machine)[1] == ["mgmt0"]


def test_a_tunnel_without_a_route_to_its_remote_is_lost(machine):
    del machine.ways[REMOTE]
    change(machine, "mgmt0", kind="gre", tunnel=Tunnel("gre", remote=parse_address(REMOTE)))
    assert followed(machine)[1] == ["mgmt0"]


def test_a_tunnel_whose_remote_is_behind_itself_ends(machine):
    machine.ways[REMOTE] = way(TUN, source=OWN)
    change(machine, "mgmt0", kind="gre", tunnel=Tunnel("gre", remote=parse_address(REMOTE)))
    assert followed(machine)[0] == [("mgmt0", FROM_CLIENT, ""), ("mgmt0", f"gre {REMOTE} to {OWN}", "mgmt0")]
