# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tiny program that gives a packet the VLAN tag which a test run cannot, and hands it on.

The kernel keeps a tag beside the packet (vlan_do_receive() takes it from the frame before the hook), and so does
bpf_skb_vlan_push() with the first one.
"""

from __future__ import annotations

import struct

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf

TYPE_PROGRAM_ARRAY = 3
PUSH, TAIL_CALL = 18, 12  # bpf_skb_vlan_push, bpf_tail_call
NOTE_AT = 52  # of cb[1] in struct __sk_buff: the tag
ETH_P_8021Q = 0x8100


def load_tagger(program: int) -> int:
    """Return a program that tags a packet as cb[1] says and runs `program` on it."""
    table = bpf.create_map((TYPE_PROGRAM_ARRAY, 4, 4, 1, 0), "next")
    bpf.update(table, bytes(4), struct.pack("=I", program))
    proto = int.from_bytes(struct.pack(">H", ETH_P_8021Q), "little")
    code = (
        _instruction(0xBF, 6, 1),  # r6 = r1
        _instruction(0x61, 3, 1, NOTE_AT),  # r3 = cb[1]
        _instruction(0xB7, 2, immediate=proto),
        _instruction(0x85, immediate=PUSH),
        _instruction(0xBF, 1, 6),
        _instruction(0x18, 2, 1, immediate=table),  # r2 = the map, of two instructions
        _instruction(0),
        _instruction(0xB7, 3),
        _instruction(0x85, immediate=TAIL_CALL),
        _instruction(0xB7, 0, immediate=99),
        _instruction(0x95),
    )
    return bpf.load_program(b"".join(code), "tagger")


def _instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | target, offset, immediate)
