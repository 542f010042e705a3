# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One end of a tunnel of GRE or IPIP, for a kernel without such devices: a tun device and a raw socket.

Its outer packets are those of RFC 2784 and RFC 2003.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys
import threading

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000  # linux/if_tun.h
OUTER = {"gre": (47, struct.pack(">HH", 0, 0x0800)), "ipip": (4, b"")}  # protocol and header
LONGEST = 65535


def open_tun(name: str) -> int:
    """Return the descriptor of a new tun device."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


def carry(name: str, kind: str, own: str, other: str) -> None:
    """Carry packets between the device and the other end, for ever."""
    protocol, header = OUTER[kind]
    device = open_tun(name)
    outer = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
    outer.bind((own, 0))
    outer.connect((other, 0))
    threading.Thread(target=_send, args=(device, outer, header), daemon=True).start()
    while True:
        packet = outer.recv(LONGEST)
        inner = packet[(packet[0] & 15) * 4 + len(header) :]
        if inner:
            os.write(device, inner)


def _send(device: int, outer: socket.socket, header: bytes) -> None:
    while True:
        outer.send(header + os.read(device, LONGEST))


if __name__ == "__main__":
    carry(*sys.argv[1:])
