# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of other kinds: a firewall, a sandbox, no perl, a tunneller, a controller beside the router, a common LAN."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from ansible_collections.netedge.tproxy.tests.system.openziti import guide, lab
from ansible_collections.netedge.tproxy.tests.system.openziti.clients import Client
from ansible_collections.netedge.tproxy.tests.system.openziti.findings import gone, told
from ansible_collections.netedge.tproxy.tests.system.openziti.network import UNIT
from ansible_collections.netedge.tproxy.tests.system.openziti.services import (
    OTHER_WEB,
    OTHER_WEB_SAYS,
    WEB,
    WEB_SAYS,
    intercept,
)

UPSTREAM_ANSWER = "198.51.100.53"  # of hosted.py
DROP_IN = f"/etc/systemd/system/{UNIT}.service.d/sandbox.conf"
SANDBOX = """\
[Service]
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=/var/lib/ziti-router
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictNamespaces=yes
RestrictSUIDSGID=yes
LockPersonality=yes
{families}
SystemCallFilter=@system-service
SystemCallArchitectures=native
"""
FIREWALL = """\
table inet filter {
  chain input {
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iifname { "lo", "mgmt0", "wan0" } accept
  }
}
"""


@contextmanager
def sandboxed(network, families: str):
    """Run the router in a sandbox, with a line for the families of its sockets."""
    network.r1.run("install", "-d", DROP_IN.rpartition("/")[0])
    network.r1.put(DROP_IN, SANDBOX.replace("{families}", families))
    try:
        network.r1.start()
        yield
    finally:
        network.r1.run("rm", DROP_IN)
        network.r1.start()


def test_a_sandbox_with_unix_sockets(network, serve):
    serve("sandbox", intercept("172.16.50.1", 80), port=WEB)
    network.client.until_answered("172.16.50.1", 80)
    with sandboxed(network, guide.commands("6. Hardened units")[0]):
        lab.eventually(lambda: network.client.answered("172.16.50.1", 80))


def test_a_sandbox_without_unix_sockets(network, serve):
    """No call reaches the helper. The router's journal and a finding tell, and a start without the sandbox mends it."""
    serve("no-unix", intercept("172.16.50.2", 80), port=WEB)
    network.client.until_answered("172.16.50.2", 80)
    with sandboxed(network, guide.commands("6. Hardened units")[0].replace(" AF_UNIX", "")):
        told(network, "listener_without_rule")
        assert network.client.silent("172.16.50.2", 80)
        assert "helper: not reachable" in network.r1.run("journalctl", "-q", "-o", "cat", "-u", UNIT)
    network.client.until_answered("172.16.50.2", 80)
    gone(network, "listener_without_rule")


def test_a_user_outside_the_group(network, serve):
    """Each call is refused. The self-test tells the reason, and a finding tells the service."""
    serve("no-member", intercept("172.16.50.6", 80), port=WEB)
    network.client.until_answered("172.16.50.6", 80)
    network.r1.run("groupadd", "--system", "--force", "others")
    try:
        network.role(tproxy_splicer_helper_group="others")
        network.r1.control("restart")
        told(network, "listener_without_rule")
        assert network.client.silent("172.16.50.6", 80)
        said = network.r1.shell(guide.commands("7. Start and prove")[1]).splitlines()[-1]
        assert "helper: not reachable" in said and "group others" in said
    finally:
        network.role()
        network.r1.run("groupdel", "others")
        network.r1.control("restart")
    network.client.until_answered("172.16.50.6", 80)
    gone(network, "listener_without_rule")


def test_a_router_of_root(network, serve):
    """It needs no group: the helper serves root as well."""
    serve("of-root", intercept("172.16.50.7", 80), port=WEB)
    network.r1.put(DROP_IN, "[Service]\nUser=root\nGroup=root\n")
    try:
        network.role(tproxy_splicer_helper_group="")
        network.r1.start()
        network.client.until_answered("172.16.50.7", 80)
        said = network.r1.shell(guide.commands("7. Start and prove")[1]).splitlines()[-1]
        assert "helper: reachable" in said
        assert network.r1.unit("tproxy-splicer-helper", "ActiveState") == "active"
    finally:
        network.r1.run("rm", DROP_IN)
        network.r1.shell("chown -R ziti-router:ziti-router /var/lib/ziti-router")
        network.role()
        network.r1.start()
    network.client.until_answered("172.16.50.7", 80)


def test_names_need_the_management_entry(network, serve):
    """Without it the default action drops the questions, and its counter shows them."""
    serve("asked", intercept("asked.lab.ziti", 80), port=WEB)
    lab.eventually(lambda: network.client.look_up(network.r1.lan, "asked.lab.ziti"))
    try:
        network.role(tproxy_splicer_management=[{"source": "10.99.0.0/24", "port": 22}])
        before = dropped_by_default(network)
        assert not network.client.look_up(network.r1.lan, "asked.lab.ziti")
        assert dropped_by_default(network) > before
    finally:
        network.role()
    assert network.client.look_up(network.r1.lan, "asked.lab.ziti")


