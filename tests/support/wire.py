# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Veth pairs on which the program of a Splicer gets real frames, because test runs count nothing."""

from __future__ import annotations

import socket

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.netlink.client import Netlink
from ansible_collections.netedge.tproxy.tests.support.ends import set_sysctl
from ansible_collections.netedge.tproxy.tests.support.packets import ROUTER_LINK
from ansible_collections.netedge.tproxy.tests.support.router import eventually

MTU = 9000


class Wires:
    """Interfaces of chosen indexes in this network namespace, each with the program on its clsact."""

    def __init__(self, netns, splicer):
        self._netns, self._splicer = netns, splicer
        for scope in ("all", "default"):  # no frame of the kernel's own
            set_sysctl(f"ipv6.conf.{scope}.disable_ipv6", 1)

    def lay(self, *ifindexes: int) -> None:
        """Make the interfaces."""
        with Netlink() as netlink:
            for ifindex in ifindexes:
                link = f"wire{ifindex} index {ifindex} mtu {MTU} address {ROUTER_LINK.hex(':')}"
                self._netns.run(f"ip link add {link} type veth peer name far{ifindex}")
                for end in (f"far{ifindex} mtu {MTU}", f"wire{ifindex}"):
                    self._netns.run(f"ip link set {end} up")
                netlink.add_clsact(ifindex)
                netlink.replace_filter(ifindex, "ingress", 1, 1, self._splicer.fd, "counted")

    def send(self, ifindex: int, *frames: bytes) -> None:
        """Let frames come in by an interface, and wait until the program has counted them."""
        wanted = self._splicer.packets() + len(frames)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((f"far{ifindex}", 0))
            for frame in frames:
                raw.send(frame)
        eventually(lambda: self._splicer.packets() >= wanted)
