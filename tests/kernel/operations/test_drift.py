# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drift on the real kernel: each kind is provoked, named, foretold by check mode, repaired by the next run."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import PAGE_WORDS
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.checks.drift import DRIFT
from ansible_collections.netedge.tproxy.tests.kernel.operations.damage import (
    attach_twice,
    close,
    edit_image,
    edit_map,
    edit_what_changed_in_place,
    forget,
    has_tcx,
    kill_a_helper,
    lose_program,
    make_again,
    name_of_ours,
    open_up,
    pin,
    put_filter,
    replace_image,
    spoil,
)
from ansible_collections.netedge.tproxy.tests.support.router import LAN, OWN

POLICY = {"default_action": "drop", "track": "own", "management": [{"source": "10.1.0.0/24", "port": "2222"}]}
WEB = {"destination": "192.0.2.0/24", "protocol": "tcp", "ports": "443", "interfaces": [LAN], "tproxy_port": 8443}
DNS = {"destination": "192.0.2.0/24", "protocol": "udp", "ports": "53", "tproxy_port": 5353, "interfaces": []}

SAVED = ("state_damaged", "state_stale", "state_not_restored")

RUNS = {
    "route": lambda router, check: router.route(check=check),
    "attach": lambda router, check: router.attach(policy=POLICY, check=check),
    "record": lambda router, check: router.record(check=check),
    "rules": lambda router, check: router.rules(WEB, DNS, purge=True, check=check),
}


class Drift(NamedTuple):
    """How it is provoked, its codes (for lan0, for the machine), and the runs that repair it.

    Those of `others` would, too, if they came first. `hook` is that of the program.
    """

    name: str
    provoke: Callable
    words: tuple
    machine: tuple
    repair: tuple
    others: tuple = ()
    hook: str = "auto"


KINDS = (
    Drift(
        "the filter was deleted",
        lambda router, program: router.netns.run(f"tc filter delete dev {LAN} ingress"),
        ("no_filter",),
        (),
        ("attach",),
        hook="clsact",
    ),
    Drift(
        "the clsact qdisc was removed",
        lambda router, program: router.netns.run(f"tc qdisc delete dev {LAN} clsact"),
        ("no_clsact",),
        (),
        ("attach",),
        hook="clsact",
    ),
    Drift(
        "the tracker was deleted",
        lambda router, program: router.netns.run(f"tc filter delete dev {LAN} egress"),
        ("no_tracker",),
        (),
        ("attach",),
        hook="clsact",
    ),
    Drift(
        "somebody's filter took its place",
        lambda router, program: put_filter(router, program(0).fd, "somebody"),
        ("other_filter",),
        (),
        ("attach",),
        hook="clsact",
    ),
    Drift(
        "another program bears its name",
        lambda router, program: put_filter(router, program(0).fd, name_of_ours(router)),
        ("other_program",),
        (),
        ("attach",),
        hook="clsact",
    ),
    Drift(
        "the filter went and the saved state could not be put back",
        lambda router, program: close(router),
        ("interface_closed",),
        (),
        ("attach",),
        hook="clsact",
    ),
    Drift(
        "the TCX program was detached",
        lambda router, program: lose_program(router),
        ("no_filter",),
        (),
        ("attach",),
        hook="tcx",
    ),
    Drift(
        "a killed run left the program on both hooks",
        lambda router, program: attach_twice(router),
        ("attached_twice",),
        (),
        ("attach",),
        hook="tcx",
    ),
    Drift(
        "the TCX program went and the saved state could not be put back",
        lambda router, program: close(router),
        ("interface_closed",),
        (),
        ("attach",),
        hook="tcx",
    ),
    Drift(
        "a map lost its pin",
        lambda router, program: os.unlink(pin(router, "hits")),
        ("other_maps",),
        ("pin_missing",),
        ("rules",),
        others=("route", "attach", "record"),
    ),
    Drift(
        "the policy was removed",
        lambda router, program: edit_map(router, "policy", forget),
        ("no_policy",),
        (),
        ("attach",),
    ),
    Drift(
        "the policy was spoiled",
        lambda router, program: edit_map(router, "policy", spoil),
        ("policy_damaged",),
        (),
        ("attach",),
    ),
    Drift(
        "the policy was opened by hand",
        lambda router, program: edit_map(router, "policy", open_up),
        (),
        (),
        ("attach",),
    ),
    Drift(
        "the interface was made anew",
        lambda router, program: make_again(router),
        (),
        ("policy_stale", "addresses_stale", "image_stale"),
        ("attach", "record"),
        ("rules",),
    ),
    Drift(
        "an address was added",
        lambda router, program: router.netns.run(f"ip address add 10.1.0.77/24 dev {LAN}"),
        ("addresses_differ",),
        (),
        ("record",),
    ),
    Drift(
        "an address was removed",
        lambda router, program: router.netns.run(f"ip -6 address flush dev {LAN}"),
        ("addresses_differ",),
        (),
        ("record",),
    ),
    Drift(
        "the recorded addresses were edited",
        lambda router, program: edit_map(router, "ifindex_ip_map", lambda raw: raw.__setitem__(39, raw[39] ^ 1)),
        ("addresses_differ",),
        (),
        ("record",),
    ),
    Drift(
        "the policy rules were flushed",
        lambda router, program: [router.netns.run(f"ip {way} rule delete priority 1080") for way in ("-4", "-6")],
        ("no_route",),
        (),
        ("route",),
    ),
    Drift(
        "one family's policy rule was deleted",
        lambda router, program: router.netns.run("ip -6 rule delete priority 1080"),
        ("no_route",),
        (),
        ("route",),
    ),
    Drift(
        "the table was flushed",
        lambda router, program: router.netns.run("ip -4 route flush table 1080"),
        ("no_local_route",),
        (),
        ("route",),
    ),
    Drift(
        "a node of the image was edited",
        lambda router, program: edit_image(router, 3 * PAGE_WORDS + 7, 1),
        (),
        ("image_damaged",),
        ("rules",),
    ),
    Drift(
        "a rule in the image was edited",
        lambda router, program: edit_image(router, -3, 0x01020304),
        (),
        ("image_damaged",),
        ("rules",),
    ),
    Drift(
        "an image that a helper had changed in place was edited",
        lambda router, program: edit_what_changed_in_place(router),
        (),
        ("image_damaged",),
        ("rules",),
    ),
    Drift(
        "a helper was killed in the middle of a change",
        lambda router, program: kill_a_helper(router),
        (),
        ("change_unfinished",),
        ("rules",),
    ),
    Drift(
        "the image was replaced",
        lambda router, program: replace_image(router),
        (),
        ("image_damaged",),
        ("rules",),
    ),
)


