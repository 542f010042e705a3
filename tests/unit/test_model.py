# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the reference model: one packet for each row and each rule of docs/SEMANTICS.md."""

from __future__ import annotations

from ipaddress import ip_address
from struct import pack

import pytest

from ansible_collections.netedge.tproxy.tests.fuzz import frames
from ansible_collections.netedge.tproxy.tests.fuzz.frames import TCP, UDP
from ansible_collections.netedge.tproxy.tests.fuzz.model.judge import Arrival, Router, Sockets
from ansible_collections.netedge.tproxy.tests.fuzz.model.policy import Host, Management, Policy, Prefix
from ansible_collections.netedge.tproxy.tests.fuzz.model.rules import Rules, rule_from_options

OWN = {4: "10.1.0.1", 6: "fd00:1::1"}
CLIENT = {4: "10.1.0.2", 6: "fd00:1::2"}
SERVICE = {4: "192.0.2.80", 6: "2001:db8::80"}
ELSEWHERE = {4: "198.51.100.1", 6: "2001:db8:ffff::1"}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
ADMIN = {4: "172.16.0.9", 6: "fd00:9::9"}


def number(text):
    return int(ip_address(text))


def rule(family, ports, **options):
    destination = {4: "192.0.2.0/24", 6: "2001:db8::/64"}[family]
    anywhere = {4: "0.0.0.0/0", 6: "::/0"}[family]
    proxy = {"tproxy_ip": LOOPBACK[family], "tproxy_port": 15001, "on_missing": "drop"}
    shared = {"protocol": "tcp", "interfaces": [], "owner": "ansible", "action": "tproxy", "source": anywhere}
    return rule_from_options({"destination": destination, "ports": ports, **shared, **proxy, **options})


def router(family, **policy):
    own, client, service = (number(where[family]) for where in (OWN, CLIENT, SERVICE))
    sockets = Sockets(
        listeners={(family, number(LOOPBACK[family]), 15001), (family, own, 9000)},
        sessions={(family, own, 9000, client, 40000), (family, service, 80, client, 40001)},
        bound={(family, own, 5060)},
        connected={(family, own, 53, client, 40002)},
    )
    rules = [
        rule(family, (80, 90)),
        rule(family, (85, 85), action="drop"),
        rule(family, (86, 86), action="pass"),
        rule(family, (87, 87), tproxy_port=1, on_missing="pass"),
        rule(family, (88, 88), tproxy_port=1),
        rule(family, (9001, 9001), destination={4: "10.1.0.0/24", 6: "fd00:1::/64"}[family]),
    ]
    management = (Management(Prefix.parse(f"{ADMIN[family]}/{32 if family == 4 else 128}"), "tcp", 443),)
    addresses = frozenset({(family, own)})
    told = Policy(management=management, **policy)
    return Router({"lan0": told}, Rules(rules), sockets, Host(addresses))


def judge(family, packet, vlan=None, **policy):
    kind = frames.TYPES[family]
    return router(family, **policy).judge(Arrival("lan0", frames.ethernet(packet, kind), kind, vlan))


def flow(family, destination, port, source=None, source_port=41000, protocol=TCP):
    payload = frames.transport(protocol, source_port, port)
    return frames.ip(family, number((source or CLIENT)[family]), number(destination[family]), protocol, payload)


FLOWS = {
    "management": ((OWN, 443, ADMIN), ("management", "pass", False)),
    "ssh": ((OWN, 22), ("ssh", "pass", False)),
    "ssh to others": ((ELSEWHERE, 22), ("default", "drop", False)),
    "a session": ((OWN, 9000, CLIENT, 40000), ("established", "pass", True)),
    "a session that was spliced": ((SERVICE, 80, CLIENT, 40001), ("established", "pass", True)),
    "a listener's port": ((OWN, 9000), ("default", "drop", False)),
    "a connected UDP socket": ((OWN, 53, CLIENT, 40002, UDP), ("established", "pass", True)),
    "drop": ((SERVICE, 85), ("rule", "drop", False)),
    "pass": ((SERVICE, 86), ("rule", "pass", False)),
    "local": ((OWN, 9001), ("local", "pass", False)),
    "tproxy": ((SERVICE, 80), ("spliced", "pass", True)),
    "tproxy, of another protocol": ((SERVICE, 80, CLIENT, 41000, UDP), ("default", "drop", False)),
    "nobody listens, pass": ((SERVICE, 87), ("no_listener", "pass", False)),
    "nobody listens": ((SERVICE, 88), ("no_listener", "drop", False)),
    "no rule": ((SERVICE, 91), ("default", "drop", False)),
}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("name", FLOWS)
def test_flows(family, name):
    arguments, expected = FLOWS[name]
    found = judge(family, flow(family, *arguments))
    assert (found.reason, found.verdict, found.marked) == expected


