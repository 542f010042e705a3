# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The operation of ifindex_ip: record the addresses of interfaces in the map that the program looks them up in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import InvalidInput
from ..model.policy import InterfaceAddresses, interface_addresses
from ..model.prefix import parse_address
from ..resources.current_state import CurrentState
from ..resources.host_addresses import host_addresses
from ..resources.host_state import HostState
from ..resources.interfaces import kernel_addresses, links_by_name
from ..resources.operation import Answer, Diff, Operation, Options, Result
from ..resources.session import open_transaction
from ..system.netlink.messages import Address, Link
from ..system.open_changes import open_for_changes
from ..system.system import System
from .execute import execute

Recorded = Mapping[int, InterfaceAddresses]


def record_addresses(options: Options, system: System, check_mode: bool) -> Result:
    """Record or forget the addresses of interfaces. Return the values of ifindex_ip. Raises InvalidInput."""
    given = _given_addresses(options)
    with open_transaction(
        system,
        options["pin_dir"],
        check_mode,
        mount=options["state"] == "present",
        token=options.get("confirm_token"),
    ) as transaction:
        transaction.pins.check()
        planned = transaction.plan(desired_state(transaction.current, options, given))
        if planned.addresses is None:
            raise AssertionError("the plan of recorded addresses has no addresses")
        before, after = planned.addresses.before, planned.addresses.after
        loses_one = planned.changed and _loses_own_address(transaction.current.netlink.addresses(), before, after)
        if not check_mode:
            transaction.apply(planned)
    diff = Diff(_text(before), _text(after))
    return Result(planned.changed, {"interfaces": _entries(after)}, diff, may_cut_off=loses_one)


def _given_addresses(options: Options) -> list[bytes] | None:
    """Return the addresses of the options, each as 16 bytes, or None for those of the kernel."""
    if options["addresses"] is None:
        return None
    found, faults = [], []
    if len(options["interfaces"] or []) != 1:
        faults.append("addresses: they belong to one interface; name exactly one in `interfaces`")
    for number, text in enumerate(options["addresses"]):
        try:
            found.append(parse_address(text))
        except InvalidInput as fault:
            faults.append(f"addresses[{number}]: {fault}")
    if faults:
        raise InvalidInput(faults)
    return found


def desired_state(current: CurrentState, options: Options, given: list[bytes] | None) -> HostState:
    """Return the state with the addresses recorded, or without them. `given` replaces those of the kernel."""
    links, have = _links(current, options), current.addresses.entries
    kept = {ifindex: entry for ifindex, entry in have.items() if _stays(ifindex, entry, current, options, links)}
    wanted = {}
    if options["state"] == "present":
        for link in links:
            addresses = kernel_addresses(current.netlink, link) if given is None else given
            wanted[link.ifindex] = interface_addresses(link.name, addresses)
    return HostState(addresses={**kept, **wanted})


def _links(current: CurrentState, options: Options) -> list[Link]:
    """Return the named interfaces, else those that run the program."""
    if options["interfaces"] is None:
        return list(dict.fromkeys(each.link for each in current.attachments))
    if options["state"] == "absent":
        return [link for link in map(current.netlink.link, options["interfaces"]) if link]
    return links_by_name(current.netlink, options["interfaces"])


def _stays(ifindex: int, entry: InterfaceAddresses, current: CurrentState, options: Options, links: list[Link]) -> bool:
    """Return whether an entry stays that is not recorded again. Its interface must exist under its name."""
    if current.names.get(ifindex) != entry.name:
        return False
    if options["state"] == "absent":
        named = options["interfaces"] or []
        return ifindex not in {link.ifindex for link in links} and entry.name not in named
    return not options["purge"]


def _loses_own_address(addresses: Sequence[Address], before: Recorded, after: Recorded) -> bool:
    """Return whether an own address is none from now on: it may be that of the operator's next SSH connection."""
    return not host_addresses(addresses, before).keys() <= host_addresses(addresses, after).keys()


def _entries(table: Recorded) -> list[Answer]:
    return [{"ifindex": ifindex, **table[ifindex].to_params()} for ifindex in sorted(table)]


def _text(table: Recorded) -> str:
    return "".join(f"{e['interface']} ({e['ifindex']}): {' '.join(e['addresses'])}\n" for e in _entries(table))


RECORD_ADDRESSES = Operation("ifindex_ip", record_addresses, execute, confirmable=True, opens=open_for_changes)
