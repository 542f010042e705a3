# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of tracked flows as tproxy_info, metrics and findings show them, by maps of this kernel."""

from __future__ import annotations

import time

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi import structs as codec
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import FLOWS
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.metrics import metrics_text
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.output import show_text
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf
from ansible_collections.netedge.tproxy.tests.kernel.operations.damage import pin

MINUTE = 60 * 10**9


def fill(router, table: str, count: int, lifetime: int) -> None:
    """Add flows to a table."""
    descriptor = bpf.open_pin(pin(router, table))
    state = codec.encode("flow_state", {"expires": time.monotonic_ns() + lifetime})
    for number in range(count):
        key = {"saddr": number.to_bytes(16, "big"), "daddr": lifetime.to_bytes(16, "big", signed=True)}
        bpf.update(descriptor, codec.encode("flow_key", key), state)


def shown(router) -> dict:
    return {name: table["entries"] for name, table in router.info()["flows"].items()}


def codes(router) -> list:
    return [finding for finding in router.info()["findings"] if finding["code"] == "flows_nearly_full"]


def test_live_flows_are_counted_and_expired_ones_are_not(router, client):
    router.attach()
    assert router.info()["flows"] == {name: {"entries": 0, "size": FLOWS} for name in ("own", "forwarded", "outside")}
    fill(router, "flows_own", 10_000, MINUTE)
    fill(router, "flows_own", 100, -MINUTE)
    fill(router, "flows_forwarded", 3, MINUTE)
    assert shown(router) == {"own": 10_000, "forwarded": 3, "outside": 0}
    info = router.info()
    text = metrics_text(info)
    assert 'tproxy_splicer_flow_table_entries{table="own"} 10000\n' in text
    assert f'tproxy_splicer_flow_table_size{{table="outside"}} {FLOWS}\n' in text
    assert ["forwarded", "3", str(FLOWS)] in [line.split() for line in show_text(info, ["flows"], "").splitlines()]
    assert codes(router) == []


@pytest.mark.parametrize("table", ["own", "forwarded", "outside"])
def test_a_table_that_is_nearly_full_is_a_finding(router, client, table):
    router.attach()
    fill(router, f"flows_{table}", FLOWS * 8 // 10, MINUTE)
    assert codes(router) == []
    fill(router, f"flows_{table}", FLOWS * 3 // 20, 2 * MINUTE)
    (finding,) = codes(router)
    assert (finding["severity"], finding["interface"]) == ("warning", None)
    assert f"`{table}`" in finding["found"]
