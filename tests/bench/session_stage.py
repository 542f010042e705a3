# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stage for live TCP: a router and a client in namespaces of their own, real sessions, and their ACKs replayed.

The ACKs are those that the client sent. To the stack a replayed one is a duplicate, which it takes by the shortest way.
"""

from __future__ import annotations

import random
import socket
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import kernel
import rules as rulesets
import targets
from namespace import Namespace, command, mac_of, set_sysctl
from peers import INTERFACE, Peer
from programs import PACKET_BYTES, Bench
from stage import ROUTER, UNIT, WILDCARD_PORT, deliver_locally

CLIENT_INTERFACE, CLIENT = "client0", "192.0.2.1"
CLIENT_PORTS = range(20000, 20256)
SERVICE = 9000
ETH_P_ALL, PACKET_OUTGOING = 3, 4
ACK_BYTES = 52
FLAGS_AT, ADDRESSES_AT = 33, slice(12, 24)  # in an IPv4 packet without options
TIMESTAMPS = bytes.fromhex("0101080a0000000100000001")


class Kind(NamedTuple):
    """Which packets a stage plays, and whether they reach a socket behind the programs that splice."""

    name: str
    reaches: bool


SPLICED, OWN, FLOOD = Kind("spliced session", True), Kind("own session", True), Kind("ACKs without a session", False)


class SessionStage:
    """A peer at work on the router's interface, and the packets of one kind."""

    def __init__(self, peer: Peer, kind: Kind, blobs: dict, slotted: list):
        self.peer, self.kind = peer, kind
        self._closing = ExitStack()
        self._router, self._client = Namespace(), Namespace()
        for namespace in (self._router, self._client):
            self._closing.callback(namespace.close)
        self._bench = self._closing.enter_context(Bench())
        try:
            self._lay_wires(blobs)
            with self._router.inside():
                self._open_listeners()
                self.program = peer.set_up(self._bench, blobs, slotted)
            self._make_replay(blobs, self._packets([rule for rule, _slot in slotted]))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the stage."""
        self._closing.close()

    def play(self, count: int) -> None:
        """Let packets in."""
        with self._router.inside():
            kernel.inject(self._replay, self._frame, self._ifindex, count)

    def astray(self) -> int:
        """Return how many packets of one unit took another way than they should."""
        before = self._received()
        self.play(UNIT)
        return abs(self._received() - before - (UNIT if self.kind.reaches or not self.peer.splices else 0))

    def _received(self) -> int:
        """Return the TCP segments that the router's stack took, less the resets that it sent."""
        with self._router.inside():
            lines = Path("/proc/thread-self/net/snmp").read_text(encoding="ascii").splitlines()
        names, values = [line.split()[1:] for line in lines if line.startswith("Tcp:")]
        counted = dict(zip(names, map(int, values)))
        return counted["InSegs"] - (counted["OutRsts"] if self.kind.reaches else 0)

    def _lay_wires(self, blobs: dict) -> None:
        with self._router.inside():
            command("ip link set lo up")
            command(f"ip link add {INTERFACE} type veth peer name {CLIENT_INTERFACE}")
            set_sysctl(f"ipv6/conf/{CLIENT_INTERFACE}/disable_ipv6", 1)
            command(f"ip link set {CLIENT_INTERFACE} netns {self._client.path}")
            self._ifindex, self._mac = deliver_locally(self._bench, blobs["let_in"]), mac_of(INTERFACE)
        with self._client.inside():
            command(f"ip address add {CLIENT}/24 dev {CLIENT_INTERFACE}")
            command(f"ip link set {CLIENT_INTERFACE} up")
            command(f"ip route add default via {ROUTER}")
            self._service = self._listener((CLIENT, SERVICE))

    def _open_listeners(self) -> None:
        self._proxy = self._listener((rulesets.PROXY_IP, rulesets.PROXY_PORT))
        self._wildcard = self._listener(("0.0.0.0", WILDCARD_PORT))

    def _listener(self, address: tuple) -> socket.socket:
        made = self._closing.enter_context(socket.socket())
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_IP, socket.IP_TRANSPARENT, 1)
        made.bind(address)
        made.listen(len(CLIENT_PORTS))
        return made

    # ---- packets -------------------------------------------------------------------------

    def _packets(self, rules: list) -> list:
        """Return the packets to play."""
        if self.kind == FLOOD:
            return [_foreign_ack(flow) for flow in rulesets.traffic(rules, "address miss", targets.COUNT)]
        with self._router.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as tap:
            tap.setsockopt(socket.SOL_SOCKET, 33, 1 << 25)  # SO_RCVBUFFORCE
            tap.bind((INTERFACE, ETH_P_ALL))
            tap.settimeout(0.5)
            for port, flow in zip(CLIENT_PORTS, rulesets.traffic(rules, "hit", len(CLIENT_PORTS))):
                self._connect(port, flow)
            found = _acks(tap)
        if len(found) < len(CLIENT_PORTS):
            raise RuntimeError(f"{len(found)} ACKs of {len(CLIENT_PORTS)} sessions were seen")
        return found

    def _connect(self, port: int, flow: rulesets.Flow) -> None:
        """Make one session, in which the client acknowledges a byte of the router."""
        if self.kind == OWN:
            with self._router.inside():
                near = self._closing.enter_context(socket.create_connection((CLIENT, SERVICE), 5))
            far = self._closing.enter_context(self._service.accept()[0])
        else:
            destination = socket.inet_ntoa((flow.destination & 0xFFFFFFFF).to_bytes(4, "big"))
            with self._client.inside():
                far = self._closing.enter_context(socket.socket())
                far.settimeout(5)
                far.bind((CLIENT, port))
                far.connect((destination, flow.port if self.peer.splices else WILDCARD_PORT))
            near = self._closing.enter_context((self._proxy if self.peer.splices else self._wildcard).accept()[0])
        near.sendall(b"x")
        far.recv(1)

    def _make_replay(self, blobs: dict, packets: list) -> None:
        for name in ("frames", "progress"):
            self._bench.add_map(name)
        random.Random(1).shuffle(packets)
        padding = bytes(PACKET_BYTES - ACK_BYTES)
        self._bench.window("frames")[:] = b"".join(
            packets[number % len(packets)] + padding for number in range(targets.COUNT)
        )
        self._replay = self._bench.adopt(kernel.load_xdp(blobs["replay"].bind(self._bench.maps), "replay"))
        self._frame = self._mac + bytes.fromhex("0200000000010800") + packets[0]


