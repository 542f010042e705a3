# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rtnetlink adapter: clsact and filters, compared with tc and tested by packets."""

from __future__ import annotations

import errno
import re
import socket

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import Conflict, KernelRefused
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.client import Netlink

OURS = (7, 1)
DIRECTIONS = ("ingress", "egress")
ETHERTYPES = {"all": 3, "ip": 0x0800, "ipv6": 0x86DD}
PASS, DROP, NEXT = 0, 2, -1
VANISHED = 4711
EXPERIMENTAL = 0x88B5  # an ethertype for local experiments


@pytest.fixture
def netlink(netns):
    with Netlink() as opened:
        yield opened


@pytest.fixture
def lan(netns, netlink):
    """Return the ifindex of lan0, which has clsact."""
    ifindex = netns.veth()
    netns.run("tc qdisc add dev lan0 clsact")
    return ifindex


def filters_of_tc(netns, direction: str = "ingress", interface: str = "lan0") -> list:
    """Return the filters that tc shows. Its entries for priorities and hash tables have no options, or no filter."""
    listed = netns.judge(f"tc filter show dev {interface} {direction}")
    return [one for one in listed if "options" in one and "ht_divisor" not in one["options"]]


def told_slots(netns, direction: str = "ingress") -> list:
    """Return (kind, priority, protocol, chain, handle) of each filter; u32 writes its handle as table:bucket:node."""
    return [
        (one["kind"], one["pref"], ETHERTYPES[one["protocol"]], one["chain"], handle_of(one["options"]))
        for one in filters_of_tc(netns, direction)
    ]


def handle_of(options: dict) -> int:
    if "handle" in options:
        return int(options["handle"], 16)
    table, bucket, node = (int(part or "0", 16) for part in options["fh"].split(":"))
    return table << 20 | bucket << 12 | node


def slots(filters: list) -> list:
    return [(one.kind, one.priority, one.protocol, one.chain, one.handle) for one in filters]


# ---- clsact -----------------------------------------------------------------------------


def qdisc_kinds(netns) -> list:
    return [qdisc["kind"] for qdisc in netns.judge("tc qdisc show dev lan0")]


def test_clsact_is_added_once_and_deleted_once(netns, netlink):
    ifindex = netns.veth()
    assert netlink.hook_qdisc(ifindex) == ""
    assert [netlink.add_clsact(ifindex), netlink.add_clsact(ifindex)] == [True, False]
    assert netlink.hook_qdisc(ifindex) == "clsact"
    assert qdisc_kinds(netns) == ["noqueue", "clsact"] == [qdisc.kind for qdisc in netlink.qdiscs(ifindex)]
    assert [netlink.delete_clsact(ifindex), netlink.delete_clsact(ifindex)] == [True, False]
    assert qdisc_kinds(netns) == ["noqueue"] == [qdisc.kind for qdisc in netlink.qdiscs(ifindex)]


def test_clsact_that_others_made_is_seen(lan, netlink):
    assert netlink.hook_qdisc(lan) == "clsact"
    assert not netlink.add_clsact(lan)


def test_a_plain_ingress_qdisc_is_no_clsact_and_stays(netns, netlink):
    ifindex = netns.veth()
    netns.run("tc qdisc add dev lan0 ingress")
    assert netlink.hook_qdisc(ifindex) == "ingress"
    with pytest.raises(Conflict, match="lan0 has a plain ingress qdisc where clsact belongs"):
        netlink.add_clsact(ifindex)
    assert not netlink.delete_clsact(ifindex)
    assert qdisc_kinds(netns) == ["noqueue", "ingress"]


def test_a_plain_ingress_qdisc_takes_our_filter_and_shows_it_on_ingress_alone(netns, netlink, program):
    ifindex = netns.veth()
    netns.run("tc qdisc add dev lan0 ingress")
    netlink.replace_filter(ifindex, "ingress", *OURS, program(DROP).fd, "ours")
    assert [entry.name for entry in netlink.filters(ifindex, "ingress")] == ["ours"]
    assert netlink.filters(ifindex, "egress") == []
    assert netlink.delete_filter(ifindex, "ingress", *OURS)
    assert qdisc_kinds(netns) == ["noqueue", "ingress"]


