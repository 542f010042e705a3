# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes under traffic: nothing that is spliced gets lost, nothing that is denied gets through."""

from __future__ import annotations

import dataclasses
import os
import socket
import threading
import time

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import HIT_COUNTERS
from ansible_collections.netedge.tproxy.tests.support.router import (
    BUFFER_BYTES,
    OWN,
    SERVER,
    SO_RCVBUFFORCE,
    eventually,
    transparent,
)

PROXY_PORT, DENIED_PORT = 8053, 54
LAST = b"last"
REPLACEMENTS = int(os.environ.get("TPROXY_REPLACEMENTS", "10"))  # make upgrade asks for more


def rule(ports: str, **given) -> dict:
    outcome = {} if "action" in given else {"tproxy_port": PROXY_PORT}
    return {"destination": "192.0.2.0/24", "protocol": "udp", "ports": ports, **outcome, **given}


SPLICED = rule("53")


class Stream:
    """A client that sends numbered datagrams, to be spliced and to be denied in turn, and counts on both ends."""

    def __init__(self, client):
        self.proxy = transparent(socket.SOCK_DGRAM, PROXY_PORT)
        self.service = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.service.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self.service.bind((OWN, DENIED_PORT))
        self.sent, self.received, self._over = 0, set(), threading.Event()
        self._client = client.socket(socket.SOCK_DGRAM)
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._receive)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        while len(self.received) < 10:
            time.sleep(0.001)
        return self

    def __exit__(self, *_fault):
        self._over.set()
        for thread in self._threads:
            thread.join()
        self.leaked = self._leaked()
        for one in (self.proxy, self.service, self._client):
            one.close()

    def _send(self):
        while not self._over.is_set():
            for _packet in range(3):
                self._client.sendto(b"%d" % self.sent, (SERVER, 53))
                self._client.sendto(b"%d" % self.sent, (OWN, DENIED_PORT))
                self.sent += 1
            time.sleep(0.001)
        self._client.sendto(LAST, (SERVER, 53))

    def _receive(self):
        while (data := self.proxy.recv(99)) != LAST:
            self.received.add(int(data))

    def _leaked(self) -> int:
        self.service.setblocking(False)
        count = 0
        try:
            while self.service.recv(99):
                count += 1
        except BlockingIOError:
            return count

    def judge(self, changes: int) -> None:
        """Assert that all came through that should, and nothing else, over enough packets to tell."""
        lost = self.sent - len(self.received)
        print(f"{changes} changes, {self.sent} packets: {lost} lost, {self.leaked} unfiltered")
        assert self.sent > 2 * changes
        assert lost == 0
        assert self.leaked == 0


@pytest.fixture
def splicing(router):
    """Return a router that splices the packets of a Stream."""
    router.route()
    router.attach()
    router.rules(SPLICED)
    return router


def test_rules_are_swapped_50_times(splicing, client):
    with Stream(client) as stream:
        for number in range(50):
            other = rule(f"{1000 + number}-{2000 + number}", source=f"10.{number}.0.0/16")
            answer = splicing.rules(SPLICED, other, rule("55-60", action="drop"), purge=True)
            assert answer["changed"] and len(answer["rules"]) == 3
    stream.judge(50)
    counted = splicing.reasons()
    assert counted["spliced", "passed"] == stream.sent + 1
    assert counted["default", "dropped"] >= stream.sent


def test_the_program_is_replaced_in_place_by_another_release_and_back(splicing, client):
    other = dataclasses.replace(splicing.blob, source_sha256="02" * 32)
    with Stream(client) as stream:
        for number in range(REPLACEMENTS):
            before = splicing.info()["attachments"][0]
            answer = splicing.attach(blob_content=(splicing.blob if number % 2 else other).to_json())
            assert answer["changed"]
            assert answer["attachment"]["program_id"] != before["program_id"]
    stream.judge(REPLACEMENTS)
    assert splicing.reasons()["spliced", "passed"] == stream.sent + 1


def test_policies_change_20_times(splicing, client):
    with Stream(client) as stream:
        for number in range(20):
            management = [{"source": f"10.9.{number}.0/24", "port": 8006}]
            assert splicing.attach(policy={"management": management})["changed"]
    stream.judge(20)


def test_an_image_outgrows_its_map_and_the_filters_move_to_a_bigger_one(splicing, client, netns):
    netns.veth("lan1", "lan1-peer")
    splicing.attach("lan1")
    splicing.record(interfaces=["lan0"])
    programs = {entry["program_id"] for entry in splicing.info()["attachments"]}
    with Stream(client) as stream:
        for count in (1, 2, 4):
            rules = [rule("80", protocol=kind, interfaces=[f"lan{n}"]) for kind in ("tcp", "udp") for n in range(2)]
            rules += [rule(str(1000 + number), interfaces=["lan1"] if number % 2 else []) for number in range(count)]
            assert splicing.rules(SPLICED, *rules, purge=True)["changed"]
    stream.judge(3)
    after = splicing.info()
    assert after["image"]["bytes"] > 1 << 20
    assert not {entry["program_id"] for entry in after["attachments"]} & programs
    assert [entry["drift"] for entry in after["attachments"]] == [[], ["no_route"]]
    assert after["attachments"][0]["addresses"] == [OWN, *after["attachments"][0]["addresses"][1:]]
    assert splicing.reasons()["spliced", "passed"] == stream.sent + 1
    assert not splicing.rules(SPLICED, *rules)["changed"]


def test_rules_that_outgrow_their_counters_keep_the_counts(splicing, client):
    with Stream(client) as stream:
        pass
    many = [rule(str(2000 + number)) for number in range(HIT_COUNTERS)]
    before = splicing.info()["attachments"][0]["program_id"]
    assert splicing.rules(*many)["changed"]
    with transparent(socket.SOCK_DGRAM, PROXY_PORT) as proxy, client.socket(socket.SOCK_DGRAM) as asking:
        asking.sendto(b"last", (SERVER, 2000 + HIT_COUNTERS - 1))
        assert proxy.recv(9) == b"last"
    after = splicing.info()
    counted = {each["ports"]: each["hits"]["packets"] for each in after["rules"] if each["hits"]["packets"]}
    assert counted == {"53": stream.sent + 1, str(2000 + HIT_COUNTERS - 1): 1}
    assert after["attachments"][0]["program_id"] != before
    assert after["attachments"][0]["drift"] == []
    assert not splicing.rules(*many)["changed"]


def test_a_killed_proxy_comes_back_under_traffic(splicing, client):
    """Without a listener packets are dropped and counted, and none goes elsewhere."""
    asking = client.socket(socket.SOCK_DGRAM)
    for death in range(5):
        with transparent(socket.SOCK_DGRAM, PROXY_PORT) as proxy:
            asking.sendto(b"ping", (SERVER, 53))
            assert proxy.recv(9) == b"ping"
        asking.sendto(b"ping", (SERVER, 53))
        eventually(lambda dropped=death + 1: splicing.reasons().get(("no_listener", "dropped")) == dropped)
    asking.close()
    assert splicing.reasons()["spliced", "passed"] == 5
