# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rtnetlink adapter: policy rules and the local default route, compared with ip and the route lookup."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import Conflict, KernelRefused
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink import messages
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.client import Netlink
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.messages import RouteRule

TABLE = 1000  # beyond the eight bits of a message header
MARK = 0x10000000
OPTION = {socket.AF_INET: "-4", socket.AF_INET6: "-6"}
EVERYWHERE = {socket.AF_INET: "203.0.113.5", socket.AF_INET6: "2001:db8::5"}
NOBODY = 65534
TABLES = {"local": 255, "main": 254, "default": 253}
ACTIONS = {"": 1, "blackhole": 6}
PROTOCOLS = {"unspec": 0, "kernel": 2, "static": 4}

both_families = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])


@pytest.fixture
def netlink(netns):
    netns.veth()
    with Netlink() as opened:
        yield opened


def rule(family: int, **other) -> RouteRule:
    return RouteRule(family, 100, "lan0", MARK, MARK, TABLE)._replace(**other)


def told_rules(netns, family: int) -> list:
    """Return the rules of `ip -d rule` that have only the fields of a RouteRule."""
    return [
        RouteRule(
            family,
            shown["priority"],
            shown.get("iif", ""),
            int(shown.get("fwmark", "0"), 16),
            int(shown.get("fwmask", "0xffffffff" if "fwmark" in shown else "0"), 16),
            table_number(shown.get("table", "0")),
            PROTOCOLS[shown["protocol"]],
            ACTIONS[shown.get("action", "")],
        )
        for shown in netns.judge(f"ip {OPTION[family]} -d rule show")
    ]


def table_number(name: str) -> int:
    return TABLES.get(name) or int(name)


# ---- rules ----------------------------------------------------------------------------------


@both_families
def test_rules_are_those_of_ip_rule(netns, netlink, family):
    for rest in (
        f"priority 100 iif lan0 fwmark {MARK}/{MARK} lookup {TABLE} protocol kernel",
        "priority 200 fwmark 3 lookup 5 protocol static",
        "priority 300 iif gone0 lookup 300",
        "priority 400 blackhole",
    ):
        netns.run(f"ip {OPTION[family]} rule add {rest}")
    assert netlink.rules(family) == told_rules(netns, family)
    assert rule(family) in netlink.rules(family)
    assert netlink.rules(family)[0].table == 255


@both_families
def test_a_rule_is_added_once_and_deleted_once(netns, netlink, family):
    before = netns.run(f"ip {OPTION[family]} rule show")
    assert [netlink.add_rule(rule(family)), netlink.add_rule(rule(family))] == [True, False]
    assert netlink.rules(family) == told_rules(netns, family)
    [shown] = [one for one in netns.judge(f"ip {OPTION[family]} -d rule show") if one["priority"] == 100]
    assert (shown["iif"], shown["fwmark"], shown["fwmask"]) == ("lan0", "0x10000000", "0x10000000")
    assert (shown["table"], shown["protocol"]) == ("1000", "kernel")
    assert [netlink.delete_rule(rule(family)), netlink.delete_rule(rule(family))] == [True, False]
    assert netns.run(f"ip {OPTION[family]} rule show") == before


def test_families_do_not_mix(netlink):
    netlink.add_rule(rule(socket.AF_INET))
    assert rule(socket.AF_INET6) not in netlink.rules(socket.AF_INET6)
    assert not netlink.delete_rule(rule(socket.AF_INET6))
    assert rule(socket.AF_INET) in netlink.rules(socket.AF_INET)


@pytest.mark.parametrize("change", [{"iif": "lan0-peer"}, {"mark": 1, "mask": 1}, {"table": 1001}, {"priority": 101}])
def test_a_rule_that_differs_is_another_rule(netlink, change):
    ours, other = rule(socket.AF_INET), rule(socket.AF_INET, **change)
    assert netlink.add_rule(ours)
    assert not netlink.delete_rule(other)
    assert netlink.add_rule(other)
    assert netlink.delete_rule(ours)
    assert ours not in netlink.rules(socket.AF_INET)
    assert other in netlink.rules(socket.AF_INET)


