# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter, called as a template calls it: with a whole export of a controller."""

from __future__ import annotations

import json
import pathlib
from ipaddress import ip_network

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.netedge.tproxy.plugins.filter import ziti_names as names_plugin
from ansible_collections.netedge.tproxy.plugins.filter import ziti_rules as plugin
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule_options import rules_from_params

TESTS = pathlib.Path(__file__).resolve().parents[3]
CONTRACT = TESTS / "contract"
EXPORT = json.loads((TESTS / "system" / "openziti" / "export.json").read_text(encoding="utf-8"))
BRANCH = "[?contains(roleAttributes, 'branch')]"
NAMES = {"intranet.example.com": ["100.64.0.2", "fd00:64::2"], "*.apps.example.com": "100.64.16.0/20"}
ziti_rules = plugin.FilterModule().filters()["ziti_rules"]


@pytest.fixture
def warnings(monkeypatch):
    said = []
    monkeypatch.setattr(plugin.Display, "warning", lambda _self, text: said.append(text))
    return said


def lines(rules):
    """Return one short line for each rule."""
    assert rules_from_params([dict(rule) for rule in rules])[1] == []
    texts = []
    for rule in rules:
        source = f" from {rule['source']}" if "source" in rule else ""
        where = f" on {','.join(rule['interfaces'])}" if "interfaces" in rule else ""
        what = f"{rule['protocol']} {rule['destination']} {rule['ports']}"
        texts.append(f"{what}{source}{where} to {rule['tproxy_port']}: {rule['name']}")
    return texts


def refusal(*arguments, **options):
    with pytest.raises(AnsibleFilterError) as raised:
        ziti_rules(*arguments, **options)
    return str(raised.value)


def test_the_services_of_a_branch_go_to_the_ports_of_their_tags():
    assert lines(ziti_rules(EXPORT, BRANCH, tproxy_port="tags.tproxy_port")) == [
        "tcp 172.16.1.0/28 22 to 33401: build farm",
        "tcp 172.16.1.0/28 30000-40000 to 33401: build farm",
        "udp 100.64.200.2/32 5000-10000 from 10.1.0.0/16 to 39250: telemetry",
        "udp fd00:64::2/128 5000-10000 from fd00:1::/32 to 39250: telemetry",
        "udp 172.16.240.0/24 5060-5061 from 10.1.8.0/22 on lan0,lan1 to 58997: telephony",
        "tcp 172.16.240.0/24 5060-5061 from 10.1.8.0/22 on lan0,lan1 to 58997: telephony",
    ]


def test_the_older_configuration_means_both_protocols():
    assert lines(ziti_rules(EXPORT, "[?name == 'printer']", tproxy_port={"printer": 33402})) == [
        "tcp 172.16.9.9/32 9100 to 33402: printer",
        "udp 172.16.9.9/32 9100 to 33402: printer",
    ]


@pytest.mark.parametrize("name", ["parked", "ledger"])
def test_a_service_that_no_router_intercepts_makes_no_rule(name):
    assert ziti_rules(EXPORT, f"[?name == '{name}']", tproxy_port=1) == []


def test_names_and_wildcards_have_the_addresses_of_the_user():
    assert lines(ziti_rules(EXPORT, "[?name == 'intranet']", tproxy_port=1, resolve=NAMES)) == [
        "tcp 100.64.0.2/32 80 to 1: intranet",
        "tcp 100.64.0.2/32 443 to 1: intranet",
        "tcp fd00:64::2/128 80 to 1: intranet",
        "tcp fd00:64::2/128 443 to 1: intranet",
        "tcp 100.64.16.0/20 80 to 1: intranet",
        "tcp 100.64.16.0/20 443 to 1: intranet",
    ]


def test_all_addresses_that_make_no_rule_fail_together():
    said = refusal(EXPORT, tproxy_port=33401)
    assert "2 faults" in said
    assert "'intranet.example.com': its addresses are unknown" in said
    assert "'*.apps.example.com': a wildcard has no addresses" in said


def test_addresses_that_make_no_rule_can_be_warned_about(warnings):
    rules = ziti_rules(EXPORT, tproxy_port=33401, on_unresolved="warn")
    assert {rule["name"] for rule in rules} == {"build farm", "telemetry", "telephony", "printer"}
    assert [("intranet.example.com" in text, "*.apps" in text) for text in warnings] == [(True, False), (False, True)]


