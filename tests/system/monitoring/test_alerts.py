# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each alert of docs/monitoring fires for the series that call for it, and no other one does. promtool decides."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
import yaml

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.metrics import metrics_text
from ansible_collections.netedge.tproxy.tests.support.command_line import answer_of_info
from ansible_collections.netedge.tproxy.tests.system.monitoring.programs import ALERTS, DASHBOARD, PROMTOOL

MINUTES = 2000
OF_NODE_EXPORTER = {"node_textfile_mtime_seconds"}
OWN = "tproxy_splicer_"
DROP = 'packets_total{interface="wan0", reason="default", verdict="drop"}'
# The series of a router without a fault, by metric and labels. A series without a value is not there.
HEALTHY = {
    'node_textfile_mtime_seconds{file="/m/tproxy_splicer.prom"}': f"0+60x{MINUTES}",
    'interface_in_force{interface="wan0"}': f"1x{MINUTES}",
    'findings_by_code{severity="note", code="listener_missing"}': f"1x{MINUTES}",
    'unit_up{unit="watcher"}': f"1x{MINUTES}",
    "rules": f"100x{MINUTES}",
    "rules_capacity": f"131071x{MINUTES}",
    "rules_not_in_force": f"0x{MINUTES}",
    "state_saved_timestamp_seconds": f"1x{MINUTES}",
    "pending_change": f"0x{MINUTES}",
    "watcher_changes_total": f"0x{MINUTES // 2} 1x{MINUTES // 2}",
    'packets_total{interface="wan0", reason="spliced", verdict="pass"}': f"0+600x{MINUTES}",
    DROP: f"0+60x{MINUTES}",
}
FAULTS = {
    "TproxyMetricsMissing": {'node_textfile_mtime_seconds{file="/m/tproxy_splicer.prom"}': f"0x{MINUTES}"},
    "TproxyInterfaceNotInForce": {'interface_in_force{interface="wan0"}': f"0x{MINUTES}"},
    "TproxyFindingError": {'findings_by_code{severity="error", code="no_filter"}': f"1x{MINUTES}"},
    "TproxyFindingWarning": {'findings_by_code{severity="warning", code="no_route"}': f"1x{MINUTES}"},
    "TproxyUnitDown": {'unit_up{unit="watcher"}': f"0x{MINUTES}"},
    "TproxyStateNotSaved": {"state_saved_timestamp_seconds": ""},
    "TproxyChangePending": {"pending_change": f"1x{MINUTES}"},
    "TproxyProxyMissing": {
        'packets_total{interface="wan0", reason="no_listener", verdict="drop"}': f"0+60x{MINUTES}",
    },
    "TproxyWrongListener": {
        'packets_total{interface="wan0", reason="wrong_listener", verdict="drop"}': f"0+60x{MINUTES}",
    },
    "TproxyRulesNotInForce": {"rules_not_in_force": f"3x{MINUTES}"},
    "TproxyRepairs": {"watcher_changes_total": f"0+1x{MINUTES}"},
    "TproxyRulesNearLimit": {"rules": f"120000x{MINUTES}"},
    "TproxyDropsRise": {DROP: f"0+60x{MINUTES - 40} {60 * MINUTES}+60000x40"},
    "TproxyWouldDrop": {'packets_total{interface="wan0", reason="default", verdict="would_drop"}': f"0+60x{MINUTES}"},
}


def promtool(*words: object) -> str:
    done = subprocess.run([PROMTOOL, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def series(name: str) -> str:
    """Return a series as promtool reads it: with the prefix and the router."""
    metric, _brace, labels = name.partition("{")
    prefix = "" if metric in OF_NODE_EXPORTER else OWN
    return f'{prefix}{metric}{{instance="r1"{", " if labels else ""}{labels or "}"}'


def fired(folder, faults: dict, alerts: list) -> None:
    """Assert that exactly these alerts fire on a router with these series in place of healthy ones."""
    given = {name: values for name, values in {**HEALTHY, **faults}.items() if values}
    test = {
        "interval": "1m",
        "input_series": [{"series": series(name), "values": values} for name, values in given.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{MINUTES - 2}m",
                "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in alerts],
            }
        ],
    }
    path = folder / "test.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [test]}))
    promtool("test", "rules", path)


def test_prometheus_accepts_the_rules():
    assert f"{len(FAULTS)} rules found" in promtool("check", "rules", ALERTS)


def test_a_router_without_a_fault_fires_none(tmp_path):
    fired(tmp_path, {}, [])


@pytest.mark.parametrize("alert", FAULTS)
def test_an_alert_fires_for_its_fault_alone(tmp_path, alert):
    fired(tmp_path, FAULTS[alert], [alert])


# ---- dashboard and metrics ----------------------------------------------------------------------------------------


def panels() -> list:
    return json.loads(DASHBOARD.read_text())["panels"]


def expressions() -> list:
    return [target["expr"] for panel in panels() for target in panel.get("targets", [])]


def test_the_dashboard_has_expressions_that_prometheus_accepts(tmp_path):
    rules = [
        {"record": f"r{number}", "expr": expr} for number, expr in enumerate(map(without_variables, expressions()))
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", path)


def without_variables(expression: str) -> str:
    """Replace what Grafana fills in."""
    return expression.replace("$__rate_interval", "5m").replace("$instance", ".*")


def test_each_metric_of_rules_and_dashboard_is_one_that_the_command_prints():
    alerts = [rule["expr"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    printed = set(re.findall(r"(?m)^# TYPE (\S+)", metrics_text(answer_of_info())))
    named = set(re.findall(rf"{OWN}\w+", " ".join([*alerts, *expressions()])))
    assert named and named <= printed


def test_no_two_panels_overlap():
    taken = set()
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())
