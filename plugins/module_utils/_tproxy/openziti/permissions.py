# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The services that an identity may dial. A router intercepts these, whatever role attributes a service has.

The controller either says so itself, in the permissions of each service (GET /services?asIdentity=ID), or the export
has the service policies and the identities, and they are evaluated here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..errors import InvalidInput
from .export import Entity, entities_of

DIAL = "Dial"
POLICIES = ("servicePolicies", "service-policies")  # of `ziti ops export`, and as the API names them
ALL = "#all"


def dialable(export: Entity, services: Iterable[Entity], identity: str) -> list[Entity]:
    """Return the services that an identity, given by name or id, may dial. Raise InvalidInput."""
    policies = next((name for name in POLICIES if name in export), None)
    if policies is None:
        return _with_permission(list(services))
    faults: list[str] = []
    known = entities_of(export, "identities", faults) if "identities" in export else []
    rules = entities_of(export, policies, faults)
    found = [each for each in known if identity in (each["name"], each.get("id"))]
    if not found:
        faults.append(f"identity: the list `identities` of the export has no {identity!r}")
    if faults:
        raise InvalidInput(faults)
    dials = [rule for rule in rules if rule.get("type") == DIAL and _matches(rule, "identityRoles", found[0])]
    return [service for service in services if any(_matches(rule, "serviceRoles", service) for rule in dials)]


def _with_permission(services: list[Entity]) -> list[Entity]:
    """Return the services with the permission to dial, as the controller has evaluated it for one identity."""
    told = [service for service in services if {DIAL, "Bind"} & _texts(service, "permissions")]
    if services and not told:
        raise InvalidInput(
            [
                "identity: the export says of no service who may dial it; add the lists `identities` and"
                " `servicePolicies`, or get the services with ?asIdentity=ID"
            ]
        )
    return [service for service in told if DIAL in _texts(service, "permissions")]


def _matches(policy: Mapping[str, object], option: str, entity: Entity) -> bool:
    """Return whether a policy names an entity: by its id or name, or by its attributes, all or any of them."""
    roles = _texts(policy, option)
    if ALL in roles or {f"@{entity['name']}", f"@{entity.get('id')}"} & roles:
        return True
    wanted = {role[1:] for role in roles if role.startswith("#")}
    have = _texts(entity, "roleAttributes")
    return bool(wanted) and (bool(wanted & have) if policy.get("semantic") == "AnyOf" else wanted <= have)


def _texts(entity: Mapping[str, object], option: str) -> set[str]:
    """Return the texts of a list. What else an entity has there names nothing."""
    given = entity.get(option)
    return {each for each in given if isinstance(each, str)} if isinstance(given, list) else set()
