# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real DHCP clients get a lease on a closed uplink, whose address is not known before.

The server answers to the new address and to the link address of the client (RFC 2131, section 4.1).
"""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import threading
from contextlib import closing, suppress

import pytest

from ansible_collections.netedge.tproxy.tests.support.ends import set_sysctl
from ansible_collections.netedge.tproxy.tests.support.packets import UDP, ipv4
from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, eventually, lay_wire

LEASED, COOKIE, SECONDS = "10.1.0.55", b"\x63\x82\x53\x63", 30
POLL_SECONDS = 0.1
DISCOVER, OFFER, REQUEST, ACK = 1, 2, 3, 5
CLIENTS = {
    "udhcpc": ["udhcpc", "-f", "-n", "-q", "-i", LAN, "-s", "/bin/true"],
    "dhclient": ["dhclient", "-4", "-1", "-d", "-sf", "/bin/true", LAN],
    "dhcpcd": ["dhcpcd", "-4", "-B", "-1", "-A", "-c", "/bin/true", LAN],
}


class Server:
    """A DHCP server on the client's end of the wire, with one address to give."""

    def __init__(self, raw: socket.socket):
        self._raw, self.acknowledged = raw, threading.Event()
        raw.settimeout(POLL_SECONDS)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End, also if no client has asked."""
        self.acknowledged.set()
        self._thread.join()

    def _serve(self) -> None:
        while not self.acknowledged.is_set():
            with suppress(TimeoutError):
                self._answer(self._raw.recv(2048))

    def _answer(self, frame: bytes) -> None:
        if frame[12:14] != b"\x08\0" or frame[23] != UDP or frame[36:38] != b"\0\x43":
            return
        request = frame[42:]
        asked = request[240:].split(b"\x35\x01", 1)[1][0]
        if asked not in (DISCOVER, REQUEST):
            return
        said, link, own = OFFER if asked == DISCOVER else ACK, request[28:34], socket.inet_aton(CLIENT)
        options = b"\x35\x01" + bytes([said]) + b"\x36\x04" + own + b"\x33\x04\0\0\x0e\x10\x01\x04\xff\xff\xff\0\xff"
        head = b"\2\1\6\0" + request[4:8] + bytes(8) + socket.inet_aton(LEASED) + own + bytes(4) + request[28:44]
        message = (head + bytes(192) + COOKIE + options).ljust(300, b"\0")
        datagram = struct.pack(">HHHH", 67, 68, 8 + len(message), 0) + message
        own_link = self._raw.getsockname()[4]
        self._raw.send(link + own_link + b"\x08\0" + ipv4(datagram, UDP, CLIENT, LEASED))
        if said == ACK:
            self.acknowledged.set()


@pytest.fixture
def uplink(router, client):
    """Return the router with a closed uplink that has no address, beside another uplink with the default route."""
    run = router.netns.run
    other = lay_wire(router.netns, "wan1", "10.3.0.1", "10.3.0.2")
    set_sysctl("ipv4.ip_forward", 1)
    run("ip route add default via 10.3.0.2")
    run(f"ip address flush dev {LAN}")
    router.attach(policy={"allow_ssh": False})
    with client.inside():
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        raw.bind((f"{LAN}-peer", 0x0800))
    with raw, closing(Server(raw)) as server:
        yield router, server
    other.close()


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_gets_a_lease_on_a_closed_uplink(uplink, name, tmp_path):
    router, server = uplink
    if shutil.which(name) is None:
        pytest.skip(f"no {name} on this machine")
    where = {"dhclient": ["-lf", f"{tmp_path}/leases", "-pf", f"{tmp_path}/pid"]}.get(name, [])
    command = [CLIENTS[name][0], *where, *CLIENTS[name][1:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        try:
            assert server.acknowledged.wait(SECONDS), "the client asked for no lease that it was offered"
            # one that remembers its last lease asks for no offer
            eventually(lambda: router.reasons().get(("dhcp", "passed"), 0) >= 1)
        finally:
            running.terminate()
            said = running.communicate(timeout=SECONDS)[0]
    assert LEASED in said, said
