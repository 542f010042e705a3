# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An OpenZiti edge router as its diverter sees it: listeners of its own, and one process for each call.

Words and order are those of tunnel/intercept/tproxy/tproxy_linux.go of openziti/ziti; what is odd about them is told in
plugins/module_utils/_diverter.py.
"""

from __future__ import annotations

import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple

from ansible_collections.netedge.tproxy.tests.support.router import transparent

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
NOBODY = 65534
ANY_SOURCE = ("0.0.0.0", "0")


class Commands:
    """The installed executable by its names, each call a process."""

    def __init__(self, folder: Path, pin_dir: str, helper: str = ""):
        self._folder = folder
        self._environment = {
            "TPROXY_SPLICER_PIN_DIR": pin_dir,
            "TPROXY_SPLICER_HELPER": helper,
            "PATH": "/usr/bin:/bin",
        }

    def __call__(self, name: str, *words: str, **how) -> subprocess.CompletedProcess:
        """Run one call to its end."""
        return subprocess.run(
            [self._folder / name, *words], env=self._environment, capture_output=True, text=True, check=False, **how
        )

    def divert(self, *words: str, **how) -> subprocess.CompletedProcess:
        """Call the diverter."""
        return self("tproxy-splicer", *words, **how)


class Flow(NamedTuple):
    """What one call is about. A source is (address, length) as the router passes it; interface "" is none."""

    address: str
    length: str
    protocol: str
    source: tuple
    ports: tuple
    interface: str

    @property
    def words(self) -> tuple:
        """The words that name the flow, in the router's order, but for -N, which comes last of all."""
        ends = ("-c", self.address, "-m", self.length, "-p", self.protocol, "-o", self.source[0], "-n", self.source[1])
        return (*ends, "-l", self.ports[0], "-h", self.ports[1])

    @property
    def rest(self) -> tuple:
        """The words behind the service's id."""
        return ("-N", self.interface) if self.interface else ()

    @property
    def told(self) -> tuple:
        """The flow as tproxy_info tells it: (destination, source, protocol, ports, interfaces)."""
        there = ip_network(f"{self.address}/{self.length}", strict=False)
        source = ip_network(f"{self.source[0]}/{self.source[1]}", strict=False)
        if self.source == ANY_SOURCE:
            source = ip_network("::/0" if there.version == 6 else "0.0.0.0/0")
        ports = self.ports[0] if self.ports[0] == self.ports[1] else "-".join(self.ports)
        return str(there), str(source), self.protocol, ports, (self.interface,) if self.interface else ()


class Service(NamedTuple):
    """A service as the controller tells of it."""

    id: str
    addresses: tuple = (("172.16.1.0", "28"),)
    ports: tuple = (("30000", "40000"),)
    protocols: tuple = ("tcp",)
    sources: tuple = (ANY_SOURCE,)
    interfaces: tuple = ("",)

    def flows(self) -> list:
        """Return what the router calls for, one call each."""
        return [
            Flow(address, length, protocol, source, ports, interface)
            for address, length in self.addresses
            for protocol in self.protocols
            for ports in self.ports
            for interface in self.interfaces
            for source in self.sources
        ]


class EdgeRouter:
    """The router: `services` are those that it has, with their listeners; `calls` what each call came to.

    `how` says how its calls are run, e.g. as which user.
    """

    def __init__(self, commands: Commands, **how):
        self._commands, self._how = commands, how
        self.services, self.listeners, self.calls = {}, {}, []

    def successor(self) -> EdgeRouter:
        """Return the router that is started when this one has died."""
        return EdgeRouter(self._commands, **self._how)

    def start(self) -> None:
        """Ask the diverter who it is; a router whose diverter fails here does not start."""
        self._call("-V")

    def add(self, *services: Service, at_once: int = 1) -> None:
        """Begin to listen, and have the flows diverted; `at_once` calls run side by side."""
        asked = []
        for service in services:
            self.services[service.id] = service
            self.listeners[service.id] = {name: transparent(KINDS[name], 0) for name in service.protocols}
            for flow in service.flows():
                port = self.port(service.id, flow.protocol)
                asked.append(("-I", *flow.words, "-t", str(port), "-s", service.id, *flow.rest))
        self._call_all(asked, at_once)

    def remove(self, *ids: str, at_once: int = 1) -> None:
        """Close the sockets, then take the flows back, without a word of port or service."""
        gone = [self.services.pop(id) for id in ids]
        for service in gone:
            self._close(service.id)
        self._call_all([("-D", *flow.words, *flow.rest) for one in gone for flow in one.flows()], at_once)

    def change(self, service: Service) -> None:
        """Take in what the controller says anew of a service."""
        self.remove(service.id)
        self.add(service)

    def reset(self) -> None:
        """Lose and learn every service, as at each update of the router's identity."""
        services = list(self.services.values())
        self.remove(*self.services)
        self.add(*services)

    def crash(self) -> None:
        """Die without a call. The kernel closes the sockets."""
        for id in list(self.services):
            self._close(id)
        self.services.clear()

    def stop(self) -> None:
        """End in order."""
        self.remove(*self.services)

    def wanted(self) -> list:
        """Return (owner, proxy's port, flow) of each rule that must be in force, sorted."""
        return sorted(
            (f"ziti:{one.id}", self.port(one.id, flow.protocol), flow.told)
            for one in self.services.values()
            for flow in one.flows()
        )

    def port(self, id: str, protocol: str) -> int:
        """Return the port that a service listens on."""
        return self.listeners[id][protocol].getsockname()[1]

    def _close(self, id: str) -> None:
        for listener in self.listeners.pop(id).values():
            listener.close()

    def _call_all(self, asked: list, at_once: int) -> None:
        # The threads of a pool are born in the namespace of the thread that asks.
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda words: self._call(*words), asked))

    def _call(self, *words: str) -> None:
        done = self._commands.divert(*words, **self._how)
        self.calls.append(done)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        assert done.stderr == ""


def in_force(router) -> list:
    """Return what is, as EdgeRouter.wanted() tells what must be."""
    fields = ("destination", "source", "protocol", "ports")
    return sorted(
        (rule["owner"], rule["tproxy_port"], (*(rule[name] for name in fields), tuple(rule["interfaces"])))
        for rule in router.info()["rules"]
        if rule["owner"].startswith("ziti:")
    )
