# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""What an OpenZiti router would intercept for a service, read from the service's configurations.

It judges the shape of intercept.v1, interfaces.v1 and the older ziti-tunneler-client.v1. Whether an address, a port or
a protocol makes sense, _rule_options says.
"""

from __future__ import annotations

from typing import NamedTuple


class Intercept(NamedTuple):
    """What one service intercepts, in the words of its configurations.

    `sources` None: any. `interfaces` None: all; empty: none, which is what a router makes of an empty list.
    """

    service: dict
    addresses: list
    sources: list | None
    protocols: list
    ports: list  # texts, LOW-HIGH
    interfaces: list | None


def read_intercept(service: dict, faults: list) -> Intercept | None:
    """Return what a service intercepts, None when it has no such configuration. Notes faults, by option."""
    config = service["config"]
    kind, data = _intercept_data(config)
    if kind is None:
        return None
    reader = _Reader(kind, data, faults)
    interfaces = None
    if "interfaces.v1" in config:
        interfaces = _Reader("interfaces.v1", config["interfaces.v1"], faults).texts("interfaces", may_be_empty=True)
    return Intercept(
        service,
        reader.texts("addresses"),
        reader.texts("allowedSourceAddresses") if reader.has("allowedSourceAddresses") else None,
        reader.texts("protocols"),
        _ports(reader),
        interfaces,
    )


def _intercept_data(config: dict) -> tuple:
    """Return (config type, data in the form of intercept.v1)."""
    if "intercept.v1" in config:
        return "intercept.v1", config["intercept.v1"]
    kind = "ziti-tunneler-client.v1"
    old = config.get(kind)
    if not isinstance(old, dict):
        return (kind, old) if kind in config else (None, None)
    port = old.get("port")
    ranges = [{"low": port, "high": port}]
    return kind, {"addresses": [old.get("hostname")], "protocols": ["tcp", "udp"], "portRanges": ranges}


class _Reader:
    """Reads the options of one configuration. Each method returns a value of the right shape, after noting faults."""

    def __init__(self, kind: str, data, faults: list):
        self._kind = kind
        self._data = data if isinstance(data, dict) else {}
        self._faults = faults
        if not isinstance(data, dict):
            faults.append(f"{kind} is no object")

    def has(self, option: str) -> bool:
        return self._data.get(option) is not None

    def fault(self, option: str, sentence: str) -> None:
        self._faults.append(f"{self._kind}.{option}: {sentence}")

    def entries(self, option: str, may_be_empty: bool = False) -> list:
        value = self._data.get(option)
        if isinstance(value, list) and (value or may_be_empty):
            return value
        if self._data:
            self.fault(option, f"{value!r} is no list" if value != [] else "is empty")
        return []

    def texts(self, option: str, may_be_empty: bool = False) -> list:
        entries = self.entries(option, may_be_empty)
        for index, entry in enumerate(entries):
            if not isinstance(entry, str) or not entry:
                self.fault(f"{option}[{index}]", f"{entry!r} is no text")
        return [entry for entry in entries if isinstance(entry, str) and entry]


def _ports(reader: _Reader) -> list:
    found = []
    for index, entry in enumerate(reader.entries("portRanges")):
        ends = [entry.get("low"), entry.get("high")] if isinstance(entry, dict) else []
        if ends and all(isinstance(end, int) and not isinstance(end, bool) for end in ends):
            found.append(f"{ends[0]}-{ends[1]}")
        else:
            reader.fault(f"portRanges[{index}]", f"{entry!r} has no numbers `low` and `high`")
    return found