def dropped_by_default(network) -> int:
    """Return the packets that the default action dropped on lan0."""
    (attachment,) = network.r1.show("show", "rules")["attachments"]
    return attachment["reasons"].get("default", {"dropped": {"packets": 0}})["dropped"]["packets"]


def test_a_firewall_of_the_host(network, serve):
    """It drops spliced packets until it accepts the mark. A finding tells."""
    serve("input", intercept("172.16.50.3", 80), port=WEB)
    network.client.until_answered("172.16.50.3", 80)
    network.r1.put("/run/host.nft", FIREWALL)
    network.r1.run("nft", "-f", "/run/host.nft")
    try:
        assert network.client.silent("172.16.50.3", 80)
        told(network, "input_drops")
        assert not network.client.look_up(network.r1.lan, "any.lab.ziti", 1)
        for command in guide.commands("5. INPUT rules of the host"):
            network.r1.shell(command)
        assert network.client.body("172.16.50.3", 80) == WEB_SAYS
        gone(network, "input_drops")
    finally:
        network.r1.run("nft", "delete", "table", "inet", "filter")


def test_the_name_server_behind_a_closed_uplink(network, serve):
    """The program is on wan0 too, and its default action drops. The router's own questions get their answers."""
    serve("closed-wan", intercept("172.16.50.5", 80), port=WEB)
    network.r1.configure(dnsUpstream=f"udp://{network.r1.server}:53")
    try:
        network.role(tproxy_splicer_interfaces=["lan0", "wan0"])
        network.r1.control("restart")
        network.client.until_answered("172.16.50.5", 80)
        answer = lab.eventually(lambda: network.client.look_up(network.r1.lan, "upstream.example"))
        assert answer == UPSTREAM_ANSWER
        assert Client(network.r1.server, "srv").silent(network.r1.wan, 8080)
    finally:
        lab.module("tc_bpf_attach", interface="wan0", state="absent")
        network.r1.configure()
        network.role()
        network.r1.control("restart")
    assert "Connection refused" in Client(network.r1.server, "srv").get(network.r1.wan, 8080).fault


def test_a_router_without_perl(network, serve):
    """The start script is one of sh there, and Python sends the calls to the helper."""
    moved = {"/usr/bin/perl": "/usr/bin/perl.away", "/var/lib/dpkg/info/perl-base.list": "/var/lib/dpkg/perl-base.away"}
    for path, away in moved.items():
        network.r1.run("mv", path, away)
    try:
        network.role()
        assert network.r1.run("head", "-n", 1, "/usr/local/sbin/tproxy-splicer").strip() == "#!/bin/sh"
        serve("no-perl", intercept("172.16.50.4", 80), port=WEB)
        network.client.until_answered("172.16.50.4", 80)
        network.r1.control("restart")
        network.client.until_answered("172.16.50.4", 80)
    finally:
        for path, away in moved.items():
            network.r1.run("mv", away, path)
        network.role()


@pytest.fixture
def tunnel(network):
    """Return a function that starts `ziti tunnel tproxy` on the router under test. It dials the attribute `tunnel`."""
    api, r1 = network.api, network.r1
    made = api.create(
        "identities", {"name": "tunnel", "type": "Default", "isAdmin": False, "enrollment": {"ott": True}}
    )
    policies = [api.policy("tunnel-Dial", "Dial", [made], "tunnel")]
    policies.append(api.policy("tunnel-Bind", "Bind", [api.id_of("identities", "r2")], "tunnel"))
    r1.put("/var/lib/ziti-router/tunnel.jwt", api.call("GET", f"identities/{made}")["data"]["enrollment"]["ott"]["jwt"])
    r1.shell("cd /var/lib/ziti-router && ziti edge enroll tunnel.jwt -o tunnel.json && chown ziti-router tunnel.json")
    options = [
        "--uid=ziti-router",
        "--gid=ziti-router",
        "--property=AmbientCapabilities=CAP_NET_ADMIN CAP_NET_BIND_SERVICE",
    ]
    words = ["ziti", "tunnel", "tproxy", "-i", "/var/lib/ziti-router/tunnel.json", "--svcPollRate", 5]
    words += ["--diverter", "/usr/local/sbin/tproxy-splicer", "--dnsSvcIpRange", "100.128.0.1/10"]

    def start(resolver: str) -> None:
        r1.run("systemd-run", "--quiet", "--collect", "--unit=ziti-tunnel", *options, *words, "--resolver", resolver)

    yield start
    r1.run("systemctl", "stop", "ziti-tunnel", check=False)
    for identifier in policies:
        api.delete("service-policies", identifier)
    api.delete("identities", made)


def test_a_tunneller(network, serve, tunnel):
    """It calls its diverter as a router does, and removes its rules when it stops."""
    network.r1.control("stop")
    try:
        tunnel(f"udp://{network.r1.lan}:53")
        service = serve("by-tunnel", intercept("172.16.51.1", 80), port=WEB, attribute="tunnel")
        serve("name-by-tunnel", intercept("tunnel.lab.ziti", 80), port=WEB, attribute="tunnel")
        assert network.client.body("172.16.51.1", 80) == WEB_SAYS
        address = lab.eventually(lambda: network.client.look_up(network.r1.lan, "tunnel.lab.ziti"))
        assert network.client.body(address, 80) == WEB_SAYS
        network.r1.run("systemctl", "stop", "ziti-tunnel")
        lab.eventually(lambda: service.owner not in {rule["owner"] for rule in network.r1.rules()})
    finally:
        network.r1.control("start")


