# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stage for live frames: a network namespace with one interface, a peer at work on it, and sockets to deliver to.

Frames enter through BPF_PROG_TEST_RUN of an XDP program with live frames, in the thread that plays them.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from contextlib import ExitStack
from pathlib import Path

import kernel
import rules as rulesets
import targets
from namespace import Namespace, command, mac_of, set_sysctl
from peers import INTERFACE, Peer
from programs import PROGRESS_BYTES, Bench

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.program.blob import Blob
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf

WILDCARD_PORT = 15002
ROUTER = "192.0.2.2"
SOURCE = 0xFFFF << 32 | 192 << 24 | 2 << 8 | 1
UNIT = 2048
PIN = "/sys/fs/bpf/bench_let_in"


def deliver_locally(bench: Bench, let_in: Blob) -> int:
    """Let the interface of the peer take frames, by a policy route to local sockets. Return its index."""
    set_sysctl(f"ipv6/conf/{INTERFACE}/disable_ipv6", 1)
    for name in ("all", INTERFACE):
        set_sysctl(f"ipv4/conf/{name}/rp_filter", 0)
    command(f"ip address add {ROUTER}/24 dev {INTERFACE}")
    command(f"ip link set {INTERFACE} up")
    command("ip route add local default dev lo table 100")
    command(f"ip rule add iif {INTERFACE} lookup 100 pref 10")
    bpf.pin(bench.adopt(kernel.load_xdp(let_in.instructions, "let_in")), PIN)
    try:
        command(f"ip link set dev {INTERFACE} xdpdrv pinned {PIN}")
    finally:
        os.unlink(PIN)
    return socket.if_nametoindex(INTERFACE)


class Stage:
    """A namespace with a peer at work in it."""

    def __init__(self, peer: Peer, blobs: dict, slotted: list):
        self.peer = peer
        self._closing = ExitStack()
        self._namespace = Namespace()
        self._closing.callback(self._namespace.close)
        try:
            self._furnish(blobs, slotted)
        except BaseException:
            self.close()
            raise

    def _furnish(self, blobs: dict, slotted: list) -> None:
        with self._namespace.inside():
            self._bench = self._closing.enter_context(Bench())
            self._lay_wires(blobs["let_in"])
            self._port = rulesets.PROXY_PORT if self.peer.splices else WILDCARD_PORT
            self._open_sockets()
            self.program = self.peer.set_up(self._bench, blobs, slotted)
            self._make_generator(blobs["generate"], [rule for rule, _slot in slotted])

    def close(self) -> None:
        """End the stage."""
        self._closing.close()

    def play(self, count: int) -> None:
        """Let frames in."""
        with self._namespace.inside():
            kernel.inject(self._generator, self._frame, self._ifindex, count)

    def astray(self) -> int:
        """Return how many frames since begin() did not reach the socket that the peer gives them to."""
        return self._let_in() - self._delivered() - self._before

    def begin(self) -> None:
        """Fill the socket, and count from here on."""
        self.play(UNIT)
        self._before = self._let_in() - self._delivered()

    def _let_in(self) -> int:
        return struct.unpack_from("=Q", bpf.lookup(self._bench.maps["progress"], bytes(4), PROGRESS_BYTES))[0]

    def _lay_wires(self, let_in) -> None:
        """Make the interface, and the policy route that takes all its packets to local sockets."""
        command("ip link set lo up")
        command(f"ip link add {INTERFACE} type veth peer name peer0")
        set_sysctl("ipv6/conf/peer0/disable_ipv6", 1)
        command("ip link set peer0 up")
        self._ifindex = deliver_locally(self._bench, let_in)

    def _open_sockets(self) -> None:
        """Open the proxy's socket and one for every address. No process reads, so a full socket drops every packet."""
        for address in ((rulesets.PROXY_IP, rulesets.PROXY_PORT), ("0.0.0.0", WILDCARD_PORT)):
            receiver = self._closing.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            receiver.setsockopt(socket.SOL_IP, socket.IP_TRANSPARENT, 1)
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            receiver.bind(address)

    def _make_generator(self, blob, rules: list) -> None:
        flows = [flow._replace(source=SOURCE) for flow in rulesets.traffic(rules, "hit", targets.COUNT)]
        if not self.peer.splices:
            flows = [flow._replace(port=WILDCARD_PORT) for flow in flows]
        for name in ("targets", "progress"):
            self._bench.add_map(name)
        self._bench.window("targets")[:] = targets.table(flows)
        self._generator = self._bench.adopt(kernel.load_xdp(blob.bind(self._bench.maps), "generate"))
        self._frame = targets.frame(flows[0], mac_of(INTERFACE))

    def _delivered(self) -> int:
        """Return how many packets the peer's socket has dropped, being full; /proc/net/udp ends with that number."""
        with self._namespace.inside():
            lines = Path("/proc/thread-self/net/udp").read_text(encoding="ascii").splitlines()[1:]
        return sum(int(line.split()[-1]) for line in lines if re.match(rf"\s*\d+: \w+:{self._port:04X} ", line))