def error(family, quoted_source, quoted_source_port, quoted_port, destination, protocol=UDP):
    quote = flow(family, CLIENT, quoted_port, quoted_source, quoted_source_port, protocol)
    kind, number_of_icmp = (3, frames.ICMP) if family == 4 else (2, frames.ICMPV6)
    source, to = number(ELSEWHERE[family]), number(destination[family])
    return frames.ip(family, source, to, number_of_icmp, frames.icmp(kind, quote))


ERRORS = {
    "a session": ((OWN, 9000, 40000, OWN, TCP), ("icmp", "pass")),
    "an unconnected socket": ((OWN, 5060, 1234, OWN), ("icmp", "pass")),
    "an intercept": ((SERVICE, 80, 1234, SERVICE, TCP), ("icmp", "pass")),
    "a listener": ((OWN, 9000, 1234, OWN, TCP), ("icmp", "drop")),
    "a flow of nobody": ((OWN, 1, 2, OWN), ("icmp", "drop")),
    "a flow of somebody else": ((OWN, 9000, 40000, ELSEWHERE, TCP), ("other", "drop")),
}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("name", ERRORS)
def test_errors(family, name):
    arguments, expected = ERRORS[name]
    found = judge(family, error(family, *arguments))
    assert (found.reason, found.verdict) == expected
    assert found.marked == (name in ("a session", "an intercept"))


class Fragments:
    """A router that sees one fragment after another."""

    def __init__(self, family, destination, **policy):
        self._family, self._ends = family, (number(CLIENT[family]), number(destination[family]))
        self._router = router(family, **policy)

    def judge(self, payload, offset, protocol=TCP):
        """Return (reason, verdict, mark) of a fragment, and let it come in."""
        kind = frames.TYPES[self._family]
        packet = frames.fragment(self._family, *self._ends, protocol, payload, offset, True)
        seen = Arrival("lan0", frames.ethernet(packet, kind), kind)
        found = self._router.judge(seen)
        self._router.note_fragment(seen)
        return found.reason, found.verdict, found.marked


def first(port, source_port=41000):
    return frames.transport(TCP, source_port, port, 20) + bytes(4), 0


LATER = bytes(8), 24
DROPPED, PASSED, MARKED = (("fragment", verdict, marked) for verdict, marked in (("drop", 0), ("pass", 0), ("pass", 1)))


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("destination", "fragments", "results"),
    [
        (SERVICE, [first(80), LATER], [DROPPED, DROPPED]),
        (SERVICE, [first(85), LATER], [("rule", "drop", 0), DROPPED]),
        (SERVICE, [first(86), LATER], [("rule", "pass", 0), PASSED]),
        (SERVICE, [first(88), LATER], [("no_listener", "drop", 0), DROPPED]),
        (SERVICE, [first(80, 40001), LATER], [("established", "pass", 1), MARKED]),
        (SERVICE, [LATER, first(86)], [DROPPED, ("rule", "pass", 0)]),
        (SERVICE, [first(86), first(85), LATER], [("rule", "pass", 0), ("rule", "drop", 0), DROPPED]),
        (SERVICE, [first(85), first(86), LATER], [("rule", "drop", 0), ("rule", "pass", 0), DROPPED]),
        (SERVICE, [first(86), (first(85)[0][:16], 0)], [("rule", "pass", 0), DROPPED]),
        (ELSEWHERE, [LATER, (first(85)[0][:16], 0)], [PASSED, PASSED]),
    ],
)
def test_fragments(family, destination, fragments, results):
    seen = Fragments(family, destination, default_action="pass")
    assert [seen.judge(*fragment) for fragment in fragments] == results


@pytest.mark.parametrize("family", [4, 6])
def test_a_rule_covers_fragments_of_its_protocol(family):
    assert Fragments(family, SERVICE, default_action="pass").judge(*LATER, protocol=UDP) == PASSED


