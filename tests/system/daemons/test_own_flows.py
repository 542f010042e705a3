# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Daemons of the router behind an uplink that drops by default and has no rule: names, time, pings, tunnels.

The policy has the default action alone, so it tracks the router's own flows. Where that decides, a test also shows
track: none, which lets no answer in.
"""

from __future__ import annotations

import os
import socket

import pytest

from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, lay_wire
from ansible_collections.netedge.tproxy.tests.support.router import OWN as LAN_OWN
from ansible_collections.netedge.tproxy.tests.system.daemons.daemons import UNPACKED, program_of
from ansible_collections.netedge.tproxy.tests.system.daemons.merged import merged
from ansible_collections.netedge.tproxy.tests.system.daemons.uplink import (
    DNSMASQ,
    FAR,
    OWN,
    PROVIDER,
    UPLINK_POLICY,
    WAN,
    resolves,
    serve_names,
)

UNBOUND = """
server:
  directory: "{folder}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  do-daemonize: no
  interface: {own}
  access-control: {client}/32 allow
  module-config: "iterator"
  udp-connect: no
  private-domain: "."
forward-zone:
  name: "."
  forward-addr: {provider}
remote-control:
  control-enable: no
"""
CHRONY_SERVER = "local stratum 5\nallow all\ncmdport 0\nbindcmdaddress /\npidfile {folder}/time.pid\n"
CHRONY = (
    "server {provider} iburst maxsamples 4\ncmdport 0\nbindcmdaddress {folder}/our.sock\npidfile {folder}/our.pid\n"
)
NTPSEC = "disable ntp\nserver {provider} iburst minpoll 3 maxpoll 3\nrestrict default\nrestrict {provider}\n"
ANSWERS = 2
WITH_AND_WITHOUT = pytest.mark.parametrize("track", [None, "none"])


def close(router, track: str | None = None) -> None:
    """Close the uplink. Without `track` the policy has its default."""
    router.attach(WAN, policy={**UPLINK_POLICY, **({} if track is None else {"track": track})})
    router.count_anew(WAN)


def judged(router) -> dict:
    """Return the counters of the uplink without those of its link."""
    return {outcome: count for outcome, count in router.reasons(WAN).items() if outcome[0] not in ("arp", "icmp")}


# ---- names ---------------------------------------------------------------------------------------


def forward_by_dnsmasq(daemons) -> None:
    daemons.start("ours", *DNSMASQ, "--no-resolv", f"--server={PROVIDER}", f"--listen-address={LAN_OWN}")


def forward_by_unbound(daemons) -> None:
    text = UNBOUND.format(folder=daemons.folder, own=LAN_OWN, client=CLIENT, provider=PROVIDER)
    (path,) = daemons.files(**{"unbound.conf": text})
    daemons.start("ours", "unbound", "-d", "-p", "-c", path)


@WITH_AND_WITHOUT
@pytest.mark.parametrize("forward", [forward_by_dnsmasq, forward_by_unbound])
def test_a_forwarder_of_names_gets_its_answers(uplink, client, provider, daemons, forward, track):
    close(uplink, track)
    serve_names(daemons, provider)
    forward(daemons)
    if track is None:
        daemons.until(lambda: resolves(client, LAN_OWN), "a name")
        assert set(judged(uplink)) == {("session", "passed")}
    else:
        daemons.until(lambda: resolves(client, LAN_OWN) or ("default", "dropped") in judged(uplink), "a dropped answer")
        assert not resolves(client, LAN_OWN)


# ---- time ----------------------------------------------------------------------------------------


def serve_time(daemons, provider) -> None:
    (path,) = daemons.files(**{"time.conf": CHRONY_SERVER.format(folder=daemons.folder)})
    daemons.start("time", "chronyd", "-x", "-d", "-u", "root", "-f", path, inside=provider)


def follow_by_chrony(daemons) -> None:
    (path,) = daemons.files(**{"our.conf": CHRONY.format(folder=daemons.folder, provider=PROVIDER)})
    daemons.start("ours", "chronyd", "-x", "-d", "-u", "root", "-f", path)


def follow_by_ntpsec(daemons) -> None:
    (path,) = daemons.files(**{"ntp.conf": NTPSEC.format(provider=PROVIDER)})
    daemons.start("ours", "ntpd", "-n", "-N", "-c", path)


def follow_by_timesyncd(daemons) -> None:
    """Start it as a user without capabilities, which cannot change the clock."""
    (path,) = daemons.files(**{"timesyncd.conf": f"[Time]\nNTP={PROVIDER}\nFallbackNTP=\n"})
    daemons.folder.chmod(0o755)
    os.chmod(path, 0o644)
    words = ["setpriv", "--reuid=nobody", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]
    words += ["env", "SYSTEMD_LOG_LEVEL=debug", "SYSTEMD_LOG_TARGET=console"]
    words += [program_of("systemd-timesyncd").removeprefix(str(UNPACKED))]
    daemons.start("ours", *merged(words, {"/etc/systemd/timesyncd.conf": path}))


@WITH_AND_WITHOUT
def test_timesyncd_gets_its_answers(uplink, client, provider, daemons, track):
    close(uplink, track)
    serve_time(daemons, provider)
    follow_by_timesyncd(daemons)
    if track is None:
        daemons.until(lambda: f"Contacted time server {PROVIDER}:123" in daemons.log("ours"), "an answer")
    else:
        daemons.until(lambda: f"Timed out waiting for reply from {PROVIDER}" in daemons.log("ours"), "no answer")
    assert set(judged(uplink)) == ({("session", "passed")} if track is None else {("default", "dropped")})


@WITH_AND_WITHOUT
def test_ntpsec_gets_its_answers(uplink, client, provider, daemons, track):
    close(uplink, track)
    serve_time(daemons, provider)
    follow_by_ntpsec(daemons)
    outcome = ("session", "passed") if track is None else ("default", "dropped")
    daemons.until(lambda: judged(uplink).get(outcome, 0) >= ANSWERS, f"{ANSWERS} answers {outcome}")
    assert set(judged(uplink)) == {outcome}


@WITH_AND_WITHOUT
def test_chrony_gets_its_answers_as_it_connects_its_sockets(uplink, client, provider, daemons, track):
    close(uplink, track)
    serve_time(daemons, provider)
    follow_by_chrony(daemons)
    daemons.until(lambda: "Selected source" in daemons.log("ours"), "a source of time")
    assert set(judged(uplink)) == {("established", "passed")}


# ---- pings ---------------------------------------------------------------------------------------


def test_ping_and_mtr_of_the_router(uplink, client, provider, far, daemons):
    """Echo replies to the router pass without tracking as well. Errors about its pings do, too."""
    close(uplink)
    ping = daemons.run("ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", FAR)
    assert ping.returncode == 0, ping.stdout
    mtr = daemons.run("mtr", "--report", "--no-dns", "--report-cycles", "1", "--max-ttl", "3", FAR).stdout
    assert PROVIDER in mtr and FAR in mtr, mtr


def test_traceroute_of_the_router_by_udp(uplink, client, provider, far, daemons):
    """Its errors are about sockets and flows of the router, so they pass."""
    close(uplink)
    shown = daemons.run("traceroute.db", "-n", "-q", "1", "-w", "1", "-m", "3", FAR).stdout
    assert PROVIDER in shown and FAR in shown, shown


# ---- tunnels of the router -----------------------------------------------------------------------

INNER, INNER_OF_PROVIDER = "172.30.0.1", "172.30.0.2"


def lay_vxlan(router, name: str, local: str, remote: str, inner: str, ports: str) -> None:
    router.netns.run(f"ip link add {name} type vxlan id 7 local {local} remote {remote} dstport 4789 {ports}")
    router.netns.run(f"ip address add {inner}/24 dev {name}")
    router.netns.run(f"ip link set {name} up")


def pings(daemons) -> bool:
    return daemons.run("ping", "-n", "-c", "1", "-W", "1", INNER_OF_PROVIDER).returncode == 0


def test_vxlan_of_one_port_needs_no_rule(uplink, client, provider, daemons):
    """With one source port at both ends, the other end's packets answer those of the router."""
    close(uplink)
    ports = "srcport 4789 4790"
    lay_vxlan(uplink, "vx0", OWN, PROVIDER, INNER, ports)
    with provider.inside():
        lay_vxlan(uplink, "vx0", PROVIDER, OWN, INNER_OF_PROVIDER, ports)
    daemons.until(lambda: pings(daemons), "a ping by VXLAN")
    assert ("default", "dropped") not in judged(uplink)


