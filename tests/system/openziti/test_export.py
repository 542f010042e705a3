# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The export of a real controller: the filter makes the rules that the real router asks its diverter for."""

from __future__ import annotations

import json

import pytest
import yaml

from ansible_collections.netedge.tproxy.plugins.filter import ziti_rules as plugin
from ansible_collections.netedge.tproxy.tests.system.openziti import guide, lab
from ansible_collections.netedge.tproxy.tests.system.openziti.management_api import HOST, PORT, USER
from ansible_collections.netedge.tproxy.tests.system.openziti.services import OTHER_WEB, WEB, intercept

ENTITIES = "service,config,identity,service-policy"
READERS = {"JSON": json.loads, "YAML": yaml.safe_load}
# As clients ask for them, and as an operator gives them to the filter.
NAMES = {
    "web.export.ziti": "web.export.ziti",
    "a.wild.export.ziti": "*.wild.export.ziti",
    "xn--bcher-kva.export.ziti": "bücher.export.ziti",
}
ziti_rules = plugin.FilterModule().filters()["ziti_rules"]


def of_each_kind(serve) -> list:
    """Make a service of each kind that a controller can describe; return those that the router intercepts."""
    made = [
        serve("x-range", intercept(["172.16.70.1", "172.16.70.2"], (8000, 8100), 9000), port=WEB),
        serve("x-net", intercept("172.16.71.5/24", 80), port=WEB),
        serve("x-client", client={"hostname": "172.16.70.3", "port": 80}, port=WEB),
        serve("x-both", intercept("172.16.70.4", 5000, 7000, protocols=["tcp", "udp"])),
        serve("x-name", intercept("web.export.ziti", 80), port=WEB),
        serve("x-wild", intercept("*.wild.export.ziti", 80), port=OTHER_WEB),
        serve("x-idn", intercept("xn--bcher-kva.export.ziti", 80), port=WEB),
        serve("x-sources", intercept("172.16.70.5", 80, sources=["10.1.1.2", "10.1.1.128/25"]), port=WEB),
        serve("x-families", intercept("172.16.70.6", 80, sources=["fd00:1:1::/64", "10.1.1.0/24"]), port=WEB),
        serve("x-ends", intercept("172.16.70.7", (100, 80)), port=WEB),
        serve("x-on", intercept("172.16.70.8", 80), interfaces=["wan0", "lan0"], port=WEB),
        serve("x-six", intercept("fd00:16::70", 80), port=WEB),
    ]
    serve("x-nowhere", intercept("172.16.70.9", 80), interfaces=[], port=WEB)
    serve("x-of-others", intercept("172.16.70.10", 80), port=WEB, attribute="of-others")
    serve("x-last", intercept("172.16.70.11", 80), port=WEB)
    return made


def flows(owner: str, rule: dict) -> set[tuple]:
    """Return what a rule matches, once for each of its interfaces."""
    source = rule.get("source", "")
    any_source = source in ("0.0.0.0/0", "::/0")
    what = (owner, rule["protocol"], rule["destination"], "" if any_source else source, rule["ports"])
    return {(*what, name) for name in rule.get("interfaces") or [""]}


def flows_of(rules, owner_of) -> set[tuple]:
    """Return what all rules match."""
    return {each for rule in rules for each in flows(owner_of(rule), rule)}


@pytest.mark.parametrize("form", READERS)
def test_the_filter_makes_the_rules_of_the_router(network, serve, form):
    """Services of each kind, and one that the router may not dial. Names get the addresses that the router gives."""
    owners = {service.owner for service in of_each_kind(serve)}
    network.client.until_answered("172.16.70.11", 80)
    names = {
        given: lab.eventually(lambda asked=asked: network.client.look_up(network.r1.lan, asked))
        for asked, given in NAMES.items()
    }
    lab.eventually(lambda: owners <= {rule["owner"] for rule in network.r1.rules()})
    export = READERS[form](network.export(ENTITIES, form))
    ids = {service["name"]: service["id"] for service in network.api.all("services")}
    made = flows_of(
        ziti_rules(export, tproxy_port=1, resolve=names, identity="r1"), lambda rule: f"ziti:{ids[rule['name']]}"
    )
    assert made == flows_of(network.r1.rules(), lambda rule: rule["owner"])
    assert len(made) > 20


def test_the_playbook_of_the_filter(network, serve):
    """It asks the real controller as the page says, a second run changes nothing, and purge follows the controller."""
    services = [
        serve(f"branch-{number}", intercept(f"172.16.72.{number}", 80), attribute="branch") for number in (1, 2)
    ]
    for service in services:
        network.api.call("PATCH", f"services/{service.made[0][1]}", {"tags": {"tproxy_port": 33401}})
    serve("no-branch", intercept("172.16.72.3", 80), attribute="head")
    before = network.r1.rules()
    try:
        assert "changed=1" in run_playbook(network)
        assert destinations(network) == ["172.16.72.1/32", "172.16.72.2/32"]
        assert "changed=0" in run_playbook(network)
        services[0].remove(network.api)
        assert "changed=1" in run_playbook(network)
        assert destinations(network) == ["172.16.72.2/32"]
        assert [rule["owner"] for rule in network.r1.rules()] == [rule["owner"] for rule in before]
    finally:
        lab.module("tproxy_rule", rules=[], owner="openziti", purge=True)


def run_playbook(network) -> str:
    """Run the playbook of docs/reference/openziti.md on the router under test, beside the controller."""
    path = network.folder / "export.yml"
    page = guide.block("From the controller to the routers", "yaml", guide.FILTER_PAGE)
    path.write_text(page, encoding="utf-8")
    given = {
        "ziti_controller": f"https://{HOST}:{PORT}",
        "ziti_user": USER["username"],
        "ziti_password": USER["password"],
        "ziti_ca": str(network.certificate),
    }
    return network.beside_controller(*lab.ansible("ansible-playbook", path, "--limit", "r1", "-e", json.dumps(given)))


def destinations(network) -> list[str]:
    """Return the destinations of the rules of the filter."""
    rules = network.r1.show("show", "rules")["rules"]
    return sorted(rule["destination"] for rule in rules if rule["owner"] == "openziti")
