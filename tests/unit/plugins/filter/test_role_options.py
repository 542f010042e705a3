# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of the role as options of tproxy_router: ten mistakes, each named with its place and its cure."""

from __future__ import annotations

import pathlib
import re

import pytest
import yaml

from ansible_collections.netedge.tproxy.plugins.filter.role_options import DEFAULTS, OF_PLAYBOOKS, role_options
from ansible_collections.netedge.tproxy.plugins.plugin_utils.router_input import checked

ROOT = pathlib.Path(__file__).resolve().parents[4]
KNOWN = {
    name[len("tproxy_splicer_") :]: value
    for name, value in yaml.safe_load(DEFAULTS.read_text(encoding="utf-8")).items()
}
VOICE = {"name": "voice", "destination": "172.16.240.0/24", "protocol": "udp", "ports": 5060, "tproxy_port": 58997}


def read(names=(), **given) -> dict:
    """Return what the filter makes of variables, with the defaults of the role for the rest."""
    variables = {**KNOWN, "interfaces": ["lan0"], "rules": [VOICE], **given}
    return role_options(variables, names)


def test_an_interface_may_track_otherwise_than_the_rest():
    found = read(interfaces=["lan0", {"name": "wan0", "track": "all"}], track="none")
    assert [entry["policy"]["track"] for entry in found["options"]["interfaces"]] == ["none", "all"]
    (fault,) = read(track="some")["faults"]
    assert "value of track must be one of: none, own, all, got: some" in fault


def test_variables_without_a_fault():
    found = read(
        interfaces=["lan0", {"name": "wan0", "default_action": "pass", "priority": 20}], absent_interfaces=["lan7"]
    )
    assert found["faults"] == []
    assert found["interfaces"] == ["lan0", "wan0"]
    lan, wan, gone = found["options"]["interfaces"]
    assert (lan["policy"]["default_action"], "track" in lan["policy"]) == ("drop", False)
    assert (wan["policy"]["default_action"], wan["policy"]["allow_ssh"], wan["priority"]) == ("pass", True, 20)
    assert gone == {"name": "lan7", "state": "absent"}
    assert found["options"]["routes"][0]["interfaces"] == ["lan0", "wan0"]


def test_layers_are_options_of_their_own():
    found = read(rules=[], layers={"site": [VOICE], "branch": []}, purge=True)
    assert found["faults"] == []
    assert (found["options"]["layers"], found["options"]["rules"]) == ({"site": [VOICE], "branch": []}, [])
    found = read(layers={"site": [{**VOICE, "ports": 70000}], "ansible": []})
    assert [fault.partition(":")[0] for fault in found["faults"]] == ["layer 'site'", "layer 'ansible'"]


class Lazy(dict):
    """A container whose copy is expensive, as that of a template with all variables in it."""

    def __deepcopy__(self, memo):
        raise AssertionError("a lazy container was copied")


def test_the_containers_of_templates_are_not_copied():
    assert read(rules=[Lazy(VOICE)], interfaces=[Lazy(name="lan0")])["faults"] == []


