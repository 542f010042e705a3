# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services of the scenarios, as OpenZiti's configuration types describe them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netedge.tproxy.tests.system.openziti.management_api import Api

WEB, OTHER_WEB = 8080, 8081  # ports of hosted.py
WEB_SAYS, OTHER_WEB_SAYS = "10.2.2.2:8080", "10.2.2.2:8081"
TO_ALL_PORTS = {
    "forwardProtocol": True,
    "allowedProtocols": ["tcp", "udp"],
    "forwardPort": True,
    "allowedPortRanges": [{"low": 1, "high": 65535}],
}


def intercept(
    addresses: str | Sequence[str],
    *ports: int | tuple[int, int],
    protocols: Sequence[str] = ("tcp",),
    sources: Sequence[str] = (),
) -> dict[str, Any]:
    """Return an intercept.v1 configuration. A range of ports is a pair."""
    pairs = [(port, port) if isinstance(port, int) else port for port in ports]
    made: dict[str, Any] = {
        "protocols": list(protocols),
        "addresses": [addresses] if isinstance(addresses, str) else list(addresses),
        "portRanges": [{"low": low, "high": high} for low, high in pairs],
    }
    return made | ({"allowedSourceAddresses": list(sources)} if sources else {})


@dataclass
class Service:
    """A service, hosted by the second router at `address`."""

    name: str
    intercept: dict[str, Any] | None = None
    client: dict[str, Any] | None = None  # ziti-tunneler-client.v1
    interfaces: Sequence[str] | None = None  # interfaces.v1
    port: int = 0  # at the server; 0: the port that the client asked for, by its protocol
    address: str = "10.2.2.2"
    attribute: str = "lab"
    made: list[tuple[str, str]] = field(default_factory=list)

    def create(self, api: Api) -> Service:
        """Make the service and its configurations at the controller."""
        target = {"protocol": "tcp", "port": self.port} if self.port else TO_ALL_PORTS
        parts = {
            "intercept.v1": self.intercept,
            "ziti-tunneler-client.v1": self.client,
            "interfaces.v1": None if self.interfaces is None else {"interfaces": list(self.interfaces)},
            "host.v1": {"address": self.address, **target},
        }
        configs = [api.config(f"{self.name}.{kind}", kind, data) for kind, data in parts.items() if data is not None]
        self.made = [("configs", identifier) for identifier in configs]
        body = {"name": self.name, "encryptionRequired": True, "configs": configs, "roleAttributes": [self.attribute]}
        self.made.insert(0, ("services", api.create("services", body)))
        return self

    @property
    def owner(self) -> str:
        """Return the owner of its rules."""
        return f"ziti:{self.made[0][1]}"

    def change(self, api: Api, kind: str, data: dict[str, Any]) -> None:
        """Change one of its configurations."""
        identifier = next(one["id"] for one in api.all("configs") if one["name"] == f"{self.name}.{kind}")
        api.call("PATCH", f"configs/{identifier}", {"data": data})

    def remove(self, api: Api) -> None:
        """Remove the service, then its configurations."""
        for kind, identifier in self.made:
            api.delete(kind, identifier)
        self.made = []


def create_many(api: Api, numbers: Iterable[int], prefix: str, net: str) -> list[str]:
    """Make services NET.x.y:443 with the attribute PREFIX; return their addresses.

    The hosting router connects to the same address, which the server has, so each answer names its service.
    """
    addresses = []
    for number in numbers:
        address = f"{net}.{number // 250}.{number % 250 + 1}"
        name = f"{prefix}{number:04}"
        configs = [
            api.config(f"{name}.intercept", "intercept.v1", intercept(address, 443)),
            api.config(f"{name}.host", "host.v1", {"protocol": "tcp", "address": address, "port": WEB}),
        ]
        body = {"name": name, "encryptionRequired": False, "configs": configs, "roleAttributes": [prefix]}
        api.create("services", body)
        addresses.append(address)
    return addresses


def sweep(api: Api, *prefixes: str) -> None:
    """Remove all services and configurations with names that begin so."""
    for kind in ("services", "configs"):
        for one in api.all(kind):
            if one["name"].startswith(prefixes):
                api.delete(kind, one["id"])
