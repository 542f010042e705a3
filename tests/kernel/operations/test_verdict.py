# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tproxy_verdict: the loaded program's own answer, on a router with real sockets and no packet on a wire."""

from __future__ import annotations

import socket

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import InvalidInput, Unsupported
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.verdict import Unexpected, ask_verdict
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.open_all import open_system
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, OWN, lay_wire, transparent

PROXY_PORT = 8443
WEB6 = {"destination": "2001:db8::/64", "protocol": "tcp", "ports": "443"}
RULES = (
    {"name": "web", "destination": "192.0.2.0/24", "protocol": "tcp", "ports": "443", "tproxy_port": PROXY_PORT},
    {"name": "names", "destination": "192.0.2.0/24", "protocol": "udp", "ports": "53", "tproxy_port": PROXY_PORT},
    {"name": "not here", "destination": "192.0.2.9", "protocol": "tcp", "ports": "0-65535", "action": "drop"},
    {"name": "free", "destination": "192.0.2.10", "protocol": "tcp", "ports": "443", "action": "pass"},
    {"name": "web6", **WEB6, "tproxy_port": PROXY_PORT},
    {"name": "tunnel", "destination": OWN, "source": CLIENT, "protocol": "gre", "action": "pass"},
    {"name": "no routes", "destination": "224.0.0.0/24", "protocol": 89, "action": "drop"},
    {"name": "guests", **WEB6, "source": "fd00:1::/64", "action": "drop"},
)


def flow(destination: str = "192.0.2.1", protocol: str = "tcp", port: str = "443", **given) -> dict:
    asked = {"interface": LAN, "source": CLIENT, "destination": destination, "protocol": protocol, "port": port}
    return {**asked, **given}


def ask(router, **given) -> dict:
    return ask_verdict(options("tproxy_verdict", pin_dir=router.pin_dir, **given), open_system(), False).as_dict()


@pytest.fixture
def ruled(router):
    router.attach()
    router.record()
    router.rules(*RULES)
    return router


@pytest.mark.parametrize(
    ("asked", "verdict", "reason", "rule"),
    [
        (flow(), "drop", "no_listener", "web"),
        (flow(port="80"), "drop", "default", None),
        (flow(protocol="udp"), "drop", "default", None),
        (flow(protocol="udp", port="53"), "drop", "no_listener", "names"),
        (flow("192.0.2.9"), "drop", "rule", "not here"),
        (flow("192.0.2.10"), "pass", "rule", "free"),
        (flow("192.0.2.10", port="80"), "drop", "default", None),
        (flow(OWN, port="22"), "pass", "ssh", None),
        (flow("192.0.2.1", port="22"), "drop", "default", None),
        (flow("255.255.255.255", "udp", "68", source_port="67"), "pass", "dhcp", None),
        (flow(OWN, "GRE", None), "pass", "rule", "tunnel"),
        (flow(OWN, "47", None, source="10.9.9.9"), "drop", "other", None),
        (flow("224.0.0.5", "ospf", None), "drop", "rule", "no routes"),
        (flow("224.0.0.18", "vrrp", None), "drop", "other", None),
        (flow("2001:db8::1", source="fd00:2::2"), "drop", "no_listener", "web6"),
        (flow("2001:db8::1", source="fd00:1::2"), "drop", "rule", "guests"),
        (flow("2001:db8::1", source="fd00:2::2", port="80"), "drop", "default", None),
    ],
)
def test_the_answer_names_verdict_reason_and_rule(ruled, asked, verdict, reason, rule):
    answer = ask(ruled, **asked)
    assert (answer["verdict"], answer["reason"]) == (verdict, reason)
    assert (answer["rule"] and answer["rule"]["name"]) == rule
    assert answer["changed"] is False


@pytest.mark.parametrize(
    ("kind", "protocol", "port"), [(socket.SOCK_STREAM, "tcp", "443"), (socket.SOCK_DGRAM, "udp", "53")]
)
def test_a_listener_makes_it_spliced(ruled, kind, protocol, port):
    with transparent(kind, PROXY_PORT):
        assert ask(ruled, **flow(protocol=protocol, port=port))["reason"] == "spliced"


def test_a_list_is_answered_in_order(ruled):
    answers = ask(ruled, flows=[flow(), flow("192.0.2.9"), flow("192.0.2.10")])["flows"]
    assert [answer["reason"] for answer in answers] == ["no_listener", "rule", "rule"]


@pytest.mark.parametrize("expected", ["drop", "no_listener", {"verdict": "drop", "rule": "web"}])
def test_what_was_expected_is_no_failure(ruled, expected):
    ask(ruled, **flow(expect=expected))


def test_all_that_was_not_expected_is_reported_together(ruled):
    with pytest.raises(Unexpected) as refusal:
        ask(ruled, flows=[flow(expect="spliced"), flow(expect="drop"), flow("192.0.2.9", expect={"rule": "web"})])
    assert "192.0.2.1:443 on lan0: expected spliced, the program says drop, no_listener" in str(refusal.value)
    assert "'rule': 'web'" in str(refusal.value)
    assert len(refusal.value.details["flows"]) == 3


