# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode and the real run give the same answer on machines in hostile states.

The unit test of the same name has the states that a fake kernel can have. Here the real kernel refuses, and the message
must be the foreseen one.
"""

from __future__ import annotations

import shlex
import shutil
from functools import partial

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.cli.router import manage_router
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import TproxyError
from ansible_collections.netedge.tproxy.tests.support.options import options

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


# ---- qdiscs, filters and policy rules of other programs ---------------------------------------

RULE = "iif lan0 fwmark 0x10000000/0x10000000 priority 1080 lookup 1080 protocol kernel"
CLSACT, PASSES = "tc qdisc add dev lan0 clsact", "bpf bytecode '1,6 0 0 0'"
FILTER = "tc filter add dev lan0 ingress"
ON_THE_HOOK = {
    "a plain ingress qdisc": ("tc qdisc add dev lan0 ingress",),
    "a shared block": ("tc qdisc add dev lan0 ingress_block 22 clsact",),
    "a shared block of a plain qdisc": ("tc qdisc add dev lan0 ingress_block 22 ingress",),
    "a shared block of egress": ("tc qdisc add dev lan0 egress_block 22 clsact",),
    "a filter at our priority": (CLSACT, f"{FILTER} pref 10 protocol all {PASSES}"),
    "another protocol at our priority": (CLSACT, f"{FILTER} pref 10 handle 7 protocol ip {PASSES}"),
    "a filter before ours": (CLSACT, f"{FILTER} pref 5 protocol ip {PASSES}"),
    "a filter in another chain": (CLSACT, f"{FILTER} chain 5 pref 10 protocol ip {PASSES}"),
}
ON_THE_ROUTE = {
    "our rule for one protocol": (f"ip rule add {RULE} ipproto tcp",),
    "our rule inverted": (f"ip rule add not {RULE}",),
    "our rule of another program": (f"ip rule add {RULE.replace('kernel', 'static')}",),
    "our rule by hand": (f"ip rule add {RULE}",),
}


def router_run(router, check: bool, **given) -> dict:
    given = {"persist": False, "cli": False, "blob_content": router.blob.to_json(), "pin_dir": router.pin_dir, **given}
    return manage_router(options("tproxy_router", **given), router.system(), check).as_dict()


RULES = {"destination": "192.0.2.0/24", "protocol": "tcp", "ports": "443", "tproxy_port": "8443"}
RUNS = {
    "attach": lambda router, check: router.attach(check=check),
    "attach to clsact": lambda router, check: router.attach(check=check, hook="clsact"),
    "route": lambda router, check: router.route(check=check),
    "route removed": lambda router, check: router.route(check=check, state="absent"),
    "rules": lambda router, check: router.rules(RULES, check=check),
    "router": lambda router, check: router_run(router, check, interfaces=[{"name": "lan0"}]),
    "router gone": lambda router, check: router_run(router, check, state="absent"),
}
CASES = [
    *((commands, run) for commands in ON_THE_HOOK.values() for run in ("attach to clsact", "router")),
    *((commands, run) for commands in ON_THE_ROUTE.values() for run in ("route", "route removed", "router")),
]


def whole(run) -> tuple:
    """Return the outcome of a run, without the numbers that the kernel gives to programs."""
    try:
        told = run()
    except TproxyError as refusal:
        return type(refusal).__name__, str(refusal)
    attachment = told.get("attachment")
    if attachment:
        told["attachment"] = {**attachment, "program_id": None, "tag": None}
    return "done", told


@pytest.mark.parametrize(("commands", "run"), CASES)
def test_check_mode_is_the_real_run(bare_router, commands, run):
    bare_router.netns.veth()
    for command in commands:
        bare_router.netns.run_words(*shlex.split(command))
    predicted = whole(partial(RUNS[run], bare_router, True))
    assert whole(partial(RUNS[run], bare_router, False)) == predicted
    assert predicted[0] not in ("KernelRefused", "VerificationFailed"), "each refusal is foreseen"


@pytest.mark.parametrize("run", ["attach", "rules", "router", "router gone"])
def test_check_mode_is_the_real_run_after_a_loss_of_the_pins(bare_router, run):
    bare_router.netns.veth()
    bare_router.attach()
    bare_router.rules({"destination": "192.0.2.0/24", "protocol": "tcp", "ports": "80", "action": "drop"})
    shutil.rmtree(bare_router.pin_dir)
    predicted = whole(partial(RUNS[run], bare_router, True))
    assert whole(partial(RUNS[run], bare_router, False)) == predicted
