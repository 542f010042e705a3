# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each way out of the program has a counter, which tproxy_info shows by its name. Real frames."""

from __future__ import annotations

import socket

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.structs import REASON_NAMES
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.helper import Helper
from ansible_collections.netedge.tproxy.tests.support.packets import (
    ETH_ARP,
    ICMP,
    ethernet,
    ipv4,
    tagged,
    tcp_frame,
    udp_frame,
)
from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, OWN, SERVER, eventually, transparent

GRE = 47
ECHO_REPLY = bytes(8)
MANAGED, SPLICED, LOST, SESSION, TRACKED = 161, 53, 54, 5353, 123
POLICY = {"track": "own", "management": [{"source": CLIENT, "protocol": "udp", "port": MANAGED}]}
RULES = (
    {"destination": SERVER, "protocol": "tcp", "ports": "443", "tproxy_port": 8443},
    {"destination": SERVER, "protocol": "tcp", "ports": "80", "action": "pass"},
    *(
        {"destination": to, "protocol": "udp", "ports": str(SPLICED), "tproxy_port": 8053}
        for to in (SERVER, "10.1.0.0/24")
    ),
)
# {(reason, outcome): what is counted so}
FRAMES = {
    ("arp", "passed"): ethernet(bytes(28), ETH_ARP),
    ("link", "passed"): ethernet(bytes(46), 0x88CC),
    ("vlan", "passed"): tagged(bytes(28), 7),
    ("malformed", "dropped"): tcp_frame(SERVER, 443, version=5),
    ("management", "passed"): udp_frame(OWN, MANAGED),
    ("dhcp", "passed"): udp_frame(OWN, 68, source_port=67),
    ("ssh", "passed"): tcp_frame(OWN, 22),
    ("icmp", "passed"): ethernet(ipv4(ECHO_REPLY, ICMP, destination=OWN)),
    ("fragment", "dropped"): tcp_frame(SERVER, 443, fragment=1),
    ("established", "passed"): udp_frame(OWN, SESSION, source_port=SESSION),
    ("rule", "passed"): tcp_frame(SERVER, 80),
    ("local", "passed"): udp_frame(OWN, SPLICED),
    ("undeliverable", "dropped"): udp_frame("10.1.0.255", SPLICED),
    ("spliced", "passed"): udp_frame(SERVER, SPLICED),
    ("wrong_listener", "dropped"): udp_frame(SERVER, LOST),
    ("no_listener", "dropped"): tcp_frame(SERVER, 443),
    ("default", "dropped"): tcp_frame(SERVER, 444),
    ("other", "dropped"): ethernet(ipv4(bytes(16), GRE)),
    ("session", "passed"): udp_frame(OWN, TRACKED, source_port=TRACKED),
}
# No frame provokes it on kernels that assign a socket of a SO_REUSEPORT group, see test_sessions.py.
REFUSED = "assign_error"
# A router's call for a listener that is not there yet. Another socket gets nothing in its place.
EARLY = f"-I -c {SERVER} -m 32 -p udp -l {LOST} -h {LOST} -t 8053 -s early"


@pytest.fixture
def router(splicing):
    """Return this file's router."""
    splicing.attach(policy=POLICY)
    splicing.record()
    splicing.rules(*RULES)
    helper = Helper(splicing.pin_dir, splicing.system())
    assert helper.answer(EARLY.replace(" ", "\0").encode(), 0).status == 0
    return splicing


@pytest.fixture
def wire(lasting):
    """Return a raw socket on the client's end of the wire."""
    with lasting[1].raw() as raw:
        yield raw


@pytest.fixture
def sockets(router):
    """Have a proxy and a session."""
    with transparent(socket.SOCK_DGRAM, 8053), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind((OWN, SESSION))
        own.connect((CLIENT, SESSION))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.bind((OWN, TRACKED))
            asking.sendto(b"", (CLIENT, TRACKED))
        yield


def shown(router) -> dict:
    """Return the interface's counters in tproxy_info: {(reason, outcome): packets}, where not zero."""
    entry = next(entry for entry in router.info()["attachments"] if entry["interface"] == LAN)
    return {
        (reason, outcome): counter["packets"]
        for reason, outcomes in entry["reasons"].items()
        for outcome, counter in outcomes.items()
        if counter["packets"]
    }


def test_each_reason_is_counted_and_shown_by_tproxy_info(router, wire, sockets):
    before = shown(router)
    for frame in FRAMES.values():
        wire.send(frame)
    eventually(lambda: all(router.reasons().get(outcome) for outcome in FRAMES))
    after = shown(router)
    assert {outcome for outcome in after if after[outcome] > before.get(outcome, 0)} >= set(FRAMES)
    assert {reason for reason, _outcome in FRAMES} == set(REASON_NAMES.values()) - {REFUSED}
