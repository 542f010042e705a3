# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Read the export of an OpenZiti controller as services with their configurations.

The file knows the JSON of the edge management API and of `ziti ops export`, and no rules. A list may be complete, or
consist of the pages that the API sent. The reader refuses an incomplete export, because rules from a part of it would
purge the rules of the other part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..errors import InvalidInput

Entity = dict[str, Any]  # an object of the controller's JSON


def read_export(given: object) -> list[Entity]:
    """Return the services as exported, with `id`, `name` and `config`, which has configuration data by type name.

    `roleAttributes` is a list and `tags` a dictionary, even if the controller has null there. So expressions need no
    test for null. Raise InvalidInput with every fault of the export.
    """
    export = _with_services(given)
    faults: list[str] = []
    configs = _by_reference(entities_of(export, "configs", faults)) if "configs" in export else None
    services = [_service(entity, configs, faults) for entity in entities_of(export, "services", faults)]
    faults += _named_twice(services)
    if faults:
        raise InvalidInput(faults)
    return services


def read_names(given: object) -> dict[str, str]:
    """Return the name of each service of an export, by id. Raise InvalidInput with every fault of the list."""
    faults: list[str] = []
    services = entities_of(_with_services(given), "services", faults)
    if faults:
        raise InvalidInput(faults)
    return {service["id"]: service["name"] for service in services if service.get("id")}


def _with_services(given: object) -> Entity:
    """Return an export with plain JSON types. Raise InvalidInput if it has no list of services."""
    export = plain(given)
    if not isinstance(export, dict) or "services" not in export:
        raise InvalidInput(["the export is no dictionary with a list `services` and a list `configs`"])
    return export


def label(service: Entity) -> str:
    """Return the name of a service for messages."""
    known = f" ({service['id']})" if service["id"] != service["name"] else ""
    return f"service {service['name']!r}{known}"


