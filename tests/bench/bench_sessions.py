# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure a TCP packet's cost in the whole receive path, live: sessions that exist, and packets that are dropped.

The peers do the same job: they let packets of local sockets through, mark them, and drop what no rule names.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import rules as rulesets
from bench_live import stages_of
from measure import interleave
from original import note_for, places_for
from peers import DROPPING_PEERS, NOTHING, SESSION_PEERS
from programs import UNCACHED, compile_all
from report import Report
from session_stage import FLOOD, OWN, SPLICED, Kind, SessionStage
from stage import UNIT

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.errors import Unsupported

OURS = ("tproxy_splicer.c", "tproxy_splicer")
PROGRAMS = (
    ("bench/classify.c", "floor_empty"),
    ("bench/classify.c", "floor_drop"),
    ("bench/program.c", "original_splicer"),
    OURS,
    ("bench/replay.c", "replay"),
    ("bench/generate.c", "let_in"),
)
RUN_NS = 10_000_000


def run(report: Report, sizes: Sequence, rounds: int) -> int:
    """Measure and print; return how many packets went astray."""
    rows, notes, astray = [], [], 0
    try:
        for size in sizes:
            blobs = compile_all(PROGRAMS, places_for(size))
            blobs[UNCACHED] = compile_all([OURS], edit=UNCACHED)["tproxy_splicer"]
            for kind in (SPLICED, OWN, FLOOD):
                found, faults = _one_kind(kind, size, blobs, rounds, notes)
                rows += [[f"{size:,}", kind.name, *row] for row in found]
                astray += faults
    except Unsupported as fault:
        report.note(f"SESSIONS: left out, {fault}")
        return 0
    report.table(
        "SESSIONS: ns per packet of the whole receive path, TCP (median, minimum)",
        ["rules", "packets", "peer", "packet", "min", "over nothing", "min"],
        rows,
        rounds,
        (
            "ACKs of 256 real sessions replayed; each reached the stack, and the stack answered none with a reset",
            "ACKs without a session: 16,384 tuples that no rule names, which all but `nothing` and `empty` drop",
            note_for(sizes),
            *dict.fromkeys(notes),
        ),
    )
    return astray


def _one_kind(kind: Kind, size: int, blobs: dict, rounds: int, notes: list) -> tuple:
    """Return (rows, packets that went astray) of one kind of packets with one rule set; add to the notes."""
    slotted = rulesets.slotted([rule._replace(protocol="tcp") for rule in rulesets.host_rules(size)])
    rows, astray, peers = [], 0, SESSION_PEERS + (DROPPING_PEERS if kind == FLOOD else ())
    with ExitStack() as closing:
        stages = stages_of(peers, len(slotted), lambda peer: SessionStage(peer, kind, blobs, slotted), notes)
        for stage in stages:
            closing.callback(stage.close)
            stage.play(UNIT)
        samples = interleave({stage.peer.name: stage.play for stage in stages}, rounds, UNIT, RUN_NS)
        for stage in stages:
            name, lost = stage.peer.name, stage.astray()
            if lost:
                notes.append(f"{name}, {kind.name}: {lost} PACKETS WENT ASTRAY, hence no row")
                astray += lost
                continue
            rows.append([name, *samples.summary(name), *samples.summary(name, NOTHING)])
    return rows, astray
