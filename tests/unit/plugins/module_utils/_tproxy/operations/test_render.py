# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""state=rendered of tproxy_router: it predicts what a run on a router makes, and refuses what a router would refuse."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import layout
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import InvalidInput
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations import render as module
from ansible_collections.netedge.tproxy.plugins.plugin_utils.router_input import checked, rendered
from ansible_collections.netedge.tproxy.tests.support.fakes.machine import Machine
from ansible_collections.netedge.tproxy.tests.support.scenarios import (
    ALL,
    MAIL,
    NO_LAN,
    OPEN_LAN,
    WEB,
    lasting,
    play,
    prepared,
    rule,
    ruling,
    steering,
)

UNTRACKED = {"track": "none"}  # the program of the fake machine has no tracker
NEW = {"name": "lan1", "policy": UNTRACKED}
PORT_LIST = {"destination": "10.0.0.0/8", "protocol": ["tcp", "udp"], "ports": "80,443", "action": "pass"}
BEFORE = {
    "a new router": (),
    "a router with all parts": ALL,
    "a router that lasts": (lasting(WEB, MAIL, helper={"group": "ziti"}, failure="fail_closed"),),
    "rules of another owner": (*ALL, ruling(rule("10.0.0.0/8"), owner="site")),
    "another place and mark": (steering(WEB, interfaces=({"name": "lan0", "hook": "clsact", "mark": "0x2/0x2"},)),),
}
RUNS = {
    "rules": {"rules": [WEB, PORT_LIST]},
    "no rules": {"rules": [], "purge": True},
    "layers": {"layers": {"site": [WEB], "branch": [MAIL]}, "purge": True},
    "an open interface": {"interfaces": [OPEN_LAN]},
    "a new interface": {"interfaces": [NEW], "rules": [MAIL]},
    "an interface that leaves": {"interfaces": [NO_LAN, NEW]},
    "a place and addresses": {
        "interfaces": [
            {"name": "lan0", "hook": "clsact", "priority": 7, "addresses": ["10.1.0.1"], "policy": UNTRACKED}
        ]
    },
    "a route": {"interfaces": [NEW], "routes": [{"interfaces": ["lan1"], "mark": "0x4/0x4", "families": ["ipv6"]}]},
    "persistence": {"persist": True, "cli": True, "failure": "fail_closed", "helper": {"group": "ziti"}},
}


def gathered(machine: Machine) -> dict:
    machine.start_over()
    return play(machine, steering(state="gathered"))["gathered"]


def validated(given: dict) -> dict:
    """Return the answer for options that the action plugin has checked."""
    arguments, faults = checked({"state": "rendered", **given})
    assert faults == []
    return rendered(arguments)


def refused(given: dict) -> list[str]:
    return checked({"state": "rendered", **given})[1]


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("state", ["merged", "replaced"])
def test_it_is_the_state_after_that_run_on_that_router(before, run, state):
    given = {"persist": False, "cli": False, "rendered_as": state, **run}
    if state == "replaced":
        given = {"interfaces": [], "rules": [], **given, "purge": False}
    machine = prepared(*before, has_tcx=True)
    saved = gathered(machine)
    answer = validated({**given, "running_config": saved})
    options = {name: value for name, value in given.items() if name not in ("rendered_as", "interfaces", "rules")}
    played = play(
        machine,
        steering(*given.get("rules") or (), state=state, interfaces=tuple(given.get("interfaces") or ()), **options)
        if "rules" in given
        else without_rules(given, state, options),
    )
    assert answer["rendered"] == gathered(machine)
    for name in ("rules", "added", "changed_rules", "removed"):
        assert answer[name] == played[name], name
    assert answer["changed"] == (answer["rendered"] != saved)


def without_rules(given: dict, state: str, options: dict) -> tuple:
    operation, filled = steering(state=state, interfaces=tuple(given.get("interfaces") or ()), **options)
    return operation, {**filled, "rules": None}


def test_what_it_rendered_can_be_fed_back():
    first = validated({"interfaces": ["lan0", "lan1"], "rules": [WEB, PORT_LIST]})
    again = validated({**first["rendered"], "rendered_as": "replaced", "running_config": first["rendered"]})
    assert (again["changed"], again["rendered"]) == (False, first["rendered"])


def test_the_difference_has_a_line_for_each_rule():
    saved = validated({"interfaces": ["lan0"], "rules": [WEB]})["rendered"]
    answer = validated({"interfaces": ["lan0"], "rules": [MAIL], "purge": True, "running_config": saved})
    before, after = (set(answer["diff"][side].splitlines()) for side in ("before", "after"))
    assert ["192.0.2.0/24" in line for line in before - after] == [True]
    assert ["198.51.100.7/32" in line for line in after - before] == [True]


