# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rule is in force only where our program stands on the hook and reads these maps."""

from __future__ import annotations

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.rules import apply_rules
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.in_force import ANY
from ansible_collections.netedge.tproxy.tests.kernel.operations.damage import lose_program
from ansible_collections.netedge.tproxy.tests.kernel.operations.test_restore import RULE
from ansible_collections.netedge.tproxy.tests.kernel.operations.test_router import steer
from ansible_collections.netedge.tproxy.tests.support.options import options

WAN = {**RULE, "name": "wan", "ports": "8444", "interfaces": ["wan0"]}


def waiting(router) -> list:
    """Return the findings about rules that are not in force."""
    return [each for each in router.info()["findings"] if each["code"] == "rule_not_in_force"]


def in_force(router) -> dict:
    return {rule["ports"]: rule["in_force"] for rule in router.info()["rules"]}


def put(router, *rules: dict) -> list:
    """Run tproxy_rule, in check mode too; return the interfaces that the rules wait for."""
    predicted = router.rules(*rules, check=True)
    answer = router.rules(*rules)
    assert (predicted["waits_for"], predicted["warnings"]) == (answer["waits_for"], answer["warnings"])
    assert bool(answer["waits_for"]) == any(line.endswith("[rule_not_in_force]") for line in answer["warnings"])
    return answer["waits_for"]


def test_a_rule_waits_for_the_program_and_is_in_force_as_soon_as_it_is_attached(router):
    router.netns.run("ip link add wan0 type veth peer name wan0-peer")
    assert put(router, RULE) == [ANY]
    assert put(router, RULE, WAN) == [ANY, "wan0"]
    assert in_force(router) == {"443": False, "8444": False}
    assert [each["interface"] for each in waiting(router)] == [None, "wan0"]
    router.attach()
    assert put(router, RULE, WAN) == ["wan0"]
    assert in_force(router) == {"443": True, "8444": False}
    assert [(each["found"], each["remedy"]) for each in waiting(router)] == [
        ("rule wan is stored, not in force until wan0 has the program", "run tc_bpf_attach for wan0")
    ]
    router.attach("wan0")
    assert (put(router, RULE, WAN), waiting(router)) == ([], [])
    assert in_force(router) == {"443": True, "8444": True}


def test_a_rule_is_out_of_force_when_the_program_is_lost_or_reads_other_maps(router):
    router.attach()
    assert put(router, RULE) == []
    lose_program(router)
    assert put(router, RULE) == [ANY]
    assert [each["remedy"] for each in waiting(router)] == ["run tc_bpf_attach, or tproxy_router with its interfaces"]
    router.attach()
    given = options("tproxy_rule", rules=[RULE], pin_dir=f"{router.folder.path}/other")
    assert apply_rules(given, router.system(), False).data["waits_for"] == [ANY]
    assert waiting(router) == []


def test_tproxy_router_says_so_too_and_check_mode_predicts_it(router):
    router.netns.run("ip link add wan0 type veth peer name wan0-peer")
    given = {"interfaces": [{"name": "lan0"}], "rules": [RULE, WAN]}
    for check in (True, False, True, False):
        said = [line for line in steer(router, check, **given)["warnings"] if line.endswith("[rule_not_in_force]")]
        assert [line.split(":")[0] for line in said] == ["rule wan is stored, not in force until wan0 has the program"]
    given["interfaces"].append({"name": "wan0"})
    for check in (True, False):
        assert not any("rule_not_in_force" in line for line in steer(router, check, **given)["warnings"])
