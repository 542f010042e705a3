# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""strongSwan between two routers, each behind an uplink that drops by default: IKE, and ESP in UDP.

The kernel may lack ESP, so strongSwan itself encrypts (kernel-libipsec), and its ESP is always in UDP. ESP without UDP
needs a rule for its protocol, which packets made by hand show.
"""

from __future__ import annotations

import socket

import pytest

from ansible_collections.netedge.tproxy.tests.support.router import CLIENT, LAN, OWN
from ansible_collections.netedge.tproxy.tests.system.daemons.merged import merged

INNER, INNER_OF_CLIENT = "172.30.0.1", "172.30.0.2"
IKE = [
    {"destination": OWN, "source": CLIENT, "protocol": "udp", "ports": port, "interfaces": [LAN], "action": "pass"}
    for port in ("500", "4500")
]
ESP = {"destination": OWN, "source": CLIENT, "protocol": "esp", "interfaces": [LAN], "action": "pass"}

DAEMON = """
charon-systemd {{
  load = random nonce aes sha1 sha2 hmac kdf gmp drbg kernel-libipsec kernel-netlink socket-default vici updown
  filelog {{
    log {{
      path = {log}
      default = 1
      flush_line = yes
    }}
  }}
  plugins {{
    vici {{
      socket = unix://{socket}
    }}
  }}
}}
"""
CONNECTION = """
connections {{
  pair {{
    version = 2
    local_addrs = {own}
    remote_addrs = {other}
    proposals = aes128-sha256-modp2048
    local {{
      auth = psk
      id = {own}
    }}
    remote {{
      auth = psk
      id = {other}
    }}
    children {{
      inner {{
        local_ts = {inner}/32
        remote_ts = {inner_of_other}/32
        esp_proposals = aes128-sha256
      }}
    }}
  }}
}}
secrets {{
  ike-pair {{
    id-1 = {own}
    id-2 = {other}
    secret = "of a test"
  }}
}}
"""


class End:
    """One end of the tunnel: the router, or the client."""

    def __init__(self, daemons, name: str, inside, **addresses: str):
        self._daemons, self._name, self._inside = daemons, name, inside
        self._socket = daemons.folder / f"{name}.vici"
        log = daemons.folder / f"{name}-ike.log"
        config, connection = daemons.files(
            **{
                f"{name}.strongswan": DAEMON.format(log=log, socket=self._socket),
                f"{name}.swanctl": CONNECTION.format(**addresses),
            }
        )
        self._environment = ["env", f"STRONGSWAN_CONF={config}"]
        daemons.start(name, *merged([*self._environment, "charon-systemd"]), inside=inside)
        daemons.until(self._socket.exists, "the socket of charon")
        daemons.until(lambda: self._swanctl("--load-all", "--file", connection).returncode == 0, "a connection")

    def _swanctl(self, *words: str):
        command = merged([*self._environment, "swanctl", *words, "--uri", f"unix://{self._socket}"])
        return self._daemons.run(*command, inside=self._inside)

    def initiate(self, seconds: int) -> bool:
        """Try to open the tunnel for some seconds; return whether it is open."""
        return self._swanctl("--initiate", "--child", "inner", "--timeout", str(seconds)).returncode == 0


@pytest.fixture
def ends(closed, client, daemons):
    """Return both ends: that of the router, and that of the client."""
    closed.netns.run(f"ip address add {INNER}/32 dev lo")
    with client.inside():
        closed.netns.run(f"ip address add {INNER_OF_CLIENT}/32 dev lo")
    ours = End(daemons, "ours", None, own=OWN, other=CLIENT, inner=INNER, inner_of_other=INNER_OF_CLIENT)
    theirs = End(daemons, "theirs", client, own=CLIENT, other=OWN, inner=INNER_OF_CLIENT, inner_of_other=INNER)
    return ours, theirs


def pings(daemons) -> bool:
    return daemons.run("ping", "-n", "-c", "1", "-W", "1", "-I", INNER, INNER_OF_CLIENT).returncode == 0


def test_a_tunnel_that_the_router_opens_needs_no_rule(closed, ends, daemons):
    """The answers belong to sessions of the router, and so does ESP in UDP."""
    ours, _theirs = ends
    daemons.until(lambda: ours.initiate(5), "a tunnel")
    daemons.until(lambda: pings(daemons), "a ping by the tunnel")
    assert closed.reasons()["session", "passed"] >= 3  # two answers of IKE, and ESP
    assert ("rule", "passed") not in closed.reasons()


def test_a_tunnel_that_the_peer_opens_needs_its_two_ports(closed, ends, daemons):
    _ours, theirs = ends
    assert not theirs.initiate(3)
    assert closed.reasons()["default", "dropped"] >= 1
    closed.rules(*IKE)
    daemons.until(lambda: theirs.initiate(5), "a tunnel")
    daemons.until(lambda: pings(daemons), "a ping by the tunnel")
    hits = {rule["ports"]: rule["hits"]["packets"] for rule in closed.info()["rules"]}
    assert min(hits.values()) > 0, hits


def send_esp(client, packet: bytes) -> None:
    with client.inside(), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ESP) as sender:
        sender.sendto(packet, (OWN, 0))


def test_esp_without_udp_needs_a_rule(closed, client):
    """The packets have a header of ESP (RFC 4303, 2) and no key that a host knows."""
    packet = bytes.fromhex("000010010000000100112233445566778899aabbccddeeff")
    send_esp(client, packet)
    assert closed.reasons()["other", "dropped"] == 1
    closed.rules(ESP)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ESP) as receiver:
        receiver.settimeout(5)
        send_esp(client, packet)
        assert receiver.recv(999).endswith(packet)
