# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients behind a router that masquerades, as docs/clients.md describes it: an uplink that drops by default.

The provider has no route to the clients, so their packets arrive masqueraded only.
"""

from __future__ import annotations

import errno
import socket
from contextlib import closing

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.output import explain_text
from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, Client
from ansible_collections.netedge.tproxy.tests.system.daemons.uplink import (
    FAR,
    PROVIDER,
    UPLINK_POLICY,
    WAN,
    resolves,
    serve_names,
)

NAT = f"""
add table ip clients
add chain ip clients out {{ type nat hook postrouting priority srcnat; }}
add rule ip clients out oifname "{WAN}" masquerade
"""
HTTPS = {"destination": "0.0.0.0/0", "protocol": "tcp", "ports": "443", "interfaces": [LAN], "action": "pass"}
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU = 10, 2, 14  # linux/in.h
NARROW = 1300


@pytest.fixture
def masquerading(uplink, daemons):
    """Return the router, whose uplink drops by default, tracks all flows and masquerades. Its lan0 is open."""
    done = daemons.run("nft", "-f", "-", given=NAT)
    assert done.returncode == 0, done.stderr
    uplink.attach(WAN, policy={**UPLINK_POLICY, "track": "all"})
    uplink.count_anew(WAN)
    return uplink


def fetches(client: Client, server, port: int) -> bool:
    """Return whether a client gets an answer by TCP from a server with this socket."""
    server.settimeout(1)
    with client.socket(socket.SOCK_STREAM) as near:
        near.settimeout(1)
        try:
            near.connect((FAR, port))
            far, _peer = server.accept()
        except TimeoutError:
            return False
        with far:
            near.sendall(b"question")
            assert far.recv(99) == b"question"
            far.sendall(b"answer")
            return near.recv(99) == b"answer"


@pytest.fixture
def web(far):
    """Return a listening socket of the far host at port 443."""
    with closing(far.socket(socket.SOCK_STREAM)) as made:
        made.bind((FAR, 443))
        made.listen()
        yield made


@pytest.mark.slice
def test_tcp_and_names_of_clients(masquerading, client, provider, far, web, daemons):
    assert fetches(client, web, 443)
    serve_names(daemons, provider)
    daemons.until(lambda: resolves(client, PROVIDER), "a name")
    assert {reason for reason, _verdict in masquerading.reasons(WAN)} <= {"session", "arp", "icmp"}


def test_track_own_is_not_enough_for_clients(masquerading, client, provider, far, web, daemons):
    masquerading.attach(WAN, policy=UPLINK_POLICY)
    assert not fetches(client, web, 443)


def test_ping_traceroute_and_mtr_of_clients(masquerading, client, provider, far, daemons):
    ping = daemons.run("ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", FAR, inside=client)
    assert ping.returncode == 0, ping.stdout
    for words in (
        ("traceroute.db", "-n", "-q", "1", "-w", "1", "-m", "4"),
        ("traceroute.db", "-n", "-q", "1", "-w", "1", "-m", "4", "--icmp"),
        ("mtr", "--report", "--no-dns", "--report-cycles", "1", "--max-ttl", "4"),
    ):
        shown = daemons.run(*words, FAR, inside=client).stdout
        assert PROVIDER in shown and FAR in shown, shown


def test_path_mtu_reaches_clients(masquerading, client, provider, far):
    with provider.inside():
        masquerading.netns.run(f"ip link set far0 mtu {NARROW}")
    with client.socket(socket.SOCK_DGRAM) as near:
        near.setsockopt(socket.SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        near.connect((FAR, 9))
        near.send(bytes(1400))
        with pytest.raises(OSError, match="Message too long") as refused:
            near.recv(99)
        assert refused.value.errno == errno.EMSGSIZE
        assert near.getsockopt(socket.SOL_IP, IP_MTU) == NARROW


@pytest.mark.slice
def test_one_rule_on_a_closed_lan_is_enough_for_https(masquerading, client, provider, far, web):
    masquerading.attach(LAN, policy={**UPLINK_POLICY, "track": "all"})
    assert not fetches(client, web, 443)
    masquerading.rules(HTTPS)
    assert fetches(client, web, 443)
    asked = {"interface": LAN, "source": CLIENT, "destination": FAR, "protocol": "tcp", "port": "443"}
    verdict = masquerading.verdict(**asked)
    assert (verdict["verdict"], verdict["reason"]) == ("pass", "rule")
    assert verdict["reply"] == {"interface": WAN, "verdict": "pass", "reason": "session"}
    assert f"Its reply enters by {WAN}, which has track: all" in " ".join(explain_text(verdict).split())
    assert masquerading.verdict(**{**asked, "port": "80"})["reply"] is None
    with closing(far.socket(socket.SOCK_STREAM)) as other:
        other.bind((FAR, 8443))
        other.listen()
        assert not fetches(client, other, 8443)


def test_containers_behind_a_bridge(masquerading, client, provider, far, web, daemons):
    """A bridge of the router with a container, as Docker makes them; its packets are forwarded."""
    run = masquerading.netns.run
    for command in (
        "ip link add br0 type bridge",
        "ip address add 172.17.0.1/24 dev br0",
        "ip link set br0 up",
        "ip link add veth0 type veth peer name veth0-peer",
        "ip link set veth0 up master br0",
    ):
        run(command)
    with closing(Client(masquerading.netns, "veth0-peer", "veth0", "172.17.0.2", "172.17.0.1")) as container:
        assert fetches(container, web, 443)
        serve_names(daemons, provider)
        daemons.until(lambda: resolves(container, PROVIDER), "a name")
        ping = daemons.run("ping", "-n", "-c", "1", "-W", "2", FAR, inside=container)
        assert ping.returncode == 0, ping.stdout


def test_flows_that_begin_outside_do_not_reach_clients(masquerading, client, provider, far):
    with closing(client.socket(socket.SOCK_DGRAM)) as server, closing(provider.socket(socket.SOCK_DGRAM)) as asker:
        with provider.inside():
            masquerading.netns.run(f"ip route add {CLIENT}/32 via 10.9.0.1")
        server.bind((CLIENT, 5000))
        server.settimeout(0.5)
        asker.sendto(b"unasked", (CLIENT, 5000))
        with pytest.raises(TimeoutError):
            server.recv(99)
    assert masquerading.reasons(WAN)["default", "dropped"] == 1
