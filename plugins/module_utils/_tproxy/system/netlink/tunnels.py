# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The outer packets of a kernel tunnel, from the attributes of its interface (IFLA_INFO_DATA).

It reads bytes and imports no library: pyroute2 decodes these attributes differently from release to release. Numbers
are those of include/uapi/linux/{if_link,if_tunnel}.h.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

from .wire import attributes, mapped

VXLAN_PORT, GENEVE_PORT = 8472, 6081  # the defaults of the kernel: drivers/net/{vxlan,geneve}
UDP, GRE, BY_FAMILY = "udp", "gre", ""


class Tunnel(NamedTuple):
    """The outer packets of a tunnel. Addresses have 16 bytes, IPv4 mapped; one that is not set is b"".

    `protocol` is "udp", "gre", or "" where the family of the inner packet decides (ipip, sit, ip6tnl). `port` is
    the own UDP port. `link` is the ifindex that the tunnel is bound to, 0 without one. `mark` is the mark of its outer
    packets. `opaque` means that the outer packets depend on more than these attributes.
    """

    protocol: str
    local: bytes = b""
    remote: bytes = b""
    port: int = 0
    link: int = 0
    mark: int = 0
    opaque: bool = False


class _Numbers(NamedTuple):
    """The attribute numbers of a kind of tunnel; 0 where the kind has no such attribute."""

    protocol: str
    local: tuple[int, ...]
    remote: tuple[int, ...]
    link: int = 0
    mark: int = 0
    port: int = 0
    default_port: int = 0
    metadata: int = 0  # the packets have their remote from a route
    udp: int = 0  # the packets are in UDP (fou, gue), which listens on a port of its own


_VXLAN = _Numbers(UDP, (4, 17), (2, 16), link=3, port=15, default_port=VXLAN_PORT, metadata=25)
_GENEVE = _Numbers(UDP, (), (2, 7), port=5, default_port=GENEVE_PORT, metadata=6)
_GRE = _Numbers(GRE, (6,), (7,), link=1, mark=20, metadata=18, udp=14)
_IP = _Numbers(BY_FAMILY, (2,), (3,), link=1, mark=20, metadata=19, udp=15)
KINDS = {
    "vxlan": _VXLAN,
    "geneve": _GENEVE,
    **dict.fromkeys(("gre", "gretap", "erspan", "ip6gre", "ip6gretap", "ip6erspan"), _GRE),
    **dict.fromkeys(("ipip", "sit", "ip6tnl"), _IP),
}


def read_tunnel(kind: str, data: bytes) -> Tunnel | None:
    """Return the outer packets of an interface of a kind, given its IFLA_INFO_DATA; None if it is no such tunnel."""
    numbers = KINDS.get(kind)
    if numbers is None:
        return None
    given = attributes(data)
    return Tunnel(
        numbers.protocol,
        _address(given, numbers.local),
        _address(given, numbers.remote),
        int.from_bytes(given.get(numbers.port, b""), "big") or numbers.default_port,
        _number(given, numbers.link),
        _number(given, numbers.mark),
        _is_set(given, numbers.metadata) or bool(_number(given, numbers.udp)),
    )


def _address(given: dict[int, bytes], numbers: tuple[int, ...]) -> bytes:
    """Return the first address that is set. The kernel reports one that is not set as zeros."""
    return next((mapped(given[each]) for each in numbers if any(given.get(each, b""))), b"")


def _number(given: dict[int, bytes], number: int) -> int:
    return int.from_bytes(given.get(number, b""), sys.byteorder) if number else 0


def _is_set(given: dict[int, bytes], number: int) -> bool:
    """Return whether a flag is set. Some kinds report it as an attribute without content, others as a byte."""
    return bool(number) and number in given and given[number] != b"\0"