def test_addresses_that_make_no_rule_can_be_listed(warnings):
    made = ziti_rules(EXPORT, tproxy_port=33401, on_unresolved="list", resolve={"INTRANET.example.com.": "100.64.0.2"})
    assert "tcp 100.64.0.2/32 80 to 33401: intranet" in lines(made["rules"])
    (unresolved,) = made["unresolved"]
    assert unresolved.pop("reason").startswith("a wildcard")
    assert unresolved == {
        "service": "intranet",
        "id": "4HgXyHn8WkS4Tt3bQz0aRd",
        "option": "addresses",
        "address": "*.apps.example.com",
    }
    assert warnings == []


def test_the_resolver_is_asked_for_names_only(monkeypatch):
    asked = []

    def answer(name, *_arguments, **_options):
        asked.append(name)
        return [(2, 1, 6, "", ("192.0.2.7", 0)), (10, 1, 6, "", ("fe80::1%eth0", 0, 0, 2))]

    monkeypatch.setattr(plugin.socket, "getaddrinfo", answer)
    addresses = ["Erp.Example.com", "*.x.example", "127.1", "010.0.0.1", "0x7f.1", "1.2.3.4/56", "10.0.0.1"]
    made = ziti_rules(service_with(addresses=addresses), tproxy_port=1, resolve="system", on_unresolved="list")
    assert asked == ["erp.example.com"]
    assert [rule["destination"] for rule in made["rules"]] == ["192.0.2.7/32", "10.0.0.1/32"]
    assert [one["address"] for one in made["unresolved"]] == addresses[1:6]


def test_a_name_that_the_resolver_does_not_know_is_reported(monkeypatch):
    def fail(*_arguments, **_options):
        raise OSError("Name or service not known")

    monkeypatch.setattr(plugin.socket, "getaddrinfo", fail)
    said = refusal(EXPORT, "[?name == 'intranet']", tproxy_port=1, resolve="system")
    assert "'intranet.example.com': its addresses are unknown" in said


def test_the_default_owner_is_that_of_the_task():
    assert all("owner" not in rule for rule in ziti_rules(EXPORT, BRANCH, tproxy_port=1))
    assert {rule["owner"] for rule in ziti_rules(EXPORT, BRANCH, tproxy_port=1, owner="openziti")} == {"openziti"}


@pytest.mark.parametrize("port", [33401, "33401", {"4HgXyHn8WkS4Tt3bQz0aRa": 33401}, {"build farm": "33401"}])
def test_a_port_may_be_one_for_all_or_by_id_or_by_name(port):
    rules = ziti_rules(EXPORT, "[0]", tproxy_port=port)
    assert [rule["tproxy_port"] for rule in rules] == [33401, 33401]


def test_a_service_without_a_port_is_named():
    said = refusal(EXPORT, "[?name != 'intranet']", tproxy_port={"build farm": 33401, "printer": 70000})
    assert "service 'telemetry' (4HgXyHn8WkS4Tt3bQz0aRb): tproxy_port: missing" in said
    assert "service 'printer' (4HgXyHn8WkS4Tt3bQz0aRe): tproxy_port: 70000 is out of range" in said
    assert "3 faults" in said


@pytest.mark.parametrize(
    ("select", "words"),
    [
        ("[?contains(", "select: '[?contains('"),
        ("[].name", "gives ['build farm'"),
        ("nothing", "gives None"),
        ("[?foo(name)]", "Unknown function"),
        ("[?contains(name, `1`)]", "requires string"),
        ("[?starts_with(tags, 'x')]", "starts_with()"),
        ("[].{id: id, name: name}", "must choose from the list"),
    ],
)
def test_an_expression_that_chooses_no_services_is_refused(select, words):
    assert words in refusal(EXPORT, select, tproxy_port=1)


def test_an_expression_that_matches_nothing_warns(warnings):
    assert ziti_rules(EXPORT, "[?name == 'bulid farm']", tproxy_port=1) == []
    assert "chooses none of 7" in warnings[0]