def test_a_router_and_a_tunneller_on_one_host(network, serve, tunnel):
    """Each has services of its own. The end of one leaves the rules of the other."""
    tunnel(f"udp://{network.r1.lan}:5353")
    serve("by-router", intercept("172.16.51.2", 80), port=WEB)
    serve("beside-router", intercept("172.16.51.3", 80), port=OTHER_WEB, attribute="tunnel")
    assert network.client.body("172.16.51.2", 80) == WEB_SAYS
    assert network.client.body("172.16.51.3", 80) == OTHER_WEB_SAYS
    network.r1.control("restart")
    assert network.client.body("172.16.51.3", 80) == OTHER_WEB_SAYS
    assert network.client.body("172.16.51.2", 80) == WEB_SAYS
    network.r1.run("systemctl", "kill", "--signal=KILL", "ziti-tunnel")
    lab.eventually(lambda: network.client.silent("172.16.51.3", 80))
    assert network.client.body("172.16.51.2", 80) == WEB_SAYS


def test_a_controller_and_a_router_on_one_host(network, serve):
    """Services work, and clients of the LAN reach the controller by a management entry only."""
    network.restart_controller("r1")
    try:
        for router in (network.r1, network.r2):
            router.control("restart")
        lab.eventually(network.all_online)
        serve("beside-controller", intercept("172.16.52.1", 80), port=WEB)
        assert network.client.body("172.16.52.1", 80) == WEB_SAYS
        assert network.client.silent(network.r1.lan, 1280)
        entries = [{"source": "10.1.1.0/24", "port": port} for port in (22, 1280)]
        entries += [{"source": "10.1.1.0/24", "protocol": "udp", "port": 53}]
        lab.module("tc_bpf_attach", interface="lan0", policy={"management": entries})
        network.client.connect(network.r1.lan, 1280).close()
    finally:
        network.restart_controller("ctl")
        for router in (network.r1, network.r2):
            router.control("restart")
        network.role()
        lab.eventually(network.all_online)


@contextmanager
def common_lan(network):
    """Bridge both clients' wires, and give the second router and a second client addresses of the first LAN."""
    part = lab.NAME
    steps = """\
link add lan type bridge
link set lan up
link set c-r1 master lan
link set c-r2 master lan
address add 10.1.1.2/24 dev lan
address add 10.1.1.12/24 dev lan
route replace default via 10.1.1.1 dev lan table 101
route replace default via 10.1.1.3 dev lan table 112
rule add from 10.1.1.12 lookup 112 priority 900
"""
    lab.run(["ip", "-n", f"{part}-cli", "-batch", "-"], given=steps.encode())
    lab.run(["ip", "-n", f"{part}-cli", "address", "del", "10.1.1.2/24", "dev", "c-r1"])
    network.r2.run("ip", "address", "add", "10.1.1.3/24", "dev", "lan0")
    lab.run(["ip", "-n", f"{part}-cli", "route", "replace", "default", "via", "10.1.1.1", "dev", "lan", "table", 101])
    try:
        yield Client("10.1.1.12")
    finally:
        network.r2.run("ip", "address", "del", "10.1.1.3/24", "dev", "lan0")
        undo = """\
rule del priority 900
link del lan
address add 10.1.1.2/24 dev c-r1
route replace default via 10.1.1.1 table 101
route replace default via 10.1.1.1
route replace 10.1.2.0/24 via 10.1.1.1
"""
        lab.run(["ip", "-n", f"{part}-cli", "-batch", "-"], given=undo.encode())


def test_two_routers_share_a_lan(network, serve):
    """Each client uses one of them as its gateway. Both intercept the same services, and either goes on alone."""
    network.role("r2")
    network.r2.configure(resolver="udp://10.1.1.3:53")
    dial = network.api.policy("second-Dial", "Dial", [network.api.id_of("identities", "r2")], "lab")
    try:
        with common_lan(network) as other:
            network.r2.control("restart")
            serve("shared-lan", intercept("172.16.53.1", 80), port=WEB)
            serve("in-the-lan", intercept("10.1.1.200", 80), port=WEB)
            for client in (network.client, other):
                assert client.body("172.16.53.1", 80) == WEB_SAYS
                assert client.body("10.1.1.200", 80) == WEB_SAYS
            network.r1.control("stop")
            assert other.body("172.16.53.1", 80) == WEB_SAYS
            network.r1.control("start")
            assert network.client.body("172.16.53.1", 80) == WEB_SAYS
    finally:
        network.api.delete("service-policies", dial)
        network.r2.configure(mode="host")
        network.r2.control("restart")
        network.role("r2", tproxy_splicer_state="absent")
