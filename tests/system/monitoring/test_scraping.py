# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Prometheus scrapes a real node_exporter, which serves what the command writes about a real router."""

from __future__ import annotations

import re

import pytest
import yaml

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.commands import COMMANDS
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import METRICS_FILE
from ansible_collections.netedge.tproxy.tests.support.packets import udp_frame
from ansible_collections.netedge.tproxy.tests.support.router import LAN, SERVER
from ansible_collections.netedge.tproxy.tests.system.daemons.daemons import Daemons
from ansible_collections.netedge.tproxy.tests.system.monitoring.programs import (
    ALERTS,
    EXPORTER,
    NODE_EXPORTER,
    PROMETHEUS,
    eventually,
    query,
)
from ansible_collections.netedge.tproxy.tests.system.monitoring.programs import (
    SERVER as PROMETHEUS_ADDRESS,
)

RULE = {"destination": SERVER, "protocol": "udp", "ports": "5060", "tproxy_port": 9999, "name": "voice"}


@pytest.fixture
def write(router, tmp_path):
    """Return a function that writes the metrics of the router, as its timer does. They have no rule of their own."""
    folder = tmp_path / "textfiles"
    folder.mkdir()

    def metrics(**given) -> str:
        command = COMMANDS["metrics"].load()
        options = {"pin_dir": router.pin_dir, "output": str(folder / METRICS_FILE), "rules": False, **given}
        answer = command.operation.execute(options, router.system(), False).as_dict()
        assert command.printer(answer, options) == ""
        return folder / METRICS_FILE

    return metrics


@pytest.fixture
def prometheus(write, tmp_path):
    """Run node_exporter and Prometheus, with the alert rules. An alert does not wait before it fires."""
    rules, config = tmp_path / "alerts.yml", tmp_path / "prometheus.yml"
    rules.write_text(re.sub(r"(?m)^( +for:) .*$", r"\1 0s", ALERTS.read_text()))
    scrape = {"job_name": "routers", "static_configs": [{"targets": [EXPORTER]}]}
    interval = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config.write_text(yaml.safe_dump({"global": interval, "rule_files": [str(rules)], "scrape_configs": [scrape]}))
    collector = f"--collector.textfile.directory={write().parent}"
    programs = Daemons(tmp_path)
    programs.start(
        "node_exporter",
        NODE_EXPORTER,
        f"--web.listen-address={EXPORTER}",
        "--collector.disable-defaults",
        "--collector.textfile",
        collector,
    )
    programs.start(
        "prometheus",
        PROMETHEUS,
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address={PROMETHEUS_ADDRESS}",
    )
    try:
        eventually(lambda: query("tproxy_splicer_build_info"), bool)
        yield
    finally:
        programs.stop_all()


def firing() -> set:
    return {labels["alertname"] for labels, _value in query('ALERTS{alertstate="firing"}')}


def test_a_lost_proxy_becomes_an_alert(router, client, write, prometheus):
    router.attach(policy={"default_action": "drop", "allow_ssh": False, "track": "none"})
    router.record()
    router.route()
    router.rules(RULE)
    write()
    eventually(lambda: query("tproxy_splicer_rules"), lambda found: found and found[0][1] == 1)
    eventually(firing, lambda names: "TproxyProxyMissing" not in names)
    with client.raw() as wire:
        for _packet in range(3):
            wire.send(udp_frame(SERVER, 5060))
    router_has = f'tproxy_splicer_packets_total{{interface="{LAN}",reason="no_listener"}} > 0'

    def counted() -> list:
        write()
        return query(router_has)

    eventually(counted, bool)
    with client.raw() as wire:
        for _packet in range(3):
            wire.send(udp_frame(SERVER, 5060))
    eventually(lambda: write() and firing(), lambda names: "TproxyProxyMissing" in names)
    assert query('tproxy_splicer_interface_in_force{interface="%s"}' % LAN)[0][1] == 1


def test_each_rule_has_series_if_asked_for(router, client, write, prometheus):
    router.attach(policy={"default_action": "drop", "track": "none"})
    router.rules(RULE)
    write()
    eventually(lambda: query('tproxy_splicer_owner_packets_total{owner="ansible",action="tproxy"}'), bool)
    assert query("tproxy_splicer_rule_packets_total") == []
    write(rules=True)
    found = eventually(lambda: query("tproxy_splicer_rule_packets_total"), bool)
    assert found[0][0]["name"] == "voice"


def test_other_users_may_read_the_file(write):
    assert write().stat().st_mode & 0o777 == 0o644
