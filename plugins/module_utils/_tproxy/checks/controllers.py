# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The controllers of OpenZiti routers that run here, from the configuration that a router was started with.

A router that lo has cut off has no connection to its controller any more, so its sockets do not tell. Names are looked
up in /etc/hosts only: a resolver behind a cut-off network takes long to fail.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from ..errors import InvalidInput, TproxyError
from ..model.prefix import ADDRESS_BITS, Prefix, format_number, parse_address
from ..system.system import Process, System
from .routers import Neighbour

HOSTS = "/etc/hosts"
SECTIONS = ("ctrl", "ztAPI", "ztAPIs")  # of configurations in JSON
SECTION = re.compile(r"""(?ms)^["']?ctrl["']?\s*:(.*?)(?=^\S|\Z)""")
ENDPOINT = re.compile(r"\b(?:tls|ws|wss|tcp|dtls|quic|https):(?://)?\[?([^\s\"',\]]+?)\]?:\d+")


def controllers(system: System, processes: Iterable[Process]) -> list[Neighbour]:
    """Return the controllers of routers, as far as their addresses are known without a question to the network."""
    found: dict[Neighbour, None] = {}
    for process in processes:
        for host in _endpoints(system, process):
            for number in _addresses_of(system, host):
                words = f"{format_number(number)}, the controller of {process.name}"
                found[Neighbour(words, Prefix(number, ADDRESS_BITS))] = None
    return list(found)


def _endpoints(system: System, process: Process) -> Iterator[str]:
    """Yield the hosts of controllers in each file that the command line of a process names, whatever its name is."""
    _program, *words = _text(system, f"/proc/{process.pid}/cmdline").split("\0")
    for word in words:
        name = word.partition("=")[2] if word.startswith("-") else word
        path = name if name.startswith("/") else f"/proc/{process.pid}/cwd/{name}"
        if name and system.files.is_regular(path):
            yield from ENDPOINT.findall(_section(_text(system, path)))


def _section(text: str) -> str:
    """Return the part of a configuration that names controllers, as JSON or as YAML; "" if there is none.

    It is the section `ctrl` of a router, and the entries `ztAPI` and `ztAPIs` of the identity of a tunneller.
    """
    try:
        given = json.loads(text)
    except ValueError:
        section = SECTION.search(text)
        return section[1] if section else ""
    return json.dumps([given.get(key) for key in SECTIONS]) if isinstance(given, dict) else ""


def _addresses_of(system: System, host: str) -> Iterator[int]:
    """Yield the addresses of a host: its own, or those of its name in the hosts file."""
    lines = [line.partition("#")[0].split() for line in _text(system, HOSTS).splitlines()]
    for text in [host, *(words[0] for words in lines if host in words[1:])]:
        try:
            yield int.from_bytes(parse_address(text), "big")
        except InvalidInput:
            continue


def _text(system: System, path: str) -> str:
    """Return the content of a file, "" if this process cannot read it."""
    try:
        return system.files.read(path) or ""
    except (OSError, TproxyError, UnicodeDecodeError):
        return ""
