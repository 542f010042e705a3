# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode and the real run give the same answer on machines in hostile states."""

from __future__ import annotations

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import TproxyError

TABLE = 1080
FOREIGN_ROUTES = {
    "ipv4 default": f"ip route add default dev lo table {TABLE}",
    "ipv4 blackhole": f"ip route add blackhole default table {TABLE}",
    "ipv6 default": f"ip -6 route add default dev lo table {TABLE}",
    "ipv6 blackhole": f"ip -6 route add blackhole default table {TABLE}",
    "ipv4 of a higher metric": f"ip route add default dev lo metric 100 table {TABLE}",
    "ipv6 of a lower metric": f"ip -6 route add default dev lo metric 5 table {TABLE}",
    "ipv4 of a TOS": f"ip route add default dev lo tos 0x10 table {TABLE}",
    "ipv4 prefix": f"ip route add 192.0.2.0/24 dev lo table {TABLE}",
    "ipv4 local": f"ip route add local default dev lo table {TABLE}",
    "a rule of another program": f"ip rule add priority 99 fwmark 0x1 lookup {TABLE}",
}


def answer(run) -> tuple:
    """Return the outcome of a run: its kind, and its change or its message."""
    try:
        return "done", run()["changed"]
    except TproxyError as refusal:
        return type(refusal).__name__, str(refusal)


@pytest.mark.parametrize("state", FOREIGN_ROUTES)
def test_a_policy_route_beside_foreign_routes(bare_router, state):
    bare_router.netns.veth()
    bare_router.netns.run(FOREIGN_ROUTES[state])
    predicted = answer(lambda: bare_router.route(check=True))
    assert answer(bare_router.route) == predicted
    refused = state in ("ipv4 default", "ipv4 blackhole", "ipv6 default", "ipv6 blackhole")
    assert (predicted[0] == "Conflict") == refused