def plain(value: Any) -> Any:
    """Return a value with plain JSON types: templating makes subclasses, and JMESPath compares names of types."""
    if isinstance(value, dict):
        return {plain(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def entities_of(export: Entity, kind: str, faults: list[str]) -> list[Entity]:
    """Return the entities of one list of an export. Add a fault for each that is no entity, and for missing pages."""
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
            faults.append(
                f"{kind}: only {len(entities)} of {wanted} are there; get the other pages too (limit, offset)"
            )
    foreign = [index for index, entity in enumerate(entities) if not _is_entity(entity)]
    faults += [f"{kind}[{index}]: {_kind_of(entities[index])}, not an object with a name" for index in foreign]
    return [entity for entity in entities if _is_entity(entity)]


def _is_page(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("data"), list) and "meta" in value


def _total(page: Entity) -> int:
    meta = page["meta"] if isinstance(page["meta"], dict) else {}
    pagination = meta.get("pagination")
    total = pagination.get("totalCount") if isinstance(pagination, dict) else None
    return total if isinstance(total, int) else 0


def _is_entity(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("name"), str) and isinstance(value.get("id", ""), str)


def _kind_of(value: object) -> str:
    return {dict: "an object", list: "a list", str: "a text", type(None): "null"}.get(type(value), "a number")


def _by_reference(configs: Iterable[Entity]) -> dict[str, Entity]:
    """Return the configurations by reference: the API refers by id, `ziti ops export` by name with an @ before it."""
    return {f"@{config['name']}": config for config in configs} | {
        config["id"]: config for config in configs if "id" in config
    }


def _service(entity: Entity, configs: Mapping[str, Entity] | None, faults: list[str]) -> Entity:
    service = {
        **entity,
        "id": entity.get("id") or entity["name"],
        "roleAttributes": entity.get("roleAttributes") or [],
        "tags": entity.get("tags") or {},
    }
    embedded = entity.get("config") or {}  # the API adds it for a request with configTypes=all
    references = entity.get("configs") or []
    if not isinstance(embedded, dict) or not isinstance(references, list):
        faults.append(f"{label(service)}: `config` is no object, or `configs` is no list")
        return {**service, "config": {}}
    return {**service, "config": {**_referred(service, references, embedded, configs, faults), **embedded}}


def _referred(
    service: Entity,
    references: list[object],
    embedded: Entity,
    configs: Mapping[str, Entity] | None,
    faults: list[str],
) -> Entity:
    """Return the data of the configurations that a service refers to, by type name."""
    if configs is None:
        if references and not embedded:
            faults.append(f"{label(service)}: the export has none of its configurations; add the list `configs`")
        return {}
    found = {}
    for reference in references:
        config = configs.get(reference) if isinstance(reference, str) else None
        if config is None:
            faults.append(
                f"{label(service)}: the export has no configuration {reference!r}; get both lists at the same time"
            )
        elif not _type_name(config):
            faults.append(f"{label(service)}: configuration {config['name']!r} has no type (configType)")
        else:
            found[_type_name(config)] = config.get("data")
    return found


def _type_name(config: Entity) -> str:
    kind = config.get("configType")
    name = kind.get("name") if isinstance(kind, dict) else kind
    return str(name or "").removeprefix("@")


def _named_twice(services: Iterable[Entity]) -> list[str]:
    """Return a fault for each service that appears a second time, for example because pages overlap."""
    first: dict[str, Entity] = {}
    faults = []
    for service in services:
        for key in (service["id"], service["name"]):
            if first.setdefault(key, service) is not service:
                faults.append(f"{label(service)} appears twice; get the list again")
    return list(dict.fromkeys(faults))


class Intercept(NamedTuple):
    """The flows that one service intercepts, as its configurations state them.

    `sources` None means any source. `interfaces` None means all interfaces, and an empty list none, as a router reads
    it. `ports` are texts, LOW-HIGH.
    """

    service: Entity
    addresses: list[str]
    sources: list[str] | None
    protocols: list[str]
    ports: list[str]
    interfaces: list[str] | None


def read_intercept(service: Entity, faults: list[str]) -> Intercept | None:
    """Return the intercept of a service, None if it has no such configuration. Add faults, by option."""
    config = service["config"]
    found = _intercept_data(config)
    if found is None:
        return None
    reader = _Reader(*found, faults)
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


def _intercept_data(config: Entity) -> tuple[str, object] | None:
    """Return (configuration type, data in the form of intercept.v1), or None without either type."""
    if "intercept.v1" in config:
        return "intercept.v1", config["intercept.v1"]
    kind = "ziti-tunneler-client.v1"
    old = config.get(kind)
    if not isinstance(old, dict):
        return (kind, old) if kind in config else None
    port = old.get("port")
    ranges = [{"low": port, "high": port}]
    return kind, {"addresses": [old.get("hostname")], "protocols": ["tcp", "udp"], "portRanges": ranges}


class _Reader:
    """Reader of the options of one configuration. Each method adds faults and returns a value of the right type."""

    def __init__(self, kind: str, data: object, faults: list[str]) -> None:
        self._kind = kind
        self._data: Entity = data if isinstance(data, dict) else {}
        self._faults = faults
        if not isinstance(data, dict):
            faults.append(f"{kind} is no object")

    def has(self, option: str) -> bool:
        return self._data.get(option) is not None

    def fault(self, option: str, sentence: str) -> None:
        self._faults.append(f"{self._kind}.{option}: {sentence}")

    def entries(self, option: str, may_be_empty: bool = False) -> list[object]:
        value = self._data.get(option)
        if isinstance(value, list) and (value or may_be_empty):
            return value
        if self._data:
            self.fault(option, f"{value!r} is no list" if value != [] else "is empty")
        return []

    def texts(self, option: str, may_be_empty: bool = False) -> list[str]:
        entries = self.entries(option, may_be_empty)
        for index, entry in enumerate(entries):
            if not isinstance(entry, str) or not entry:
                self.fault(f"{option}[{index}]", f"{entry!r} is no text")
        return [entry for entry in entries if isinstance(entry, str) and entry]


def _ports(reader: _Reader) -> list[str]:
    found = []
    for index, entry in enumerate(reader.entries("portRanges")):
        ends = [entry.get("low"), entry.get("high")] if isinstance(entry, dict) else []
        numbers = [end for end in ends if isinstance(end, int) and not isinstance(end, bool)]
        if len(numbers) == 2:
            found.append(f"{min(numbers)}-{max(numbers)}")  # as a router takes a range whose ends are exchanged
        else:
            reader.fault(f"portRanges[{index}]", f"{entry!r} has no numbers `low` and `high`")
    return found
