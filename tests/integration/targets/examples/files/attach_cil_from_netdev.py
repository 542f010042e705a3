# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attach a TCX program with the name of Cilium's to ingress: attach_cil_from_netdev.py INTERFACE.

bpftool of Debian 12 attaches no TCX programs, and tc_bpf_attach gives the programs of others names of its own.
"""

from __future__ import annotations

import socket
import struct
import sys

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf

NEXT = -1
# struct bpf_insn of linux/bpf.h: r0 = NEXT, exit.
PROGRAM = struct.pack("<BBhi", 0xB7, 0, 0, NEXT) + struct.pack("<BBhi", 0x95, 0, 0, 0)


def main() -> None:
    """Attach the program. It stays without this process, until the interface goes."""
    ifindex = socket.if_nametoindex(sys.argv[1])
    program = bpf.load_program(PROGRAM, "cil_from_netdev")
    bpf.attach_tcx(ifindex, "ingress", program, bpf.tcx_programs(ifindex, "ingress").revision)


if __name__ == "__main__":
    main()