def test_an_expression_may_ask_the_configurations():
    chosen = ziti_rules(EXPORT, '[?config."interfaces.v1".interfaces]', tproxy_port=1)
    assert {rule["name"] for rule in chosen} == {"telephony"}


def test_invalid_options_are_refused():
    assert "on_unresolved: 'skip'" in refusal(EXPORT, tproxy_port=1, on_unresolved="skip")
    assert "resolve: 'dns' is neither" in refusal(EXPORT, tproxy_port=1, resolve="dns")
    assert "resolve['erp']: '10.0.0.300'" in refusal(EXPORT, tproxy_port=1, resolve={"erp": ["10.0.0.1", "10.0.0.300"]})


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(plugin, "jmespath", None)
    assert "jmespath is not installed: install it on the controller" in refusal(EXPORT, BRANCH, tproxy_port=1)
    assert ziti_rules(EXPORT, tproxy_port=1, resolve=NAMES)


def service_with(**changes):
    """Return an export with one service, its intercept.v1 changed."""
    data = {"addresses": ["10.0.0.1"], "protocols": ["tcp"], "portRanges": [{"low": 80, "high": 80}], **changes}
    return {"services": [{"id": "s1", "name": "one", "config": {"intercept.v1": data}}]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"addresses": "10.0.0.1"}, "intercept.v1.addresses: '10.0.0.1' is no list"),
        ({"addresses": []}, "intercept.v1.addresses: is empty"),
        ({"addresses": [None, 7]}, "intercept.v1.addresses[1]: 7 is no text"),
        ({"portRanges": [{"low": 80, "high": 65536}]}, "ports: 80-65536 goes beyond 65535"),
        ({"portRanges": [{"low": -1, "high": 5}]}, "ports: '-1-5' is no port or range"),
        (
            {"portRanges": [{"low": "80", "high": True}]},
            "intercept.v1.portRanges[0]: {'low': '80', 'high': True} has no",
        ),
        ({"portRanges": ["80-90"]}, "intercept.v1.portRanges[0]: '80-90' has no numbers"),
        ({"allowedSourceAddresses": []}, "intercept.v1.allowedSourceAddresses: is empty"),
    ],
)
def test_a_faulty_configuration_is_named(changes, words):
    said = refusal(service_with(**changes), tproxy_port=1)
    assert f"service 'one' (s1): {words}" in said


def test_all_faults_of_all_services_are_reported_together():
    one = service_with(portRanges=[{"low": 9, "high": 99999}, {"low": "x", "high": 1}])["services"][0]
    two = {**service_with(addresses=["*.x"])["services"][0], "id": "s2", "name": "two"}
    said = refusal({"services": [one, two]}, tproxy_port=1)
    assert [word in said for word in ("2 faults", "'low': 'x'", "'*.x'")] == [True] * 3


@pytest.mark.parametrize(
    "config", [None, [], "x", {"interfaces": "lan0"}, {"interfaces": [1]}, {"interfaces": ["a/b"]}]
)
def test_faulty_interfaces_are_never_all_interfaces(config):
    export = service_with()
    export["services"][0]["config"]["interfaces.v1"] = config
    assert "interfaces" in refusal(export, tproxy_port=1)


def test_a_source_that_is_not_known_never_means_any_source(warnings):
    export = service_with(allowedSourceAddresses=["laptop.example.com"])
    assert ziti_rules(export, tproxy_port=1, on_unresolved="warn") == []
    assert ["laptop.example.com" in text for text in warnings] == [True]
    export = service_with(allowedSourceAddresses=["laptop.example.com", "10.9.0.0/16"])
    assert lines(ziti_rules(export, tproxy_port=1, on_unresolved="warn")) == [
        "tcp 10.0.0.1/32 80 from 10.9.0.0/16 to 1: one"
    ]


def test_an_address_that_no_allowed_source_can_reach_is_reported():
    export = service_with(addresses=["10.0.0.1", "fd00::1"], allowedSourceAddresses=["10.9.0.0/16"])
    assert "'fd00::1': no allowed source is of its address family" in refusal(export, tproxy_port=1)
    export = service_with(addresses=["10.0.0.1", "fd00::1"], allowedSourceAddresses=["0.0.0.0/0"])
    assert lines(ziti_rules(export, tproxy_port=1)) == ["tcp 10.0.0.1/32 80 to 1: one", "tcp fd00::1/128 80 to 1: one"]