def test_handles_and_parents_of_qdiscs_are_those_of_tc(netns, netlink):
    ifindex = netns.veth()
    netns.run("tc qdisc add dev lan0 root handle 5: htb")
    netns.run("tc qdisc add dev lan0 clsact")
    assert [tuple(qdisc) for qdisc in netlink.qdiscs(ifindex)] == [
        ("htb", 0x50000, 0xFFFFFFFF, 0, 0),
        ("clsact", 0xFFFF0000, 0xFFFFFFF1, 0, 0),
    ]


@pytest.mark.parametrize("qdisc", ["clsact", "ingress"])
def test_a_shared_block_is_seen_and_takes_no_filter_of_one_interface(netns, netlink, program, qdisc):
    ifindex = netns.veth()
    netns.run(f"tc qdisc add dev lan0 ingress_block 22 {qdisc}")
    assert [netlink.shared_block(ifindex, direction) for direction in DIRECTIONS] == [22, 0]
    with pytest.raises(KernelRefused) as refused:
        netlink.replace_filter(ifindex, "ingress", *OURS, program(DROP).fd, "ours")
    assert refused.value.errno == errno.EOPNOTSUPP


def test_an_interface_without_a_qdisc_shares_no_block(netns, netlink):
    assert netlink.shared_block(netns.veth(), "ingress") == 0


# ---- our filter ---------------------------------------------------------------------------


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_an_attached_program_is_what_tc_shows(netns, netlink, lan, program, direction):
    ours = program(PASS)
    netlink.replace_filter(lan, direction, *OURS, ours.fd, "tproxy_splicer")
    [shown], [found] = filters_of_tc(netns, direction), netlink.filters(lan, direction)
    assert (shown["kind"], shown["pref"], shown["protocol"], shown["chain"]) == ("bpf", 7, "all", 0)
    options = shown["options"]
    assert (options["handle"], options["bpf_name"], options["direct-action"]) == ("0x1", "tproxy_splicer", True)
    assert (options["prog"]["id"], options["prog"]["tag"]) == (ours.id, ours.tag)
    assert found == ("bpf", 7, 1, 3, 0, "tproxy_splicer", ours.id, ours.tag, True)
    assert netlink.filters(lan, DIRECTIONS[direction == "ingress"]) == []


def test_attached_twice_it_is_one_filter(netns, netlink, lan, program):
    ours = program(PASS)
    for _time in range(2):
        netlink.replace_filter(lan, "ingress", *OURS, ours.fd, "tproxy_splicer")
    assert len(filters_of_tc(netns)) == len(netlink.filters(lan, "ingress")) == 1


def test_a_replacement_keeps_the_slot_and_changes_the_program(netns, netlink, lan, program):
    old, new = program(PASS), program(DROP)
    for one in (old, new):
        netlink.replace_filter(lan, "ingress", *OURS, one.fd, "tproxy_splicer")
        [found] = netlink.filters(lan, "ingress")
        assert (found.priority, found.handle, found.program_id, found.tag) == (*OURS, one.id, one.tag)
        assert [shown["options"]["prog"]["id"] for shown in filters_of_tc(netns)] == [one.id]
    assert old.id != new.id


def test_the_program_judges_packets(netns, netlink, lan, program):
    for verdict, delivered in ((PASS, 1), (DROP, 0), (PASS, 1)):
        netlink.replace_filter(lan, "ingress", *OURS, program(verdict).fd, "tproxy_splicer")
        assert arrivals() == delivered


