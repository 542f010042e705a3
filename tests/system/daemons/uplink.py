# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An uplink of the router that drops by default: the provider behind it, and a host beyond the provider.

client 10.1.0.2 ---- lan0 router wan0 10.9.0.1 ---- 10.9.0.2 provider 198.51.100.1 ---- 198.51.100.2 far host
"""

from __future__ import annotations

import socket
import struct
from contextlib import contextmanager

from ansible_collections.netedge.tproxy.tests.support.ends import set_sysctl
from ansible_collections.netedge.tproxy.tests.support.router import Client, lay_wire

WAN, OWN, PROVIDER = "wan0", "10.9.0.1", "10.9.0.2"
FAR_GATEWAY, FAR = "198.51.100.1", "198.51.100.2"
UPLINK_POLICY = {"default_action": "drop", "allow_ssh": False}
DNS, NAME, ANSWER = 53, "example.net", "203.0.113.7"
WAIT = 1  # seconds for the answer to one question
DNSMASQ = ("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file", "--user=root", "--no-hosts")


class Far(Client):
    """A host beyond the provider. Its namespace is entered by way of the provider's."""

    def __init__(self, netns, provider: Client):
        self._provider = provider
        with provider.inside():
            netns.run("ip link add far0 type veth peer name far0-peer")
            netns.run(f"ip address add {FAR_GATEWAY}/24 dev far0")
            netns.run("ip link set far0 up")
            super().__init__(netns, "far0-peer", "far0", FAR, FAR_GATEWAY)

    @contextmanager
    def inside(self):
        """Be in the namespace of the host."""
        with self._provider.inside(), super().inside():
            yield


def lay_uplink(router) -> Client:
    """Make the uplink and its provider, which forwards. Its answers take the way back over the uplink."""
    provider = lay_wire(router.netns, WAN, OWN, PROVIDER)
    router.netns.run(f"ip route add default via {PROVIDER}")
    with provider.inside():
        set_sysctl("ipv4.ip_forward", 1)
    set_sysctl("ipv4.ip_forward", 1)
    return provider


def serve_names(daemons, provider) -> None:
    """Let the provider answer each name with one address."""
    daemons.start(
        "names", *DNSMASQ, "--no-resolv", f"--address=/#/{ANSWER}", f"--listen-address={PROVIDER}", inside=provider
    )


def resolves(host, server: str) -> bool:
    """Return whether a name server answers a question of a host with the address that the provider has."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in NAME.split("."))
    question = struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">BHH", 0, 1, 1)
    with host.socket(socket.SOCK_DGRAM) as asker:
        asker.settimeout(WAIT)
        asker.connect((server, DNS))
        try:
            asker.send(question)
            return asker.recv(999).endswith(socket.inet_aton(ANSWER))
        except (TimeoutError, ConnectionRefusedError):
            return False
