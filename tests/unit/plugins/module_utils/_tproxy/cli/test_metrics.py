# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics, parsed by an independent reader of the text format."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.metrics import metrics_text
from ansible_collections.netedge.tproxy.tests.support.command_line import answer_of_info

NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*"
VALUE = r'"(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{((?:{NAME}={VALUE},?)*)\}})? ([0-9]+)")
ESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


TABLE = Path(__file__).resolve().parents[6] / "docs" / "monitoring" / "README.md"


def samples(text: str) -> dict:
    """Return {(name, labels): value}; each family must be contiguous and begin with its HELP and TYPE."""
    found, families, lines = {}, [], iter(text.splitlines())
    for line in lines:
        if line.startswith("# HELP "):
            name = line.split()[2]
            assert name not in families, f"{name} appears twice"
            families.append(name)
            assert re.fullmatch(rf"# TYPE {name} (counter|gauge)", next(lines))
            continue
        match = SAMPLE.fullmatch(line)
        assert match, f"{line!r} is no sample"
        assert match[1] == families[-1], f"{line!r} stands outside its family"
        labels = tuple((name, unescaped(value)) for name, value in re.findall(f"({NAME})=({VALUE})", match[2] or ""))
        assert (match[1], labels) not in found, f"{line!r} is there twice"
        found[match[1], labels] = int(match[3])
    return found


def unescaped(value: str) -> str:
    return re.sub(r"\\.", lambda found: ESCAPED[found[0]], value[1:-1])


def value_of(found: dict, metric: str, **labels) -> int:
    wanted = set(labels.items())
    values = [
        value for (name, has), value in found.items() if name == f"tproxy_splicer_{metric}" and wanted <= set(has)
    ]
    assert len(values) == 1, f"{metric} {labels}: {values}"
    return values[0]


def test_the_table_of_the_guide_has_each_metric_and_no_other():
    rows = [line.split("|")[1] for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    listed = {f"tproxy_splicer_{name}" for row in rows for name in re.findall("`([a-z_]+)`", row)}
    texts = metrics_text(answer_of_info(), False) + metrics_text(answer_of_info(), True)
    assert listed == set(re.findall("^# HELP ([a-z_]+) ", texts, flags=re.MULTILINE))


def test_metrics_of_rules_reasons_generation_image_and_drift():
    found = samples(metrics_text(answer_of_info()))
    assert value_of(found, "generation") == 7
    assert value_of(found, "rules") == 2
    assert value_of(found, "image_bytes") == 561152
    assert value_of(found, "image_capacity_bytes") == 1048576
    assert value_of(found, "interface_in_force", interface="lan0") == 1
    assert value_of(found, "interface_in_force", interface="lan1") == 0
    assert value_of(found, "drift", interface="", drift="change_overdue") == 1
    assert value_of(found, "drift", interface="lan1", drift="no_filter") == 1
    assert value_of(found, "packets_total", interface="lan0", reason="spliced", verdict="pass") == 12
    assert value_of(found, "bytes_total", interface="lan0", reason="default", verdict="drop") == 700
    assert value_of(found, "rule_packets_total", destination="172.16.240.0/24", owner="ansible") == 12
    assert value_of(found, "rule_bytes_total", destination="fd00::/8", interfaces="lan0,lan1", action="drop") == 700
    assert value_of(found, "flow_table_entries", table="own") == 5
    assert value_of(found, "flow_table_size", table="own") == 65536
    assert value_of(found, "findings", severity="error") == 1
    assert value_of(found, "findings_by_code", severity="error") == 1


def test_metrics_of_the_saved_state_the_processes_and_the_pending_change():
    found = samples(metrics_text(answer_of_info()))
    assert value_of(found, "unit_up", unit="watcher") == 0
    assert value_of(found, "unit_up", unit="boots") == 1
    assert not [labels for (_name, labels) in found if ("unit", "helper") in labels]
    assert value_of(found, "state_saved_timestamp_seconds") == 1767607200
    assert value_of(found, "watcher_changes_total") == 3
    assert (value_of(found, "pending_change"), value_of(found, "pending_change_seconds_left")) == (1, 41)
    quiet = samples(metrics_text({**answer_of_info(), "pending_change": None, "daemons": None}))
    assert value_of(quiet, "pending_change") == 0
    assert not [name for name, _labels in quiet if name.endswith(("seconds_left", "unit_up"))]


def test_rules_count_by_owner_and_only_on_request_one_by_one():
    found = samples(metrics_text(answer_of_info(), each_rule=False))
    assert value_of(found, "owner_packets_total", owner="ansible", action="tproxy") == 12
    assert value_of(found, "owner_packets_total", owner="ziti", action="drop") == 9
    assert not [name for name, _labels in found if name.startswith("tproxy_splicer_rule_")]


@pytest.mark.parametrize("name", ['say "hello"', "back\\slash", "\\n is no newline", "ünïcode, {braces} = fine"])
def test_a_name_survives_its_escaping(name):
    answer = answer_of_info()
    answer["rules"][0]["name"] = name
    assert value_of(samples(metrics_text(answer)), "rule_packets_total", name=name) == 12


def test_a_name_cannot_forge_a_line():
    answer = answer_of_info()
    answer["rules"][0]["name"] = "a\u2028b\u202e\x1b"
    assert value_of(samples(metrics_text(answer)), "rule_packets_total", name="a?b??") == 12


def test_a_counter_ends_in_total_and_a_gauge_does_not():
    for name, kind in re.findall("# TYPE (.*) (.*)", metrics_text(answer_of_info())):
        assert name.endswith("_total") == (kind == "counter"), name


def test_nothing_attached_gives_no_empty_family():
    answer = {**answer_of_info(), "attachments": [], "rules": []}
    assert "interface_in_force" not in metrics_text(answer)
    assert value_of(samples(metrics_text(answer)), "rules") == 0
