# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An audited router is observed, with real clients, a scanner and a flood. The suggestion lets the clients in alone.

client 10.1.0.2, scanner 10.1.0.3, flood from 198.18.0.0/15 ---- lan0 10.1.0.1 router
"""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack

import pytest
import yaml

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.suggest import print_suggestion
from ansible_collections.netedge.tproxy.tests.support.packets import (
    ETH_P_ALL,
    TCP,
    ethernet,
    ipv4,
    sound_syn,
    udp_frame,
)
from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, OWN, eventually, link_address

SCANNER = "10.1.0.3"
SSH, DNS, SYSLOG, CLOSED = 2022, 53, 514, range(3000, 3012)
OPTIONS = {"sources": "32,128", "destinations": "32,128", "port_gap": 1, "all": False}


@pytest.fixture
def router(splicing):
    """Return a router that audits and tracks its own flows."""
    splicing.attach(policy={"default_action": "audit", "allow_ssh": False, "track": "own"})
    splicing.record()
    return splicing


@pytest.fixture
def client(router, lasting):
    """Return the client. The scanner is a second address of it."""
    with lasting[1].inside():
        router.netns.run(f"ip address replace {SCANNER}/24 dev {LAN}-peer")
    return lasting[1]


@pytest.fixture
def service(router):
    """Return a function that opens a service of the router, which lasts as long as the test."""
    with ExitStack() as opened:

        def make(kind: int, port: int) -> socket.socket:
            made = opened.enter_context(socket.socket(socket.AF_INET, kind))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((OWN, port))
            made.settimeout(5)
            if kind == socket.SOCK_STREAM:
                made.listen()
            return made

        yield make


def suggested(router, **given) -> dict:
    options = {**OPTIONS, "json": True, "pin_dir": router.pin_dir, **given}
    return json.loads("\n".join(print_suggestion(options, router.system(), False)))


def opened(answer: dict) -> set:
    return {
        (entry["source"], entry["protocol"], entry["port"])
        for interface in answer["interfaces"]
        for entry in interface["management"]
    }


def connect(client, source: str, port: int) -> socket.socket:
    made = client.socket(socket.SOCK_STREAM)
    made.bind((source, 0))
    made.connect((OWN, port))
    return made


def scan(client, ports) -> None:
    """Try ports as the scanner. Refused connections are what a scanner sees most."""
    for port in ports:
        with client.socket(socket.SOCK_STREAM) as made:
            made.bind((SCANNER, 0))
            made.connect_ex((OWN, port))


def syn_frame(source: str, port: int) -> bytes:
    """Return a SYN that the kernel accepts: with the checksum, and to the MAC address of the router."""
    segment = sound_syn(port, 40000, source, OWN)
    return ethernet(ipv4(segment, TCP, source, OWN), destination=link_address(LAN))


def is_syn_ack(frame: bytes, port: int) -> bool:
    return frame[12:14] == b"\x08\x00" and frame[34:36] == port.to_bytes(2, "big") and frame[47] == 0x12


def test_clients_with_answers_get_entries_and_a_scanner_none(router, client, service):
    ssh, dns = service(socket.SOCK_STREAM, SSH), service(socket.SOCK_DGRAM, DNS)
    with connect(client, CLIENT, SSH) as asker:
        server, _peer = ssh.accept()
        with server:
            server.sendall(b"banner")
            assert asker.recv(99) == b"banner"
    with client.socket(socket.SOCK_DGRAM) as asker:
        asker.bind((CLIENT, 0))
        asker.sendto(b"name", (OWN, DNS))
        _data, peer = dns.recvfrom(99)
        dns.sendto(b"address", peer)
        assert asker.recv(99) == b"address"
        asker.sendto(b"line", (OWN, SYSLOG))  # nothing listens there: the kernel sends an ICMP error
    scan(client, CLOSED)
    with connect(client, SCANNER, SSH) as found:
        server, _peer = ssh.accept()
        with server:
            server.sendall(b"banner")
            assert found.recv(99) == b"banner"
    wanted = {(f"{CLIENT}/32", "tcp", SSH), (f"{CLIENT}/32", "udp", DNS)}
    eventually(lambda: wanted <= opened(suggested(router)))
    answer = suggested(router)
    assert {entry for entry in opened(answer) if entry[0] in (f"{CLIENT}/32", f"{SCANNER}/32")} == wanted
    assert {each["source"]: each["answered"] for each in answer["apart"]}[SCANNER] == 1


def test_a_handshake_that_the_client_never_completes_is_no_answer(router, client, service):
    service(socket.SOCK_STREAM, SSH + 1)
    router.netns.run(f"ip route replace 198.18.0.0/15 via {CLIENT}")
    with client.raw() as wire:
        wire.bind((f"{LAN}-peer", ETH_P_ALL))
        wire.settimeout(5)
        for host in range(1, 40):
            wire.send(syn_frame(f"198.18.0.{host}", SSH + 1))
        while not is_syn_ack(wire.recv(2048), SSH + 1):
            pass
    eventually(lambda: suggested(router)["unanswered"] >= 39)
    assert not [entry for entry in opened(suggested(router)) if entry[0].startswith("198.18.")]


def test_the_suggestion_is_what_a_policy_takes_and_lets_the_client_in(router, client, service):
    ssh = service(socket.SOCK_STREAM, SSH)
    with connect(client, CLIENT, SSH):
        server, _peer = ssh.accept()
        with server:
            server.sendall(b"banner")
    eventually(lambda: (f"{CLIENT}/32", "tcp", SSH) in opened(suggested(router)))
    text = "\n".join(print_suggestion({**OPTIONS, "json": False, "pin_dir": router.pin_dir}, router.system(), False))
    (interface,) = yaml.safe_load(text)["tproxy_splicer_interfaces"]
    policy = {"default_action": "drop", "allow_ssh": False, "track": "own", "management": interface["management"]}
    router.attach(interface["name"], policy=policy)
    with connect(client, CLIENT, SSH):
        ssh.accept()[0].close()
    flow = {"interface": LAN, "destination": OWN, "protocol": "tcp", "port": str(SSH)}
    assert router.verdict(source=CLIENT, **flow)["reason"] == "management"
    assert router.verdict(source=SCANNER, **flow)["verdict"] == "drop"


def test_a_test_run_and_an_interface_without_audit_count_no_answer(router, client, service):
    router.attach(policy={"default_action": "pass", "track": "own"})
    dns = service(socket.SOCK_DGRAM, DNS + 1)
    with client.socket(socket.SOCK_DGRAM) as asker:
        asker.bind((CLIENT, 0))
        asker.sendto(b"name", (OWN, DNS + 1))
        _data, peer = dns.recvfrom(99)
        dns.sendto(b"address", peer)
        assert asker.recv(99) == b"address"
    assert DNS + 1 not in {port for _source, _protocol, port in opened(suggested(router, all=True))}


GRE = 47


def test_a_protocol_without_ports_needs_an_answer_too(router, client):
    with client.raw() as wire, socket.socket(socket.AF_INET, socket.SOCK_RAW, GRE) as tunnel:
        wire.send(ethernet(ipv4(bytes(16), GRE, destination=OWN)))
        wire.send(udp_frame(OWN, SYSLOG + 1))
        eventually(lambda: suggested(router)["unanswered"] >= 1)
        assert "gre" not in {rule["protocol"] for rule in suggested(router)["rules"]}
        tunnel.sendto(bytes(16), (CLIENT, 0))
        eventually(lambda: "gre" in {rule["protocol"] for rule in suggested(router)["rules"]})
    (rule,) = suggested(router)["rules"]
    assert rule == {
        "destination": f"{OWN}/32",
        "source": f"{CLIENT}/32",
        "protocol": "gre",
        "interfaces": [LAN],
        "action": "pass",
    }
