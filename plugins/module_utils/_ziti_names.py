# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Addresses as OpenZiti writes them (address, prefix, host name, wildcard) to prefixes.

It decides what is a name, and never asks a resolver itself: the answers are handed in.
"""

from __future__ import annotations

import re
from typing import Callable

from ._errors import InvalidInput
from ._prefix import Prefix

_LABEL = r"[^\W_](?:[\w-]{0,61}\w)?"
# Resolvers read a name that ends in a number as an address in an old notation: 127.1, 010.0.0.1, 0x7f.1.
_HOST_NAME = re.compile(rf"(?:{_LABEL}\.)*(?!0x)(?![0-9]+\Z){_LABEL}")


def prefixes_of(address: str, look_up: Callable) -> tuple:
    """Return (prefixes, reason): the prefixes that an address stands for, or why there are none.

    `look_up` returns the addresses or prefixes, as texts, of a host name or wildcard; [] for one it does not know.
    """
    try:
        return [Prefix.parse(address)[0]], ""
    except InvalidInput as wrong:
        name = canonical_name(address)
        known = look_up(name) if is_host_name(name) or is_wildcard(name) else []
        found = {Prefix.parse(text)[0] for text in known}
        return sorted(found), "" if found else _reason(name, wrong)


def canonical_name(name: str) -> str:
    """Return a name as look-ups compare it."""
    return name.lower().rstrip(".")


def is_host_name(name: str) -> bool:
    """Say whether a resolver may be asked: one never should be for what it would take for an address."""
    return bool(_HOST_NAME.fullmatch(name))


def is_wildcard(name: str) -> bool:
    """Say whether a name stands for the names of a domain."""
    return name == "*" or name.startswith("*.")


def read_names(given) -> dict:
    """Return {canonical name: [texts]} of option `resolve`. Raises InvalidInput with every fault."""
    faults, names = [], {}
    for name, value in given.items():
        texts = value if isinstance(value, list) else [value]
        names[canonical_name(str(name))] = texts
        for text in texts:
            try:
                Prefix.parse(text)
            except InvalidInput as wrong:
                faults += [f"resolve[{name!r}]: {sentence}" for sentence in wrong.faults]
    if faults:
        raise InvalidInput(faults)
    return names


def _reason(name: str, wrong: InvalidInput) -> str:
    if is_wildcard(name):
        return "a wildcard has no addresses; list it in `resolve` with the prefix that its names get"
    if is_host_name(name):
        return "its addresses are not known; list them in `resolve`"
    return wrong.message
