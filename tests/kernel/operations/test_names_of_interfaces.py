# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interfaces by an altname, and interfaces that are renamed."""

from __future__ import annotations

import socket

from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, transparent

PROXY, SERVER_PORT, SERVER = 8443, 443, "192.0.2.1"
RULE = {"destination": "192.0.2.0/24", "protocol": "tcp", "ports": str(SERVER_PORT), "tproxy_port": PROXY}
ALTNAME = "enp3s0"


def is_spliced(client) -> bool:
    """Return whether a connection of the client reaches the proxy."""
    with transparent(socket.SOCK_STREAM, PROXY) as proxy, client.socket(socket.SOCK_STREAM) as made:
        made.connect((SERVER, SERVER_PORT))
        accepted, (address, _port) = proxy.accept()
        accepted.close()
        return address == CLIENT


def test_an_altname_means_the_interface_by_its_kernel_name(router, client):
    router.netns.run(f"ip link property add dev {LAN} altname {ALTNAME}")
    router.attach(ALTNAME)
    router.record(interfaces=[ALTNAME])
    router.rules(RULE)
    routes = router.route(ALTNAME)["routes"]
    assert f" iif {LAN} " in routes[-1]
    assert not any(ALTNAME in line for line in routes)
    assert is_spliced(client)
    assert not router.route(LAN, ALTNAME)["changed"]
    assert router.route(ALTNAME, state="absent")["routes"] == []


def test_a_renamed_interface_is_drift_until_the_routes_follow(router, client):
    router.attach()
    router.record()
    router.rules(RULE)
    router.route()
    assert is_spliced(client)
    router.netns.run(f"ip link set {LAN} down")
    router.netns.run(f"ip link set {LAN} name wan0")
    router.netns.run("ip link set wan0 up")
    found = {each["code"]: each for each in router.info()["findings"]}
    assert "lan0 (interface" in found["interface_renamed"]["found"]
    assert "is wan0 now" in found["interface_renamed"]["found"]
    router.route("wan0")
    router.record(interfaces=["wan0"])
    assert "interface_renamed" not in {each["code"] for each in router.info()["findings"]}
    assert is_spliced(client)
