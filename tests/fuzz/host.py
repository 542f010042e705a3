# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host on which packets arrive: a fresh network namespace with interfaces and every kind of socket.

The model has the same socket tables as the kernel. They are always the same sockets, so that a case
can be replayed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
import time
from ipaddress import ip_address

from ansible_collections.netedge.tproxy.tests.fuzz.model.judge import ANY, Sockets

from .frames import LINK

CLONE_NEWNET = 0x40000000
# Indexes that meet modulo 128 (page 1 of an image) and modulo 256 (the policy table). Packets are only told to have
# arrived there: a bridge without ports will do.
INTERFACES = {"lo": 1, "lan0": 2, "lan1": 3, "wan0": 130, "far0": 258}
OWN = {4: "10.1.0.1", 6: "fd00:1::1"}
PEER = {4: "10.1.0.2", 6: "fd00:1::2"}
AWAY = {4: "192.0.2.80", 6: "2001:db8::80"}  # of sessions that were spliced: the client thinks it is behind the router
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
EVERY = {4: "0.0.0.0", 6: "::"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}

PROXY_PORT, TCP_PROXY_PORT, UDP_PROXY_PORT, SILENT_PORT = 15001, 15002, 15004, 15003
SERVICE_PORT, EVERY_PORT, DUAL_PORT = 9000, 8080, 8081
DATAGRAM_PORT, CONNECTED_PORT = 5060, 5000
# A TIME_WAIT socket lives for 60 s (TCP_TIMEWAIT_LEN).
FRESH_SECONDS = 30
ROUTED_SECONDS = 10

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Host:
    """Moves this process to a namespace of its own, until close()."""

    def __init__(self):
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _checked(_libc.unshare(CLONE_NEWNET))
        self._made = time.monotonic()
        self._open = []
        self._listeners = {}
        self.sockets = Sockets()
        self._lay_interfaces()
        for family in (4, 6):
            self._lay_tcp(family)
            self._lay_udp(family)
        self._lay_dual_stack()

    def is_stale(self) -> bool:
        """Whether sockets in TIME_WAIT may soon be gone."""
        return time.monotonic() - self._made > FRESH_SECONDS

    def close(self) -> None:
        """Close every socket and go home; the namespace ends."""
        for one in self._open:
            one.close()
        _checked(_libc.setns(self._home, CLONE_NEWNET))
        os.close(self._home)

    def _lay_interfaces(self) -> None:
        lines = [
            f"link add name {name} index {index} address {LINK.hex(':')} type bridge"
            for name, index in INTERFACES.items()
            if name != "lo"
        ]
        lines += [f"link set {name} up" for name in INTERFACES]
        for family, rest in ((4, "/32 dev lo"), (6, "/128 dev lo nodad")):
            lines += [f"address add {where[family]}{rest}" for where in (OWN, PEER, AWAY)]
        subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)

    # ---- TCP -------------------------------------------------------------------------

    def _lay_tcp(self, family: int) -> None:
        own, peer, away, loopback = (where[family] for where in (OWN, PEER, AWAY, LOOPBACK))
        for port in (PROXY_PORT, TCP_PROXY_PORT):
            self._listen(family, loopback, port)
        self._listen(family, EVERY[family], EVERY_PORT)
        self._socket(family, socket.SOCK_STREAM).bind((loopback, SILENT_PORT))
        self._connect(family, (peer, 40000), (own, SERVICE_PORT))
        self._connect(family, (peer, 40001), (away, 80))
        # Whoever talks to the proxy itself may use the same port for a flow that is to be spliced.
        self._connect(family, (peer, 40002), (loopback, PROXY_PORT))
        self._connect(family, (peer, 40003), (own, 22))
        self._leave_in_time_wait(family, (own, 40004), (away, 80))

    def _listen(self, family: int, address: str, port: int) -> socket.socket:
        made = self._socket(family, socket.SOCK_STREAM)
        made.bind((address, port))
        made.listen()
        self._listeners[address, port] = made
        self.sockets.listeners.add((family, int(ip_address(address)), port))
        return made

    def _connect(self, family: int, client: tuple, server: tuple) -> tuple:
        """Return both ends of a connection."""
        listener = self._listeners.get(server) or self._listen(family, *server)
        near = self._socket(family, socket.SOCK_STREAM)
        near.bind(client)
        _connect_when_routed(near, server)
        far = listener.accept()[0]
        self._open.append(far)
        self.sockets.sessions |= {_tuple(family, client, server), _tuple(family, server, client)}
        return near, far

    def _leave_in_time_wait(self, family: int, client: tuple, server: tuple) -> None:
        """Close a connection, the client first: it must wait (RFC 9293, section 3.6)."""
        near, far = self._connect(family, client, server)
        near.close()
        assert far.recv(1) == b""
        far.close()
        self.sockets.sessions.discard(_tuple(family, server, client))

    # ---- UDP, and both families at once -----------------------------------------------

    def _lay_udp(self, family: int) -> None:
        own, peer, away, loopback = (where[family] for where in (OWN, PEER, AWAY, LOOPBACK))
        for port in (PROXY_PORT, UDP_PROXY_PORT):
            self._bind(family, loopback, port)
        self._bind(family, own, DATAGRAM_PORT)
        self._bind(family, EVERY[family], EVERY_PORT)
        self._bind(family, own, CONNECTED_PORT, (peer, 5001))
        self._bind(family, away, 53, (peer, 40000))
        self._bind(family, loopback, PROXY_PORT, (peer, 40002))

    def _bind(self, family: int, address: str, port: int, other: tuple | None = None) -> None:
        made = self._socket(family, socket.SOCK_DGRAM)
        made.bind((address, port))
        if other is None:
            self.sockets.bound.add((family, int(ip_address(address)), port))
            return
        _connect_when_routed(made, other)
        self.sockets.connected.add(_tuple(family, (address, port), other))

    def _lay_dual_stack(self) -> None:
        """Sockets of IPv6 that take IPv4 too."""
        stream, datagrams = (self._socket(6, kind, only=0) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM))
        for one in (stream, datagrams):
            one.bind(("::", DUAL_PORT))
        stream.listen()
        for family in (4, 6):
            self.sockets.listeners.add((family, ANY, DUAL_PORT))
            self.sockets.bound.add((family, ANY, DUAL_PORT))
        self._listeners[OWN[4], DUAL_PORT] = stream
        self._connect(4, (PEER[4], 40005), (OWN[4], DUAL_PORT))

    def _socket(self, family: int, kind: int, only: int = 1) -> socket.socket:
        made = socket.socket(FAMILY[family], kind)
        self._open.append(made)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == 6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        return made


def _connect_when_routed(one: socket.socket, other: tuple) -> None:
    """Connect a socket; the routes of new IPv6 addresses come a little later (addrconf_dad_work())."""
    last = time.monotonic() + ROUTED_SECONDS
    while True:
        try:
            return one.connect(other)
        except OSError as refusal:
            if refusal.errno != errno.ENETUNREACH or time.monotonic() > last:
                raise
            time.sleep(0.01)


def _tuple(family: int, own: tuple, other: tuple) -> tuple:
    return (family, int(ip_address(own[0])), own[1], int(ip_address(other[0])), other[1])