@pytest.fixture
def whole(bare_router):
    """Return a router without drift, with an interface that receives no packets."""
    netns = bare_router.netns
    netns.run(f"ip link add {LAN} type veth peer name {LAN}-peer")
    netns.run(f"ip address add {OWN}/24 dev {LAN}")
    netns.run(f"ip address add fd00:1::1/64 dev {LAN} nodad")
    for end in (LAN, f"{LAN}-peer"):
        netns.run(f"ip link set {end} addrgenmode none")
        netns.run(f"ip link set {end} up")
    for run in RUNS.values():
        run(bare_router, False)
    assert told(bare_router) == ([], [])
    return bare_router


def move_to(router, hook: str) -> None:
    """Move the program to a hook of this kind. Skip the test on a kernel without it."""
    if hook == "tcx" and not has_tcx():
        pytest.skip("no TCX before Linux 6.6")
    if hook != "auto":
        router.hook = hook
        RUNS["attach"](router, False)


def told(router) -> tuple:
    """Return the words of drift: of lan0, and of the machine."""
    answer = router.info()
    words = [word for entry in answer["attachments"] for word in entry["drift"]]
    assert {*words, *answer["drift"]} <= {finding["code"] for finding in answer["findings"]}
    return words, answer["drift"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name.replace(" ", "-"))
def test_drift_is_named_foretold_and_repaired(whole, program, kind):
    move_to(whole, kind.hook)
    kind.provoke(whole, program)
    if has_tcx():  # a lost TCX program looks like a lost filter with its qdisc
        kind = kind._replace(words=tuple(word.replace("no_clsact", "no_filter") for word in kind.words))
    assert told(whole) == (list(kind.words), list(kind.machine))
    for name, run in RUNS.items():
        assert run(whole, True)["changed"] == (name in kind.repair + kind.others), f"{name}, in check mode"
    assert told(whole) == (list(kind.words), list(kind.machine)), "check mode changed something"
    for name in kind.repair:
        assert RUNS[name](whole, False)["changed"], name
    assert told(whole) == ([], [])
    assert not any(run(whole, False)["changed"] for run in RUNS.values())


def test_every_word_that_a_run_repairs_is_provoked_here():
    """Programs ahead are their owners' affair (test_preflight). For the saved state see test_saved_drift, for an older
    release's programs test_upgrade, for a rename test_names_of_interfaces, for a move cut off test_failures, for
    pending changes test_confirm.
    """
    provoked = {word for kind in KINDS for word in kind.words + kind.machine}
    assert provoked == set(DRIFT) - {
        "filter_ahead",
        "filter_overtaken",
        "tcx_ahead",
        "xdp_ahead",
        "change_unguarded",
        "change_overdue",
        "interface_renamed",
        "move_unfinished",
        "older_release",
        *SAVED,
    }


def test_rules_that_cannot_be_read_are_told_of(whole):
    whole.rules(WEB, DNS, {**WEB, "owner": "somebody", "ports": "80"})
    replace_image(whole)
    answer = whole.rules(WEB, DNS, purge=True)
    assert any("cannot be read" in line for line in answer["warnings"])
    assert [rule["owner"] for rule in answer["rules"]] == ["ansible", "ansible"]
