# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Run a loaded program on the first packet of a flow, without sending a packet (BPF_PROG_TEST_RUN).

The program leaves reason and rule in skb->cb. bpf_sk_assign refuses every packet of a test run with EOPNOTSUPP, because
no interface received it. The program has looked up rule and listener before that, as for a real packet. So a test run
counts this refusal as spliced.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import NamedTuple

from ..abi.layout import (
    REASON_ASSIGN_ERROR,
    REASON_SPLICED,
    TRACE_ERROR,
    TRACE_REASON,
    TRACE_RULE,
    VERDICT_DROP,
    VERDICT_PASS,
)
from ..abi.structs import REASON_NAMES, VERDICT_NAMES
from ..model.flow import Flow, first_packet
from ..system.system import Bpf

# struct __sk_buff, include/uapi/linux/bpf.h: size of the context, offsets of ifindex and cb
CONTEXT_BYTES, IFINDEX_OFFSET, CB_OFFSET = 192, 40, 48
TC_ACT_SHOT = 2  # include/uapi/linux/pkt_cls.h


class Trace(NamedTuple):
    """The verdict (one of VERDICT_NAMES), the name of the reason, and the slot of the rule, 0 without a rule."""

    verdict: str
    reason: str
    rule: int


def ask_program(bpf: Bpf, program_id: int, ifindex: int, flow: Flow) -> Trace:
    """Return the trace of a loaded program, given its id. Raise KernelRefused."""
    descriptor = bpf.program_by_id(program_id)
    try:
        return ask(bpf, descriptor, ifindex, flow)
    finally:
        os.close(descriptor)


def ask(bpf: Bpf, descriptor: int, ifindex: int, flow: Flow) -> Trace:
    """Return the trace of a program for the first packet of a flow that enters by an interface. Raise KernelRefused."""
    context = bytearray(CONTEXT_BYTES)
    struct.pack_into("=I", context, IFINDEX_OFFSET, ifindex)
    run = bpf.test_run(descriptor, first_packet(flow), bytes(context))
    control = struct.unpack_from("=5i", run.context, CB_OFFSET)
    reason, verdict = control[TRACE_REASON] & 0xFF, control[TRACE_REASON] >> 8
    if reason == REASON_ASSIGN_ERROR and control[TRACE_ERROR] == -errno.EOPNOTSUPP:
        reason, verdict = REASON_SPLICED, VERDICT_PASS
    elif run.value == TC_ACT_SHOT:  # of another program, which leaves no trace
        verdict = VERDICT_DROP
    return Trace(VERDICT_NAMES[verdict], REASON_NAMES[reason], control[TRACE_RULE])
