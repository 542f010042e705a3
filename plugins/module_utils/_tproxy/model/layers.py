# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The option `layers` of tproxy_rule and tproxy_router: {owner: list of rules}.

Group and host variables each have a layer of their own, so they add to each other. Ansible validates the items of a
list, but not those of a list in a dictionary. So this module also refuses unknown options.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, TypeVar

from ..errors import InvalidInput
from .rule import Identity, Rule
from .rule_options import place_of

OPTIONS = (
    "destination",
    "source",
    "protocol",
    "ports",
    "interfaces",
    "action",
    "tproxy_ip",
    "tproxy_port",
    "tproxy_user",
    "on_missing",
    "fragments",
    "name",
    "owner",
)
PORT = "port"  # the other name of `ports`

Read = TypeVar("Read", Rule, Identity)
Reader = Callable[[list[Any], bool, "str | None"], "tuple[list[Read], list[str]]"]


def layer_items(layers: Mapping[str, Any] | None) -> int:
    """Return the number of items of all layers."""
    return sum(len(items) for items in (layers or {}).values() if isinstance(items, (list, tuple)))


def read_layers(layers: object, read: Reader[Read], owner_of_rules: str | None = None) -> tuple[list[Read], list[str]]:
    """Return (what `read` makes of the items of all layers, warnings). Raise InvalidInput with every fault.

    `owner_of_rules` is the owner of the option `rules`, if that is given, too. No layer may have it.
    """
    if layers is None:
        return [], []
    if not isinstance(layers, Mapping):
        raise InvalidInput([f"layers: expected a dictionary of owner to list of rules, got {layers!r:.60}"])
    found: list[Read] = []
    faults: list[str] = []
    warnings: list[str] = []
    for key, items in layers.items():
        owner, place = str(key), f"layer {str(key)!r}"
        if owner == owner_of_rules:
            faults.append(f"{place}: the option `rules` has this owner; give all rules of an owner in one place")
        wrong = _faults_of_items(owner, items)
        if not wrong:
            try:
                rules, warned = read([_item(each, owner) for each in items], False, owner)
                found += rules
                warnings += [f"{place}: {text}" for text in warned]
            except InvalidInput as refusal:
                wrong = refusal.faults
        faults += [f"{place}: {text}" for text in wrong]
    if faults:
        raise InvalidInput(faults)
    return found, warnings


def _item(given: Mapping[str, Any], owner: str) -> dict[str, Any]:
    item = {**given, "owner": owner}
    if PORT in item:
        item["ports"] = item.pop(PORT)
    return item


def _faults_of_items(owner: str, items: object) -> list[str]:
    """Return the faults that Ansible itself finds in the items of a list."""
    if not owner:
        return ["its name is empty; name the owner of its rules"]
    if not isinstance(items, (list, tuple)):
        return [f"expected a list of rules, got {items!r:.60}"]
    faults = []
    for index, item in enumerate(items):
        if not isinstance(item, Mapping):
            faults.append(f"rule number {index + 1}: expected a dictionary, got {item!r:.60}")
            continue
        place = place_of(item, index)
        unknown = [name for name in item if name not in (*OPTIONS, PORT)]
        faults += [f"{place}: there is no option {str(name)!r}; it takes {', '.join(OPTIONS)}" for name in unknown]
        if PORT in item and "ports" in item:
            faults.append(f"{place}: port and ports are one option; keep one of them")
        if item.get("owner") not in (None, "", owner):
            faults.append(f"{place}: owner: {item['owner']!r} is not the owner of the layer; leave it out")
    return faults
