# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stage for live packets: a router and a client in namespaces of their own, and a peer at work on the router.

Packets enter through BPF_PROG_TEST_RUN of an XDP program with live frames, in the thread that plays them.
To the stack, a replayed ACK is a duplicate, which it takes by the shortest way.
"""

from __future__ import annotations

import os
import random
import socket
import struct
from pathlib import Path

import kernel
import packets
import targets
from namespace import command, mac_of, set_sysctl
from ours import OWN_ADDRESSES
from peers import Peer, Site, attach_tcx
from programs import PACKET_BYTES, Bench
from rows import Row
from traffic import CLIENTS, Host

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.program.blob import Blob
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system import bpf

INTERFACE, CLIENT_INTERFACE = "bench0", "client0"
OUT, SINK = "out0", "sink0"  # of the row whose packets are forwarded
PREFIX = {4: 24, 6: 64}
GATEWAY, OUT_ADDRESS = {4: "198.51.100.1", 6: "2001:db8:1::1"}, {4: "198.51.100.2", 6: "2001:db8:1::2"}
ALL_PACKETS = {4: "0.0.0.0/0", 6: "::/0"}
PIN = "/sys/fs/bpf/bench_let_in"


class Stage:
    """A peer at work, and the packets of one row; with more than one processor, each of them has packets of its own."""

    def __init__(self, peer: Peer, row: Row, family: int, size: int, blobs: dict, cpus: int = 1):
        self.peer, self.row, self.family = peer, row, family
        self.host = Host(row, family, peer.splices)
        self._bench = Bench()
        self._replays: list = []
        try:
            self._furnish(blobs, size, cpus)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the stage."""
        self._bench.__exit__()
        self.host.close()

    def play(self, count: int, cpu: int = 0) -> None:
        """Let packets in, or make connections."""
        if self.row.packets == "connections":
            self.host.connect_often(count)
            return
        replay, frame = self._replays[cpu]
        with self.host.router.inside():
            kernel.inject(replay, frame, self._ifindex, count)

    def astray(self) -> int:
        """Return how many packets of one unit took another way than they should."""
        before = self._arrived()
        self.play(self.row.unit)
        if self.row.packets == "connections":
            return 0  # each of them was accepted
        return abs(self._arrived() - before - (0 if self.row.receiver == "none" else self.row.unit))

    # ---- what the stage is made of -------------------------------------------------------

    def _furnish(self, blobs: dict, size: int, cpus: int) -> None:
        self._lay_wires(blobs["let_in"])
        if self.row.egress:
            self._lay_way_out(blobs["floor_drop"])
        self.host.open_sockets()
        with self.host.router.inside():
            slotted = self.row.slotted(size, self.family)
            interface = OUT if self.row.egress else INTERFACE
            site = Site(self._bench, blobs, slotted, self.row, self.family, interface)
            self.program = self.peer.set_up(site)
        if self.row.packets == "connections":
            self.host.choose_destinations(size)
            return
        played = self.host.packets_of(size, INTERFACE)
        for cpu in range(cpus):
            self._replays.append(self._replay(blobs, played[cpu::cpus]))

    def _lay_wires(self, let_in: Blob) -> None:
        """Make the interface, and the policy route that takes all its packets to local sockets."""
        router, client = OWN_ADDRESSES[self.family], CLIENTS[self.family]
        with self.host.router.inside():
            for kind in ("all", "default"):
                set_sysctl(f"ipv4/conf/{kind}/rp_filter", 0)
                set_sysctl(f"ipv6/conf/{kind}/disable_ipv6", int(self.family == 4))
            batch(
                "link set lo up",
                f"link add {INTERFACE} type veth peer name {CLIENT_INTERFACE}",
                f"link set {CLIENT_INTERFACE} netns {self.host.client.path}",
                self._address(router, INTERFACE),
                f"link set {INTERFACE} up",
            )
            self._ifindex, self._mac = socket.if_nametoindex(INTERFACE), mac_of(INTERFACE)
        with self.host.client.inside():
            batch(
                self._address(client, CLIENT_INTERFACE),
                f"link set {CLIENT_INTERFACE} up",
                f"neighbour add {router} lladdr {self._mac.hex(':')} dev {CLIENT_INTERFACE} nud permanent",
                f"route add default via {router}",
                family=self.family,
            )
            mac = mac_of(CLIENT_INTERFACE)
        with self.host.router.inside():
            # A firewall that drops the rest drops the answers of neighbours, too.
            words = [f"neighbour add {client} lladdr {mac.hex(':')} dev {INTERFACE} nud permanent"]
            if not self.row.egress:
                words += [f"route add local {ALL_PACKETS[self.family]} dev lo table 100"]
                words += [f"rule add iif {INTERFACE} lookup 100 pref 10"]
            batch(*words, family=self.family)
            self._let_in(let_in)

    def _address(self, address: str, interface: str) -> str:
        """Return the words that give an interface its address, without a look for duplicates."""
        nodad = " nodad" if self.family == 6 else ""
        return f"address add {address}/{PREFIX[self.family]} dev {interface}{nodad}"

    def _let_in(self, let_in: Blob) -> None:
        bpf.pin(self._bench.adopt(kernel.load_xdp(let_in.instructions, "let_in")), PIN)
        try:
            command(f"ip link set dev {INTERFACE} xdpdrv pinned {PIN}")
        finally:
            os.unlink(PIN)

    def _lay_way_out(self, sink: Blob) -> None:
        """Forward the packets of the interface to another one, behind which they are dropped.

        The kernel plays a frame again with the header that it had on its way out, so both ends have one address.
        """
        with self.host.router.inside():
            set_sysctl("ipv4/ip_forward", 1)
            set_sysctl("ipv6/conf/all/forwarding", 1)
            batch(
                f"link add {OUT} type veth peer name {SINK}",
                self._address(OUT_ADDRESS[self.family], OUT),
                f"link set {SINK} address {self._mac.hex(':')} up",
                f"link set {OUT} up",
            )
            attach_tcx(self._bench.load(sink), SINK, "ingress")
            batch(
                f"neighbour add {GATEWAY[self.family]} lladdr {self._mac.hex(':')} dev {OUT} nud permanent",
                f"route add default via {GATEWAY[self.family]}",
                family=self.family,
            )

    def _replay(self, blobs: dict, played: list) -> tuple:
        """Return the program that plays packets, and its frame."""
        for name in ("frames", "progress"):
            self._bench.add_map(name)
        played, length = list(played), len(played[0])
        random.Random(1).shuffle(played)
        padding = bytes(PACKET_BYTES - length)
        self._bench.mapped_memory("frames")[:] = b"".join(
            played[number % len(played)] + padding for number in range(targets.COUNT)
        )
        code = blobs[f"replay_{length}"].bind(self._bench.maps)
        ethernet = self._mac + bytes.fromhex("020000000001") + struct.pack(">H", packets.ETHERTYPES[self.family])
        return self._bench.adopt(kernel.load_xdp(code, "replay")), ethernet + played[0]

    # ---- where packets went --------------------------------------------------------------

    def _arrived(self) -> int:
        """Return how many packets the receiver has got; for packets to drop, how many the stack has got."""
        with self.host.router.inside():
            if self.row.receiver == "wire":
                return _forwarded(self.family)
            if self.row.protocol == "tcp":
                counted = _counters("Tcp")
                resets = 0 if self.row.receiver == "none" else counted["OutRsts"]
                return counted["InSegs"] - resets - counted["InErrs"]
            if self.row.receiver == "none":
                return _datagrams(self.family)
            return self._dropped_by_sockets()

    def _dropped_by_sockets(self) -> int:
        """Return how many packets full sockets have dropped; lines of /proc/net/udp end with that number."""
        name = {4: "udp", 6: "udp6"}[self.family]
        lines = Path(f"/proc/thread-self/net/{name}").read_text(encoding="ascii").splitlines()[1:]
        ports = {f"{port:04X}" for port in self.host.ports}
        found = [line.split() for line in lines]
        return sum(int(words[-1]) for words in found if words[1].rpartition(":")[2] in ports)


