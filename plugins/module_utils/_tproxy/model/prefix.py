# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Addresses and prefixes in their one form: a 128-bit number, IPv4 mapped as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2).

The module parses and prints. It never asks the kernel, and it knows no rule.

An IPv6 text inside ::ffff:0:0/96 *is* IPv4 here: `::ffff:10.0.0.0/104` means, and prints as, 10.0.0.0/8. Such
addresses name IPv4 peers in a socket's eyes and have no business on a wire, so there is nothing else they could mean.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import NamedTuple

from ..errors import InvalidInput

LIST = "['"  # Ansible writes a list for an option of type str as its text
ADDRESS_BITS = 128
MAPPED_BITS = 96
_MAPPED = 0xFFFF << 32

_IPV4 = re.compile(r"\.".join([r"(0|[1-9][0-9]{0,2})"] * 4))
_LENGTH = re.compile(r"0|[1-9][0-9]{0,2}")
# Python before 3.9.5 takes 010.0.0.1 for 10.0.0.1 where C takes it for 8.0.0.1; an octet has a dot at its side.
_OCTET_WITH_LEADING_ZERO = re.compile(r"(?:^|[:.])0[0-9]+\.|\.0[0-9]")


class Prefix(NamedTuple):
    """A network: its first address as a mapped 128-bit number, and its length in bits of that number (0 to 128)."""

    network: int
    length: int

    @classmethod
    def parse(cls, text: str) -> tuple[Prefix, bool]:
        """Return (prefix, masked) of `10.0.0.0/8`, `fd00::/8` or a bare address; masked: host bits were cleared.

        Raises InvalidInput with one sentence.
        """
        if str(text).startswith(LIST):
            raise InvalidInput([f"expected one address or prefix, got {text}; write a rule for each"])
        address, slash, length_text = str(text).partition("/")
        number, offset = _parse_number(address)
        if not slash:
            return cls(number, ADDRESS_BITS), False
        longest = ADDRESS_BITS - offset
        if not _LENGTH.fullmatch(length_text) or int(length_text) > longest:
            raise InvalidInput([f"{text!r} has no valid prefix length; give 0 to {longest} after the slash"])
        length = int(length_text) + offset
        network = number & mask(length)
        return cls(network, length), network != number

    @classmethod
    def any_of(cls, family: int) -> Prefix:
        """Return the prefix that holds every address of family 4 or 6."""
        return cls(_MAPPED, MAPPED_BITS) if family == 4 else cls(0, 0)

    @property
    def family(self) -> int:
        """4 or 6."""
        return 4 if self.length >= MAPPED_BITS and self.network >> 32 == 0xFFFF else 6

    @property
    def bits(self) -> int:
        """The length as people write it: 0 to 32 for IPv4, 0 to 128 for IPv6."""
        return self.length - MAPPED_BITS if self.family == 4 else self.length

    @property
    def last(self) -> int:
        """The highest address inside."""
        return self.network | (1 << (ADDRESS_BITS - self.length)) - 1

    def contains(self, address: int) -> bool:
        """Say whether the mapped address lies inside."""
        return (self.network ^ address) >> (ADDRESS_BITS - self.length) == 0

    def is_within(self, other: Prefix) -> bool:
        """Say whether each address of this prefix lies inside another one."""
        return other.length <= self.length and other.contains(self.network)

    def __str__(self) -> str:
        return f"{format_number(self.network)}/{self.bits}"


MULTICAST = (Prefix(_MAPPED | 0xE0 << 24, MAPPED_BITS + 4), Prefix(0xFF << 120, 8))  # 224.0.0.0/4, ff00::/8


def is_multicast(address: int) -> bool:
    """Return whether a mapped address is a multicast address of either family."""
    return any(prefix.contains(address) for prefix in MULTICAST)


def mask(length: int) -> int:
    """Return the 128-bit network mask of a length in mapped bits."""
    return (1 << ADDRESS_BITS) - (1 << (ADDRESS_BITS - length))


def family_of(address: int) -> int:
    """Return the family, 4 or 6, of a mapped address."""
    return 4 if address >> 32 == 0xFFFF else 6


def parse_address(text: str) -> bytes:
    """Return the 16 bytes, network order, of an IPv4 or IPv6 address. Raises InvalidInput with one sentence."""
    return _parse_number(str(text))[0].to_bytes(16, "big")


def format_address(address: bytes) -> str:
    """Return the canonical text of 16 bytes in network order; mapped ones as IPv4."""
    return format_number(int.from_bytes(address, "big"))


def format_number(number: int) -> str:
    """Return the canonical text of a mapped 128-bit number."""
    if number >> 32 == 0xFFFF:
        return f"{number >> 24 & 0xFF}.{number >> 16 & 0xFF}.{number >> 8 & 0xFF}.{number & 0xFF}"
    return str(ipaddress.IPv6Address(number))


def endpoint(address: str, port: int) -> str:
    """Return an address and a port in one, an IPv6 address in brackets (RFC 3986, section 3.2.2)."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@lru_cache(maxsize=1024)  # a service has many ranges, and each is a call
def _parse_number(text: str) -> tuple[int, int]:
    """Return (mapped number, bits that mapping adds to a length written after it)."""
    octets = _IPV4.fullmatch(text)
    if octets:
        first, second, third, fourth = map(int, octets.groups())
        if max(first, second, third, fourth) < 256:
            return _MAPPED | first << 24 | second << 16 | third << 8 | fourth, MAPPED_BITS
    if text.startswith(LIST):
        raise InvalidInput([f"expected one address, got {text}"])
    if "%" in text:
        raise InvalidInput([f"{text!r} carries a zone; give the address alone and name the interface in `interfaces`"])
    if _OCTET_WITH_LEADING_ZERO.search(text):
        raise InvalidInput([f"{text!r} has an octet with a leading zero, which some read as octal; leave the zero out"])
    try:
        if ":" in text:
            return int(ipaddress.IPv6Address(text)), 0
        return _MAPPED | int(ipaddress.IPv4Address(text)), MAPPED_BITS
    except ValueError:
        raise InvalidInput([f"{text!r} is no IPv4 or IPv6 address; names are not resolved"]) from None
