# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A router in the test's namespace, configured by the product's operations, with a client in its own namespace.

client eth0 10.1.0.2/24 ---- lan0 10.1.0.1/24 router       192.0.2.0/24 lies behind the router, without hosts
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
import time
from contextlib import contextmanager

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.addresses import record_addresses
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.attach import attach
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.info import inspect, reasons
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.route import manage_route
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.rules import apply_rules
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.operations.verdict import ask_verdict
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.interfaces import PolicyTable
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.resources.pins import splicer_pins
from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.system.open_all import open_system
from ansible_collections.netedge.tproxy.tests.support.options import options
from ansible_collections.netedge.tproxy.tests.support.packets import ROUTER_LINK
from ansible_collections.netedge.tproxy.tests.support.pin_folder import PinFolder

CLONE_NEWNET = 0x40000000
LAN, OWN, CLIENT, SERVER = "lan0", "10.1.0.1", "10.1.0.2", "192.0.2.1"
IP_TRANSPARENT, IP_RECVORIGDSTADDR, SO_RCVBUFFORCE = 19, 20, 33
BUFFER_BYTES = 1 << 24
PATIENCE = 10  # seconds after which a packet counts as lost

NOISE = ("icmp", "other")  # an interface that comes up solicits routers and reports its groups

libc = ctypes.CDLL(None, use_errno=True)


def eventually(seen) -> None:
    """Wait until something is so: a busy machine may judge a packet only after send() has returned."""
    deadline = time.monotonic() + PATIENCE
    while not seen():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def outcomes_of(router, send, ignored: tuple = NOISE) -> set:
    """Return the outcomes that were counted for the frame that `send()` sends: {(reason, outcome)}."""
    before, found = router.reasons(), set()

    def counted() -> bool:
        after = router.reasons()
        grown = {outcome for outcome in after if after[outcome] != before.get(outcome, 0)}
        found.update(outcome for outcome in grown if outcome[0] not in ignored)
        return bool(found)

    send()
    eventually(counted)
    return found


def link_address(interface: str) -> bytes:
    """Return the link address of an interface of this namespace."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((interface, 0))
        return raw.getsockname()[4]


class Client:
    """A namespace beyond an interface of the router."""

    def __init__(self, netns, name: str, interface: str, address: str, gateway: str):
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        maker = threading.Thread(target=self._make)
        maker.start()
        maker.join()
        self.observe_state(netns, name)
        with self.inside():
            netns.run("ip link set lo up")
            netns.run(f"ip link set {name} up")
            netns.run(f"ip address add {address}/24 dev {name}")
            netns.run(f"ip route add default via {gateway}")

    def _make(self) -> None:
        assert libc.unshare(CLONE_NEWNET) == 0
        self._away = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def observe_state(self, netns, interface: str) -> None:
        """Move an interface here."""
        netns.run(f"ip link set {interface} netns /proc/{os.getpid()}/fd/{self._away}")

    @contextmanager
    def inside(self):
        """Be in the client's namespace; sockets that are made there stay there."""
        assert libc.setns(self._away, CLONE_NEWNET) == 0
        try:
            yield
        finally:
            assert libc.setns(self._home, CLONE_NEWNET) == 0

    def socket(self, kind: int, family: int = socket.AF_INET) -> socket.socket:
        """Return a socket of the client."""
        with self.inside():
            made = socket.socket(family, kind)
        if family == socket.AF_INET:
            made.settimeout(PATIENCE)
        return made

    def raw(self) -> socket.socket:
        """Return a raw socket on the client's end of the wire to LAN."""
        made = self.socket(socket.SOCK_RAW, socket.AF_PACKET)
        made.bind((f"{LAN}-peer", 0))
        return made

    def close(self) -> None:
        """Let go of the namespace."""
        os.close(self._away)
        os.close(self._home)


