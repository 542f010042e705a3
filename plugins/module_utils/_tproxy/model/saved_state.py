# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""A whole state as plain values, and as a text that can be told from a damaged one.

It names interfaces, never their indexes, and holds the program itself: so it outlives a reboot and needs no compiler.
The package `persistence` takes it from the kernel, writes it and restores it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ..constants import FAIL_OPEN
from ..errors import InvalidInput, LayoutMismatch, VerificationFailed
from .flow_tables import SIZES, sizes_from_params
from .policy import InterfaceAddresses, Mark, Policy, parse_mark, policy_from_params
from .prefix import format_address, parse_address
from .rule import Rule, is_of_a_service
from .rule_options import rules_from_params
from .text import replaced

STATE_FORMAT = 1


class SavedAttachment(NamedTuple):
    """The splicer on one interface.

    `hook` is "tcx" or "clsact", `behind` the names of the TCX programs that got the packets after it. Priority and
    handle are those of the filter, for TCX those of a filter in its place on a kernel without TCX.

    The policy is without the properties of the interface itself (layer3, loopback) and without a deadline. `addresses`
    are 16 bytes each, None where none were recorded; `follows`: they are those that the kernel had.
    """

    interface: str
    priority: int
    handle: int
    policy: Policy
    addresses: tuple[bytes, ...] | None
    follows: bool
    hook: str = "clsact"
    behind: tuple[str, ...] = ()


class SavedRoute(NamedTuple):
    """The policy route of one interface in one family, "ipv4" or "ipv6"."""

    family: str
    interface: str
    priority: int
    mark: Mark
    table: int


@dataclass(frozen=True)
class SavedState:
    """All that is in force of our own program. `blob` is its text, "" where none runs; each tuple is sorted.

    `recorded` has the addresses of interfaces without the program, such as lo. An attachment has its own.
    `flow_tables` has the sizes of tables of tracked flows.
    """

    pin_dir: str
    blob: str = ""
    rules: tuple[Rule, ...] = ()
    attachments: tuple[SavedAttachment, ...] = ()
    routes: tuple[SavedRoute, ...] = ()
    failure: str = FAIL_OPEN
    recorded: tuple[InterfaceAddresses, ...] = ()
    flow_tables: Mapping[str, int] = field(default_factory=lambda: SIZES)


def encode_state(state: SavedState) -> str:
    """Return the state as text, with a digest."""
    return with_checksum(body_of(state))


def body_of(state: SavedState) -> dict[str, Any]:
    """Return the state as plain values."""
    return {
        "format": STATE_FORMAT,
        "pin_dir": state.pin_dir,
        "failure": state.failure,
        "blob": state.blob,
        "rules": [rule.to_params() for rule in state.rules],
        "attachments": [_attachment_params(entry) for entry in state.attachments],
        "routes": [{**entry._asdict(), "mark": str(entry.mark)} for entry in state.routes],
        "flow_tables": dict(state.flow_tables),
        "recorded": {entry.name: entry.to_params()["addresses"] for entry in state.recorded},
    }


def decode_state(text: str) -> SavedState:
    """Return the state of a text. Raises VerificationFailed for a damaged one, LayoutMismatch for another release's."""
    return state_of(verify_checksum(text))


def state_of(body: Mapping[str, Any]) -> SavedState:
    """Return the state from the result of body_of(). Raises as decode_state()."""
    if body.get("format") != STATE_FORMAT:
        raise LayoutMismatch(f"the saved state has format {body.get('format')}, this release reads {STATE_FORMAT}")
    try:
        return SavedState(
            body["pin_dir"],
            body["blob"],
            tuple(rules_from_params([_readable(rule) for rule in body["rules"]])[0]),
            tuple(_attachment(entry) for entry in body["attachments"]),
            tuple(SavedRoute(**{**entry, "mark": parse_mark(entry["mark"])}) for entry in body["routes"]),
            body["failure"],
            _recorded(body.get("recorded", {})),  # release 0.1 saved none, and no sizes
            _flow_tables(body.get("flow_tables", {})),
        )
    except (InvalidInput, KeyError, TypeError) as fault:
        raise VerificationFailed(f"the saved state is whole, but no state of this release: {fault}") from fault


def _recorded(params: Mapping[str, Iterable[str]]) -> tuple[InterfaceAddresses, ...]:
    return tuple(InterfaceAddresses(name, tuple(map(parse_address, params[name]))) for name in sorted(params))


def _flow_tables(params: Mapping[str, int]) -> Mapping[str, int]:
    faults: list[str] = []
    found = {**SIZES, **sizes_from_params(params, faults)}
    if faults:
        raise InvalidInput(faults)
    return found