def test_vxlan_of_many_ports_needs_a_management_entry(uplink, client, provider, daemons):
    """By default the source port is a hash of the inner flow, which differs in both directions."""
    close(uplink)
    lay_vxlan(uplink, "vx0", OWN, PROVIDER, INNER, "")
    with provider.inside():
        lay_vxlan(uplink, "vx0", PROVIDER, OWN, INNER_OF_PROVIDER, "")
    assert not pings(daemons)
    entry = {"source": PROVIDER, "protocol": "udp", "port": "4789"}
    uplink.attach(WAN, policy={**UPLINK_POLICY, "management": [entry]})
    daemons.until(lambda: pings(daemons), "a ping by VXLAN")


@WITH_AND_WITHOUT
def test_wireguard_that_the_router_opens(uplink, client, provider, daemons, track):
    close(uplink, track)
    ends = {"ours": (None, "wg-r", INNER), "theirs": (provider, "wg-p", INNER_OF_PROVIDER)}
    keys = {name: daemons.run("wg", "genkey").stdout.strip() for name in ends}
    public = {name: daemons.run("wg", "pubkey", given=key).stdout.strip() for name, key in keys.items()}
    for (name, (inside, device, inner)), other in zip(ends.items(), ("theirs", "ours")):
        daemons.start(name, "wireguard-go", "-f", device, inside=inside)
        (key,) = daemons.files(**{f"{name}.key": keys[name]})
        peer = ["peer", public[other], "allowed-ips", "172.30.0.0/24"]
        peer += ["endpoint", f"{PROVIDER}:51820"] if inside is None else []
        port = ["listen-port", "51820" if inside else "51821"]
        words = ["wg", "set", device, "private-key", key, *port, *peer]
        daemons.until(lambda words=words, inside=inside: daemons.run(*words, inside=inside).returncode == 0, device)
        with inside.inside() if inside else socket.socket():
            uplink.netns.run(f"ip address add {inner}/24 dev {device}")
            uplink.netns.run(f"ip link set {device} up")
    if track is None:
        daemons.until(lambda: pings(daemons), "a ping by WireGuard")
        assert ("session", "passed") in judged(uplink)
    else:
        assert not pings(daemons)
        assert ("default", "dropped") in judged(uplink)


