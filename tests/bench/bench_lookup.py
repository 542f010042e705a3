# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what the program for socket lookups adds to each lookup of the machine, in test runs (Linux 5.17).

The stack asks it for each new connection and for each datagram without a connected socket, while it is attached.
"""

from __future__ import annotations

import pathlib
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import kernel
import namespace
import rules as rulesets
from bench_program import open_listeners
from measure import interleave
from ours import OWN_ADDRESSES, fill_image, fill_interface
from programs import Bench
from report import Report

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.protocol import protocol_number
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.program.blob import blob_from_json
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.socket_lookup import key_of
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf

PREBUILT = pathlib.Path(__file__).resolve().parents[2] / "roles/tproxy_splicer/files/tproxy_splicer.json"
RUNS = 10_000
ANY_INTERFACE = 0  # a test run takes no ingress_ifindex (net/bpf/test_run.c), so the policy is that of index 0
# struct bpf_sk_lookup of include/uapi/linux/bpf.h, IPv4: cookie, family, protocol, remote and local address and port
CONTEXT = struct.Struct("=QII4s16xHxx4s16xI8x")
PASSING = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0)  # r0 = SK_PASS; exit


class Lookup(NamedTuple):
    """A lookup of the stack, and whether the program finds a listener for it."""

    context: bytes
    is_found: bool = False


def run(report: Report, sizes: Sequence, rounds: int) -> int:
    """Measure and print; return how many lookups had a wrong answer."""
    rows, wrong = [], 0
    for size in sizes:
        home = namespace.Namespace()
        with home.inside(), Bench() as bench, ExitStack() as sockets:
            runs, faults = _prepare(bench, sockets, rulesets.mixed_rules(size))
            samples = interleave(runs, rounds, RUNS)
        home.close()
        wrong += faults
        for name in list(runs)[1:]:
            median, least = samples.summary(name, "empty program")
            rows.append([f"{size:,}", name, median, least])
    report.table(
        "LOOKUP: ns that the program for socket lookups adds to one, over an empty program (median, minimum)",
        ["rules", "lookup", "ours", "min"],
        rows,
        rounds,
        (
            "own address: no rule takes it, and the program asks no image",
            f"{wrong or 'no'} lookups had a wrong answer",
        ),
    )
    return wrong


def _prepare(bench: Bench, sockets: ExitStack, rules: list) -> tuple[dict[str, Callable[[int], None]], int]:
    """Return {lookup: function that asks the program so many times}, and how many answers are wrong."""
    namespace.command("ip link set lo up")
    fill_image(bench, rulesets.slotted(rules))
    fill_interface(bench, ANY_INTERFACE, "any")
    for protocol, listener in open_listeners(sockets).items():
        rule = next(rule for rule in rules if rule.protocol == protocol)
        bpf.update(bench.maps["listeners"], key_of(rule), struct.pack("=Q", listener.fileno()), "listeners")
    blob = blob_from_json(PREBUILT.read_text(encoding="utf-8"))
    ours = blob.in_this_build(blob.sk_lookup)
    program = bench.adopt(bpf.load_program(ours.bind(bench.maps), "ours", ours.function, bpf.SK_LOOKUP))
    empty = bench.adopt(bpf.load_program(PASSING, "empty", "empty", bpf.SK_LOOKUP))
    lookups = _lookups(rules)
    wrong = sum(kernel.run_lookup(program, each.context, 1) != (True, each.is_found) for each in lookups.values())
    first = next(iter(lookups.values())).context
    runs = {"empty program": lambda count: kernel.run_lookup(empty, first, count)}
    runs |= {name: _asking(program, each.context) for name, each in lookups.items()}
    return runs, wrong


def _asking(program: int, context: bytes) -> Callable[[int], None]:
    return lambda count: kernel.run_lookup(program, context, count)


def _lookups(rules: list) -> dict[str, Lookup]:
    (hit,) = rulesets.traffic(rules, "hit", 1)
    address = socket.inet_ntoa((hit.destination & 0xFFFFFFFF).to_bytes(4, "big"))
    return {
        "own address": Lookup(_context("udp", OWN_ADDRESSES[4], 53)),
        "no rule": Lookup(_context("udp", "203.0.113.9", 7)),
        "rule, listener": Lookup(_context(hit.protocol, address, hit.port), is_found=True),
    }


def _context(protocol: str, local: str, port: int) -> bytes:
    remote, here = (socket.inet_aton(address) for address in ("198.51.100.7", local))
    number = protocol_number(protocol)
    return CONTEXT.pack(0, socket.AF_INET, number, remote, socket.htons(40000), here, port)