def _readable(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a rule without misleading characters.

    Release 0.1 saved them, and a boot must restore its state.
    """
    return {**rule, "name": replaced(rule["name"]), "owner": replaced(rule["owner"])}


def encode_closed(state: SavedState) -> str:
    """Return the list of interfaces to close, with their exceptions, for an unreadable state."""
    closed = [_attachment_params(entry) for entry in state.attachments]
    return with_checksum({"format": STATE_FORMAT, "pin_dir": state.pin_dir, "closed": closed})


def decode_closed(text: str) -> tuple[str, tuple[SavedAttachment, ...]]:
    """Return (pin folder, attachments) that encode_closed() was given. Raises VerificationFailed for a damaged text."""
    try:
        body = verify_checksum(text)
        return body["pin_dir"], tuple(_attachment(entry) for entry in body["closed"])
    except (InvalidInput, KeyError, TypeError) as fault:
        raise VerificationFailed(f"the list of interfaces to close is none of this release: {fault}") from fault


def with_checksum(body: Mapping[str, Any]) -> str:
    """Return a body as JSON that bears its own digest."""
    return json.dumps({**body, "digest": _digest(body)}, indent=1, sort_keys=True) + "\n"


def verify_checksum(text: str) -> dict[str, Any]:
    """Return the body of a sealed text. Raises VerificationFailed when it is not whole."""
    try:
        body: dict[str, Any] = json.loads(text)
        digest = body.pop("digest")
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise VerificationFailed(f"the saved state is cut or overwritten: {fault}") from fault
    if digest != _digest(body):
        raise VerificationFailed("the saved state does not have its digest: it was changed by hand, or damaged")
    return body


def persistent(state: SavedState) -> SavedState:
    """Return the state without the parts that a reboot ends: the rules of services."""
    return replace(state, rules=tuple(rule for rule in state.rules if not is_of_a_service(rule)))


def merge_lost(state: SavedState, saved: SavedState, left: Iterable[str] = ()) -> SavedState:
    """Return the state with the parts of `saved` that the kernel lost, by a lost interface or an edit by hand.

    `left` names the interfaces from which a run took it on purpose.
    """
    attached = {entry.interface for entry in state.attachments} | set(left)
    routed = {(entry.family, entry.interface) for entry in state.routes}
    lost = [entry for entry in saved.attachments if entry.interface not in attached]
    without = {entry.interface for entry in lost}
    unrouted = [
        entry
        for entry in saved.routes
        if entry.interface not in set(left) and (entry.family, entry.interface) not in routed
    ]
    return replace(
        state,
        blob=state.blob or (saved.blob if lost else ""),
        attachments=tuple(sorted([*state.attachments, *lost], key=lambda entry: entry[:3])),
        routes=tuple(sorted([*state.routes, *unrouted])),
        flow_tables=state.flow_tables if state.blob else saved.flow_tables,  # without a program the maps may be gone
        # The addresses of a lost program stay recorded, and its attachment has them.
        recorded=tuple(entry for entry in state.recorded if entry.name not in without),
    )


def lines_of(state: SavedState | None) -> list[str]:
    """Return the state for a person, e.g. in a diff."""
    if state is None:
        return []
    program = hashlib.sha256(state.blob.encode()).hexdigest() if state.blob else "none"
    return [
        f"failure policy: {state.failure}",
        f"pins: {state.pin_dir}",
        f"program blob: {program}",
        *(json.dumps(_attachment_params(entry)) for entry in state.attachments),
        *(str(rule) for rule in state.rules),
        *(f"{entry.family} {entry.interface} {entry.mark} table {entry.table}" for entry in state.routes),
        *(f"table {name}: {size} flows" for name, size in state.flow_tables.items() if size != SIZES[name]),
        *(f"{entry.name}: own addresses {' '.join(entry.to_params()['addresses'])}" for entry in state.recorded),
    ]


def _attachment_params(entry: SavedAttachment) -> dict[str, Any]:
    addresses = entry.addresses
    return {
        **entry._asdict(),
        "policy": entry.policy.to_params(),
        "addresses": addresses if addresses is None else [format_address(address) for address in addresses],
    }


def _attachment(params: Mapping[str, Any]) -> SavedAttachment:
    policy = params["policy"]
    fields = {**policy_from_params(policy), "mark": parse_mark(policy["mark"])}
    addresses = params["addresses"]
    if addresses is not None:
        addresses = tuple(parse_address(address) for address in addresses)
    behind = tuple(params.get("behind", ()))
    return SavedAttachment(**{**params, "policy": Policy(**fields), "addresses": addresses, "behind": behind})


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
