# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wire of router.py in either family, and sockets on both of its ends.

client 10.1.0.2, fd00:1::2 ---- router 10.1.0.1, fd00:1::1       192.0.2.0/24 and 2001:db8::/64 lie behind the router
"""

from __future__ import annotations

import pathlib
import socket
from contextlib import contextmanager, suppress
from typing import NamedTuple

from ansible_collections.netedge.tproxy.tests.support.router import (
    BUFFER_BYTES,
    CLIENT,
    IP_RECVORIGDSTADDR,
    IP_TRANSPARENT,
    LAN,
    OWN,
    PATIENCE,
    SERVER,
    SO_RCVBUFFORCE,
    original_destination,
)

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
KINDS = {"tcp": TCP, "udp": UDP}
PROXY_PORT = 8443
ATTEMPTS = 5  # to get a datagram in fragments through
IPV6_TRANSPARENT, IPV6_RECVORIGDSTADDR = 75, 74


class Ends(NamedTuple):
    """The addresses of one family."""

    family: int
    own: str
    client: str
    server: str
    net: str
    loopback: str

    @property
    def is_ipv6(self) -> bool:
        """Whether the family is IPv6."""
        return self.family == socket.AF_INET6


ENDS = {
    4: Ends(socket.AF_INET, OWN, CLIENT, SERVER, "192.0.2.0/24", "127.0.0.1"),
    6: Ends(socket.AF_INET6, "fd00:1::1", "fd00:1::2", "2001:db8::1", "2001:db8::/64", "::1"),
}


def lay_ipv6(netns, client) -> None:
    """Give both ends of the wire their IPv6 addresses, which are good at once."""
    netns.address(f"{ENDS[6].own}/64", LAN)
    with client.inside():
        netns.address(f"{ENDS[6].client}/64", f"{LAN}-peer")
        netns.run(f"ip route add default via {ENDS[6].own}")


def splice_rule(ends: Ends, protocol: str = "tcp", ports: str = "443", **given) -> dict:
    """Return the rule that intercepts the net behind the router."""
    given = {"tproxy_port": PROXY_PORT, **given} if given.get("action", "tproxy") == "tproxy" else given
    return {"destination": ends.net, "protocol": protocol, "ports": ports, **given}


def proxy(ends: Ends, kind: int, port: int = PROXY_PORT, address: str = "", shared: bool = False) -> socket.socket:
    """Return a socket as a proxy has it: transparent, listening; `shared` is SO_REUSEPORT."""
    made = socket.socket(ends.family, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
    _set(made, ends, IP_TRANSPARENT, IPV6_TRANSPARENT)
    made.bind((address or ends.loopback, port))
    if kind == TCP:
        made.listen(512)
    else:
        _set(made, ends, IP_RECVORIGDSTADDR, IPV6_RECVORIGDSTADDR)
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    made.settimeout(PATIENCE)
    return made


def _set(made: socket.socket, ends: Ends, ipv4: int, ipv6: int) -> None:
    level, option = (socket.IPPROTO_IPV6, ipv6) if ends.is_ipv6 else (socket.IPPROTO_IP, ipv4)
    made.setsockopt(level, option, 1)


def sent_to(ends: Ends, ancillary: list) -> tuple:
    """Return (address, port) that a datagram was sent to."""
    if not ends.is_ipv6:
        return original_destination(ancillary)
    wanted = (socket.IPPROTO_IPV6, IPV6_RECVORIGDSTADDR)
    raw = next(data for level, kind, data in ancillary if (level, kind) == wanted)
    return socket.inet_ntop(socket.AF_INET6, raw[8:24]), int.from_bytes(raw[2:4], "big")


def asking(client, ends: Ends, kind: int, port: int = 0) -> socket.socket:
    """Return a socket of the client, bound to its address and to `port` if there is one."""
    made = client.socket(kind, ends.family)
    made.settimeout(PATIENCE)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((ends.client, port))
    return made


def heard(receive, send):
    """Return what a socket receives of a datagram that is sent until it arrives.

    On a busy machine the sender can move to another processor between two fragments. Then a later one comes first, and
    the program drops it.
    """
    for _attempt in range(ATTEMPTS):
        send()
        with suppress(TimeoutError):
            return receive()
    raise AssertionError(f"none of {ATTEMPTS} datagrams arrived")


def connected(client, ends: Ends, destination: tuple = (), port: int = 0) -> socket.socket:
    """Return a connection of the client, to the server behind the router unless told otherwise."""
    made = asking(client, ends, TCP, port)
    made.connect(destination or (ends.server, 443))
    return made


def set_sysctl(name: str, value: int | str) -> str:
    """Set a setting of this thread's network namespace and return its former value."""
    path = pathlib.Path("/proc/sys/net", *name.split("."))
    before = path.read_text(encoding="ascii")
    path.write_text(str(value), encoding="ascii")
    return before


@contextmanager
def setting(name: str, value: int):
    """Have a setting until the end."""
    before = set_sysctl(name, value)
    try:
        yield
    finally:
        set_sysctl(name, before)