def test_duplicates_make_one_rule():
    export = service_with(
        addresses=["10.0.0.1", "10.0.0.1/32", "one.example"],
        protocols=["tcp", "tcp"],
        portRanges=[{"low": 80, "high": 80}] * 2,
        allowedSourceAddresses=["10.2.3.4/16", "10.2.0.0/16"],
    )
    made = ziti_rules(export, tproxy_port=1, resolve={"one.example": "10.0.0.1"})
    assert lines(made) == ["tcp 10.0.0.1/32 80 from 10.2.0.0/16 to 1: one"]


def test_a_flow_of_two_services_is_refused_unless_they_share_the_proxy():
    one = service_with()["services"][0]
    export = {"services": [one, {**one, "id": "s2", "name": "two"}]}
    said = refusal(export, tproxy_port={"one": 1, "two": 2})
    assert "service 'two' (s2) intercepts tcp 10.0.0.1/32 ports 80, and so does service 'one' (s1)" in said
    assert lines(ziti_rules(export, tproxy_port=1)) == ["tcp 10.0.0.1/32 80 to 1: one"]


def test_a_long_name_is_cut_at_a_character():
    export = service_with()
    export["services"][0]["name"] = "ä" * 40
    assert ziti_rules(export, tproxy_port=1)[0]["name"] == "ä" * 31


def test_more_rules_than_fit_are_refused_before_they_are_made():
    export = service_with(
        addresses=[f"10.0.{number >> 8}.{number & 255}" for number in range(40000)],
        portRanges=[{"low": port, "high": port} for port in range(40000)],
    )
    assert "1600000000 wanted, at most 131071 fit" in refusal(export, tproxy_port=1)


# ---- as a router takes it --------------------------------------------------------------------------


def flow_of_call(words: list) -> tuple:
    """Return the flow of a router's call, and the ids of its service."""
    given = dict(zip(words[1::2], words[2::2]))
    destination = str(ip_network(f"{given['-c']}/{given['-m']}", strict=False))
    source = "" if given["-n"] == "0" else f"{given['-o']}/{given['-n']}"
    ports = given["-l"] if given["-l"] == given["-h"] else f"{given['-l']}-{given['-h']}"
    return given["-s"], given["-p"], destination, source, ports, given.get("-N", "")


def test_the_rules_of_a_real_export_are_the_calls_of_a_real_router():
    """Both are of one OpenZiti network. The router did not come to a service on two interfaces that it lacks."""
    export = json.loads((CONTRACT / "real_export.json").read_text(encoding="utf-8"))
    ids = {service["name"]: service["id"] for service in export["services"]}
    calls = (CONTRACT / "real_calls.txt").read_text(encoding="utf-8").splitlines()
    asked = {flow_of_call(line.split()) for line in calls if line.startswith("-I")}
    asked = {flow for flow in asked if flow[0] in ids.values()}
    names = {"web.lab.ziti": "100.64.0.2", "*.wild.lab.ziti": ["100.64.0.3", "100.64.0.4"]}
    made = {
        (ids[rule["name"]], rule["protocol"], rule["destination"], rule.get("source", ""), rule["ports"], interface)
        for rule in ziti_rules(export, tproxy_port=1, resolve=names)
        for interface in rule.get("interfaces", [""])
    }
    assert asked - made == set()
    assert made - asked == {(ids["intf-other"], "tcp", "172.16.16.2/32", "", "80", name) for name in ("wan0", "tun7")}
    assert len(asked) == 28


def test_exchanged_ends_are_a_range():
    made = ziti_rules(service_with(portRanges=[{"low": 100, "high": 80}]), tproxy_port=1)
    assert [rule["ports"] for rule in made] == ["80-100"]


def test_a_protocol_that_no_router_intercepts_is_skipped_with_a_warning(warnings):
    assert lines(ziti_rules(service_with(protocols=["sctp", "tcp"]), tproxy_port=1)) == ["tcp 10.0.0.1/32 80 to 1: one"]
    assert warnings == [
        "netedge.tproxy.ziti_rules: service 'one' (s1): protocols has 'sctp', which no router intercepts"
    ]