def _acks(tap: socket.socket) -> list:
    """Return the last pure ACK of each session that came in, until none comes any more."""
    found = {}
    while True:
        try:
            frame, (_interface, _protocol, direction, *_more) = tap.recvfrom(2000)
        except TimeoutError:
            return list(found.values())
        packet = frame[14:]
        if direction != PACKET_OUTGOING and len(packet) == ACK_BYTES and packet[FLAGS_AT] == 0x10:
            found[packet[ADDRESSES_AT]] = packet


def _foreign_ack(flow: rulesets.Flow) -> bytes:
    """Return an ACK to an address behind which no rule is."""
    source, destination = (
        rulesets.MAPPED | net << 24 | end & 0xFFFFFF for net, end in ((100, flow.source), (11, flow.destination))
    )
    flow = flow._replace(source=source, destination=destination, protocol="tcp")
    ports = struct.pack(">HH", flow.source_port, flow.port)
    transport = ports + struct.pack(">IIBBHHH", 1, 1, 0x80, 0x10, 64000, 0, 0) + TIMESTAMPS
    return targets.ipv4_header(flow, len(transport)) + transport


def _in_net(first: int, address: int) -> int:
    """Return a mapped IPv4 address with another first byte."""
    return rulesets.MAPPED | first << 24 | address & 0xFFFFFF
