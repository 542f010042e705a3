# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The drop log names each distinct packet that was dropped or would have been. Real frames, the command's own words."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import DROPS_PER_WINDOW
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.drops import drops
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import InvalidInput
from ansible_collections.netedge.tproxy.tests.support.packets import ICMP, ethernet, ipv4, tcp_frame, udp_frame
from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, SERVER, eventually

GRE = 47
RULE = {"destination": SERVER, "protocol": "tcp", "ports": "80", "action": "drop", "name": "no web"}
SHOWN = ("interface", "verdict", "reason", "protocol", "source", "destination", "port", "packets")


@pytest.fixture
def router(splicing):
    """Return a router that drops by a rule, and by its default action."""
    splicing.attach(policy={"default_action": "drop"})
    splicing.record()
    splicing.rules(RULE)
    return splicing


@pytest.fixture
def wire(lasting):
    """Return a raw socket on the client's end of the wire."""
    with lasting[1].raw() as raw:
        yield raw


def log(router, limit: int = 100) -> list:
    """Return the entries of the test's own client, as the command prints them."""
    options = {"follow": False, "json": True, "limit": limit, "pin_dir": router.pin_dir}
    entries = json.loads("".join(drops(options, router.system(), False)))["drops"]
    return [entry for entry in entries if entry["source"] == CLIENT]


def shown(entries: list) -> set:
    return {tuple(entry[name] for name in SHOWN) for entry in entries}


def test_each_distinct_drop_has_one_entry_with_its_packets(router, wire):
    for _packet in range(3):
        wire.send(tcp_frame(SERVER, 80))
    wire.send(udp_frame(SERVER, 5060))
    wire.send(ethernet(ipv4(bytes(16), GRE, destination=SERVER)))
    wire.send(ethernet(ipv4(b"\x0d" + bytes(15), ICMP, destination=SERVER)))
    wanted = {
        (LAN, "drop", "rule", "tcp", CLIENT, SERVER, 80, 3),
        (LAN, "drop", "default", "udp", CLIENT, SERVER, 5060, 1),
        (LAN, "drop", "other", "gre", CLIENT, SERVER, 0, 1),
        (LAN, "drop", "other", "icmp", CLIENT, SERVER, 0, 1),
    }
    eventually(lambda: wanted <= shown(log(router)))
    assert [entry["rule"] for entry in log(router) if entry["reason"] == "rule"] == [
        f"tcp {SERVER}/32 ports 80: drop (no web, owner ansible)"
    ]
    assert len(log(router, 2)) <= 2
    assert {entry["reason"] for entry in router.info()["drops"]} >= {"rule", "default", "other"}


def test_an_audit_notes_would_be_drops_and_a_test_run_nothing(router, wire):
    router.attach(policy={"default_action": "audit"})
    wire.send(udp_frame(SERVER, 5061))
    eventually(lambda: (LAN, "would_drop", "default", "udp", CLIENT, SERVER, 5061, 1) in shown(log(router)))
    flow = {"interface": LAN, "source": CLIENT, "destination": SERVER, "protocol": "udp"}
    answer = router.verdict(**flow, port="5062", expect="would_drop")
    assert (answer["verdict"], answer["reason"]) == ("would_drop", "default")
    assert 5062 not in {entry["port"] for entry in log(router)}
    assert router.reasons()["default", "would_drop"] == 1


def test_a_flood_is_noted_in_part_and_counted_in_full(router, wire):
    before = router.reasons().get(("default", "dropped"), 0)
    for port in range(1024, 1024 + 8 * DROPS_PER_WINDOW):
        wire.send(udp_frame(SERVER, port))
    eventually(lambda: router.reasons()["default", "dropped"] == before + 8 * DROPS_PER_WINDOW)
    assert 1 <= len(log(router, 1000)) < 8 * DROPS_PER_WINDOW
    # A window lasts up to 640 ms. The next one notes packets again: the test behind this one needs that.
    eventually(lambda: wire.send(udp_frame(SERVER, 1023)) and 1023 in {entry["port"] for entry in log(router, 1000)})


class Interrupted:
    """The background adapter, where a packet is dropped each time that the command sleeps."""

    def __init__(self, background, ports: list, drop):
        self._background, self._ports, self._drop = background, ports, drop

    def __getattr__(self, name: str):
        return getattr(self._background, name)

    def sleep_until(self, _deadline: int) -> None:
        self._drop(self._ports.pop(0))


def test_follow_prints_the_entries_that_are_new_or_count_more(router, wire):
    def drop(port: int) -> None:
        before = {entry["port"]: entry["packets"] for entry in log(router)}.get(port, 0)
        wire.send(udp_frame(SERVER, port))
        eventually(lambda: (LAN, "drop", "default", "udp", CLIENT, SERVER, port, before + 1) in shown(log(router)))

    drop(7001)
    system = router.system()
    system = replace(system, background=Interrupted(system.background, [7002, 7001], drop))
    lines = drops({"follow": True, "json": False, "limit": 100, "pin_dir": router.pin_dir}, system, False)
    assert [line.split("  ")[1:] for line in islice(lines, 2)] == [
        [LAN, "drop", "default", "1", "udp", CLIENT, SERVER, "7002"],
        [LAN, "drop", "default", "2", "udp", CLIENT, SERVER, "7001"],
    ]


def test_a_negative_number_of_entries_is_refused(router):
    with pytest.raises(InvalidInput, match="drops: expected a number of entries, 0 or more, got -1"):
        log(router, -1)