def arrivals() -> int:
    """Send a frame out of the peer of lan0; return how many arrive at a packet socket behind the hook."""
    family, kind = socket.AF_PACKET, socket.SOCK_RAW
    with socket.socket(family, kind, 0) as sender, socket.socket(family, kind, 0) as receiver:
        # one ethertype: a socket for all of them would tap the frame before the hook
        receiver.bind(("lan0", EXPERIMENTAL))
        sender.bind(("lan0-peer", 0))
        sender.send(b"\xff" * 6 + b"\x02" * 6 + EXPERIMENTAL.to_bytes(2, "big") + bytes(46))
        receiver.settimeout(0.2)
        try:
            return len([receiver.recv(64)])
        except socket.timeout:
            return 0


def test_a_deleted_filter_is_gone_once(netns, netlink, lan, program):
    netlink.replace_filter(lan, "ingress", *OURS, program().fd, "tproxy_splicer")
    assert not netlink.delete_filter(lan, "ingress", 7, 2)
    assert not netlink.delete_filter(lan, "ingress", 8, 1)
    assert not netlink.delete_filter(lan, "egress", *OURS)
    assert len(filters_of_tc(netns)) == 1
    assert netlink.delete_filter(lan, "ingress", *OURS)
    assert filters_of_tc(netns) == netns.judge("tc filter show dev lan0 ingress") == []
    assert not netlink.delete_filter(lan, "ingress", *OURS)


def test_without_clsact_there_is_nothing_to_show_or_delete(netns, netlink, program):
    ifindex = netns.veth()
    assert netlink.filters(ifindex, "ingress") == []
    assert not netlink.delete_filter(ifindex, "ingress", *OURS)
    with pytest.raises(KernelRefused, match=r"attach filter at priority 7 of lan0 ingress \(.+\): EINVAL"):
        netlink.replace_filter(ifindex, "ingress", *OURS, program().fd, "tproxy_splicer")


def test_any_ifindex_and_any_name_will_do(netns, netlink, program):
    ifindex = netns.veth("fifteen-bytes-0", "peer", "index 70000")
    ours = program()
    assert (ifindex, netlink.add_clsact(ifindex)) == (70000, True)
    netlink.replace_filter(ifindex, "ingress", 65535, 0x7FFFFFFF, ours.fd, "a" * 255)
    [found] = netlink.filters(ifindex, "ingress")
    assert (found.priority, found.handle, found.name, found.program_id) == (65535, 0x7FFFFFFF, "a" * 255, ours.id)
    assert len(filters_of_tc(netns, "ingress", "fifteen-bytes-0")) == 1
    assert netlink.delete_filter(ifindex, "ingress", 65535, 0x7FFFFFFF)


# ---- foreign filters ------------------------------------------------------------------------


@pytest.fixture
def neighbours(netns, netlink, lan, program):
    """Put filters of others on the hook, at lower and higher priorities than ours, one in another chain."""
    netlink.replace_filter(lan, "ingress", 3, 1, program(NEXT).fd, "first")
    netlink.replace_filter(lan, "ingress", 7 + 2, 1, program(PASS).fd, "last")
    for rest in (
        "prio 4 protocol ip u32 match ip dst 10.0.0.0/8 flowid 1:1",
        "prio 4 protocol ip u32 match ip dst 11.0.0.0/8 flowid 1:1",
        "prio 5 protocol ipv6 u32 match ip6 dst fd00::/8 flowid 1:1",
        "chain 6 prio 1 protocol ip u32 match ip dst 12.0.0.0/8 flowid 1:1",
    ):
        netns.run(f"tc filter add dev lan0 ingress {rest}")
    netns.run_words("tc", "filter", "add", "dev", "lan0", "ingress", "prio", "6", "bpf", "bytecode", "1,6 0 0 0")
    return filters_of_tc(netns)


def test_filters_of_any_kind_are_those_of_tc(netns, netlink, lan, neighbours):
    assert slots(netlink.filters(lan, "ingress")) == told_slots(netns)
    assert len(neighbours) == 7
    [classic] = [one for one in netlink.filters(lan, "ingress") if one.priority == 6]
    assert (classic.program_id, classic.tag, classic.direct_action) == (None, None, False)


