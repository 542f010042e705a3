# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves between the hooks under traffic: nothing that is spliced gets lost, nothing that is denied gets through."""

from __future__ import annotations

import dataclasses
import os

import pytest

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf
from ansible_collections.netedge.tproxy.tests.kernel.operations.damage import has_tcx, ifindex_of
from ansible_collections.netedge.tproxy.tests.kernel.traffic.test_changes import SPLICED, Stream

MOVES = int(os.environ.get("TPROXY_REPLACEMENTS", "10"))
NEXT = -1


@pytest.fixture
def splicing(router):
    """Return a router on clsact that splices the packets of a Stream."""
    if not has_tcx():
        pytest.skip("no TCX before Linux 6.6")
    router.route()
    router.attach(hook="clsact")
    router.rules(SPLICED)
    return router


def hook_of(router) -> str:
    entry = router.info()["attachments"][0]
    assert entry["drift"] == []
    return entry["hook"]


@pytest.mark.parametrize("accept", ["ok", "unspec"])
def test_it_moves_to_tcx_and_back(splicing, client, accept):
    """With `unspec` a passed packet meets both programs for a moment, which set the same mark."""
    splicing.attach(policy={"accept": accept})
    with Stream(client) as stream:
        for number in range(MOVES):
            hook = "clsact" if number % 2 else "tcx"
            assert splicing.attach(hook=hook)["changed"]
    stream.judge(MOVES)
    assert hook_of(splicing) == hook


def test_it_moves_with_a_newer_program_and_back(splicing, client):
    other = dataclasses.replace(splicing.blob, source_sha256="02" * 32)
    with Stream(client) as stream:
        for number in range(MOVES):
            blob = splicing.blob if number % 2 else other
            hook = "clsact" if number % 2 else "auto"
            assert splicing.attach(blob_content=blob.to_json(), hook=hook)["changed"]
    stream.judge(MOVES)


def test_tcx_programs_are_replaced_and_reordered(splicing, client, program):
    neighbour, ifindex = program(NEXT), ifindex_of(splicing)
    bpf.attach_tcx(ifindex, "ingress", neighbour.fd, bpf.tcx_programs(ifindex, "ingress").revision)
    splicing.attach(hook="tcx")
    with Stream(client) as stream:
        for number in range(MOVES):
            option = "after" if number % 2 else "before"
            assert splicing.attach(**{option: str(neighbour.id)})["changed"]
    stream.judge(MOVES)
    assert neighbour.id in bpf.tcx_programs(ifindex, "ingress").ids


def test_an_image_outgrows_its_map_under_a_tcx_program(splicing, client, netns):
    netns.veth("lan1", "lan1-peer")
    splicing.attach(hook="tcx")
    splicing.attach("lan1", hook="clsact")
    with Stream(client) as stream:
        rules = [
            {**SPLICED, "ports": "80", "protocol": kind, "interfaces": [f"lan{n}"]}
            for kind in ("tcp", "udp")
            for n in range(2)
        ]
        assert splicing.rules(SPLICED, *rules, purge=True)["changed"]
    stream.judge(1)
    after = splicing.info()
    assert after["image"]["bytes"] > 1 << 20
    assert [entry["hook"] for entry in after["attachments"]] == ["tcx", "clsact"]
    assert [entry["drift"] for entry in after["attachments"]] == [[], ["no_route"]]
