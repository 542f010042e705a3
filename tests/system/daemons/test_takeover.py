# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual address moves by keepalived between two routers with the program and a watcher, while a client uses it.

host 10.1.0.9 ---- bridge lan0 of the other router, 10.1.0.2 ---- lan0 of the router, 10.1.0.1

The virtual address 10.1.0.100 is the gateway of the host. Both routers have the same rules, and each has a proxy and a
service of its own. The first byte of an answer names the router.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, nullcontext

import pytest

from ansible_collections.netedge.tproxy.tests.kernel.operations.test_interfaces_that_come import watched
from ansible_collections.netedge.tproxy.tests.kernel.operations.test_restore import Kept
from ansible_collections.netedge.tproxy.tests.support.pin_folder import PinFolder
from ansible_collections.netedge.tproxy.tests.support.router import (
    CLIENT,
    LAN,
    SERVER,
    Client,
    Router,
    transparent,
)
from ansible_collections.netedge.tproxy.tests.system.daemons.bird import PEER
from ansible_collections.netedge.tproxy.tests.system.daemons.vrrp import SHARED, has_shared, keepalived

TCP = 1  # socket.SOCK_STREAM
HOST, BRIDGE = "10.1.0.9", "br0"
PROXY_PORT, MANAGED, OF_SHARED = 33401, 2222, 8080
RULES = [
    {"destination": "224.0.0.18", "source": "10.1.0.0/24", "protocol": "vrrp", "action": "pass"},
    {"destination": f"{SERVER}/24", "protocol": "tcp", "ports": "80", "tproxy_port": PROXY_PORT},
    {"destination": SHARED, "protocol": "tcp", "ports": str(OF_SHARED), "tproxy_port": PROXY_PORT},
]
POLICY = {
    "default_action": "drop",
    "allow_ssh": False,
    "management": [{"source": HOST, "port": str(MANAGED)}],
}
ASKED = ((SERVER, 80), (SHARED, OF_SHARED), (SHARED, MANAGED))


class Host(Client):
    """A host on the bridge of the other router. Its namespace is entered by way of that one's."""

    def __init__(self, netns, other: Client):
        with other.inside():
            netns.run("ip link add host0 type veth peer name host0-peer")
            netns.run(f"ip link set host0 master {BRIDGE} up")
            super().__init__(netns, "host0-peer", "host0", HOST, SHARED)
        self._other = other

    def ask(self, address: str, port: int) -> str:
        """Return the name of the router that answers, or "" without an answer."""
        with self._other.inside():
            asking = self.socket(TCP)
        with asking:
            asking.settimeout(0.2)
            try:
                asking.connect((address, port))
                return asking.recv(1).decode()
            except OSError:
                return ""

    def answers(self) -> list[str]:
        """Return who answers at each address and port."""
        return [self.ask(*where) for where in ASKED]


class Answering:
    """The proxy and the service of a router: each connection gets the name of the router."""

    def __init__(self, name: str, inside):
        self._name = name.encode()
        with inside:
            self._listening = [transparent(TCP, PROXY_PORT), transparent(TCP, MANAGED, "0.0.0.0")]
        for one in self._listening:
            one.settimeout(None)
            threading.Thread(target=self._serve, args=(one,), daemon=True).start()

    def _serve(self, listening) -> None:
        while True:
            try:
                with listening.accept()[0] as connection:
                    connection.sendall(self._name)
            except OSError:
                return

    def close(self) -> None:
        """Close the listeners; the threads end."""
        for one in self._listening:
            one.shutdown(2)
            one.close()


@pytest.fixture
def pair(router, client, tmp_path):
    """Return the host, with both routers ready and watched."""
    other = Router(router.netns, router.blob, PinFolder())
    with client.inside():
        for command in (
            f"ip link add {BRIDGE} type bridge",
            f"ip link set {PEER} master {BRIDGE}",
            f"ip address flush dev {PEER}",
            f"ip address add {CLIENT}/24 dev {BRIDGE}",
            f"ip link set {BRIDGE} up",
        ):
            router.netns.run(command)
    host = Host(router.netns, client)
    with ExitStack() as stack:
        stack.callback(other.folder.remove)
        stack.callback(host.close)
        for name, one, interface, place in (
            ("ours", router, LAN, nullcontext),
            ("theirs", other, BRIDGE, client.inside),
        ):
            with place():
                one.route(interface)
                one.rules(*RULES)
                one.attach(interface, policy=POLICY)
                kept = Kept(one, tmp_path / name)
                kept.save()
                stack.enter_context(watched(kept))
            answering = Answering(name[0], place())
            stack.callback(answering.close)
        yield host


def print_milliseconds(daemons, capsys, first, then, what: str) -> None:
    """Wait until one thing is so, and then until another is; print the time between."""
    daemons.until(first, what, pause=0.001)
    start = time.monotonic()
    daemons.until(then, what, pause=0.001)
    with capsys.disabled():
        print(f"\n{what}: after {1000 * (time.monotonic() - start):.0f} ms")


def test_a_virtual_address_moves_while_a_host_uses_it(router, client, daemons, pair, capsys):
    """Its rules, the flows through it, and the service at it work at the master, and at the next master after it."""
    keepalived(daemons, "theirs", BRIDGE, 150, inside=client)
    daemons.until(lambda: pair.answers() == ["t"] * len(ASKED), "all answers by the master")
    keepalived(daemons, "ours", LAN, 100)
    daemons.until(lambda: router.reasons().get(("rule", "passed"), 0) > 20, "20 advertisements")
    assert pair.answers() == ["t"] * len(ASKED)
    asked = {"interface": LAN, "source": HOST, "destination": SHARED, "protocol": "tcp", "port": MANAGED}

    def is_own() -> bool:
        return router.verdict(**asked)["reason"] == "management"

    daemons.stop("theirs")
    print_milliseconds(daemons, capsys, lambda: has_shared(router, LAN), is_own, "the new address is an own address")
    daemons.until(lambda: pair.answers() == ["o"] * len(ASKED), "all answers by the new master")
    keepalived(daemons, "theirs", BRIDGE, 150, inside=client)
    print_milliseconds(
        daemons, capsys, lambda: not has_shared(router, LAN), lambda: not is_own(), "the old address is no own address"
    )
    daemons.until(lambda: pair.answers() == ["t"] * len(ASKED), "all answers by the first master")
