# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operations on the real kernel: their changes, the parts that they leave alone, and foreign programs."""

from __future__ import annotations

import dataclasses
import os
import socket
import struct

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import (
    CompileFailed,
    Conflict,
    InvalidInput,
    KernelRefused,
    LayoutMismatch,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.client import Netlink
from ansible_collections.netedge.tproxy.tests.support.router import LAN, OWN, eventually, without_counters
from ansible_collections.netedge.tproxy.tests.support.splicer import program_source

WEB = {"destination": "192.0.2.0/24", "protocol": "tcp", "ports": "443", "action": "pass"}
CLSACT = f"tc qdisc add dev {LAN} clsact"
U32 = "protocol ip u32 match ip dport 9 0xffff flowid 1:1"
COUNTER = """
#include <linux/pkt_cls.h>
BPF_ARRAY(counts, u64, ENTRIES);
int count_packets(struct __sk_buff *skb)
{
    counts.increment(skb->protocol == 0x0008);
    return TC_ACT_UNSPEC;
}
"""
OURS = COUNTER.replace("count_packets", "tproxy_splicer")
UNSAFE = """
int unsafe(struct __sk_buff *skb)
{
    return *(char *)(long)skb->data;
}
"""


def with_stubs(text: str) -> dict:
    """Return a source of one file, with the headers that the action plugin ships along."""
    return {"c.c": text, **{name: header for name, header in program_source().items() if name.startswith("stubs/")}}


def counter(entries: int = 2, text: str = COUNTER, **given) -> dict:
    """Return the options that attach an operator's own program, with a table that BCC makes."""
    source = {"source": "c.c", "source_files": with_stubs(text), "defines": {"ENTRIES": entries}}
    return {**source, "function": "count_packets", "priority": 20, **given}


def told(netns) -> tuple:
    """Return all that tc shows of the interface."""
    directions = [netns.run(f"tc filter show dev {LAN} {direction}") for direction in ("ingress", "egress")]
    return netns.run(f"tc qdisc show dev {LAN}"), *directions


@pytest.fixture
def wired(bare_router):
    """Return a router with one interface without a peer, on which no packet comes in unasked."""
    with open("/proc/sys/net/ipv6/conf/default/disable_ipv6", "w", encoding="ascii") as setting:
        setting.write("1")
    bare_router.netns.veth()
    bare_router.netns.run(f"ip address add {OWN}/24 dev {LAN}")
    bare_router.hook = "clsact"  # the tests of this file look with tc; test_hooks has both kinds
    return bare_router


OPERATIONS = {
    "attach": lambda router, **how: router.attach(**how),
    "attach with a policy": lambda router, **how: router.attach(policy={"default_action": "pass"}, **how),
    "record": lambda router, **how: router.record(**how),
    "rules": lambda router, **how: router.rules(WEB, **how),
    "fewer rules": lambda router, **how: router.rules(purge=True, **how),
    "route": lambda router, **how: router.route(**how),
    "another mark": lambda router, **how: router.route(mark="0x2/0x2", **how),
    "no route": lambda router, **how: router.route(state="absent", **how),
    "detach": lambda router, **how: router.attach(state="absent", **how),
}


def everything_of(router) -> tuple:
    """Return the parts that a run could change."""
    return router.pinned(), told(router.netns), router.netns.run("ip rule"), without_counters(router.info())


def test_check_mode_touches_nothing_and_a_second_run_changes_nothing(wired):
    """Run one operation after the other on one router: each in check mode, for real, and again."""
    for name, operation in OPERATIONS.items():
        before = everything_of(wired)
        predicted = operation(wired, check=True)
        assert everything_of(wired) == before, name
        real = operation(wired)
        assert (predicted["changed"], predicted["diff"]) == (True, real["diff"]) == (real["changed"], real["diff"]), (
            name
        )
        after = wired.pinned(), told(wired.netns)
        assert not operation(wired)["changed"], name
        assert (wired.pinned(), told(wired.netns)) == after, name


# ---- neighbours ------------------------------------------------------------------------------------


def test_somebody_elses_filters_and_qdisc_stay(wired):
    wired.netns.run(CLSACT)
    wired.netns.run(f"tc filter add dev {LAN} ingress prio 5 {U32}")
    before = told(wired.netns)
    answer = wired.attach()
    assert any("u32 filter" in warning for warning in answer["warnings"])
    assert all(line in told(wired.netns)[1] for line in before[1].splitlines())
    wired.attach(state="absent")
    assert told(wired.netns) == before


def test_our_qdisc_stays_for_as_long_as_somebody_elses_filter_is_on_it(wired):
    wired.attach()
    wired.netns.run(f"tc filter add dev {LAN} ingress prio 5 {U32}")
    wired.attach(state="absent")
    assert "clsact" in told(wired.netns)[0]
    assert "u32" in told(wired.netns)[1]


def test_a_filter_of_another_kind_at_our_priority_is_a_conflict(wired):
    wired.netns.run(CLSACT)
    wired.netns.run(f"tc filter add dev {LAN} ingress prio 10 {U32}")
    before = told(wired.netns)
    with pytest.raises(Conflict, match="priority 10 handle 0x1 of ingress is taken by a filter that is not ours"):
        wired.attach()
    assert (told(wired.netns), wired.pinned()) == (before, {})


@pytest.mark.parametrize("check", [True, False], ids=["check", "real"])
def test_a_filter_for_one_protocol_at_our_priority_is_foreseen(wired, program, check):
    """A priority has one protocol: beside a filter for IPv4 the kernel takes none for all protocols."""
    one, ifindex = program(0), wired.netns.judge(f"ip link show dev {LAN}")[0]["ifindex"]
    wired.netns.run(CLSACT)
    pinned = f"{wired.folder.path}/somebody"
    bpf.pin(one.fd, pinned)
    wired.netns.run(f"tc filter add dev {LAN} ingress prio 10 handle 7 protocol ip bpf da pinned {pinned}")
    os.unlink(pinned)
    before = told(wired.netns)
    with pytest.raises(Conflict, match="handle 0x7, for protocol 0x0800 alone"):
        wired.attach(check=check)
    assert (told(wired.netns), wired.pinned()) == (before, {})
    with Netlink() as netlink:
        assert [entry.program_id for entry in netlink.filters(ifindex, "ingress")] == [one.id]


def test_a_refused_newer_program_leaves_the_older_one_in_force(wired, blob):
    wired.attach()
    wired.rules(WEB)
    before = everything_of(wired)
    code = blob.instructions[:-8]  # without its exit
    broken = dataclasses.replace(blob, instructions=code, source_sha256="ab" * 32)
    with pytest.raises(KernelRefused, match="refused to load program tproxy_splicer: EINVAL"):
        wired.attach(blob_content=broken.to_json(), policy={"default_action": "pass"})
    assert everything_of(wired) == before


# ---- programs other than ours ------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["ingress", "egress"])
@pytest.mark.usefixtures("compiler")
def test_somebodys_own_program_runs_with_its_table_pinned_by_name(wired, direction):
    answer = wired.attach(**counter(direction=direction))
    assert answer["program"]["compiled"] and answer["policy"] is None
    assert set(os.listdir(f"{wired.pin_dir}/count_packets")) >= {"counts", "program"}
    table = bpf.open_pin(f"{wired.pin_dir}/count_packets/counts")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((LAN if direction == "egress" else f"{LAN}-peer", 0))
        for _packet in range(3):
            raw.send(bytes(12) + b"\x08\x00" + bytes(46))
    eventually(lambda: struct.unpack("=Q", bpf.lookup(table, struct.pack("=I", 1), 8))[0] >= 3)
    os.close(table)
    again = wired.attach(**counter(direction=direction))
    assert not again["changed"] and not again["program"]["compiled"]
    assert wired.attach(**counter(direction=direction, state="absent"))["changed"]
    assert "clsact" not in told(wired.netns)[0]
    assert wired.pinned() == {}


@pytest.mark.usefixtures("compiler")
def test_it_lives_beside_ours(wired):
    wired.attach()
    wired.rules(WEB)
    before = wired.info()["attachments"], wired.info()["rules"]
    wired.attach(**counter())
    assert (wired.info()["attachments"], wired.info()["rules"]) == before
    wired.attach(state="absent")
    assert f"count_packets:{counter_identity(wired)[:12]}" in told(wired.netns)[1]
    wired.attach(**counter(state="absent"))


def counter_identity(router) -> str:
    return router.attach(**counter(), check=True)["program"]["identity"]


@pytest.mark.usefixtures("compiler")
def test_another_table_of_the_same_name_is_refused(wired):
    wired.attach(**counter(2))
    before = told(wired.netns), wired.pinned()
    with pytest.raises(LayoutMismatch, match="counts is no map of this release: entries 2 instead of 4"):
        wired.attach(**counter(4))
    assert (told(wired.netns), wired.pinned()) == before


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"function": "no_such"}, CompileFailed, "there is no function no_such in c.c"),
        ({"text": "int f( {"}, CompileFailed, "expected"),
        ({"text": UNSAFE, "function": "unsafe"}, KernelRefused, "refused to load program unsafe"),
        ({"text": UNSAFE, "function": "tproxy_splicer"}, CompileFailed, "there is no function"),
        (
            {"text": OURS, "function": "tproxy_splicer"},
            InvalidInput,
            "tproxy_splicer is our own program, but this source has other maps",
        ),
    ],
    ids=["no-function", "broken-C", "verifier", "no-splicer", "our-name"],
)
@pytest.mark.usefixtures("compiler")
def test_a_source_that_will_not_do_changes_nothing(wired, options, error, words):
    before = told(wired.netns)
    with pytest.raises(error, match=words):
        wired.attach(**counter(**options))
    assert (told(wired.netns), wired.pinned()) == (before, {})