def test_all_faults_are_named_together(ruled):
    with pytest.raises(InvalidInput) as refusal:
        ask(ruled, flows=[flow(protocol="icmp", port="70000"), flow("nowhere"), flow(source="fd00::1")])
    assert [fault.partition(":")[0] for fault in refusal.value.faults] == [
        "flows[0].protocol",
        "flows[0].port",
        "flows[1].destination",
        "flows[2].source",
    ]


def test_a_protocol_without_ports_takes_none(ruled):
    with pytest.raises(InvalidInput) as refusal:
        ask(ruled, **flow(protocol="sctp", source_port="1"))
    assert refusal.value.faults == [
        "source_port: sctp has no ports; leave it out",
        "port: sctp has no ports; leave it out",
    ]
    answer = ask(ruled, **flow(OWN, "47", None))["flows"][0]
    assert (answer["protocol"], answer["source_port"], answer["port"]) == ("gre", None, None)


def test_an_interface_without_the_splicer_cannot_be_asked(ruled):
    with pytest.raises(Unsupported, match="not attached to lo"):
        ask(ruled, **flow(interface="lo"))


def test_an_unknown_interface_is_named_beside_those_that_exist(ruled):
    with pytest.raises(InvalidInput, match="no 'lan9' on this machine; it has lan0, lo"):
        ask(ruled, **flow(interface="lan9"))


def test_a_rule_for_an_interface_that_is_not_there_is_kept_and_holds_once_it_is(ruled, netns):
    """The same rules applied again find the interfaces of today, one that was made anew with another index too.

    For attachments, which do the same, see test_later.
    """
    late = {"name": "late", "destination": "192.0.2.1", "protocol": "tcp", "ports": "443", "interfaces": ["late0"]}
    rules = *RULES, {**late, "action": "pass"}
    assert ruled.rules(*rules)["added"] == 1
    assert not ruled.rules(*rules, check=True)["changed"]
    for _time in (1, 2):
        netns.veth("late0", "late0-peer")
        assert ruled.rules(*rules)["changed"]
        ruled.attach("late0")
        assert ask(ruled, **flow(interface="late0"))["rule"]["name"] == "late"
        assert ask(ruled, **flow())["rule"]["name"] == "web"
        assert not ruled.rules(*rules)["changed"]
        netns.run("ip link delete late0")


def test_the_rule_of_the_flow_on_another_interface_is_named(ruled):
    wide = {"destination": "0.0.0.0/0", "protocol": "tcp", "ports": "444", "action": "pass", "interfaces": ["wan8"]}
    there = {**wide, "name": "there", "destination": "192.0.2.0/24", "ports": "440-450", "interfaces": ["wan9"]}
    ruled.rules(*RULES, there, wide, {**there, "destination": "192.0.2.1", "protocol": "udp"})
    answer = ask(ruled, **flow(port="444"))
    assert (answer["reason"], answer["rule"]) == ("default", None)
    assert answer["rule_elsewhere"]["name"] == "there"
    assert ask(ruled, **flow())["rule_elsewhere"] is None  # a rule matches here
    assert ask(ruled, **flow(port="451"))["rule_elsewhere"] is None


# ---- the reply to a forwarded flow ----------------------------------------------------------------


@pytest.fixture
def forwarding(ruled):
    """Return the router with an interface to 192.0.2.0/24 that drops by default."""
    other = lay_wire(ruled.netns, "wan0", "10.9.0.1", "10.9.0.2")
    ruled.netns.run("ip route add 192.0.2.0/24 via 10.9.0.2")
    yield ruled
    other.close()


def reply(router, *given: str) -> tuple:
    found = ask(router, **flow("192.0.2.10", **dict(zip(("protocol", "port"), given))))["reply"]
    return tuple(found.values()) if found else ()


def test_the_reply_is_judged_by_the_interface_of_the_route(forwarding):
    assert reply(forwarding) == ("wan0", "pass", "")
    for policy, verdict, reason in (
        ({"default_action": "drop"}, "drop", "default"),
        ({"default_action": "audit"}, "would_drop", "default"),
        ({"default_action": "pass"}, "pass", "default"),
        ({"default_action": "drop", "track": "all"}, "pass", "session"),
    ):
        forwarding.attach("wan0", policy=policy)
        assert reply(forwarding) == ("wan0", verdict, reason)
    closing = {"destination": CLIENT, "protocol": "tcp", "ports": "0-65535", "action": "drop", "interfaces": ["wan0"]}
    forwarding.rules(closing, owner="other")
    assert reply(forwarding) == ("wan0", "drop", "rule")


def test_a_flow_that_is_not_forwarded_has_no_reply_to_judge(forwarding):
    assert reply(forwarding, "tcp", "80") == ()
    assert ask(forwarding, **flow(OWN, port="22"))["reply"] is None
    assert ask(forwarding, **flow())["reply"] is None
    forwarding.netns.run("ip route delete 192.0.2.0/24")
    assert reply(forwarding) == ()
