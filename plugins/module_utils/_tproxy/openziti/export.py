# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""What an OpenZiti controller exports, read as services that hold their configurations.

It knows the JSON of the edge management API and that of `ziti ops export`, and no rule. A list may come as it is or as
the pages in which the API sent it. What is half there is refused: rules made of it would purge those of the other half.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import InvalidInput


def read_export(export) -> list:
    """Return the services, each a dict as exported with `id`, `name`, and `config`: {config type's name: its data}.

    `roleAttributes` is a list and `tags` a dict even where the controller says null, so that expressions need no
    guards. Raises InvalidInput with every fault of the export.
    """
    export = _plain(export)
    if not isinstance(export, dict) or "services" not in export:
        raise InvalidInput(["the export is no dictionary with a list `services` and a list `configs`"])
    faults = []
    configs = _by_reference(_entities(export, "configs", faults)) if "configs" in export else None
    services = [_service(entity, configs, faults) for entity in _entities(export, "services", faults)]
    faults += _named_twice(services)
    if faults:
        raise InvalidInput(faults)
    return services


def label(service: dict) -> str:
    """Return how messages name a service."""
    known = f" ({service['id']})" if service["id"] != service["name"] else ""
    return f"service {service['name']!r}{known}"


def _plain(value):
    """Return JSON's own types for subclasses of them: templating makes those, and JMESPath knows types by name."""
    if isinstance(value, dict):
        return {_plain(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _entities(export: dict, kind: str, faults: list) -> list:
    """Return the entities of one list. Notes a fault for each that is none, and for pages that are missing."""
    value = export[kind]
    pages = [value] if _is_page(value) else value
    if not isinstance(pages, list):
        faults.append(f"{kind}: {_kind_of(value)}, not a list")
        return []
    if not pages or not all(_is_page(page) for page in pages):
        entities = pages
    else:
        entities = [entity for page in pages for entity in page["data"]]
        wanted = max(_total(page) for page in pages)
        if wanted > len(entities):
            faults.append(f"{kind}: {len(entities)} of {wanted} are there; get the other pages, too (limit and offset)")
    foreign = [index for index, entity in enumerate(entities) if not _is_entity(entity)]
    faults += [f"{kind}[{index}]: {_kind_of(entities[index])}, not an object with a name" for index in foreign]
    return [entity for entity in entities if _is_entity(entity)]


def _is_page(value) -> bool:
    return isinstance(value, dict) and isinstance(value.get("data"), list) and "meta" in value


def _total(page: dict) -> int:
    meta = page["meta"] if isinstance(page["meta"], dict) else {}
    pagination = meta.get("pagination")
    total = pagination.get("totalCount") if isinstance(pagination, dict) else None
    return total if isinstance(total, int) else 0


def _is_entity(value) -> bool:
    return isinstance(value, dict) and isinstance(value.get("name"), str) and isinstance(value.get("id", ""), str)


def _kind_of(value) -> str:
    return {dict: "an object", list: "a list", str: "a text", type(None): "null"}.get(type(value), "a number")


def _by_reference(configs: list) -> dict:
    """Return {reference: config}. The API refers by id, `ziti ops export` by name with an @ before it."""
    return {f"@{config['name']}": config for config in configs} | {
        config["id"]: config for config in configs if "id" in config
    }


def _service(entity: dict, configs: dict | None, faults: list) -> dict:
    service = {
        **entity,
        "id": entity.get("id") or entity["name"],
        "roleAttributes": entity.get("roleAttributes") or [],
        "tags": entity.get("tags") or {},
    }
    embedded = entity.get("config") or {}  # what the API adds when it is asked with configTypes=all
    references = entity.get("configs") or []
    if not isinstance(embedded, dict) or not isinstance(references, list):
        faults.append(f"{label(service)}: `config` is no object or `configs` no list")
        return {**service, "config": {}}
    return {**service, "config": {**_referred(service, references, embedded, configs, faults), **embedded}}


def _referred(service: dict, references: list, embedded: dict, configs: dict | None, faults: list) -> dict:
    """Return {type: data} of the configurations that a service refers to."""
    if configs is None:
        if references and not embedded:
            faults.append(f"{label(service)}: the export has none of its configurations; add the list `configs`")
        return {}
    found = {}
    for reference in references:
        config = configs.get(reference) if isinstance(reference, str) else None
        if config is None:
            faults.append(f"{label(service)}: the export has no configuration {reference!r}; get both lists at once")
        elif not _type_name(config):
            faults.append(f"{label(service)}: configuration {config['name']!r} does not say its type (configType)")
        else:
            found[_type_name(config)] = config.get("data")
    return found


def _type_name(config: dict) -> str:
    kind = config.get("configType")
    name = kind.get("name") if isinstance(kind, dict) else kind
    return str(name or "").removeprefix("@")


def _named_twice(services: list) -> list:
    """Return a fault for each service that is there a second time, as it is when pages overlap."""
    first, faults = {}, []
    for service in services:
        for key in (service["id"], service["name"]):
            if first.setdefault(key, service) is not service:
                faults.append(f"{label(service)} is there twice; get the list again")
    return list(dict.fromkeys(faults))


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
