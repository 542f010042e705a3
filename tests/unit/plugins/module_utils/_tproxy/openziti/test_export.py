# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import InvalidInput
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.openziti.export import read_export

CONFIG = {"id": "c1", "name": "web", "configType": {"id": "g7", "name": "intercept.v1"}, "data": {"addresses": ["x"]}}
SERVICE = {"id": "s1", "name": "one", "configs": ["c1"], "roleAttributes": None, "tags": None}


def page(*entities, total=None):
    return {"data": list(entities), "meta": {"pagination": {"limit": 500, "totalCount": total or len(entities)}}}


def faults_of(export):
    with pytest.raises(InvalidInput) as refusal:
        read_export(export)
    return refusal.value.faults


@pytest.mark.parametrize(
    "export",
    [
        {"services": [SERVICE], "configs": [CONFIG]},
        {"services": page(SERVICE), "configs": page(CONFIG)},
        {"services": [page(SERVICE)], "configs": [page(CONFIG), page()]},
        {"services": [{**SERVICE, "configs": [], "config": {"intercept.v1": CONFIG["data"]}}]},
    ],
)
def test_a_list_may_be_complete_or_consist_of_pages(export):
    (service,) = read_export(export)
    assert service["config"] == {"intercept.v1": {"addresses": ["x"]}}
    assert (service["id"], service["roleAttributes"], service["tags"]) == ("s1", [], {})


def test_an_export_as_code_refers_by_name():
    config = {"name": "web", "configType": "@intercept.v1", "data": {"addresses": ["x"]}}
    (service,) = read_export({"services": [{"name": "one", "configs": ["@web"]}], "configs": [config]})
    assert (service["id"], service["config"]) == ("one", {"intercept.v1": {"addresses": ["x"]}})


def test_subclasses_of_json_types_become_those_types():
    class Text(str):
        __slots__ = ()

    class Mapping(dict):
        pass

    (service,) = read_export(Mapping(services=[Mapping({Text("name"): Text("one"), "tags": Mapping(port=True)})]))
    assert [type(part) for part in (service, service["name"], service["tags"])] == [dict, str, dict]
    assert service["tags"]["port"] is True


def test_missing_pages_are_refused():
    export = {"services": [page(SERVICE, total=3)], "configs": [page(CONFIG, total=900)]}
    assert faults_of(export) == [
        "configs: only 1 of 900 are there; get the other pages too (limit, offset)",
        "services: only 1 of 3 are there; get the other pages too (limit, offset)",
    ]


def test_missing_configurations_are_refused():
    other = {**SERVICE, "id": "s2", "name": "two", "configs": ["c2", None]}
    assert faults_of({"services": [SERVICE, other], "configs": [CONFIG]}) == [
        "service 'two' (s2): the export has no configuration 'c2'; get both lists at the same time",
        "service 'two' (s2): the export has no configuration None; get both lists at the same time",
    ]
    (fault,) = faults_of({"services": [SERVICE]})
    assert "add the list `configs`" in fault


@pytest.mark.parametrize("kind", [None, {"id": "g7"}, ""])
def test_a_configuration_without_a_type_is_refused(kind):
    faults = faults_of({"services": [SERVICE], "configs": [{**CONFIG, "configType": kind}]})
    assert faults == ["service 'one' (s1): configuration 'web' has no type (configType)"]


def test_a_service_that_appears_twice_is_refused():
    assert faults_of({"services": [SERVICE, SERVICE], "configs": [CONFIG]}) == [
        "service 'one' (s1) appears twice; get the list again"
    ]


@pytest.mark.parametrize(
    ("export", "words"),
    [
        ([SERVICE], "no dictionary with a list `services`"),
        ({"configs": []}, "no dictionary with a list `services`"),
        ("services", "no dictionary with a list `services`"),
        ({"services": {"error": {"code": "UNAUTHORIZED"}, "meta": {}}}, "services: an object, not a list"),
        ({"services": None}, "services: null, not a list"),
        ({"services": [7, SERVICE], "configs": [CONFIG]}, "services[0]: a number, not an object with a name"),
        ({"services": [{"id": 7, "name": "x"}]}, "services[0]: an object, not an object with a name"),
        ({"services": [SERVICE], "configs": ["c1"]}, "configs[0]: a text, not an object with a name"),
        (
            {"services": [{**SERVICE, "configs": "c1"}], "configs": [CONFIG]},
            "`config` is no object, or `configs` is no list",
        ),
        (
            {"services": [page(SERVICE), SERVICE], "configs": [CONFIG]},
            "services[0]: an object, not an object with a name",
        ),
    ],
)
def test_an_invalid_export_is_refused(export, words):
    assert any(words in fault for fault in faults_of(export))
