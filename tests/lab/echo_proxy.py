# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A transparent proxy that reports each connection: `echo_proxy.py tcp:127.0.0.1:33401 udp:127.0.0.1:39250`.

Each listener answers with one line of JSON: protocol, peer, original destination, its own listener. TCP is answered on
accept and closed; UDP is answered with the original destination as its source. IPv6 addresses stand in brackets.

It runs until it is stopped, on a router's own Python, and uses the standard library alone.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import sys
from functools import partial

# include/uapi/linux/in.h and in6.h; Python's socket module does not name them before 3.12.
IP_TRANSPARENT, IP_RECVORIGDSTADDR = 19, 20
IPV6_RECVORIGDSTADDR, IPV6_TRANSPARENT = 74, 75

DATAGRAM_BYTES = 65535
CONTROL_BYTES = 256
OPTIONS = {
    socket.AF_INET: (socket.IPPROTO_IP, IP_TRANSPARENT, IP_RECVORIGDSTADDR),
    socket.AF_INET6: (socket.IPPROTO_IPV6, IPV6_TRANSPARENT, IPV6_RECVORIGDSTADDR),
}


def transparent_socket(family: int, kind: int) -> socket.socket:
    """Return a socket that may bear addresses that are not this host's."""
    made = socket.socket(family, kind)
    level, transparent, original = OPTIONS[family]
    made.setsockopt(level, transparent, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if kind == socket.SOCK_DGRAM:
        made.setsockopt(level, original, 1)
    return made


def answer(listener: str, peer: tuple, original: tuple) -> bytes:
    protocol = listener.partition(":")[0]
    words = {"protocol": protocol, "peer": text(peer), "original": text(original), "listener": listener}
    return json.dumps(words).encode() + b"\n"


def text(address: tuple) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def serve_connection(listener: str, waiting: socket.socket) -> None:
    """An accepted socket bears the address that the client asked for."""
    connection, peer = waiting.accept()
    with connection:
        connection.sendall(answer(listener, peer, connection.getsockname()))


def serve_datagram(listener: str, waiting: socket.socket) -> None:
    """The reply leaves from a socket of its own, bound to the address that the client asked for."""
    _data, control, _flags, peer = waiting.recvmsg(DATAGRAM_BYTES, CONTROL_BYTES)
    original = original_destination(control)
    with transparent_socket(waiting.family, socket.SOCK_DGRAM) as reply:
        reply.bind(original)
        reply.sendto(answer(listener, peer, original), peer)


def original_destination(control: list) -> tuple:
    """Return (address, port) of a struct sockaddr_in or sockaddr_in6 beside a datagram (ip(7), ipv6(7))."""
    for level, kind, data in control:
        if (level, kind) == (socket.IPPROTO_IP, IP_RECVORIGDSTADDR):
            port, address = struct.unpack_from("!2xH4s", data)
            return socket.inet_ntop(socket.AF_INET, address), port
        if (level, kind) == (socket.IPPROTO_IPV6, IPV6_RECVORIGDSTADDR):
            port, address = struct.unpack_from("!2xH4x16s", data)
            return socket.inet_ntop(socket.AF_INET6, address), port
    raise LookupError("the kernel did not say where the datagram was for")


def listen(listener: str) -> tuple:
    """Return (socket, function to call when it is readable) of PROTOCOL:ADDRESS:PORT."""
    protocol, _colon, place = listener.partition(":")
    host, _colon, port = place.rpartition(":")
    host = host.strip("[]")
    kind, serve = {"tcp": (socket.SOCK_STREAM, serve_connection), "udp": (socket.SOCK_DGRAM, serve_datagram)}[protocol]
    waiting = transparent_socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    waiting.bind((host, int(port)))
    if kind == socket.SOCK_STREAM:
        waiting.listen()
    return waiting, partial(serve, listener, waiting)


def main() -> None:
    with selectors.DefaultSelector() as selector:
        for listener in sys.argv[1:]:
            waiting, serve = listen(listener)
            selector.register(waiting, selectors.EVENT_READ, serve)
        print("ready", flush=True)
        while True:
            for key, _events in selector.select():
                try:
                    key.data()
                except OSError as refusal:  # of one client, not of the proxy
                    print(refusal, file=sys.stderr, flush=True)


main()
