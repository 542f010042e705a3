# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Asks a program what it would do with a flow, without a packet on any wire (BPF_PROG_TEST_RUN).

The program leaves reason and rule in skb->cb. bpf_sk_assign refuses every packet of a test run with EOPNOTSUPP, since
such a packet came in nowhere; up to there all has happened as for a real one, so that counts as spliced.
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
from ..abi.structs import REASON_NAMES
from ..model.flow import Flow, first_packet

# struct __sk_buff, include/uapi/linux/bpf.h: a context of this size, ifindex and cb at these offsets
CONTEXT_BYTES, IFINDEX_OFFSET, CB_OFFSET = 192, 40, 48


class Trace(NamedTuple):
    """The program's answer: "pass" or "drop", the reason's name, and the slot of the rule, 0 for none."""

    verdict: str
    reason: str
    rule: int


def ask_program(bpf, program_id: int, ifindex: int, flow: Flow) -> Trace:
    """Ask a loaded program by its id; see `ask`."""
    descriptor = bpf.program_by_id(program_id)
    try:
        return ask(bpf, descriptor, ifindex, flow)
    finally:
        os.close(descriptor)


def ask(bpf, descriptor: int, ifindex: int, flow: Flow) -> Trace:
    """Return what the program behind a descriptor does with the first packet of a flow that comes in there."""
    context = bytearray(CONTEXT_BYTES)
    struct.pack_into("=I", context, IFINDEX_OFFSET, ifindex)
    left = bpf.test_run(descriptor, first_packet(flow), bytes(context)).context
    words = struct.unpack_from("=5i", left, CB_OFFSET)
    reason, verdict = words[TRACE_REASON] & 0xFF, words[TRACE_REASON] >> 8
    if reason == REASON_ASSIGN_ERROR and words[TRACE_ERROR] == -errno.EOPNOTSUPP:
        reason, verdict = REASON_SPLICED, VERDICT_PASS
    return Trace("drop" if verdict == VERDICT_DROP else "pass", REASON_NAMES[reason], words[TRACE_RULE])