@both_families
@pytest.mark.parametrize(
    "selector", ["from {}", "to {}", "not iif lan0", "oif lan0", "ipproto tcp", "dport 53", "uidrange 0-0"]
)
def test_a_rule_with_more_selectors_is_not_plain(netns, netlink, family, selector):
    selectors = selector.format(EVERYWHERE[family])
    interface = "" if "iif" in selectors else "iif lan0"
    rest = f"priority 100 fwmark {MARK}/{MARK} lookup {TABLE} protocol kernel"
    netns.run(f"ip {OPTION[family]} rule add {selectors} {interface} {rest}")
    [found] = [one for one in netlink.rules(family) if one.priority == 100]
    assert found == rule(family, plain=False)
    assert not netlink.delete_rule(rule(family))
    assert found in netlink.rules(family)


@pytest.mark.parametrize("selector", ["from 203.0.113.5", "not", "tos 0x10"])
def test_a_rule_is_not_taken_for_ours_when_adding(netns, netlink, selector):
    """The kernel compares only the fields of the request, and answers EEXIST."""
    netns.run(f"ip rule add {selector} iif lan0 priority 100 fwmark {MARK}/{MARK} lookup {TABLE} protocol kernel")
    with pytest.raises(Conflict, match=r"policy rule at priority 100 \(iif lan0, table 1000\)"):
        netlink.add_rule(rule(socket.AF_INET))
    assert netlink.add_rule(rule(socket.AF_INET, priority=101))


@pytest.mark.parametrize("selector", ["ipproto tcp", "dport 53", "uidrange 0-0", "oif lan0"])
def test_a_rule_is_not_taken_for_ours_when_deleting(netns, netlink, selector):
    """The kernel deletes the first rule with the fields of the request, even if that rule has more of them."""
    netns.run(f"ip rule add {selector} iif lan0 priority 100 fwmark {MARK}/{MARK} lookup {TABLE} protocol kernel")
    assert netlink.add_rule(rule(socket.AF_INET))
    with pytest.raises(Conflict, match="another rule has the same fields and further selectors"):
        netlink.delete_rule(rule(socket.AF_INET))
    assert len([one for one in netlink.rules(socket.AF_INET) if one.priority == 100]) == 2


def test_a_rule_may_name_an_interface_that_is_not_there_yet(netns, netlink):
    early = rule(socket.AF_INET, iif="fifteen-bytes-0")
    assert netlink.add_rule(early)
    netns.veth("fifteen-bytes-0", "peer1")
    assert early in netlink.rules(socket.AF_INET)


def test_many_rules_are_all_shown(netns, netlink):
    netns.batch(
        "ip", [f"rule add priority {1000 + number} fwmark {number}/0xffff lookup {TABLE}" for number in range(300)]
    )
    assert netlink.rules(socket.AF_INET) == told_rules(netns, socket.AF_INET)
    assert len(netlink.rules(socket.AF_INET)) == 303


# ---- routes -----------------------------------------------------------------------------------


@both_families
def test_a_table_that_nobody_made_is_empty(netlink, family):
    assert netlink.routes(TABLE, family) == []
    assert not netlink.local_default(TABLE, family)
    assert not netlink.delete_local_default(TABLE, family)


@both_families
@pytest.mark.parametrize("table", [100, TABLE])
def test_the_local_default_is_added_once_and_deleted_once(netns, netlink, family, table):
    assert [netlink.add_local_default(table, family), netlink.add_local_default(table, family)] == [True, False]
    assert netlink.local_default(table, family)
    [shown] = netns.judge(f"ip {OPTION[family]} route show table {table}")
    assert (shown["type"], shown["dst"], shown["dev"], shown["protocol"]) == ("local", "default", "lo", "kernel")
    assert [netlink.delete_local_default(table, family), netlink.delete_local_default(table, family)] == [True, False]
    assert netlink.routes(table, family) == []


@both_families
def test_a_local_default_that_others_made_is_seen_and_deleted(netns, netlink, family):
    netns.run(f"ip {OPTION[family]} route add local default dev lo table {TABLE} proto static")
    assert netlink.local_default(TABLE, family)
    assert netlink.delete_local_default(TABLE, family)


