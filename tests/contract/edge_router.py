# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An OpenZiti edge router as its diverter sees it: listeners of its own, and one process for each call.

Options and order are those of tunnel/intercept/tproxy/tproxy_linux.go of openziti/ziti. The file
plugins/module_utils/_tproxy/openziti/diverter_args.py describes their surprises.
"""

from __future__ import annotations

import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple

from ansible_collections.netedge.tproxy.plugins.module_utils._tproxy.model.rule import OWNER_PREFIX, is_routers
from ansible_collections.netedge.tproxy.tests.support.router import transparent

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
NOBODY = 65534
ANY_SOURCE = ("0.0.0.0", "0")


class Commands:
    """The installed executable under its names. Each call is a process."""

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
    """The flow of one call. A source is (address, length) as the router passes it; interface "" means none."""

    address: str
    length: str
    protocol: str
    source: tuple
    ports: tuple
    interface: str

    @property
    def words(self) -> tuple:
        """The arguments of the flow in the router's order, without -N, which comes last."""
        ends = ("-c", self.address, "-m", self.length, "-p", self.protocol, "-o", self.source[0], "-n", self.source[1])
        return (*ends, "-l", self.ports[0], "-h", self.ports[1])

    @property
    def rest(self) -> tuple:
        """The arguments after the id of the service."""
        return ("-N", self.interface) if self.interface else ()

    @property
    def shown(self) -> tuple:
        """The flow as tproxy_info shows it: (destination, source, protocol, ports, interfaces)."""
        there = ip_network(f"{self.address}/{self.length}", strict=False)
        source = ip_network(f"{self.source[0]}/{self.source[1]}", strict=False)
        if self.source == ANY_SOURCE:
            source = ip_network("::/0" if there.version == 6 else "0.0.0.0/0")
        ports = self.ports[0] if self.ports[0] == self.ports[1] else "-".join(self.ports)
        return str(there), str(source), self.protocol, ports, (self.interface,) if self.interface else ()


class Service(NamedTuple):
    """A service as the controller sends it."""

    id: str
    addresses: tuple = (("172.16.1.0", "28"),)
    ports: tuple = (("30000", "40000"),)
    protocols: tuple = ("tcp",)
    sources: tuple = (ANY_SOURCE,)
    interfaces: tuple = ("",)

    def flows(self) -> list:
        """Return the flows of the service. The router makes one call for each."""
        return [
            Flow(address, length, protocol, source, ports, interface)
            for address, length in self.addresses
            for protocol in self.protocols
            for ports in self.ports
            for interface in self.interfaces
            for source in self.sources
        ]


class EdgeRouter:
    """The router with its services and their listeners. `calls` has the completed processes.

    `how` has options of subprocess.run for its calls, for example the user.
    """

    def __init__(self, commands: Commands, **how):
        self._commands, self._how = commands, how
        self.services, self.listeners, self.calls = {}, {}, []

    def successor(self) -> EdgeRouter:
        """Return the router that starts after this one has died."""
        return EdgeRouter(self._commands, **self._how)

    def start(self) -> None:
        """Ask the diverter for its version. A router does not start if this call fails."""
        self.call("-V")

    def add(self, *services: Service, at_once: int = 1) -> None:
        """Open the listeners, then divert the flows with `at_once` parallel calls."""
        asked = []
        for service in services:
            self.services[service.id] = service
            self.listeners[service.id] = {name: transparent(KINDS[name], 0) for name in service.protocols}
            for flow in service.flows():
                port = self.port(service.id, flow.protocol)
                asked.append(("-I", *flow.words, "-t", str(port), "-s", service.id, *flow.rest))
        self._call_all(asked, at_once)

    def remove(self, *ids: str, at_once: int = 1) -> None:
        """Close the sockets, then delete the flows, without port and service."""
        gone = [self.services.pop(id) for id in ids]
        for service in gone:
            self._close(service.id)
        self._call_all([("-D", *flow.words, *flow.rest) for one in gone for flow in one.flows()], at_once)

    def change(self, service: Service) -> None:
        """Apply an update of a service from the controller."""
        self.remove(service.id)
        self.add(service)

    def reset(self) -> None:
        """Remove and add every service, as a router does after each update of its identity."""
        services = list(self.services.values())
        self.remove(*self.services)
        self.add(*services)

    def crash(self) -> None:
        """Die without a call. The kernel closes the sockets."""
        for id in list(self.services):
            self._close(id)
        self.services.clear()

    def stop(self) -> None:
        """Remove all services."""
        self.remove(*self.services)

    def wanted(self) -> list:
        """Return (owner, proxy's port, flow) of each rule that must be in force, sorted."""
        return sorted(
            (OWNER_PREFIX + one.id, self.port(one.id, flow.protocol), flow.shown)
            for one in self.services.values()
            for flow in one.flows()
        )

    def port(self, id: str, protocol: str) -> int:
        """Return the port that a service listens on."""
        return self.listeners[id][protocol].getsockname()[1]

    def call(self, *words: str) -> None:
        """Call the diverter. A router skips calls after a status other than 0."""
        done = self._commands.divert(*words, **self._how)
        self.calls.append(done)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        assert done.stderr == ""

    def _close(self, id: str) -> None:
        for listener in self.listeners.pop(id).values():
            listener.close()

    def _call_all(self, asked: list, at_once: int) -> None:
        # The threads of a pool start in the namespace of the calling thread.
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda words: self.call(*words), asked))


def in_force(router) -> list:
    """Return the rules of the router that are in force, in the form of EdgeRouter.wanted()."""
    fields = ("destination", "source", "protocol", "ports")
    return sorted(
        (rule["owner"], rule["tproxy_port"], (*(rule[name] for name in fields), tuple(rule["interfaces"])))
        for rule in router.info()["rules"]
        if is_routers(rule["owner"])
    )