class Router:
    """The operations, with the options that these tests share."""

    def __init__(self, netns, blob, folder: PinFolder):
        self.netns, self.blob, self.folder = netns, blob, folder
        self.pin_dir = f"{folder.path}/pins"
        self.system = open_system
        self._counted_before = {}
        self.hook = "auto"

    def attach(self, interface: str = LAN, check: bool = False, **given) -> dict:
        """Run tc_bpf_attach, with our program unless another is given."""
        if not {"source", "blob_content", "state"} & set(given):
            given["blob_content"] = self.blob.to_json()
        given.setdefault("hook", self.hook)
        return self._run(attach, "tc_bpf_attach", check, interface=interface, **given)

    def rules(self, *rules: dict, check: bool = False, **given) -> dict:
        """Run tproxy_rule with a list."""
        return self._run(apply_rules, "tproxy_rule", check, rules=list(rules), **{"return_rules": "all", **given})

    def record(self, check: bool = False, **given) -> dict:
        """Run ifindex_ip."""
        return self._run(record_addresses, "ifindex_ip", check, **given)

    def route(self, *interfaces: str, check: bool = False, **given) -> dict:
        """Run tproxy_route."""
        return self._run(manage_route, "tproxy_route", check, interfaces=list(interfaces or (LAN,)), **given)

    def verdict(self, **flow) -> dict:
        """Run tproxy_verdict."""
        return self._run(ask_verdict, "tproxy_verdict", False, **flow)

    def info(self) -> dict:
        """Run tproxy_info."""
        return self._run(inspect, "tproxy_info", False)

    def reasons(self, interface: str = LAN) -> dict:
        """Return {(reason, "passed" or "dropped"): packets} of an interface, since count_anew()."""
        before = self._counted_before.get(interface, {})
        counted = {outcome: packets - before.get(outcome, 0) for outcome, packets in self._reasons(interface).items()}
        return {outcome: packets for outcome, packets in counted.items() if packets}

    def count_anew(self, interface: str = LAN) -> None:
        """Let reasons() begin with nothing."""
        self._counted_before[interface] = self._reasons(interface)

    def _reasons(self, interface: str) -> dict:
        """Return the counters of tproxy_info without the rest, which takes an emulated processor a second."""
        system, ifindex = self.system(), socket.if_nametoindex(interface)
        with splicer_pins(system.bpf, system.bpffs, self.pin_dir) as pins:
            counted = reasons(system, pins, PolicyTable(system.bpf, pins).load().slots[ifindex])
        return {
            (reason, verdict): counter["packets"]
            for reason, verdicts in counted.items()
            for verdict, counter in verdicts.items()
        }

    def pinned(self) -> dict:
        """Return {path: inode} of all that is in the pin folder; folders have none."""
        found = {}
        for folder, folders, files in os.walk(self.pin_dir):
            found.update({os.path.join(folder, name): None for name in folders})
            found.update({path: os.stat(path).st_ino for path in (os.path.join(folder, name) for name in files)})
        return found

    def _run(self, operation, module: str, check: bool, **given) -> dict:
        return operation(options(module, pin_dir=self.pin_dir, **given), self.system(), check).as_dict()


def without_counters(info: dict) -> dict:
    """Return the answer of tproxy_info without counters and times: neighbour discovery sends packets at any time."""
    attachments = [{**entry, "reasons": None} for entry in info["attachments"]]
    rules = [{**rule, "hits": None} for rule in info["rules"]]
    return {**info, "daemons": None, "drops": [], "attachments": attachments, "rules": rules}


def lay_wire(netns, interface: str = LAN, own: str = OWN, address: str = CLIENT) -> Client:
    """Make an interface of the router, and a client behind it."""
    peer = f"{interface}-peer"
    netns.run(f"ip link add {interface} address {ROUTER_LINK.hex(':')} type veth peer name {peer}")
    netns.run(f"ip address add {own}/24 dev {interface}")
    netns.run(f"ip link set {interface} up")
    return Client(netns, peer, interface, address, own)


def transparent(kind: int, port: int, address: str = "127.0.0.1") -> socket.socket:
    """Return a socket as a proxy has it."""
    made = socket.socket(socket.AF_INET, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
    made.bind((address, port))
    if kind == socket.SOCK_STREAM:
        made.listen(512)
    else:
        made.setsockopt(socket.SOL_IP, IP_RECVORIGDSTADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    made.settimeout(PATIENCE)
    return made


def original_destination(ancillary: list) -> tuple:
    """Return (address, port) that a datagram was sent to, of recvmsg()'s ancillary data."""
    raw = next(data for level, kind, data in ancillary if (level, kind) == (socket.SOL_IP, IP_RECVORIGDSTADDR))
    return socket.inet_ntoa(raw[4:8]), int.from_bytes(raw[2:4], "big")