def batch(*lines: str, family: int = 0) -> None:
    """Run commands of ip(8)."""
    command(f"ip {f'-{family} ' if family else ''}-batch -", "".join(f"{line}\n" for line in lines))


def _forwarded(family: int) -> int:
    """Return how many packets of others the router has sent."""
    return _counters("Ip")["ForwDatagrams"] if family == 4 else _counters_of_ipv6()["Ip6OutForwDatagrams"]


def _counters(protocol: str) -> dict:
    """Return the kernel's counters of a protocol, TCP for both families."""
    lines = Path("/proc/thread-self/net/snmp").read_text(encoding="ascii").splitlines()
    names, values = [line.split()[1:] for line in lines if line.startswith(f"{protocol}:")]
    return dict(zip(names, map(int, values)))


def _datagrams(family: int) -> int:
    """Return how many datagrams reached the stack, with a socket or without."""
    counted, prefix = (_counters("Udp"), "") if family == 4 else (_counters_of_ipv6(), "Udp6")
    return sum(counted[prefix + name] for name in ("InDatagrams", "NoPorts", "InErrors"))


def _counters_of_ipv6() -> dict:
    lines = Path("/proc/thread-self/net/snmp6").read_text(encoding="ascii").splitlines()
    return {name: int(value) for name, value in map(str.split, lines)}
