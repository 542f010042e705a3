# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each finding from plain facts: the conditions that cause it, and similar ones that must not."""

from __future__ import annotations

import pathlib
import re

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.checks import findings as findings_module
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.checks import routers as routers_module
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.checks.drift import DRIFT
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.checks.facts import (
    Daemons,
    Delivery,
    DriftFact,
    Facts,
    Interface,
    Listener,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.checks.findings import (
    findings,
    kernel_version,
    objections,
    warnings_of,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.policy import Mark
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import Prefix, parse_address
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule_options import rules_from_params
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.in_force import Waiting
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.messages import RouteRule

INET = 2
ROOT = pathlib.Path(__file__).resolve().parents[6]
MARK = Mark()
OURS = RouteRule(INET, 1080, "lan0", MARK.value, MARK.mask, 1080)
LAN = Interface("lan0", delivery=Delivery())
LISTENER = Listener("tcp 127.0.0.1:8443", ("web",), True, True, False)


def codes(release: str = "6.12.0", **facts) -> list:
    return [(found["severity"], found["code"], found["interface"]) for found in findings(Facts(release, **facts))]


def number(text: str) -> int:
    return int.from_bytes(parse_address(text), "big")


def network(text: str) -> Prefix:
    return Prefix.parse(text)[0]


def intercept(destination: str, **given):
    item = {"destination": destination, "protocol": "tcp", "ports": "443", "tproxy_port": "8443", **given}
    return tuple(rules_from_params([item])[0])


def routed(*rules: RouteRule, mark: Mark = MARK, **facts) -> list:
    """Return the codes for lan0 with these policy rules. All of them lead to a local table."""
    local = frozenset((rule.table, rule.family) for rule in rules)
    delivery = Delivery(mark, facts.pop("rp_filter", 0), facts.pop("src_valid_mark", 0))
    looked_at = (Interface("lan0", delivery=delivery),)
    return [code for _s, code, _i in codes(interfaces=looked_at, policy_rules=rules, local_tables=local, **facts)]


def test_a_machine_without_a_fault_has_no_findings():
    assert codes(interfaces=(LAN,), policy_rules=(OURS,), listeners=(LISTENER,)) == []


# ---- the machine ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("release", "found"),
    [
        ("5.4.0-42-generic", [("error", "kernel_too_old", None)]),
        ("5.10.0-30-cloud-amd64", [("note", "kernel_without_reuseport", None)]),
        ("6.5", [("note", "kernel_without_reuseport", None)]),
        ("6.6.0-rc1+", []),
        ("7.3.4", []),
    ],
)
def test_findings_of_the_kernel_release(release, found):
    assert codes(release) == found


@pytest.mark.parametrize(("release", "version"), [("6.12.117+deb13", (6, 12)), ("5.10", (5, 10)), ("6.6rc2", (6, 6))])
def test_kernel_version_reads_a_release(release, version):
    assert kernel_version(release) == version


def test_a_missing_capability_is_an_error():
    assert codes(missing_capabilities=("CAP_NET_ADMIN",)) == [("error", "missing_capability", None)]


def test_a_bpffs_that_is_not_mounted_is_a_note():
    assert codes(mounted=False, pin_dir="/sys/fs/bpf/x") == [("note", "bpffs_not_mounted", None)]


@pytest.mark.parametrize("code", DRIFT)
def test_each_drift_code_is_a_finding(code):
    found = findings(Facts("6.12", drift=(DriftFact("lan0", code, "a filter"),)))
    assert [(each["code"], each["severity"], each["interface"]) for each in found] == [
        (code, DRIFT[code].severity, "lan0")
    ]
    assert "{" not in found[0]["found"] + found[0]["remedy"]


# ---- the interface -----------------------------------------------------------------------------------

ETHERNET, INFINIBAND, LOOPBACK, IPGRE, NONE = 1, 32, 772, 778, 0xFFFE


@pytest.mark.parametrize(
    ("hardware", "release", "found"),
    [
        (ETHERNET, "5.10.0", []),
        (LOOPBACK, "5.10.0", []),
        (NONE, "5.10.0", []),
        (INFINIBAND, "6.12.0", [("error", "link_header_unknown", "lan0")]),
        (IPGRE, "5.13.9", [("error", "tunnel_header", "lan0")]),
        (IPGRE, "5.14.0", []),
    ],
)
def test_a_link_header_that_the_program_cannot_read_is_an_error(hardware, release, found):
    layer3 = hardware in (IPGRE, NONE)
    found_codes = codes(release, interfaces=(Interface("lan0", hardware=hardware, layer3=layer3),))
    assert [each for each in found_codes if each[1] != "kernel_without_reuseport"] == found


def test_a_port_of_another_interface_is_a_warning():
    assert codes(interfaces=(Interface("lan0", is_port=True),)) == [("warning", "port", "lan0")]


def test_a_vrf_is_unsupported():
    assert codes(interfaces=(Interface("lan0", vrf=True),)) == [("error", "vrf", "lan0")]


# ---- the hook and the delivery to the local stack ----------------------------------------------------


def test_a_packet_socket_for_ipv4_is_a_warning():
    assert codes(interfaces=(Interface("lan0", packet_sockets=1),)) == [("warning", "packet_socket", "lan0")]


@pytest.mark.parametrize(("value", "found"), [(None, []), (0, []), (1, ["rp_filter_strict"]), (2, [])])
def test_a_strict_rp_filter_is_a_warning(value, found):
    assert routed(OURS, rp_filter=value) == found


@pytest.mark.parametrize(
    ("rule", "valid_mark", "found"),
    [
        (OURS, 1, []),
        (OURS._replace(iif=""), 1, ["src_valid_mark", "mark_shared"]),
        (OURS._replace(iif="lo"), 1, ["src_valid_mark"]),
        (OURS._replace(iif="lan1"), 1, []),
        (OURS._replace(iif=""), 0, ["mark_shared"]),
        (OURS._replace(iif="", mark=1, mask=1), 1, []),
        (OURS._replace(iif="", plain=False), 1, ["mark_shared"]),
    ],
)
def test_src_valid_mark_is_a_warning_if_the_reverse_lookup_matches_a_mark_route(rule, valid_mark, found):
    assert routed(rule, src_valid_mark=valid_mark) == found


def test_src_valid_mark_is_harmless_if_the_table_delivers_nothing():
    delivery = Delivery(MARK, 0, 1)
    found = codes(interfaces=(Interface("lan0", delivery=delivery),), policy_rules=(OURS._replace(iif=""),))
    assert found == [("warning", "mark_shared", None)]


@pytest.mark.parametrize(
    ("iif", "mark", "mask", "meets"),
    [
        ("", 0x10000000, 0x10000000, True),
        ("", 0x10000000, 0xFFFFFFFF, True),
        ("", 0xF0000000, 0xF0000000, True),
        ("lan0", 0x30000000, 0x30000000, True),
        ("lan9", 0x10000000, 0x10000000, False),
        ("", 0xCA6C, 0xFFFFFFFF, False),
        ("", 0x80000, 0xFF0000, False),
        ("", 0, 0x10000000, False),
        ("", 0, 0, False),
    ],
)
def test_a_foreign_mark_is_a_warning_if_it_overlaps_ours(iif, mark, mask, meets):
    theirs = RouteRule(INET, 5, iif, mark, mask, 100, protocol=3)
    assert ("mark_shared" in routed(OURS, theirs)) == meets


@pytest.mark.parametrize(
    ("protocol", "prunes", "found"), [(2, True, False), (3, True, True), (3, False, False), (16, True, True)]
)
def test_networkd_is_a_warning_if_it_deletes_a_mark_route(protocol, prunes, found):
    rules = (OURS._replace(protocol=protocol),)
    assert ("networkd_prunes" in routed(*rules, networkd_prunes=prunes)) == found


# ---- rules -------------------------------------------------------------------------------------------


HOME = Interface(
    "lan0",
    networks=(network("10.1.0.0/24"), network("fd00:1::/64"), network("10.9.9.9")),
    addresses=(number("10.1.0.1"), number("fd00:1::1"), number("10.9.9.9")),
)
EXPOSED = HOME._replace(exposed=HOME.addresses)
OWN = [
    ("10.1.0.0/24", "the subnet 10.1.0.0/24", "10.1.0.1"),
    ("10.1.0.1", "an own address", "10.1.0.1"),
    ("10.1.0.0/30", "an own address", "10.1.0.1"),
    ("10.9.9.9", "an own address", "10.9.9.9"),
    ("fd00:1::/64", "the subnet fd00:1::/64", "fd00:1::1"),
    ("fd00:1::1", "an own address", "fd00:1::1"),
]


def overlaps(interface: Interface, destination: str) -> list:
    """Return (severity, code, found) of each finding for a rule that intercepts a destination on an interface."""
    (rule,) = intercept(destination)
    found = findings(Facts("6.12", interfaces=(interface,), intercepts=(rule,)))
    assert {each["interface"] for each in found} <= {interface.name}
    return [(each["severity"], each["code"], each["found"].removeprefix(f"{rule.identity} ")) for each in found]


@pytest.mark.parametrize(("destination", "covered", "taken"), OWN)
def test_an_intercept_is_an_error_if_it_takes_packets_to_this_host(destination, covered, taken):
    found = f"would give packets to the own address {taken} of lan0 to the proxy"
    covers = [("warning", "covers_own", f"covers {covered} of lan0")]
    assert overlaps(EXPOSED, destination) == ([("error", "intercepts_own", found)] if destination == taken else covers)
    assert overlaps(HOME, destination) == covers


@pytest.mark.parametrize("interface", [HOME, EXPOSED], ids=["unfiltered", "exposed"])
@pytest.mark.parametrize(
    "destination", ["10.1.0.254", "10.1.0.7", "10.1.0.128/25", "10.2.0.0/16", "fd00:2::/64", "0.0.0.0/0", "::/0"]
)
def test_rules_for_neighbours_the_gateway_and_all_destinations_are_no_fault(destination, interface):
    assert overlaps(interface, destination) == []


@pytest.mark.parametrize("destination", ["10.0.0.0/8", "10.9.9.0/24", "fd00::/16"])
@pytest.mark.parametrize("interface", [HOME, EXPOSED], ids=["unfiltered", "exposed"])
def test_an_intercept_wider_than_the_subnet_is_a_warning(destination, interface):
    assert [each[:2] for each in overlaps(interface, destination)] == [("warning", "covers_own")]


def test_rules_that_cover_own_ranges_are_one_finding():
    rules = [rule for number in range(7) for rule in intercept(f"10.{number}.0.0/12", ports=f"{number + 1}")]
    other = HOME._replace(name="lan1", networks=(network("192.0.2.0/24"),), addresses=(number("192.0.2.1"),))
    (found,) = findings(Facts("6.12", interfaces=(HOME, other), intercepts=tuple(rules)))
    assert (found["code"], found["interface"]) == ("covers_own", "lan0")
    assert found["found"].startswith(f"7 overlaps with own subnets: {rules[0].identity} covers the subnet 10.1.0.0/24")
    assert found["found"].endswith("of lan0 and 2 more")
    assert found["found"].count(" covers ") == 5
    (both,) = findings(Facts("6.12", interfaces=(HOME, other), intercepts=(rules[0], *intercept("192.0.0.0/8"))))
    assert (both["interface"], both["found"].count(" covers ")) == (None, 2)


@pytest.mark.parametrize(("names", "found"), [(["lan0"], 1), (["lan1"], 0), (["lan1", "lan0"], 1)])
def test_a_rule_is_checked_on_its_interfaces_only(names, found):
    facts = Facts("6.12", interfaces=(EXPOSED,), intercepts=intercept("10.1.0.1", interfaces=names))
    assert len(objections(findings(facts))) == found


@pytest.mark.parametrize(
    ("state", "release", "found"),
    [
        ({"there": None, "transparent": None}, "6.12", []),
        ({"there": False}, "6.12", [("note", "listener_missing")]),
        ({"there": False, "routers": 1, "lost": 1}, "6.12", [("warning", "left_behind")]),
        ({"there": True, "routers": 2, "lost": 1}, "6.12", [("warning", "left_behind")]),
        (
            {"there": False, "routers": 1, "lost": 1, "rules": ("a", "b")},
            "6.12",
            [("warning", "left_behind"), ("note", "listener_missing")],
        ),
        ({"there": True, "routers": 1}, "6.12", []),
        ({"there": None, "routers": 1}, "6.12", []),
        ({"transparent": False}, "6.12", [("warning", "listener_not_transparent")]),
        ({"transparent": None}, "6.12", []),
        ({"shared": True}, "6.12", []),
        ({"shared": True}, "6.1", [("warning", "listener_reuseport")]),
        ({"shared": None}, "6.1", []),
        ({"strangers": ((0, 13),)}, "6.12", [("warning", "listener_of_another_user")]),
    ],
)
def test_findings_of_a_listener(state, release, found):
    facts = Facts(release, listeners=(LISTENER._replace(**state),))
    codes_found = [(each["severity"], each["code"]) for each in findings(facts)]
    assert [each for each in codes_found if each[1] != "kernel_without_reuseport"] == found


def test_many_listeners_make_one_finding():
    found = findings(Facts("6.12", listeners=(LISTENER._replace(there=False),) * 1000))
    assert len(found) == 1
    assert found[0]["found"].endswith(" and 995 more")
    assert len(found[0]["found"]) < 300


# ---- order and documentation ----------------------------------------------------------------------------


def test_errors_come_first_and_notes_are_no_warnings():
    listeners = (LISTENER._replace(there=False), LISTENER._replace(transparent=False))
    found = findings(Facts("6.12", missing_capabilities=("CAP_NET_ADMIN",), listeners=listeners))
    assert [each["severity"] for each in found] == ["error", "warning", "note"]
    assert [each["code"] for each in objections(found)] == ["missing_capability"]
    assert [line[line.rindex("[") :] for line in warnings_of(found)] == [
        "[missing_capability]",
        "[listener_not_transparent]",
    ]


def test_the_documentation_lists_every_code_once_with_its_severity():
    modules = (findings_module, routers_module)
    source = "".join(pathlib.Path(module.__file__).read_text(encoding="utf-8") for module in modules)
    known = {code: severity for severity, code in re.findall(r'finding\("(\w+)", "(\w+)"', source)}
    known.update({code: about.severity for code, about in DRIFT.items()})
    page = (ROOT / "docs" / "reference" / "findings.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \| (error|warning|note) \|", page, flags=re.M)
    assert len(listed) == len(dict(listed))
    assert dict(listed) == known


# ---- the saved state, and processes that run ---------------------------------------------------------------------

ALL_WELL = Daemons(saved=True, boots=True, watcher=True, helper=True)


@pytest.mark.parametrize(
    ("attached", "daemons", "expected"),
    [
        (True, ALL_WELL, []),
        (True, Daemons(), []),
        (True, ALL_WELL._replace(saved=False), ["not_persistent"]),
        (True, ALL_WELL._replace(boots=False), ["not_persistent"]),
        (False, ALL_WELL._replace(saved=False, boots=False), []),
        (True, ALL_WELL._replace(watcher=False), ["watcher_missing"]),
        (True, ALL_WELL._replace(saved=False, watcher=False), ["not_persistent"]),
        (False, ALL_WELL._replace(helper=False), ["helper_missing"]),
    ],
)
def test_a_router_that_the_next_boot_opens_and_a_process_that_is_missing_are_found(attached, daemons, expected):
    found = codes(attached=attached, daemons=daemons)
    assert found == [("warning", code, None) for code in expected]


# ---- rules that are not in force -------------------------------------------------------------------------------


def test_listeners_that_fragments_cannot_reach():
    assert codes() == []
    assert codes(unfound=("udp 127.0.0.1:5353",)) == [("warning", "fragments_not_spliced", None)]


def test_rules_that_no_packet_meets_are_found_with_the_interface_that_they_wait_for():
    waiting = (Waiting("wan0", ("web", "mail")), Waiting(None, tuple(f"rule{number}" for number in range(9))))
    assert codes(waiting=waiting) == [("warning", "rule_not_in_force", "wan0"), ("warning", "rule_not_in_force", None)]
    found = [each["found"] for each in findings(Facts("6.12.0", waiting=waiting))]
    assert found[0] == "rules web, mail are stored, not in force until wan0 has the program"
    assert found[1].endswith("rule4 and 4 more are stored, not in force until an interface has the program")