def test_faults_of_options_and_of_the_saved_state_come_together():
    faults = refused(
        {
            "interfaces": [{"name": "lan0", "policy": {"manage_ment": []}}],
            "running_config": {"interfaces": [], "ruels": []},
        }
    )
    assert faults == [
        "interface 'lan0': policy: there is no option 'manage_ment'; did you mean management?",
        "running_config: there is no option 'ruels'; did you mean rules?",
    ]
    faults = refused(
        {
            "interfaces": ["lan0", "lan0"],
            "rules": [{**WEB, "name": "web", "ports": "70000"}, {**MAIL, "protocol": "tpc"}],
            "routes": [{"interfaces": ["lan0"], "table": 255}],
            "running_config": {"interfaces": [], "rules": [{**WEB, "destination": "10.0.0.300"}]},
        }
    )
    places = ("interface 'lan0'", "rule 'web'", "rule number 2", "route number 1", "running_config: rule number 1")
    assert sorted(places) == sorted(place for place in places if any(fault.startswith(place) for fault in faults))


def test_replaced_needs_interfaces_and_rules():
    assert [fault.partition(":")[0] for fault in refused({"rendered_as": "replaced"})] == ["interfaces", "rules"]


def test_limits_are_refused_together():
    many = [{"name": f"lan{number}"} for number in range(layout.INTERFACES + 1)]
    many[0]["addresses"] = [f"10.0.{number // 256}.{number % 256}" for number in range(layout.ADDRESSES + 1)]
    named = [rule("10.0.0.0/8", interfaces=[f"lan{number}"], owner="x") for number in range(layout.INTERFACES + 1)]
    answer = rendered({"state": "rendered", "interfaces": many, "rules": named})
    assert (answer["failed"], answer["changed"]) == (True, False)
    assert len(answer["faults"]) == 3
    assert f"expected at most {layout.INTERFACES}, got {layout.INTERFACES + 1}" in answer["faults"][0]
    assert "interface 'lan0': addresses of lan0" in answer["faults"][1]
    assert "interfaces named by rules" in answer["faults"][2]


def test_rules_that_cannot_be_compiled_are_refused(monkeypatch):
    """The limit of pages needs a hundred thousand rules."""

    def full(*_anything):
        raise module.TproxyError("pages of the image: 9 wanted, at most 8 fit")

    monkeypatch.setattr(module, "compile_image", full)
    with pytest.raises(InvalidInput, match="pages of the image: 9 wanted"):
        module.render(steering(WEB, state="rendered")[1])


def test_a_rule_without_its_interface_is_a_warning():
    answer = validated({"interfaces": ["lan0"], "rules": [{**WEB, "interfaces": ["lan7"], "name": "far"}]})
    assert [("far" in text, "lan7" in text) for text in answer["warnings"]] == [(True, True)]


def test_a_flow_of_two_layers_is_a_warning():
    answer = validated({"interfaces": ["lan0"], "rules": [WEB], "layers": {"site": [{**WEB, "tproxy_port": 9443}]}})
    assert any("rules of the owners 'ansible' and 'site' name one flow" in text for text in answer["warnings"])


def test_a_router_that_a_boot_opens_is_a_warning():
    assert any("persist is off" in text for text in validated({"persist": False})["warnings"])


def test_a_user_by_name_stays_a_name_and_one_of_the_saved_state_a_number():
    new = validated({"rules": [{**WEB, "tproxy_user": "haproxy"}]})["rendered"]
    assert [each["tproxy_user"] for each in new["rules"]] == ["haproxy"]
    saved = {**new, "rules": [{**new["rules"][0], "tproxy_user": "113"}]}
    again = validated({"rules": [{**WEB, "tproxy_user": "haproxy"}], "running_config": saved})
    assert [each["tproxy_user"] for each in again["rendered"]["rules"]] == ["113"]


def test_the_module_alone_does_not_render():
    with pytest.raises(InvalidInput, match="action plugin"):
        play(Machine(), steering(state="rendered"))


def test_a_closed_interface_tracks_the_flows_of_the_router():
    found = validated({"interfaces": ["lan0", {"name": "lan1", "policy": {"default_action": "pass"}}]})["rendered"]
    assert [each["policy"]["track"] for each in found["interfaces"]] == ["own", "none"]


def test_a_hook_that_is_asked_for_is_shown():
    found = validated({"interfaces": [{"name": "lan0", "after": "other"}]})["rendered"]["interfaces"]
    assert found[0]["after"] == "other"


def test_rules_of_a_router_of_openziti_are_refused_in_replaced():
    faults = refused({"rendered_as": "replaced", "interfaces": [], "rules": [{**WEB, "owner": "ziti:a"}]})
    assert len(faults) == 1
    assert "is an OpenZiti router" in faults[0]