ODD = (
    {"addresses": "10.0.0.1"},
    {"portRanges": [{"low": 80, "high": 65536}]},
    {
        "addresses": [f"10.0.{n >> 8}.{n & 255}" for n in range(4000)],
        "portRanges": [{"low": n, "high": n} for n in range(99)],
    },
)


@pytest.mark.parametrize("odd", ODD)
def test_one_odd_service_stops_no_export(odd, warnings):
    one = {**service_with(**odd)["services"][0], "id": "s0", "name": "odd"}
    export = {"services": [one, *service_with()["services"]]}
    assert "service 'odd' (s0)" in refusal(export, tproxy_port=1)
    assert lines(ziti_rules(export, tproxy_port=1, on_unresolved="warn")) == ["tcp 10.0.0.1/32 80 to 1: one"]
    assert len(warnings) == 1 and "service 'odd' (s0): " in warnings[0]
    made = ziti_rules(export, tproxy_port=1, on_unresolved="list")
    assert lines(made["rules"]) == ["tcp 10.0.0.1/32 80 to 1: one"]
    ((entry),) = made["unresolved"]
    assert (entry["service"], entry["id"], entry["option"], entry["address"]) == ("odd", "s0", "", "")
    assert entry["reason"]


def test_a_service_that_the_expression_of_the_port_cannot_read_stops_no_export(warnings):
    """An expression that no service can have is a fault of the task."""
    one = {**service_with()["services"][0], "tags": {"ports": [5, 7]}}
    export = {"services": [one, {**one, "id": "s2", "name": "odd", "tags": {"ports": "5"}}]}
    assert "service 'odd' (s2): tproxy_port: 'max(tags.ports)': " in refusal(export, tproxy_port="max(tags.ports)")
    made = ziti_rules(export, tproxy_port="max(tags.ports)", on_unresolved="list")
    assert lines(made["rules"]) == ["tcp 10.0.0.1/32 80 to 7: one"]
    assert [(entry["service"], entry["option"]) for entry in made["unresolved"]] == [("odd", "")]
    ziti_rules(export, tproxy_port="max(tags.ports)", on_unresolved="warn")
    assert len(warnings) == 1 and "service 'odd' (s2): tproxy_port: " in warnings[0]
    assert refusal(export, tproxy_port="max(", on_unresolved="list").startswith("tproxy_port: 'max(': ")


