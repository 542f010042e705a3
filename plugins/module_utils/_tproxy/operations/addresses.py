# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The story of ifindex_ip: from the interfaces' addresses to the map that the program asks."""

from __future__ import annotations

from collections.abc import Mapping

from ..constants import FUNCTION
from ..errors import InvalidInput
from ..model.policy import interface_addresses
from ..model.prefix import parse_address
from ..resources.attachments import users
from ..resources.interfaces import AddressTable, kernel_addresses, links_by_name
from ..resources.lock import lock_for_change
from ..resources.migrate import pins_in_force
from ..resources.programs import Programs
from ..resources.reconcile import Outcome, reconcile
from ..system.system import System


def record_addresses(options: Mapping, system: System, check: bool) -> dict:
    """Record or forget the addresses of interfaces. Returns what ifindex_ip returns."""
    given = _given_addresses(options)
    present, pin_dir, token = options["state"] == "present", options["pin_dir"], options.get("confirm_token")
    with lock_for_change(system, pin_dir, check, present, token), pins_in_force(system, pin_dir, check) as pins:
        pins.check()
        with system.netlink() as netlink:
            links = _links(options, netlink, Programs(system.bpf, pins))
            there = {link.ifindex: link.name for link in netlink.interfaces()}
            want = _wanted(links, netlink, given) if present else {}
        keep = _keep(options, links, there)
        table = AddressTable(system.bpf, pins)
        outcome = reconcile(table, lambda have: {**{k: v for k, v in have.items() if keep(k, v)}, **want}, check)
    return _answer(outcome)


def _given_addresses(options: Mapping):
    """Return the addresses of the options as bytes, or None when the kernel's are wanted."""
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


def _links(options: Mapping, netlink, programs: Programs) -> list:
    """Return the interfaces that are meant: those named, else those that have the program attached."""
    if options["interfaces"] is None:
        return list(dict.fromkeys(link for link, _direction, _entry in users(netlink, programs, FUNCTION)))
    if options["state"] == "absent":
        return [link for link in map(netlink.link, options["interfaces"]) if link]
    return links_by_name(netlink, options["interfaces"])


def _wanted(links: list, netlink, given) -> dict:
    found = {}
    for link in links:
        addresses = kernel_addresses(netlink, link) if given is None else given
        found[link.ifindex] = interface_addresses(link.name, addresses)
    return found


def _keep(options: Mapping, links: list, there: Mapping):
    """Return whether an entry stays that nobody asked for: its interface must live, under its name."""
    meant = {link.ifindex for link in links}

    def keep(ifindex: int, entry) -> bool:
        if there.get(ifindex) != entry.name:
            return False
        if options["state"] == "absent":
            return ifindex not in meant and entry.name not in (options["interfaces"] or [])
        return not options["purge"]

    return keep


def _answer(outcome: Outcome) -> dict:
    return {
        "changed": outcome.changed,
        "interfaces": _entries(outcome.after),
        "diff": {"before": _text(outcome.before), "after": _text(outcome.after)},
    }


def _entries(table: Mapping) -> list:
    return [{"ifindex": ifindex, **table[ifindex].to_params()} for ifindex in sorted(table)]


def _text(table: Mapping) -> str:
    return "".join(f"{e['interface']} ({e['ifindex']}): {' '.join(e['addresses'])}\n" for e in _entries(table))
