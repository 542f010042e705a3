# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The router's sockets, in the background: sockets.py PIDFILE.

Transparent proxies listen on loopback, services on every address. Each answers a TCP connection or a datagram with its
own name and the address that the peer asked: `proxy:5001 for 172.16.1.1/80`.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

PROXIES = (5001, 5002, 33401)  # the last one for examples
SERVICES = (22, 2323)
# per family: level, IP_TRANSPARENT, IP_RECVORIGDSTADDR, bytes of the address in that message; linux/in.h, linux/in6.h
OPTIONS = {socket.AF_INET: (socket.SOL_IP, 19, 20, slice(4, 8)), socket.AF_INET6: (41, 75, 74, slice(8, 24))}
LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
EVERY = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}


def bound(family: int, kind: int, address: tuple) -> socket.socket:
    """Return a socket that may take, and answer from, addresses that are not this host's."""
    level, transparent, original, _where = OPTIONS[family]
    sock = socket.socket(family, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(level, transparent, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(level, socket.IPV6_V6ONLY, 1)
    if kind == socket.SOCK_DGRAM:
        sock.setsockopt(level, original, 1)
    sock.bind(address)
    if kind == socket.SOCK_STREAM:
        sock.listen(64)
    return sock


def words(who: str, address: tuple) -> bytes:
    """Return the answer of `who` to a peer that asked `address`."""
    return f"{who} for {address[0]}/{address[1]}".encode()


def serve_tcp(sock: socket.socket, who: str) -> None:
    """Answer each connection."""
    while True:
        connection, _peer = sock.accept()
        with connection:
            connection.sendall(words(who, connection.getsockname()))


def serve_udp(sock: socket.socket, who: str) -> None:
    """Answer each datagram, from the address that it was sent to."""
    level, _transparent, original, where = OPTIONS[sock.family]
    while True:
        _data, messages, _flags, peer = sock.recvmsg(2048, 256)
        raw = next(data for at, kind, data in messages if (at, kind) == (level, original))
        asked = socket.inet_ntop(sock.family, raw[where]), int.from_bytes(raw[2:4], "big")
        with bound(sock.family, socket.SOCK_DGRAM, asked) as back:
            back.sendto(words(who, asked), peer)


def open_all() -> list:
    """Return (serve, socket, who) of every socket."""
    opened = []
    for who, ports, addresses in (("proxy", PROXIES, LOOPBACK), ("router", SERVICES, EVERY)):
        for port in ports:
            for family, address in addresses.items():
                opened.append((serve_tcp, bound(family, socket.SOCK_STREAM, (address, port)), f"{who}:{port}"))
                opened.append((serve_udp, bound(family, socket.SOCK_DGRAM, (address, port)), f"{who}:{port}"))
    return opened


def main() -> None:
    """Open the sockets, then leave them to a process in the background."""
    opened = open_all()
    child = os.fork()
    if child:
        with open(sys.argv[1], "w", encoding="ascii") as out:
            out.write(f"{child}\n")
        return
    os.setsid()
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(silence, stream)
    threads = [threading.Thread(target=serve, args=(sock, who)) for serve, sock, who in opened]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
