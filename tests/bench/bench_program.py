# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure a packet's cost in the whole program, in test runs: this program beside the original.

A test run cannot assign a socket to the packet (EOPNOTSUPP): bench_live.py measures the cost of splicing.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from contextlib import ExitStack

import namespace
import rules as rulesets
import targets
from measure import interleave
from original import fill_original, fill_original_address, note_for, places_for
from ours import counted, fill_image, fill_interface
from programs import Bench, compile_all
from report import Report

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.abi.layout import (
    REASON_ASSIGN_ERROR,
    REASON_DEFAULT,
    REASON_ESTABLISHED,
    REASON_NO_LISTENER,
    VERDICT_DROP,
    VERDICT_PASS,
)
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.prefix import parse_address

INTERFACE = "bench0"
SESSIONS = 128
WALKERS = ("nothing_random", "ours_random", "original_random")
# struct __sk_buff: ingress_ifindex and ifindex stand at bytes 36 and 40 of 192. Without the first, nothing is counted.
CONTEXT = struct.Struct("=36xII148x")
CASES = (
    ("established session", REASON_ESTABLISHED, VERDICT_PASS),
    ("no rule, default drop", REASON_DEFAULT, VERDICT_DROP),
    ("rule, no listener", REASON_NO_LISTENER, VERDICT_DROP),
    ("rule, listener, assign", REASON_ASSIGN_ERROR, VERDICT_DROP),
)


def run(report: Report, sizes: Sequence, rounds: int) -> int:
    """Measure and print; return how many packets took another way than they should."""
    rows, astray = [], 0
    for size in sizes:
        blobs = compile_all([("bench/program.c", name) for name in WALKERS], places_for(size))
        slotted = rulesets.slotted(rulesets.mixed_rules(size))
        home = namespace.Namespace()
        with home.inside(), Bench() as bench:
            found, faults = _one_size(bench, blobs, slotted, rounds)
        home.close()
        rows += [[f"{size:,}", *row] for row in found]
        astray += faults
    report.table(
        "PROGRAM: ns per packet over a program that only puts the next flow into the packet (median, minimum)",
        ["rules", "packets", "ours", "min", "original", "min", "original/ours", "quartiles"],
        rows,
        rounds,
        (
            f"table of {targets.COUNT:,} random flows of TCP and UDP ({SESSIONS} TCP sessions), variants by turns; "
            + (f"{astray} PACKETS WENT ASTRAY" if astray else "of each row a whole table was counted under its reason"),
            "a test run lets no socket be assigned: the last row stops there, and so does the original's first;"
            " what its assignment costs the stack behind it (a route look-up for each packet) is not seen here",
            note_for(sizes),
        ),
    )
    return astray


def _one_size(bench: Bench, blobs: dict, slotted: list, rounds: int) -> tuple:
    """Return (rows, packets that went astray) of one rule set."""
    ifindex = _interface()
    fill_image(bench, slotted)
    fill_original(bench, slotted, answer_is_slot=False)
    fill_interface(bench, ifindex, INTERFACE)
    fill_original_address(bench, ifindex, INTERFACE)
    for name in ("targets", "progress"):
        bench.add_map(name)
    table = bench.mapped_memory("targets")
    packet = targets.frame(rulesets.traffic(rulesets.mixed_rules(1), "hit", 1)[0], namespace.mac_of(INTERFACE))
    context = CONTEXT.pack(ifindex, ifindex)
    runs = {name: bench.runner(blob, packet, context) for name, blob in blobs.items()}
    rows, astray = [], 0
    with ExitStack() as sockets:
        for name, reason, verdict in CASES:
            table[:] = targets.table(_flows(reason, slotted, sockets))
            before = counted(bench, ifindex, reason, verdict)
            runs["ours_random"](targets.COUNT)
            astray += targets.COUNT - (counted(bench, ifindex, reason, verdict) - before)
            rows.append([name, *_row(interleave(runs, rounds, targets.COUNT))])
    return rows, astray


def _interface() -> int:
    """Make the interface on which the packets are said to arrive, and let every address be local; return its index."""
    for words in (
        "link set lo up",
        f"link add {INTERFACE} type veth peer name peer0",
        f"link set {INTERFACE} up",
        "route add local default dev lo table 100",
        "rule add pref 10 lookup 100",
    ):
        namespace.command(f"ip {words}")
    return socket.if_nametoindex(INTERFACE)


def _flows(reason: int, slotted: list, sockets: ExitStack) -> list:
    """Return the flows of a case, and open the sockets it needs."""
    rules = [rule for rule, _slot in slotted]
    if reason == REASON_DEFAULT:
        foreign = rulesets.traffic(rules, "address miss", targets.COUNT)
        return [flow for flow, slot in zip(foreign, rulesets.Judge(slotted).slots(foreign)) if not slot]
    flows = [flow for flow in rulesets.traffic(rules, "hit", targets.COUNT) if _is_unicast(flow)]
    if reason == REASON_ESTABLISHED:
        return _sessions([flow for flow in flows if flow.protocol == "tcp"], sockets)
    if reason == REASON_ASSIGN_ERROR:
        open_listeners(sockets)
    return flows


def open_listeners(sockets: ExitStack) -> dict[str, socket.socket]:
    """Open the sockets to which the rules splice; return them by protocol."""
    found = {}
    for protocol, kind in (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)):
        listener = sockets.enter_context(socket.socket(socket.AF_INET, kind))
        listener.setsockopt(socket.SOL_IP, socket.IP_TRANSPARENT, 1)
        listener.bind((rulesets.PROXY_IP, rulesets.PROXY_PORT))
        if kind == socket.SOCK_STREAM:
            listener.listen()
        found[protocol] = listener
    return found


def _sessions(flows: list, sockets: ExitStack) -> list:
    """Connect to the destinations of some flows; return the flows as the sessions have them."""
    made = []
    for flow in flows[:SESSIONS]:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_IP, socket.IP_TRANSPARENT, 1)
            listener.bind((socket.inet_ntoa((flow.destination & 0xFFFFFFFF).to_bytes(4, "big")), flow.port))
            listener.listen()
            client = sockets.enter_context(socket.create_connection(listener.getsockname(), 5, ("127.0.0.1", 0)))
            sockets.enter_context(listener.accept()[0])
        address, port = client.getsockname()
        source = int.from_bytes(parse_address(address), "big")
        made.append(flow._replace(source=source, source_port=port))
    return made


def _is_unicast(flow: rulesets.Flow) -> bool:
    """Return whether the stack takes the flow: neither address is of 0/8 or 127/8, or from 224/4 on."""
    special = (0, 127, *range(224, 256))
    return all(address >> 24 & 0xFF not in special for address in (flow.destination, flow.source))


def _row(samples) -> list:
    cells = [*samples.summary("ours_random", "nothing_random"), *samples.summary("original_random", "nothing_random")]
    low, middle, high = samples.ratio("original_random", "ours_random", "nothing_random")
    return [*cells, middle, f"{low:.1f}..{high:.1f}"]