def test_another_default_route_is_not_taken_for_ours(netns, netlink):
    netns.run(f"ip route add blackhole default table {TABLE}")
    with pytest.raises(Conflict, match="table 1000 has another default route"):
        netlink.add_local_default(TABLE, socket.AF_INET)
    assert not netlink.delete_local_default(TABLE, socket.AF_INET)
    assert len(netlink.routes(TABLE, socket.AF_INET)) == 1


@both_families
def test_whatever_else_a_table_holds_is_shown_and_stays(netns, netlink, family):
    where = ipaddress.ip_network(EVERYWHERE[family]).supernet(8)
    netns.run(f"ip {OPTION[family]} route add {where} dev lan0 table {TABLE} proto static")
    netns.run(f"ip {OPTION[family]} route add blackhole default table {TABLE} metric 5000")
    assert not netlink.local_default(TABLE, family)
    netlink.add_local_default(TABLE, family)
    assert len(netlink.routes(TABLE, family)) == 3
    [found] = [one for one in netlink.routes(TABLE, family) if one.prefix_length]
    mapped = bytes(10) + b"\xff\xff" if where.version == 4 else b""
    assert (found.destination, found.prefix_length) == (mapped + where.network_address.packed, where.prefixlen)
    assert (found.oif, found.protocol, found.type) == (netlink.link("lan0").ifindex, 4, 1)
    assert netlink.delete_local_default(TABLE, family)
    assert len(netlink.routes(TABLE, family)) == 2


@both_families
def test_rule_and_route_deliver_marked_packets_to_this_host(netns, netlink, family):
    def route_of(mark: str) -> str:
        command = f"ip {OPTION[family]} route get {EVERYWHERE[family]} from {source} iif lan0 {mark}"
        return netns.judge(command)[0].get("type") if netns.can(command) else "unreachable"

    source = "10.1.0.2" if family == socket.AF_INET else "fd00::2"
    netns.run("ip address add 10.1.0.1/24 dev lan0")
    netns.address("fd00::1/64", "lan0")
    netlink.add_rule(rule(family))
    netlink.add_local_default(TABLE, family)
    assert route_of(f"mark {MARK}") == "local"
    assert route_of("") != "local"
    netlink.delete_rule(rule(family))
    assert route_of(f"mark {MARK}") != "local"


def test_a_full_table_beside_ours_is_not_read(netns, netlink, monkeypatch):
    netns.batch("ip", [f"route add 198.18.{number // 256}.{number % 256}/32 dev lan0" for number in range(500)])
    netlink.add_local_default(TABLE, socket.AF_INET)
    read, read_route = [], messages.read_route
    monkeypatch.setattr(messages, "read_route", lambda message: read.append(message) or read_route(message))
    assert netlink.local_default(TABLE, socket.AF_INET)
    assert len(read) == 1
    assert len(netlink.routes(254, socket.AF_INET)) == 500


@both_families
def test_a_refusal_names_rule_or_table(netlink, family):
    os.seteuid(NOBODY)
    try:
        with pytest.raises(KernelRefused, match=f"add local default of table {TABLE}: EPERM"):
            netlink.add_local_default(TABLE, family)
        with pytest.raises(
            KernelRefused, match=r"add policy rule 100: iif lan0 fwmark \S+ lookup 1000: EPERM"
        ) as refusal:
            netlink.add_rule(rule(family))
    finally:
        os.seteuid(0)
    assert refusal.value.errno == errno.EPERM


# ---- routes ---------------------------------------------------------------------------------------


@both_families
def test_the_way_back_to_a_client_is_the_one_that_the_kernel_takes(netlink, netns, family):
    own, client, far = {
        socket.AF_INET: ("10.1.0.1", "10.1.0.2", "203.0.113.5"),
        socket.AF_INET6: ("fd00::1", "fd00::2", "2001:db8::5"),
    }[family]
    netns.address(f"{own}/{24 if family == socket.AF_INET else 64}", "lan0")
    assert netlink.route_to(far, own) is None
    netns.run(f"ip {OPTION[family]} route add default via {client}")
    shown = netns.judge(f"ip {OPTION[family]} route get {far} from {own}")[0]
    found = netlink.route_to(far, own)
    assert (shown["dev"], found.oif) == ("lan0", netns.judge("ip link show dev lan0")[0]["ifindex"])
