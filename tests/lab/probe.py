# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who answers there? `probe.py --source 10.1.1.2 tcp:172.16.1.5:30000 udp:100.64.0.2:5000`, run in the lab's client.

Prints one line of JSON for each flow, in order: flow, answered, reply (the first line, parsed when it is JSON), from
(the address that answered), error (timed out, Connection refused, ...). All flows are tried at the same time, so it
takes as long as the slowest. Over TCP it listens and says nothing; over UDP it sends one datagram. IPv6 addresses stand
in brackets.
"""

from __future__ import annotations

import argparse
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial

DATAGRAM_BYTES = 65535
FLOWS_MAX = 256


def ask(flow: str, source: str | None, seconds: float, size: int) -> dict:
    """Try one flow, PROTOCOL:ADDRESS:PORT. A datagram has at least `size` bytes."""
    protocol, _colon, place = flow.partition(":")
    host, _colon, port = place.rpartition(":")
    target = host.strip("[]"), int(port)
    found = {"flow": flow, "answered": False, "reply": None, "from": None, "error": None}
    try:
        ask_one = {"tcp": ask_tcp, "udp": partial(ask_udp, size)}[protocol]
        reply, who = ask_one(target, source, seconds)
    except OSError as refusal:
        late = isinstance(refusal, socket.timeout)  # TimeoutError since Python 3.10
        return {**found, "error": "timed out" if late else refusal.strerror or str(refusal)}
    return {**found, "answered": True, "reply": parsed(reply), "from": text(who)}


def ask_tcp(target: tuple, source: str | None, seconds: float) -> tuple:
    """Return the first line that the other side says by itself, and who said it."""
    with connected(target, source, seconds) as connection:
        return connection.makefile("rb").readline(), connection.getpeername()


def connected(target: tuple, source: str | None, seconds: float) -> socket.socket:
    return socket.create_connection(target, seconds, (source, 0) if source else None)


def ask_udp(size: int, target: tuple, source: str | None, seconds: float) -> tuple:
    """Return the first datagram that comes back, from any address: the socket is not connected."""
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.settimeout(seconds)
        asking.bind((source or "", 0))
        asking.sendto(b"who answers?\n".ljust(size), target)
        return asking.recvfrom(DATAGRAM_BYTES)


def text(address: tuple) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parsed(reply: bytes):
    line = reply.decode("utf-8", "replace").rstrip("\r\n")
    try:
        return json.loads(line)
    except ValueError:
        return line


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--source", help="the address that the probe comes from")
    arguments.add_argument("--timeout", type=float, default=2, help="seconds that a flow is waited for (2)")
    arguments.add_argument("--bytes", type=int, default=0, help="the size of a datagram")
    arguments.add_argument("flows", nargs="+", metavar="FLOW", help="tcp:ADDRESS:PORT or udp:ADDRESS:PORT")
    given = arguments.parse_args()
    with ThreadPoolExecutor(max_workers=FLOWS_MAX) as crowd:
        for found in crowd.map(lambda flow: ask(flow, given.source, given.timeout, given.bytes), given.flows):
            print(json.dumps(found))


main()
