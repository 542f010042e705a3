# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program counts a datagram as spliced if the proxy gets it, and only then: IPv4 options, strange sources."""

from __future__ import annotations

import functools
import socket

import pytest

from ansible_collections.netedge.tproxy.tests.support.ends import set_sysctl
from ansible_collections.netedge.tproxy.tests.support.packets import (
    CLIENT_SOURCES,
    IPV4_OPTIONS,
    UDP,
    ethernet,
    ipv4,
    udp,
)
from ansible_collections.netedge.tproxy.tests.support.router import (
    CLIENT,
    LAN,
    NOISE,
    SERVER,
    link_address,
    outcomes_of,
    transparent,
)

PORT, PROXY_PORT = 53, 8053
EVERY_HOST = "255.255.255.255"
SPLICED, UNDELIVERABLE = ("spliced", "passed"), ("undeliverable", "dropped")
# The program reads no more, and the stack reads them all.
MORE = "more options than the program reads"


@pytest.fixture
def router(splicing):
    """Return this file's router with a rule for datagrams."""
    splicing.attach()
    splicing.record()
    options = {"protocol": "udp", "ports": str(PORT), "tproxy_port": PROXY_PORT}
    splicing.rules(*({"destination": destination, **options} for destination in (SERVER, EVERY_HOST)))
    set_sysctl("ipv4.conf.all.accept_source_route", 0)  # as the kernel has it, and systemd
    return splicing


@pytest.fixture
def wire(lasting):
    """Return a raw socket on the client's end of the wire."""
    with lasting[1].raw() as raw:
        yield raw


@pytest.fixture
def counted_and_received(router, wire):
    """Return a function that sends named datagrams; it returns the names that count as spliced, and those received."""

    def send_all(headers: dict) -> tuple:
        link, counted = link_address(LAN), set()
        with transparent(socket.SOCK_DGRAM, PROXY_PORT) as proxy:
            for name, header in headers.items():
                packet = ipv4(udp(PORT, payload=name.encode()), UDP, **{"destination": SERVER, **header})
                send = functools.partial(wire.send, ethernet(packet, destination=link))
                (outcome,) = outcomes_of(router, send, ignored=(*NOISE, "arp"))
                assert outcome in (SPLICED, UNDELIVERABLE)
                counted |= {name} if outcome == SPLICED else set()
            return counted, received_by(proxy)

    return send_all


def test_a_datagram_with_options_counts_as_spliced_if_the_proxy_gets_it(counted_and_received):
    headers = {name: {"options": options} for name, (options, _undeliverable) in IPV4_OPTIONS.items()}
    counted, received = counted_and_received(headers)
    assert counted == {name for name, (_options, undeliverable) in IPV4_OPTIONS.items() if not undeliverable}
    assert received - {MORE} == counted


def test_a_datagram_from_a_special_address_counts_as_spliced_if_the_proxy_gets_it(counted_and_received):
    """The stack takes no packet from such an address (martian source, ip_route_input_slow() in net/ipv4/route.c)."""
    counted, received = counted_and_received({source: {"source": source} for source in CLIENT_SOURCES})
    assert counted == {source for source, special in CLIENT_SOURCES.items() if not special}
    assert received == counted


def test_a_host_without_an_address_can_ask_every_host(counted_and_received):
    asked = {source: {"source": source, "destination": EVERY_HOST} for source in ("0.0.0.0", CLIENT, EVERY_HOST)}
    counted, received = counted_and_received(asked)
    assert counted == received == {"0.0.0.0", CLIENT}


def received_by(proxy: socket.socket) -> set:
    """Return the names in the datagrams that wait. The wire delivers a frame before send() returns, or soon after."""
    found = set()
    proxy.settimeout(1)
    while True:
        try:
            found.add(proxy.recv(100).decode())
        except TimeoutError:
            return found