def with_extensions(count, kind=frames.HOP_BY_HOP, units=0, fragment=0):
    source, to = number(CLIENT[6]), number(SERVICE[6])
    extensions = [(kind, units, fragment)] * count
    return frames.ipv6(source, to, *frames.chain(extensions, TCP, frames.transport(TCP, 41000, 80)))


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (with_extensions(8), "spliced"),
        (with_extensions(9), "malformed"),
        (with_extensions(1, frames.FRAGMENT), "spliced"),
        (with_extensions(1, frames.AUTHENTICATION, 4), "other"),
        (with_extensions(1, units=247), "spliced"),
        (with_extensions(1, units=249), "malformed"),  # 14 + 40 + 2000 bytes
        (frames.with_length(with_extensions(1), 7), "malformed"),
        (frames.with_length(with_extensions(0), 19), "malformed"),
        (with_extensions(0)[:-1], "malformed"),
        (b"\x40" + with_extensions(0)[1:], "malformed"),
        (frames.ipv6(0xFFFF << 32, number(SERVICE[6]), TCP, frames.transport(TCP, 1, 80)), "malformed"),
    ],
)
def test_ipv6_headers(packet, reason):
    assert judge(6, packet).reason == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, "spliced"),
        ({"options": bytes(40)}, "spliced"),
        ({"first": 0x44}, "malformed"),
        ({"first": 0x65}, "malformed"),
        ({"length": 19}, "malformed"),
        ({"length": 39}, "malformed"),
        ({"length": 41}, "malformed"),
    ],
)
def test_ipv4_headers(change, reason):
    payload = frames.transport(TCP, 41000, 80)
    packet = frames.ipv4(number(CLIENT[4]), number(SERVICE[4]), TCP, payload, change.get("options", b""))
    packet = frames.with_length(packet, change["length"]) if "length" in change else packet
    packet = bytes((change.get("first", packet[0]),)) + packet[1:]
    assert judge(4, packet).reason == reason


def control(kind, source="fe80::1", hop_limit=64, message=None):
    payload = frames.icmp(kind) if message is None else message
    return frames.ipv6(number(source), number(OWN[6]), frames.ICMPV6, payload, hop_limit)


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (control(135, hop_limit=255), ("icmp", "pass")),
        (control(135, hop_limit=254), ("other", "drop")),
        (control(143, hop_limit=1), ("icmp", "pass")),
        (control(143, "::", 1), ("icmp", "pass")),
        (control(143, "fec0::1", 1), ("other", "drop")),
        (control(143, hop_limit=2), ("other", "drop")),
        (control(129), ("icmp", "pass")),
        (control(128), ("icmp", "drop")),
        (control(100), ("other", "drop")),
        (control(128, message=bytes((128,)) + bytes(6)), ("malformed", "drop")),
    ],
)
def test_control(packet, expected):
    found = judge(6, packet)
    assert (found.reason, found.verdict) == expected


def test_options_of_the_policy():
    echo = frames.ipv4(number(CLIENT[4]), number(OWN[4]), frames.ICMP, frames.icmp(8))
    assert judge(4, echo, allow_echo=True).returned == "ok"
    assert judge(4, echo, allow_echo=True, accept="unspec").returned == "unspec"
    assert judge(4, flow(4, SERVICE, 80), accept="unspec").returned == "ok"
    assert judge(4, flow(4, OWN, 22), allow_ssh=False).reason == "default"
    assert judge(4, flow(4, SERVICE, 85), loopback=True)[:3] == ("rule", "pass", "ok")
    assert router(4, layer3=True).judge(Arrival("lan0", flow(4, SERVICE, 80), frames.IPV4)).reason == "spliced"


def test_dhcp():
    for family, ports, source in ((4, (67, 68), CLIENT[4]), (6, (547, 546), "fe80::1"), (6, (547, 546), CLIENT[6])):
        packet = frames.ip(family, number(source), number(OWN[family]), UDP, pack(">HHHH", *ports, 8, 0))
        assert (judge(family, packet).reason == "dhcp") == (source != CLIENT[6])


def test_frames_that_are_not_ours_to_judge():
    arp = Arrival("lan0", frames.ethernet(bytes(28), frames.ARP), frames.ARP)
    assert router(4).judge(arp)[:2] == ("arp", "pass")
    assert judge(4, flow(4, SERVICE, 85), vlan=100)[:2] == ("vlan", "pass")
    assert judge(4, flow(4, SERVICE, 85), vlan=0xE000)[:2] == ("rule", "drop")
    assert router(4).judge(Arrival("lan0", bytes(60), 0x8847))[:2] == ("link", "pass")


def test_a_policy_that_was_removed():
    closed = Router({"lan0": None}, Rules([]), Sockets(), Host(frozenset({(4, number(OWN[4]))})))
    reasons = {
        port: closed.judge(Arrival("lan0", frames.ethernet(flow(4, OWN, port), frames.IPV4), frames.IPV4))[:2]
        for port in (22, 80)
    }
    assert reasons == {22: ("ssh", "pass"), 80: ("default", "drop")}