# ---- other interfaces ----------------------------------------------------------------------------


def test_a_macvlan_of_the_router_with_a_policy_of_its_own(uplink, client, provider, daemons):
    uplink.netns.run(f"ip link add mv0 link {WAN} type macvlan mode bridge")
    uplink.netns.run("ip address add 10.9.0.3/24 dev mv0")
    uplink.netns.run("ip link set mv0 up")
    close(uplink)
    uplink.attach("mv0", policy=UPLINK_POLICY)
    serve_names(daemons, provider)
    ping = daemons.run("ping", "-n", "-c", "1", "-W", "2", "-I", "mv0", PROVIDER)
    assert ping.returncode == 0, ping.stdout


@pytest.mark.slice
def test_an_answer_by_the_other_uplink(uplink, client, provider, daemons):
    """The provider sends its answers by the second uplink, which is closed too."""
    second = "wan1"
    wire = lay_wire(uplink.netns, second, "10.8.0.1", "10.8.0.2")
    try:
        with wire.inside():
            provider.observe_state(uplink.netns, f"{second}-peer")
        with provider.inside():
            for command in (
                f"ip link set {second}-peer up",
                f"ip address add 10.8.0.2/24 dev {second}-peer",
                f"ip route add {OWN}/32 via 10.8.0.1",
            ):
                uplink.netns.run(command)
        close(uplink)
        uplink.attach(second, policy=UPLINK_POLICY)
        uplink.count_anew(second)
        serve_names(daemons, provider)
        forward_by_dnsmasq(daemons)
        daemons.until(lambda: resolves(client, LAN_OWN), "a name")
        assert judged(uplink) == {}
        assert uplink.reasons(second)["session", "passed"] >= 1
    finally:
        wire.close()


def test_a_closed_lan_serves_names_by_one_management_entry(uplink, client, provider, daemons):
    close(uplink)
    uplink.attach(LAN, policy={**UPLINK_POLICY, "management": [{"source": CLIENT, "protocol": "udp", "port": "53"}]})
    serve_names(daemons, provider)
    forward_by_dnsmasq(daemons)
    daemons.until(lambda: resolves(client, LAN_OWN), "a name")
