# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings about OpenZiti routers: from plain facts, and from the fake machine as doctor and metrics show them."""

from __future__ import annotations

import errno
import json

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.checks.refusals import (
    RECORD,
    ROUTERS_MAX,
    record_refusal,
    refused_calls,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.checks.routers import (
    Neighbour,
    Refused,
    RouterFacts,
    Unruled,
    findings_of_routers,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import SERVICE_NAMES
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import KernelRefused
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import Prefix, parse_address
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule_options import rules_from_params
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.messages import Address, Route
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.system import Process
from ansible_collections.netedge.tproxy.tests.support.command_line import CommandLine
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import Machine
from ansible_collections.netedge.tproxy.tests.support.fakes.system import FakeFiles
from ansible_collections.netedge.tproxy.tests.support.scenarios import attaching, play

UNIT = "ziti-router.service"
ROUTER = Process(611, 77, "ziti", UNIT)
FLOW = ("-c", "172.16.1.0", "-m", "28", "-p", "tcp", "-o", "0.0.0.0", "-n", "0", "-l", "80", "-h", "80")
UDP = ("-c", "172.16.1.0", "-m", "28", "-p", "udp", "-o", "0.0.0.0", "-n", "0", "-l", "80", "-h", "80")
AF_INET = 2


def network(text: str) -> Prefix:
    return Prefix.parse(text)[0]


def rule(owner: str, destination: str = "172.16.1.0/28", **given):
    item = {"destination": destination, "protocol": "tcp", "ports": "80", "tproxy_port": 33401, "owner": owner, **given}
    return rules_from_params([item], single=True)[0][0]


def told(**facts) -> list:
    return [(each["code"], each["found"], each["remedy"]) for each in findings_of_routers(RouterFacts(**facts))]


def codes(**facts) -> list:
    return [code for code, _found, _remedy in told(**facts)]


# ---- from facts ------------------------------------------------------------------------------------


def test_a_router_without_a_fault_has_no_finding():
    assert codes() == []
    assert codes(rules=(rule("ziti:a"), rule("ansible", "10.0.0.0/8")), enforcing=("lan0",)) == []


def test_the_unit_of_a_router_is_the_one_to_restart():
    ((_code, found, remedy),) = told(unruled=(Unruled("ziti (611)", UNIT, tuple("abcdefg")),))
    assert found.startswith("ziti (611) listens transparently on a, b, c, d, e and 2 more, and no rule leads there")
    assert remedy.startswith(f"run `systemctl restart {UNIT}`")
    ((_code, found, remedy),) = told(unruled=(Unruled("", "", ("tcp 127.0.0.1:1",)),))
    assert found.startswith("a process listens")
    assert remedy.startswith("restart that process")
    ((_code, found, remedy),) = told(refused=(Refused("ziti (611)", UNIT, 3, "no"),))
    assert (found, UNIT in remedy) == ("3 calls of ziti (611) were refused since it started, the last one: no", True)


@pytest.mark.parametrize(
    ("taken", "neighbour", "is_told"),
    [
        ("10.1.1.0/24", "10.1.1.0/24", True),
        ("10.0.0.0/8", "10.1.1.0/24", True),
        ("10.1.1.128/25", "10.1.1.0/24", False),
        ("10.1.1.7/32", "10.1.1.0/24", False),
        ("10.1.1.7/32", "10.1.1.7/32", True),
        ("10.1.1.0/24", "10.1.2.0/24", False),
        ("fd00::/16", "fd00:1::/64", True),
        ("10.0.0.0/8", "fd00:1::/64", False),
    ],
)
def test_a_prefix_on_lo_takes_what_it_covers(taken, neighbour, is_told):
    facts = {"taken": (network(taken),), "neighbours": (Neighbour("the LAN", network(neighbour)),)}
    assert codes(**facts) == (["lo_covers"] if is_told else [])


def test_only_flows_of_routers_are_shared():
    on = {"enforcing": ("lan0",)}
    assert codes(rules=(rule("ziti:a"), rule("ziti:b")), **on) == ["flow_shared"]
    assert codes(rules=(rule("ziti:a"), rule("ansible", action="drop", tproxy_port=None)), **on) == ["flow_shared"]
    assert codes(rules=(rule("mine"), rule("ansible")), **on) == []
    assert codes(rules=(rule("ziti:a"), rule("ziti:b", ports="81")), **on) == []
    assert codes(rules=(rule("ziti:a"), rule("ziti:b", "172.16.1.5")), **on) == []
    assert codes(rules=(rule("ziti:a"), rule("ziti:b", interfaces=["lan0"])), **on) == []


def test_a_service_has_its_name_where_it_is_known():
    facts = {"rules": (rule("ziti:a"), rule("ziti:b")), "enforcing": ("lan0",), "names": {"a": "web shop"}}
    ((_code, found, _remedy),) = told(**facts)
    assert found.endswith("ziti:a (web shop) has it, and ziti:b gets nothing")


def test_fragments_matter_to_routers_that_intercept_udp():
    fragments = {"fragments": {"lan0": 12}, "enforcing": ("lan0",)}
    assert codes(rules=(rule("ziti:a", protocol="udp"),), **fragments) == ["fragments_dropped"]
    assert codes(rules=(rule("ziti:a"), rule("ansible", protocol="udp")), **fragments) == []


def test_a_rule_of_a_router_is_in_force_on_one_of_its_interfaces():
    def is_told(interfaces, *enforcing):
        return codes(rules=(rule("ziti:a", interfaces=interfaces),), enforcing=enforcing) == ["service_not_in_force"]

    assert not is_told([], "lan0")
    assert is_told([])
    assert is_told(["wan0"], "lan0")
    assert not is_told(["wan0", "lan0"], "lan0")
    assert codes(rules=(rule("ansible"),)) == []


# ---- from the machine ------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch, capsys):
    machine = Machine()
    play(machine, attaching("lan0"))
    monkeypatch.setenv("TPROXY_SPLICER_HELPER", "")
    return CommandLine(machine, monkeypatch, capsys)


def found_by_doctor(run) -> dict:
    """Return the findings of doctor by code. Metrics show the same codes."""
    findings = json.loads(run("doctor", "--json").out)["findings"]
    shown = run("metrics").out
    assert all(f'code="{each["code"]}"' in shown for each in findings)
    return {each["code"]: each for each in findings}


def test_a_listener_without_a_rule_is_found_until_a_call_makes_one(run):
    run.machine.processes.owner = ROUTER
    run.machine.listeners.add(("tcp", 33401))
    found = found_by_doctor(run)["listener_without_rule"]
    assert found["found"].startswith("ziti (611) listens transparently on tcp 127.0.0.1:33401")
    assert found["remedy"].startswith(f"run `systemctl restart {UNIT}`")
    run("-I", *FLOW, "-t", "33401", "-s", "a")
    assert "listener_without_rule" not in found_by_doctor(run)


def test_another_proxy_may_listen_without_a_rule(run):
    run.machine.processes.owner = ROUTER._replace(name="haproxy", unit="haproxy.service")
    run.machine.listeners |= {("tcp", 33401), ("tcp", 33402)}
    assert "listener_without_rule" not in found_by_doctor(run)
    run("-I", *FLOW, "-t", "33402", "-s", "a")
    found = found_by_doctor(run)["listener_without_rule"]
    assert found["found"].startswith("haproxy (611) listens transparently on tcp 127.0.0.1:33401, and no rule leads")


def test_a_refused_call_is_found_until_its_router_ends(run):
    run.machine.processes.parent = ROUTER
    run.machine.starts = {611: 77}
    for port in ("x", "y"):
        assert run("-I", *FLOW, "-t", port, "-s", "a").status == 2
    found = found_by_doctor(run)["calls_refused"]["found"]
    assert found.startswith("2 calls of ziti (611) were refused since it started, the last one: ")
    assert "'y'" in found
    run.machine.starts = {611: 99}  # another process has its number
    assert "calls_refused" not in found_by_doctor(run)


def test_the_record_of_refused_calls_stays_small_and_survives_any_content():
    machine = Machine()
    machine.starts = dict.fromkeys(range(100), 1)
    for number in range(2 * ROUTERS_MAX):
        record_refusal(machine.system(), Process(number, 1, "ziti", ""), "x" * 5000)
    assert len(refused_calls(machine.system())) == ROUTERS_MAX
    assert len(machine.disk[RECORD]) < ROUTERS_MAX * 500
    for content in ("{", "7", '[{"pid": 1}]', "[[]]"):
        machine.disk[RECORD] = content
        assert refused_calls(machine.system()) == []
    record_refusal(machine.system(), None, "no")
    assert machine.disk[RECORD] == "[[]]"


def test_a_user_without_rights_is_refused_in_one_line(run, monkeypatch):
    """It can read no record, and write none."""
    run.machine.processes.parent = ROUTER
    monkeypatch.setattr(run.machine.sysctl, "has_capability", lambda _number: False, raising=False)
    monkeypatch.setattr(FakeFiles, "read", refuse)
    monkeypatch.setattr(FakeFiles, "write", refuse)
    status, out, err = run("-I", *FLOW, "-t", "33401", "-s", "a")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "a member of the helper's group" in err


def refuse(_files, path, *_text):
    raise KernelRefused(errno.EACCES, "read", path)


def on_lo(text: str, length: int) -> Address:
    return Address(1, AF_INET, parse_address(text), length, 0, False, False)


def test_a_prefix_on_lo_that_takes_a_gateway_or_the_operator_is_found(run):
    machine = run.machine
    machine.plug("lo", 1, ())
    machine.addresses.append(on_lo("127.0.0.1", 8))
    machine.addresses.append(on_lo("100.64.0.1", 10))
    assert "lo_covers" not in found_by_doctor(run)
    hop = parse_address("10.99.0.1")
    machine.routes.append(Route(AF_INET, bytes(16), 0, 1, 0, 4, machine.links["lan0"].ifindex, hop))
    machine.processes.ssh = ("10.88.0.5", "50000", "10.1.0.1", "22")
    machine.addresses.append(on_lo("10.99.0.0", 24))
    assert "covers the gateway 10.99.0.1 of lan0" in found_by_doctor(run)["lo_covers"]["found"]
    machine.addresses[-1] = on_lo("10.88.0.0", 16)
    assert "covers 10.88.0.5, the peer of this SSH" in found_by_doctor(run)["lo_covers"]["found"]
    machine.addresses[-1] = on_lo("172.16.0.0", 16)
    assert "lo_covers" not in found_by_doctor(run)


CONFIGURATION = """\
v: 3
ctrl:
  {endpoint}
link:
  dialers: [{{binding: transport, bind: tls:203.0.113.9:80}}]
"""
LINK = {"dialers": [{"binding": "transport", "bind": "tls:203.0.113.9:80"}]}


@pytest.mark.parametrize(
    ("words", "path", "text"),
    [
        ("config.yml", "config.yml", CONFIGURATION.format(endpoint="endpoint: tls:10.66.0.1:6262")),
        (
            "/etc/router.yaml",
            "/etc/router.yaml",
            CONFIGURATION.format(endpoint="endpoints: [\"tls:ctl.lab:1280\", 'tls:other:1']"),
        ),
        ("config.yml", "config.yml", CONFIGURATION.format(endpoint="endpoints:\n    - wss://ctl.lab:443")),
        ("router", "router", CONFIGURATION.format(endpoint="endpoint: tls:10.66.0.1:6262").replace("ctrl:", '"ctrl":')),
        ("config.json", "config.json", json.dumps({"link": LINK, "ctrl": {"endpoint": "tls:ctl.lab:6262"}}, indent=4)),
        ("router", "router", json.dumps({"ctrl": {"endpoints": ["tls:other:1", "tls:10.66.0.1:1"]}, "link": LINK})),
        ("a.yml", "a.yml", json.dumps({"ctrl": {"endpoint": "tls://ctl.lab:1"}, "link": LINK}).replace("/", "\\/")),
        ("-i\0me.json", "me.json", json.dumps({"ztAPI": "https://ctl.lab:1280/edge/client/v1", "id": {}})),
        ("--identity=/etc/me", "/etc/me", json.dumps({"ztAPI": "", "ztAPIs": ["https://10.66.0.1:1280"], "id": {}})),
    ],
)
def test_a_prefix_on_lo_that_takes_the_controller_of_a_router_is_found(run, words, path, text):
    machine = run.machine
    machine.plug("lo", 1, ())
    machine.processes.owner = ROUTER
    machine.listeners.add(("tcp", 33401))
    path = path if path.startswith("/") else f"/proc/611/cwd/{path}"
    machine.disk["/proc/611/cmdline"] = f"/opt/ziti\0router\0run\0{words}\0"
    machine.disk[path] = text
    machine.disk["/etc/hosts"] = "127.0.0.1 localhost\n10.66.0.1 x ctl.lab # ours\nwrong ctl.lab\n"
    machine.addresses.append(on_lo("203.0.113.0", 24))
    assert "lo_covers" not in found_by_doctor(run)
    machine.addresses[-1] = on_lo("10.66.0.1", 32)
    assert "covers 10.66.0.1, the controller of ziti" in found_by_doctor(run)["lo_covers"]["found"]
    del machine.disk[path]
    assert "lo_covers" not in found_by_doctor(run)


def test_a_file_of_a_router_without_a_controller_is_skipped(run):
    machine = run.machine
    machine.plug("lo", 1, ())
    machine.processes.owner = ROUTER
    machine.listeners.add(("tcp", 33401))
    machine.disk["/proc/611/cmdline"] = "/opt/ziti\0run\0list\0null\0text\0"
    machine.disk |= {f"/proc/611/cwd/{name}": text for name, text in (("list", "[1]"), ("null", "{}"), ("text", "x"))}
    machine.addresses.append(on_lo("10.66.0.1", 32))
    assert "lo_covers" not in found_by_doctor(run)


def test_an_ipv6_rule_of_a_router_is_found(run):
    run.machine.listeners.add(("tcp", 33401))
    run("-I", "-c", "fd00::1", "-m", "128", *FLOW[4:], "-t", "33401", "-s", "a")
    assert "ziti:a" in found_by_doctor(run)["router_ipv4_only"]["found"]


def test_a_group_of_the_helper_that_is_gone_is_found_until_it_is_there(run):
    unit = "/etc/systemd/system/tproxy-splicer-helper.socket"
    run.machine.disk[unit] = b"[Socket]\nSocketGroup=ziti-router\n"
    assert "helper_group_missing" not in found_by_doctor(run)
    run.machine.processes.no_groups.add("ziti-router")
    assert "`groupadd --system ziti-router`" in found_by_doctor(run)["helper_group_missing"]["remedy"]


def test_rules_and_findings_show_the_name_of_a_service(run):
    run.machine.disk[SERVICE_NAMES] = '{"a": "web shop"}'
    run("-I", *FLOW, "-t", "33401", "-s", "a")
    run("-I", *UDP, "-t", "33401", "-s", "unknown")
    assert "web shop" in found_by_doctor(run)["left_behind"]["found"]
    shown = run("show", "rules").out
    assert "owner ziti:a (web shop)" in shown
    assert "owner ziti:unknown\n" in shown
    assert 'owner="ziti:a",service="web shop"' in run("metrics", "--rules").out
    for content in ("{", "[]", '"a"'):
        run.machine.disk[SERVICE_NAMES] = content
        assert "web shop" not in run("show", "rules").out
