# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packets of each row, as the client sent them or would send them, and the sockets that take part."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache

import packets
import rules as rulesets
import targets
from namespace import Namespace
from rows import WILDCARD_PORT, Row
from rules import Flow

ROUTERS = {4: "192.0.2.2", 6: "2001:db8::2"}
CLIENTS = {4: "192.0.2.1", 6: "2001:db8::1"}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
ANY = {4: "0.0.0.0", 6: "::"}
SESSIONS, SERVICE = 256, 9000
FIRST_CLIENT_PORT = 20000
# The first bits of flows that no rule names, source and destination; 24 random bits follow.
STRANGERS = {
    4: (rulesets.MAPPED | 100 << 24, rulesets.MAPPED | 11 << 24),
    6: (0x20010DB8_0100 << 80, 0xFD11 << 112),
}
TRANSPARENT = {4: (socket.SOL_IP, socket.IP_TRANSPARENT), 6: (socket.IPPROTO_IPV6, 75)}
ETH_P_ALL, PACKET_OUTGOING = 3, 4
SO_RCVBUFFORCE = 33


class Host:
    """The sockets of a router and of its client, in a namespace each."""

    def __init__(self, row: Row, family: int, splices: bool):
        self.row, self.family = row, family
        self._spliced = splices and row.receiver == "proxy"
        self._closing = ExitStack()
        self.router, self.client = Namespace(), Namespace()
        for namespace in (self.router, self.client):
            self._closing.callback(namespace.close)
        self.ports: set = set()

    def close(self) -> None:
        """Close the sockets; the namespaces end."""
        self._closing.close()

    def open_sockets(self) -> None:
        """Open the proxy's socket, one for every address, and the service of the client."""
        with self.router.inside():
            self._proxy = self._receiver(rulesets.PROXY_IPS[self.family], rulesets.PROXY_PORT)
            self._wildcard = self._receiver(ANY[self.family], WILDCARD_PORT)
        with self.client.inside():
            self._service = self._receiver(CLIENTS[self.family], SERVICE)
        self.ports = {rulesets.PROXY_PORT if self._spliced else WILDCARD_PORT}

    @property
    def listener(self) -> socket.socket:
        """The socket that accepts connections from the client."""
        return self._proxy if self._spliced else self._wildcard

    def packets_of(self, size: int, interface: str) -> list:
        """Return the packets to play."""
        makers: dict[str, Callable] = {
            "sessions through the splice": lambda: self._acks(size, interface),
            "own sessions": lambda: self._acks(size, interface),
            "answers": self._answers,
        }
        if self.row.packets in makers:
            return makers[self.row.packets]()
        return made_up(self.row, size, self.family, self._spliced)

    def connect(self, flow: Flow, port: int = 0) -> tuple:
        """Make a session of the client with the destination of a flow; return the sockets of both ends.

        The thread is in the namespace of the client.
        """
        far = socket.socket(FAMILIES[self.family])
        far.settimeout(5)
        if port:
            far.bind((CLIENTS[self.family], port))
        far.connect((text_of(flow.destination, self.family), flow.port if self._spliced else WILDCARD_PORT))
        return self.listener.accept()[0], far

    def choose_destinations(self, size: int) -> None:
        """Choose the destinations of connect_often()."""
        self._flows = rulesets.traffic(rules_of(self.row, size, self.family), "hit", SESSIONS)

    def connect_often(self, count: int) -> None:
        """Make connections of the client one after the other; each ends with a reset as soon as it is accepted."""
        with self.client.inside():
            for number in range(count):
                for end in self.connect(self._flows[number % SESSIONS]):
                    end.close()

    # ---- sessions ------------------------------------------------------------------------

    def _receiver(self, address: str, port: int) -> socket.socket:
        """Return a socket for connections or datagrams. No process reads, so a full one drops each datagram."""
        stream = self.row.protocol == "tcp"
        made = self._closing.enter_context(
            socket.socket(FAMILIES[self.family], socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
        )
        made.setsockopt(*TRANSPARENT[self.family], 1)
        if stream:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted sockets end with a reset and leave no TIME_WAIT.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        made.bind((address, port))
        if stream:
            made.listen(SESSIONS)
        return made

    def _acks(self, size: int, interface: str) -> list:
        """Return the last ACK of each of the sessions, which are made here."""
        flows = rulesets.traffic(rules_of(self.row, size, self.family), "hit", SESSIONS)
        with self.router.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as tap:
            tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 25)
            tap.bind((interface, ETH_P_ALL))
            tap.settimeout(0.5)
            for number, flow in enumerate(flows):
                self._exchange(*(self._own() if self.row.receiver == "session" else self._client_s(flow, number)))
            found = seen_acks(tap, self.family)
        if len(found) < SESSIONS:
            raise RuntimeError(f"{len(found)} ACKs of {SESSIONS} sessions were seen")
        return [packets.with_checksum(packet, self.family, "tcp") for packet in found]

    def _own(self) -> tuple:
        near = socket.create_connection((CLIENTS[self.family], SERVICE), 5)
        return near, self._service.accept()[0]

    def _client_s(self, flow: Flow, number: int) -> tuple:
        with self.client.inside():
            return self.connect(flow, FIRST_CLIENT_PORT + number)

    def _exchange(self, near: socket.socket, far: socket.socket) -> None:
        """Let the client acknowledge a byte of the router."""
        for end in (near, far):
            self._closing.enter_context(end)
        near.sendall(b"x")
        far.recv(1)

    def _answers(self) -> list:
        """Send a datagram from each of many sockets; return the answers."""
        found, ends = [], [_number(ends[self.family], self.family) for ends in (ROUTERS, CLIENTS)]
        with self.router.inside():
            for _number_of_session in range(SESSIONS):
                sender = self._receiver(ANY[self.family], 0)
                sender.connect((CLIENTS[self.family], SERVICE))
                sender.send(b"x")
                port = sender.getsockname()[1]
                self.ports.add(port)
                found.append(packets.datagram(Flow(*ends, "udp", SERVICE, port)))
        return found


