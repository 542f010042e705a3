# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that is refused half way leaves the real kernel as it was, and the same run again gets there.

On a fake kernel every step of every operation is refused (unit tests operations/test_failures.py). Here the real one
must accept the steps that undo an operation's changes.
"""

from __future__ import annotations

import collections
import dataclasses
import errno
import functools
import itertools
import socket
from dataclasses import replace

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import KernelRefused
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.open_all import open_system
from ansible_collections.netedge.tproxy.tests.kernel.operations.damage import tcx_programs

WEB = {"destination": "192.0.2.0/24", "protocol": "tcp", "ports": "443", "action": "pass"}
MANY_ROOTS = [
    {**WEB, "protocol": protocol, "interfaces": [name]} for protocol in ("tcp", "udp") for name in ("lan0", "lan1")
]
CHANGES = {
    *("create_map", "update", "load_program", "pin", "make_folder", "rename", "unpin", "remove_folder"),
    *("add_clsact", "replace_filter", "delete_filter", "delete_clsact", "attach_tcx", "detach_tcx"),
    *("add_rule", "delete_rule", "add_local_default", "delete_local_default"),
}
TIDYING_UP = {"unpin", "remove_folder"}


class Clock:
    """Counts changes, and refuses the one at `step`. Of each kind it knows two, and those in a row are one."""

    def __init__(self, step: int):
        self.step, self.refused, self._last, self._seen = step, None, None, collections.Counter()

    def tick(self, name: str) -> None:
        self._seen[name] += name != self._last
        self.step -= name != self._last and self._seen[name] <= 2
        self._last = name
        if not self.step and not self.refused:
            self.refused = name
            raise KernelRefused(errno.EIO, name, "on purpose")


class Adapter:
    """A real adapter that counts its changes."""

    def __init__(self, adapter, clock: Clock):
        self._adapter, self._clock = adapter, clock

    def __enter__(self):
        self._adapter.__enter__()
        return self

    def __exit__(self, *fault):
        self._adapter.__exit__(*fault)

    def __getattr__(self, name):
        found = getattr(self._adapter, name)
        if name not in CHANGES:
            return found

        def change(*arguments):
            self._clock.tick(name)
            return found(*arguments)

        return change


def clocked(clock: Clock):
    """Return the real system with one counter of changes."""
    system = open_system()
    bpf, bpffs = Adapter(system.bpf, clock), Adapter(system.bpffs, clock)
    return replace(system, bpf=bpf, bpffs=bpffs, netlink=lambda: Adapter(system.netlink(), clock))


def everything(router) -> tuple:
    """Return attachments, pins, routes and the answer of tproxy_info."""
    told = router.info()
    for entry in told["attachments"]:
        entry.pop("reasons")
    hooks = [router.netns.run(f"tc {what} dev {name}") for name in ("lan0", "lan1") for what in WHAT]
    hooks += [str(tcx_programs(socket.if_nametoindex(name))) for name in ("lan0", "lan1")]
    return told, router.pinned(), hooks, [router.netns.run(f"ip {family} rule") for family in ("-4", "-6")]


WHAT = ("qdisc show", "filter show", "filter show ingress", "filter show egress")
OTHER = "newer program and policy"
RUNS = {
    "first attach": ((), lambda router: router.attach(policy={"default_action": "pass"})),
    OTHER: (
        ("lan0", "lan1", "rules"),
        lambda router: router.attach(blob_content=newer(router.blob), policy={"default_action": "pass"}),
    ),
    "rules": (("lan0", "rules"), lambda router: router.rules({**WEB, "ports": "80"}, purge=True)),
    "image that outgrows its map": (("lan0", "lan1", "rules"), lambda router: router.rules(*MANY_ROOTS)),
    "addresses": (("lan0", "lan1"), lambda router: router.record()),
    "route": (("lan0", "route"), lambda router: router.route("lan0", "lan1", mark="0x2/0x2", table=7)),
    "detach": (("lan0", "lan1", "rules", "record"), lambda router: router.attach(state="absent")),
    "detach from clsact": (("filter", "lan1", "rules"), lambda router: router.attach(state="absent")),
    "newer program, and a move": (
        ("filter", "lan1", "rules"),
        lambda router: router.attach(blob_content=newer(router.blob)),
    ),
    "move to clsact": (("lan0", "lan1", "rules"), lambda router: router.attach(hook="clsact", priority=20)),
}
BEFORE = {
    "filter": lambda router: router.attach(hook="clsact"),
    "lan0": lambda router: router.attach(),
    "lan1": lambda router: router.attach("lan1"),
    "rules": lambda router: router.rules(WEB),
    "record": lambda router: router.record(),
    "route": lambda router: router.route(),
}


def newer(blob) -> str:
    return dataclasses.replace(blob, source_sha256="ab" * 32).to_json()


@pytest.mark.parametrize("name", RUNS)
def test_a_refused_change_is_taken_back(bare_router, name):
    router, (before, run) = bare_router, RUNS[name]
    for lan in ("lan0", "lan1"):
        router.netns.veth(lan, f"{lan}-peer")
    for step in before:
        BEFORE[step](router)
    was = everything(router)
    for step in itertools.count(1):
        clock = Clock(step)
        router.system = functools.partial(clocked, clock)
        try:
            run(router)
            break
        except KernelRefused:
            router.system = open_system
        found = everything(router)
        if found != was:
            assert clock.refused in TIDYING_UP, f"step {step}, {clock.refused}"
            break
    assert not clock.refused or clock.refused in TIDYING_UP
    run(router)
    assert not run(router)["changed"]