def test_neighbours_survive_all_that_we_do(netns, netlink, lan, neighbours, program):
    def others() -> list:
        return [one for one in filters_of_tc(netns) if one["pref"] != 7]

    for value in (PASS, DROP):
        netlink.replace_filter(lan, "ingress", *OURS, program(value).fd, "tproxy_splicer")
        assert others() == neighbours
    assert netlink.delete_filter(lan, "ingress", *OURS)
    assert filters_of_tc(netns) == neighbours
    assert not netlink.add_clsact(lan)
    assert filters_of_tc(netns) == neighbours


def test_another_kind_at_our_priority_is_neither_replaced_nor_deleted(netns, netlink, lan, neighbours, program):
    with pytest.raises(KernelRefused) as refusal:
        netlink.replace_filter(lan, "ingress", 4, 1, program().fd, "tproxy_splicer")
    assert (refusal.value.errno, refusal.value.operation) == (errno.EINVAL, "attach")
    # up to Linux 6.12: (Filter with specified priority/protocol not found)
    assert re.search(r"filter at priority 4 of lan0 ingress \(.*protocol", refusal.value.subject, re.IGNORECASE)
    assert not netlink.delete_filter(lan, "ingress", 4, 0x80000800)
    assert filters_of_tc(netns) == neighbours


def test_filters_of_a_shared_block_are_shown_and_kept(netns, netlink, program):
    ifindex = netns.veth()
    netns.run("tc qdisc add dev lan0 ingress_block 7 clsact")
    netns.run("tc filter add block 7 prio 6 protocol ip u32 match ip dst 10.0.0.0/8 flowid 1:1")
    assert slots(netlink.filters(ifindex, "ingress")) == told_slots(netns) == [("u32", 6, 0x0800, 0, 0x80000800)]
    with pytest.raises(KernelRefused, match="This filter block is shared"):
        netlink.replace_filter(ifindex, "ingress", *OURS, program().fd, "tproxy_splicer")


def test_many_filters_are_all_shown(netns, netlink, lan):
    rule = "filter add dev lan0 ingress prio {} protocol ip u32 match ip dst 10.0.0.0/8 flowid 1:1"
    netns.batch("tc", [rule.format(number) for number in range(1, 301)])
    assert slots(netlink.filters(lan, "ingress")) == told_slots(netns)
    assert len(told_slots(netns)) == 300


# ---- an interface that has vanished -----------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "subject"),
    [
        (lambda adapter, fd: adapter.addresses(VANISHED), "addresses of interface 4711"),
        (lambda adapter, fd: adapter.qdiscs(VANISHED), "queueing disciplines of interface 4711"),
        (lambda adapter, fd: adapter.add_clsact(VANISHED), "clsact of interface 4711"),
        (lambda adapter, fd: adapter.delete_clsact(VANISHED), "queueing disciplines of interface 4711"),
        (lambda adapter, fd: adapter.filters(VANISHED, "egress"), "filters of interface 4711 egress"),
        (lambda adapter, fd: adapter.delete_filter(VANISHED, "ingress", *OURS), "filters of interface 4711 ingress"),
        (
            lambda adapter, fd: adapter.replace_filter(VANISHED, "ingress", *OURS, fd, "tproxy_splicer"),
            "filter at priority 7 of interface 4711 ingress",
        ),
    ],
)
def test_an_interface_that_has_vanished_is_named(netns, netlink, program, ask, subject):
    netns.veth(options=f"index {VANISHED}")
    netlink.add_clsact(VANISHED)
    netns.run("ip link delete lan0")
    with pytest.raises(KernelRefused) as refusal:
        ask(netlink, program().fd)
    assert refusal.value.errno == errno.ENODEV
    assert refusal.value.subject == f"{subject} (interface 4711 has vanished)"