def test_one_name_is_a_list_of_one():
    found = read(interfaces="lan0")
    assert found["faults"] == []
    assert found["interfaces"] == ["lan0"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"rules": [VOICE, {**VOICE, "ports": 70000}]}, "rule 'voice' (number 2): ports: 70000 goes beyond 65535"),
        ({"rules": [{**VOICE, "protocol": "tpc"}]}, "rule 'voice' (number 1): protocol: 'tpc' is no IP protocol"),
        ({"rules": [{**VOICE, "ports": None}]}, "rule 'voice' (number 1): ports: missing; give one port"),
        ({"rules": [VOICE, VOICE]}, "rule 'voice' (number 2) and rule 'voice' (number 1) are the same rule"),
        ({"rules": [{**VOICE, "hits": 1}]}, "rule 'voice' (number 1): there is no option 'hits'"),
        ({"rules": [{**VOICE, "destinations": "x"}]}, "there is no option 'destinations'; did you mean destination?"),
        ({"rules": [{**VOICE, "destination": ["10.0.0.0/8"]}]}, "rule 'voice' (number 1): destination"),
        ({"rules": ["voice"]}, "rule number 1: expected a dictionary with destination"),
        ({"interfaces": []}, "tproxy_splicer_interfaces is empty: name at least one interface"),
        (
            {"interfaces": [{"label": "lan0"}]},
            "entry number 1 is {'label': 'lan0'}; expected a name",
        ),
        ({"interfaces": [{"name": "lan0", "alow_ssh": 1}]}, "there is no option 'alow_ssh'; did you mean allow_ssh?"),
        ({"interfaces": ["lan0", "lan0"]}, "interface 'lan0': it is listed twice"),
        (
            {"absent_interfaces": ["lan0"]},
            "lan0 is in both tproxy_splicer_interfaces and ",
        ),
        ({"management": [{"source": "10.0.0.0/33", "port": 22}]}, "interface 'lan0': policy.management[0].source: "),
        ({"management": "10.0.0.0/8"}, "management: expected a list of dictionaries with source, protocol, port, got"),
        ({"management": ["10.0.0.0/8"]}, "management[0]: expected a dictionary with source, protocol, port, got"),
        (
            {"management": [{"source": "10.0.0.0/8", "ports": 22}]},
            "interface 'lan0': policy.management[0]: there is no option 'ports'; did you mean port?",
        ),
        ({"mark": "0"}, "route number 1: mark: '0' must be above 0"),
        ({"table": 254}, "route number 1: table: 254 is reserved"),
    ],
    ids=lambda value: value.split(":")[0][:40].replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_fault_names_its_place(given, expected):
    assert any(expected in fault for fault in read(**given)["faults"]), read(**given)["faults"]


def test_all_faults_come_together():
    found = read(["tproxy_splicer_managment"], rules=[{**VOICE, "ports": 70000}, {**VOICE, "protocol": "tpc"}])
    assert len(found["faults"]) == 3


def test_an_unknown_variable_is_refused_with_the_nearest_name():
    (fault,) = read(["tproxy_splicer_managment", "tproxy_splicer_rules__site", "tproxy_splicer_hosts"])["faults"]
    assert fault == "there is no variable tproxy_splicer_managment; did you mean tproxy_splicer_management?"


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("tproxy_spliser_rules", "tproxy_splicer_rules"),
        ("tpoxy_splicer_interfaces", "tproxy_splicer_interfaces"),
        ("tproxy_slicer_rules__site", "tproxy_splicer_rules__site"),
        ("tproxy_spicer_probes", "tproxy_splicer_probes"),
    ],
)
def test_a_variable_with_a_prefix_that_is_nearly_that_of_the_role_is_refused(name, right):
    assert read([name])["faults"] == [f"there is no variable {name}; did you mean {right}?"]


@pytest.mark.parametrize("name", ["tproxy_spliser_colour", "tproxy_service_rules", "tls_server_rules", "tproxy_s_"])
def test_a_variable_of_another_role_is_none_of_ours(name):
    assert read([name])["faults"] == []


def test_the_variables_of_the_playbooks_are_known():
    used = set()
    for path in (ROOT / "playbooks").glob("*.yml"):
        used |= set(re.findall(r"\btproxy_splicer_(\w+)", path.read_text(encoding="utf-8")))
    assert used - set(KNOWN) == set(OF_PLAYBOOKS)


# ---- the options of the module, on the controller --------------------------------------------------------------------


def test_a_name_is_an_interface_without_options():
    arguments, faults = checked({"interfaces": "lan0", "rules": []})
    assert faults == []
    assert arguments["interfaces"] == [{"name": "lan0"}]


@pytest.mark.parametrize("state", ["gathered", "absent"])
def test_a_state_without_input(state):
    assert checked({"state": state}) == ({"state": state}, [])


def test_an_unknown_option_of_the_module():
    _arguments, faults = checked({"interfaces": ["lan0"], "rulez": []})
    assert faults == ["tproxy_router: there is no option 'rulez'; did you mean rules?"]