def seen_acks(tap: socket.socket, family: int) -> list:
    """Return the last pure ACK of each session that came in, until none comes any more."""
    found = {}
    while True:
        try:
            frame, (_interface, _protocol, direction, *_more) = tap.recvfrom(2000)
        except TimeoutError:
            return list(found.values())
        packet = frame[14:]
        if direction != PACKET_OUTGOING and packets.is_pure_ack(packet, family):
            found[packets.addresses_of(packet, family)] = packet


# ---- packets without a session -----------------------------------------------------------


@lru_cache(maxsize=2)
def made_up(row: Row, size: int, family: int, spliced: bool) -> list:
    """Return datagrams to rules, packets that no rule names, or datagrams to be forwarded."""
    if row.packets == "datagrams":
        flows = rulesets.traffic(rules_of(row, size, family), "hit", targets.COUNT)
        client = _number(CLIENTS[family], family)
        port = {} if spliced else {"port": WILDCARD_PORT}
        return [packets.datagram(flow._replace(source=client, **port)) for flow in flows]
    flows = rulesets.traffic(rules_of(row, size, family), "hit", targets.COUNT)
    flows = [_strange(flow, family) for flow in flows]
    if row.packets == "forwarded":
        flows = flows[:SESSIONS]
    make = packets.datagram if row.protocol == "udp" else packets.foreign_ack
    return [make(flow) for flow in flows]


def rules_of(row: Row, size: int, family: int) -> list:
    """Return the rules of a row, without their slots."""
    return [rule for rule, _slot in row.slotted(size, family)]


def text_of(address: int, family: int) -> str:
    """Return a mapped 128-bit number as the text of an address."""
    raw = address.to_bytes(16, "big")
    return socket.inet_ntop(FAMILIES[family], raw[-4:] if family == 4 else raw)


def _strange(flow: Flow, family: int) -> Flow:
    """Return a flow with addresses that no rule names."""
    ends = zip(STRANGERS[family], (flow.source, flow.destination ^ flow.source))
    source, destination = (net | end & 0xFFFFFF for net, end in ends)
    return flow._replace(source=source, destination=destination)


def _number(address: str, family: int) -> int:
    number = int.from_bytes(socket.inet_pton(FAMILIES[family], address), "big")
    return rulesets.MAPPED | number if family == 4 else number
