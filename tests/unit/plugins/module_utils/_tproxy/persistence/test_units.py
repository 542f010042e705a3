# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The texts of the units, and the names of their instances."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.constants import (
    HELPER_SOCKET_UNIT,
    METRICS_TIMER,
    UNIT_FOLDER,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.persistence import units
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.persistence.metrics_units import (
    METRICS_UNIT,
    MetricsUnits,
    installed_metrics,
)
from ansible_collections.netedge.tproxy.tests.support.scenarios import prepared


def test_the_socket_belongs_to_the_group():
    assert "\nSocketGroup=ziti\n" in units.helper_units("ziti")[HELPER_SOCKET_UNIT]


# The right side is the output of `systemd-escape --template=tproxy-splicer@.service -- NAME` of systemd 252.
@pytest.mark.parametrize(
    ("interface", "unit"),
    [
        ("lan0", "tproxy-splicer@lan0.service"),
        ("br-lan", r"tproxy-splicer@br\x2dlan.service"),
        ("wan0.100", "tproxy-splicer@wan0.100.service"),
        (".hidden", r"tproxy-splicer@\x2ehidden.service"),
        ("wg_0:1", "tproxy-splicer@wg_0:1.service"),
        ("lan@1", r"tproxy-splicer@lan\x401.service"),
        ("ö0", r"tproxy-splicer@\xc3\xb60.service"),
    ],
)
def test_the_instance_of_an_interface(interface, unit):
    assert units.instance_of(interface) == unit


def test_the_units_of_metrics_name_their_folder_and_are_read_back():
    wanted = MetricsUnits("/var/lib/prometheus/node-exporter", 60, True)
    texts = wanted.texts()
    service, timer = texts[METRICS_UNIT], texts[METRICS_TIMER]
    assert " metrics --output /var/lib/prometheus/node-exporter/tproxy_splicer.prom --rules\n" in service
    assert "\nReadWritePaths=/var/lib/prometheus/node-exporter\n" in service
    assert "\nOnUnitInactiveSec=60s\n" in timer
    machine = prepared()
    machine.disk.update({f"{UNIT_FOLDER}/{name}": text.encode() for name, text in texts.items()})
    assert installed_metrics(machine.system()) == wanted
    assert installed_metrics(prepared().system()) == MetricsUnits()
    assert set(MetricsUnits().texts().values()) == {None}