@pytest.mark.parametrize("option", ["addresses", "allowedSourceAddresses"])
@pytest.mark.parametrize(
    ("of_service", "of_user"),
    [
        ("Bücher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "BÜCHER.example."),
        ("*.straße.example",) * 2,
    ],
)
def test_a_name_in_unicode_is_its_punycode(of_service, of_user, option):
    made = ziti_rules(service_with(**{option: [of_service]}), tproxy_port=1, resolve={of_user: "10.0.0.9"})
    found = {"addresses": "destination", "allowedSourceAddresses": "source"}[option]
    assert [rule[found] for rule in made] == ["10.0.0.9/32"]


# ---- what an identity may dial ---------------------------------------------------------------------

POLICY = {"name": "p", "type": "Dial", "semantic": "AnyOf", "identityRoles": ["@r1"], "serviceRoles": ["#web"]}


def dialed(*policies: dict, **router) -> list:
    """Return the names of the services that the router r1 may dial."""
    services = [
        {
            **service_with(addresses=[f"10.0.0.{number}"])["services"][0],
            "id": f"id-{name}",
            "name": name,
            "roleAttributes": roles,
        }
        for number, (name, roles) in enumerate({"a": ["web"], "b": ["web", "lab"], "c": None}.items())
    ]
    identities = [{"id": "i1", "name": "r1", "roleAttributes": ["edge"], **router}, {"id": "i2", "name": "r2"}]
    export = {
        "services": services,
        "identities": identities,
        "servicePolicies": [{**POLICY, **one} for one in policies],
    }
    return [rule["name"] for rule in ziti_rules(export, tproxy_port=1, identity="r1")]


@pytest.mark.parametrize(
    ("policies", "names"),
    [
        ([{}], ["a", "b"]),
        ([{"type": "Bind"}], []),
        ([{"identityRoles": ["@i1"]}], ["a", "b"]),
        ([{"identityRoles": ["#edge"], "serviceRoles": ["@id-c", "@a"]}], ["a", "c"]),
        ([{"identityRoles": ["@r2"]}], []),
        ([{"identityRoles": None}], []),
        ([{"identityRoles": ["#all"], "serviceRoles": ["#all"]}], ["a", "b", "c"]),
        ([{"serviceRoles": ["#web", "#lab"]}], ["a", "b"]),
        ([{"serviceRoles": ["#web", "#lab"], "semantic": "AllOf"}], ["b"]),
        ([{"serviceRoles": ["#lab"]}, {"serviceRoles": ["@c"]}], ["b", "c"]),
        ([], []),
    ],
)
def test_the_policies_decide_what_an_identity_may_dial(policies, names):
    assert dialed(*policies) == names


def test_the_permissions_of_an_export_for_one_identity_decide():
    one, two = ({**service_with()["services"][0], "id": name, "name": name} for name in "ab")
    export = {"services": [{**one, "permissions": ["Dial"]}, {**two, "permissions": ["Bind"]}]}
    assert [rule["name"] for rule in ziti_rules(export, tproxy_port=1, identity="r1")] == ["a"]
    export = {"services": [{**one, "permissions": ["Invalid"]}]}
    assert "get the services with ?asIdentity=ID" in refusal(export, tproxy_port=1, identity="r1")


@pytest.mark.parametrize("odd", [5, "Dial", {"Dial": 1}, [{}], [["Dial"]]])
def test_an_odd_list_of_a_service_lets_nothing_be_dialed(odd):
    """Neither its role attributes nor its permissions stop the other services."""
    one, two = ({**service_with()["services"][0], "id": name, "name": name} for name in "ab")
    services = [{**one, "roleAttributes": odd}, {**two, "roleAttributes": ["web"]}]
    export = {"services": services, "servicePolicies": [POLICY], "identities": [{"name": "r1"}]}
    assert [rule["name"] for rule in ziti_rules(export, tproxy_port=1, identity="r1")] == ["b"]
    export = {"services": [{**one, "permissions": odd}, {**two, "permissions": ["Dial"]}]}
    assert [rule["name"] for rule in ziti_rules(export, tproxy_port=1, identity="r1")] == ["b"]


def test_an_identity_of_a_real_export_gets_the_services_of_its_policies():
    """The router of the real calls may dial by one policy, `#lab`, which each of its services has."""
    export = json.loads((CONTRACT / "real_export.json").read_text(encoding="utf-8"))
    policy = {**POLICY, "serviceRoles": ["#lab"]}
    whole = {**export, "servicePolicies": [policy], "identities": [{"name": "r1"}]}
    options = {"tproxy_port": 1, "on_unresolved": "list"}
    rules = ziti_rules(whole, identity="r1", **options)["rules"]
    assert len(rules) > 20 and rules == ziti_rules(export, **options)["rules"]
    one = whole["services"][1]
    one["roleAttributes"] = ["elsewhere"]
    assert rules != ziti_rules(whole, identity="r1", **options)["rules"]
    assert one["name"] not in {rule["name"] for rule in ziti_rules(whole, identity="r1", **options)["rules"]}


def test_an_identity_that_the_export_lacks_is_refused():
    export = {**service_with(), "servicePolicies": [POLICY], "identities": [{"name": "r2"}]}
    assert "the list `identities` of the export has no 'r1'" in refusal(export, tproxy_port=1, identity="r1")


def test_the_names_of_services_by_id():
    names = names_plugin.FilterModule().filters()["ziti_names"]
    export = json.loads((CONTRACT / "real_export.json").read_text(encoding="utf-8"))
    assert names({"services": export["services"]})["KucCwi0uv2NKwYSUNCF8f"] == "cidr"
    with pytest.raises(AnsibleFilterError, match="the export is no dictionary with a list `services`"):
        names([])
    with pytest.raises(AnsibleFilterError, match="only 1 of 2 are there"):
        names({"services": {"data": [{"name": "a", "id": "b"}], "meta": {"pagination": {"totalCount": 2}}}})
